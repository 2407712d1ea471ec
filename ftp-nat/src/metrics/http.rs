//! The metrics over HTTP, for Prometheus to scrape.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

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
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::source::Source;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 16;
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

/// Serves for ever.
pub async fn serve(listener: TcpListener, source: Source) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = source.clone();
                tokio::spawn(async move {
                    connection(stream, source).await;
                    drop(slot);
                });
            }
            Err(error) => {
                debug!("cannot accept a scrape: {error}");
                sleep(HEADER_PATIENCE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, source: Source) {
    let service = service_fn(move |request| answer(request, source.clone()));
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
