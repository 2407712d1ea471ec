//! The daemon's sockets: who it is, reloads, events.
//!
//! Only root and the user that the daemon runs as can connect: the sockets' folder is closed to all
//! others, and each peer is checked (SO_PEERCRED). Whatever a client sends or does not read, it
//! costs a bounded time and a bounded memory, and no other client waits for it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use ftp_nat_common::wire::addr::{Addr, Endpoint};
use log::debug;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, broadcast::error::RecvError, mpsc, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{event_bus::EventBus, health::Pools, lists::Lists, occurrence::Occurrence};
use crate::{
    ipc::{
        message::{
            Drained, DrainedServer, Hello, LastReload, NetworkChange, REQUEST_MAX, Refused,
            Reloaded, Request,
        },
        trust::may_command,
    },
    metrics::Source,
    model::{
        event::{Record, time_text},
        list::List,
    },
};

/// Requests that are answered at a time; more wait.
const CONVERSATIONS: usize = 64;
/// Connections at a time; more are closed at once.
const CONNECTIONS: usize = 512;
/// How long a client may take to send a request, and to read a part of the answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// Events that are written at once.
const AT_ONCE: usize = 64;

/// A reload that somebody waits for.
pub(super) type ReloadOrder = oneshot::Sender<Reloaded>;

