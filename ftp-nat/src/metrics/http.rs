//! The metrics over HTTP, for Prometheus to scrape.

use std::{
    cmp::Reverse,
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, warn};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::source::Source;

/// Connections at a time. For one more, one that waits for a request is closed.
const CONNECTIONS: usize = 64;
/// How long a request may take to come, and a whole connection to last.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);

/// Takes the address; before anything is attached, so that a taken one is an error at the start.
///
/// # Errors
///
/// When it is taken, or not this machine's.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().with_context(|| format!("cannot serve metrics on {address}"))
}

/// A connection that is open.
struct Open {
    peer: IpAddr,
    /// Whether a request is being answered.
    is_busy: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Makes room for one more connection: closes the oldest idle one of the peer that has most of
/// them. False when all are busy.
fn make_room(open: &mut Vec<Open>) -> bool {
    open.retain(|it| !it.task.is_finished());
    if open.len() < CONNECTIONS {
        return true;
    }
    let mut of_peer: HashMap<IpAddr, usize> = HashMap::new();
    for it in open.iter() {
        *of_peer.entry(it.peer).or_default() += 1;
    }
    // Of equals, `min_by_key` takes the first: the oldest.
    let victim = open
        .iter()
        .enumerate()
        .filter(|(_, it)| !it.is_busy.load(Ordering::Relaxed))
        .min_by_key(|(_, it)| Reverse(of_peer.get(&it.peer)))
        .map(|(index, _)| index);
    let Some(victim) = victim else {
        return false;
    };
    open.remove(victim).task.abort();
    true
}

/// Serves until the task is aborted.
pub async fn serve(listener: TcpListener, source: Source) {
    let mut open: Vec<Open> = Vec::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if !make_room(&mut open) {
                    continue;
                }
                let is_busy = Arc::<AtomicBool>::default();
                let task = tokio::spawn(connection(stream, source.clone(), Arc::clone(&is_busy)));
                open.push(Open {
                    peer: peer.ip(),
                    is_busy,
                    task: task.abort_handle(),
                });
            }
            Err(error) => {
                debug!("cannot accept a scrape: {error}");
                sleep(HEADER_PATIENCE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, source: Source, is_busy: Arc<AtomicBool>) {
    let service = service_fn(move |request| {
        let (source, is_busy) = (source.clone(), Arc::clone(&is_busy));
        async move {
            is_busy.store(true, Ordering::Relaxed);
            let answer = answer(request, source).await;
            is_busy.store(false, Ordering::Relaxed);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_PATIENCE, serving).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!("scrape: {error}"),
    }
}

async fn answer(
    request: Request<Incoming>,
    source: Source,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match request.uri().path() {
        _ if !is_read => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into()),
        "/metrics" => match spawn_blocking(move || source.text()).await {
            Ok(Ok(text)) => plain(StatusCode::OK, text),
            Ok(Err(error)) => failed(&format!("{error:#}")),
            Err(error) => failed(&error.to_string()),
        },
        "/" => plain(StatusCode::OK, "ftp-nat: see /metrics\n".into()),
        _ => plain(StatusCode::NOT_FOUND, "see /metrics\n".into()),
    })
}

fn failed(why: &str) -> Response<Full<Bytes>> {
    warn!("cannot tell metrics: {why}");
    plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n"))
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
