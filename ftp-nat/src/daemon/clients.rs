//! Masqueraded clients that no interface of the inside has seen: connection tracking, which
//! translates them, knows whose a control connection is.
//!
//! It is asked when a session begins and each time that a client is denied for being unknown. Most
//! clients log in first, so that the answer is there before it is needed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use anyhow::Context as _;
use ftp_nat_common::{
    abi::{ClientKey, Event, event, role},
    counter::Counter,
    wire::addr::{Addr, Endpoint, Port},
};
use log::{debug, warn};

use crate::{datapath::maps::Maps, kernel::conntrack::Conntrack};

/// Sessions that wait to be looked up. One that finds no room is looked up when its client is denied.
const WAITING: usize = 1024;

/// Who is asked about the clients of sessions.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    sessions: SyncSender<u32>,
}

impl Clients {
    /// Starts looking clients up, those of the sessions that are there first.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the limit of threads is reached.
    pub(super) fn start(maps: Arc<Maps>) -> anyhow::Result<Self> {
        let (sessions, waiting) = sync_channel(WAITING);
        thread::Builder::new()
            .name("clients".into())
            .spawn(move || Finder { maps, socket: None }.run(&waiting))
            .context("cannot start a thread")?;
        Ok(Self { sessions })
    }

    /// Looks up whose session an event is about, if the datapath does not know.
    pub(super) fn see(&self, event: &Event) {
        let asks = match event.what {
            event::SESSION => true,
            event::DENIED => event.reason == Counter::DeniedUnknownClient as u16,
            _ => false,
        };
        if asks && event.session != 0 && event.inside.addr.is_none() {
            let is_queued = self.sessions.try_send(event.session).is_ok();
            if !is_queued {
                debug!("session {}: its client is looked up later", event.session);
            }
        }
    }
}

/// What runs on the thread.
struct Finder {
    maps: Arc<Maps>,
    socket: Option<Conntrack>,
}

impl Finder {
    fn run(&mut self, waiting: &Receiver<u32>) {
        let mut unknown = Vec::new();
        let read = self.maps.sessions.each(|number, session| {
            if session.role == role::MASQUERADE && session.inside.addr.is_none() {
                unknown.push(*number);
            }
        });
        if let Err(error) = read {
            warn!("cannot read the sessions: {error}");
        }
        let mut was_told = false;
        for number in unknown.into_iter().chain(waiting) {
            if let Err(error) = self.find(number)
                && !was_told
            {
                warn!(
                    "cannot ask connection tracking for a masqueraded client's own address, without \
                     which nothing is opened for it: {error:#}"
                );
                was_told = true;
            }
        }
    }

    fn find(&mut self, number: u32) -> anyhow::Result<()> {
        let session = self.maps.sessions.get(&number)?;
        let Some(session) = session.filter(|it| it.inside.addr.is_none()) else {
            return Ok(());
        };
        let socket = match &mut self.socket {
            Some(socket) => socket,
            socket => socket.insert(Conntrack::open().context("netfilter's netlink")?),
        };
        let [server, public] = [session.outside, session.public].map(socket_address);
        let Some(client) = socket.client_of(server, public)? else {
            debug!("connection tracking has no connection from {server} to {public}");
            return Ok(());
        };
        let key = ClientKey {
            server: session.outside,
            number,
            ifindex: 0,
        };
        let client = Endpoint::new(Addr::from(client.ip()), Port::new(client.port()));
        self.maps.clients.set(&key, &client)?;
        Ok(())
    }
}

fn socket_address(end: Endpoint) -> SocketAddr {
    SocketAddr::new(end.addr.to_ip(), end.port.number())
}
