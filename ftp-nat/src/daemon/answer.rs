//! Telling whoever connects to a WAN's name who holds it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use log::debug;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

use super::Names;
use crate::lock::Hello;

/// How long a client may take to read a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers on all of them, for as long as the process lives.
pub(super) fn start(names: Names, hello: Hello) -> anyhow::Result<()> {
    let mut answer = serde_json::to_string(&hello).context("cannot write the greeting")?;
    answer.push('\n');
    let answer: Arc<str> = answer.into();
    for listener in names {
        listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map(|listener| tokio::spawn(accept(listener, Arc::clone(&answer))))
            .context("cannot listen on a WAN's name")?;
    }
    Ok(())
}

async fn accept(listener: UnixListener, answer: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(greet(stream, Arc::clone(&answer)));
            }
            Err(error) => {
                // Out of descriptors, most likely: not a reason to spin.
                debug!("cannot accept a connection: {error}");
                sleep(PATIENCE).await;
            }
        }
    }
}

async fn greet(mut stream: UnixStream, answer: Arc<str>) {
    // Who does not read is not waited for.
    drop(timeout(PATIENCE, stream.write_all(answer.as_bytes())).await);
}