/// What is needed to answer.
#[derive(Clone)]
struct Answers {
    hello: Arc<Hello>,
    metrics: Source,
    bus: Arc<EventBus>,
    reloads: mpsc::Sender<ReloadOrder>,
    lists: Lists,
    pools: Pools,
    conversations: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// Answers on these sockets for as long as the process lives. Gives the reloads that are asked for.
pub(super) fn start(
    listeners: Vec<std::os::unix::net::UnixListener>,
    hello: Hello,
    metrics: Source,
    bus: &Arc<EventBus>,
    lists: Lists,
    pools: Pools,
) -> anyhow::Result<mpsc::Receiver<ReloadOrder>> {
    let (reloads, orders) = mpsc::channel(1);
    let answers = Answers {
        hello: Arc::new(hello),
        metrics,
        bus: Arc::clone(bus),
        reloads,
        lists,
        pools,
        conversations: Arc::new(Semaphore::new(CONVERSATIONS)),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    for listener in listeners {
        listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map(|listener| tokio::spawn(accept(listener, answers.clone())))
            .context("cannot wait for connections to the daemon's socket")?;
    }
    Ok(orders)
}

async fn accept(listener: UnixListener, answers: Answers) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => answers.greet(stream),
            Err(error) => {
                // Out of descriptors, most likely: not a reason to spin.
                debug!("cannot accept a connection: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

impl Answers {
    fn greet(&self, stream: UnixStream) {
        let is_trusted = stream.peer_cred().is_ok_and(|peer| may_command(peer.uid()));
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            return;
        };
        // A new socket has room for a line.
        let greeting = line(&self.greeting());
        if !is_trusted || stream.try_write(greeting.as_bytes()).is_err() {
            return;
        }
        let answers = self.clone();
        tokio::spawn(async move {
            let _connection = connection;
            let slot = timeout(REQUEST_PATIENCE, answers.conversations.acquire()).await;
            if let Ok(Ok(_slot)) = slot {
                answers.converse(stream).await;
            }
        });
    }

    /// Who this is, and what became of the last reload.
    fn greeting(&self) -> Hello {
        let last = self.metrics.reloads().last();
        Hello {
            last_reload: last.map(|(time, applied)| LastReload {
                time: time_text(time),
                applied,
            }),
            ..Hello::clone(&self.hello)
        }
    }

    async fn converse(&self, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let request = match timeout(REQUEST_PATIENCE, request(&mut reader)).await {
            // Most only want to know who is there.
            Ok(Ok(None)) | Err(_) => return,
            Ok(Ok(Some(request))) => request,
            Ok(Err(error)) => {
                write(&mut writer, &line(&Refused { error })).await;
                return;
            }
        };
        match request {
            Request::ChangeList(change) => self.change_list(&mut writer, change).await,
            Request::ShowList { list } => self.show_list(&mut writer, list).await,
            Request::Reload => self.reload(&mut writer).await,
            Request::Cluster => {
                let answer = match self.bus.cluster() {
                    Some(cluster) => line(&cluster.status().get()),
                    None => line(&Refused {
                        error: "this gateway is in no cluster: its configuration has no [cluster]"
                            .to_owned(),
                    }),
                };
                write(&mut writer, &answer).await;
            }
            Request::Events { follow } => self.events(reader, &mut writer, follow).await,
            Request::Metrics => self.metrics(&mut writer).await,
            Request::Drain {
                address,
                port,
                draining,
            } => {
                let answer = self.drain((address, port), draining);
                write(&mut writer, &answer).await;
            }
        }
    }

    fn drain(&self, (address, port): (IpAddr, Option<u16>), draining: bool) -> String {
        let server = (Addr::from(address), port);
        match self.pools.clone().drain(server, draining) {
            Ok(servers) => {
                let servers = servers
                    .into_iter()
                    .map(|(public, server, changed)| DrainedServer {
                        public: Endpoint::new(public.addr, public.port).to_string(),
                        server: server.server.to_string(),
                        draining: server.draining != 0,
                        changed,
                    });
                line(&Drained {
                    servers: servers.collect(),
                })
            }
            Err(error) => line(&Refused {
                error: format!("cannot write the pools: {error}"),
            }),
        }
    }

    async fn change_list(&self, writer: &mut OwnedWriteHalf, change: NetworkChange) {
        let lists = self.lists.clone();
        // It writes a file.
        let changed = spawn_blocking(move || lists.change(change)).await;
        let text = match changed {
            Ok(Ok(listing)) => line(&listing),
            Ok(Err(error)) => refused(&error),
            Err(error) => refused(&error.into()),
        };
        write(writer, &text).await;
    }

    async fn show_list(&self, writer: &mut OwnedWriteHalf, list: List) {
        let lists = self.lists.clone();
        let text = match spawn_blocking(move || lists.shown(list)).await {
            Ok(Ok(shown)) => shown.iter().map(line).collect(),
            Ok(Err(error)) => refused(&error),
            Err(error) => refused(&error.into()),
        };
        write(writer, &text).await;
    }

    async fn reload(&self, writer: &mut OwnedWriteHalf) {
        let (order, answer) = oneshot::channel();
        if self.reloads.send(order).await.is_ok()
            && let Ok(reloaded) = answer.await
        {
            write(writer, &line(&reloaded)).await;
        }
    }

    /// The tables are read on another thread: with a million flows that takes a while.
    async fn metrics(&self, writer: &mut OwnedWriteHalf) {
        let source = self.metrics.clone();
        let text = match spawn_blocking(move || source.families()).await {
            Ok(Ok(families)) => line(&families),
            Ok(Err(error)) => line(&Refused {
                error: format!("{error:#}"),
            }),
            Err(error) => line(&Refused {
                error: error.to_string(),
            }),
        };
        write(writer, &text).await;
    }

    async fn events(
        &self,
        mut reader: BufReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
        follow: bool,
    ) {
        let (past, mut live) = self.bus.listen();
        for chunk in past.chunks(AT_ONCE) {
            if !write(writer, &lines(chunk)).await {
                return;
            }
        }
        if !follow {
            return;
        }
        loop {
            let next = tokio::select! {
                next = live.recv() => next,
                // Whatever it says now, it has hung up or makes no sense.
                _ = reader.read_u8() => return,
            };
            let text = match next {
                Ok(first) => {
                    let mut batch = vec![first];
                    while batch.len() < AT_ONCE
                        && let Ok(occurrence) = live.try_recv()
                    {
                        batch.push(occurrence);
                    }
                    lines(&batch)
                }
                Err(RecvError::Lagged(missed)) => {
                    let losses = &self.bus.losses().followers;
                    losses.fetch_add(missed, std::sync::atomic::Ordering::Relaxed);
                    Record::lost(missed).line()
                }
                Err(RecvError::Closed) => return,
            };
            if !write(writer, &text).await {
                return;
            }
        }
    }
}

/// What a client asks for; none when it goes without asking.
async fn request(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Request>, String> {
    let mut line = Vec::new();
    let mut bounded = reader.take(REQUEST_MAX as u64);
    let read = bounded.read_until(b'\n', &mut line).await;
    match read {
        Ok(0) | Err(_) => Ok(None),
        Ok(_) if line.last() != Some(&b'\n') => Err(format!(
            "a request is one line of at most {REQUEST_MAX} bytes"
        )),
        Ok(_) => serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| format!("this is no request: {error}")),
    }
}

/// Writes, and tells whether the client has taken it.
async fn write(writer: &mut OwnedWriteHalf, text: &str) -> bool {
    let written = timeout(READ_PATIENCE, writer.write_all(text.as_bytes())).await;
    matches!(written, Ok(Ok(())))
}

fn refused(error: &anyhow::Error) -> String {
    line(&Refused {
        error: format!("{error:#}"),
    })
}

fn line<T: serde::Serialize>(of: &T) -> String {
    let mut line = serde_json::to_string(of).unwrap_or_default();
    line.push('\n');
    line
}

fn lines(events: &[Occurrence]) -> String {
    events
        .iter()
        .map(|occurrence| Record::from(occurrence).line())
        .collect()
}
