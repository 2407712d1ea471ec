//! The engine: Redis from 6.2 on, or Valkey. A stream for each gateway, which it alone writes.
//!
//! Streams are short: what a reader does not read in time is gone, which it notices by the batches'
//! numbers. Writer and reader have a connection each, because a reader blocks.

use std::time::Duration;

use anyhow::{Context as _, bail};
use redis::{
    AsyncConnectionConfig, Client, Cmd, Value, aio::MultiplexedConnection, from_redis_value_ref,
    sentinel::Sentinel,
};

use crate::config::check::{NODES, SENTINEL};

/// How long an answer, or a connection, is waited for.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How long the engine waits for something to read.
const BLOCK: Duration = Duration::from_millis(200);
/// How many batches a stream keeps, about.
const KEPT: usize = 4096;
/// How many batches are read at once from each stream.
const AT_ONCE: usize = 64;

/// The name of a gateway's stream.
fn stream(cluster: &str, node: u8) -> String {
    format!("ftpnat:{{{cluster}}}:{node}")
}

/// Connects to the first engine of a list that answers and is a master.
///
/// # Errors
///
/// Why none of them does.
pub async fn connect(addresses: &[String]) -> anyhow::Result<Client> {
    let mut errors = Vec::new();
    let sentinels: Vec<_> = addresses
        .iter()
        .filter_map(|address| address.strip_prefix(SENTINEL)?.rsplit_once('/'))
        .collect();
    if let Some((_, master)) = sentinels.first() {
        let hosts = sentinels.iter().map(|(host, _)| format!("redis://{host}"));
        let mut sentinel = Sentinel::build(hosts.collect::<Vec<_>>())
            .context("cannot read the sentinels' addresses")?;
        let found = sentinel.async_master_for(master, None);
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => errors.push(format!("sentinels: {error}")),
            Err(_) => errors.push("sentinels: no answer".to_owned()),
        }
    }
    for address in addresses.iter().filter(|it| !it.starts_with(SENTINEL)) {
        match is_master(address).await {
            Ok(client) => return Ok(client),
            Err(error) => errors.push(format!("{}: {error:#}", without_password(address))),
        }
    }
    bail!("{}", errors.join("; "))
}

async fn is_master(address: &str) -> anyhow::Result<Client> {
    let client = Client::open(address)?;
    let mut connection = open(&client, Some(PATIENCE)).await?;
    let role: Value = redis::cmd("ROLE").query_async(&mut connection).await?;
    let name = match &role {
        Value::Array(values) => values.first().map(from_redis_value_ref::<String>),
        _ => None,
    };
    match name {
        Some(Ok(name)) if name != "master" => bail!("it is no master but a {name}"),
        _ => Ok(client),
    }
}

/// An address for logs.
fn without_password(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{}", &address[..scheme + 3], &address[at + 1..])
        }
        _ => address.to_owned(),
    }
}

async fn open(
    client: &Client,
    response: Option<Duration>,
) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(response);
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// Who writes this gateway's stream.
pub struct Writer {
    connection: MultiplexedConnection,
    stream: String,
}

impl Writer {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn open(client: &Client, cluster: &str, node: u8) -> anyhow::Result<Self> {
        Ok(Self {
            connection: open(client, Some(PATIENCE)).await?,
            stream: stream(cluster, node),
        })
    }

    /// Writes a batch.
    ///
    /// # Errors
    ///
    /// When the engine does not take it within a second.
    pub async fn write(&mut self, batch: &[u8]) -> anyhow::Result<()> {
        let mut command = redis::cmd("XADD");
        command
            .arg(&self.stream)
            .arg("MAXLEN")
            .arg("~")
            .arg(KEPT)
            .arg("*")
            .arg("b")
            .arg(batch);
        let _: Value = command.query_async(&mut self.connection).await?;
        Ok(())
    }
}

/// Who reads the others' streams.
pub struct Reader {
    connection: MultiplexedConnection,
    streams: Vec<String>,
    /// The last entry read of each.
    last: Vec<String>,
}

impl Reader {
    /// Connects, and reads from now on.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn open(client: &Client, cluster: &str, node: u8) -> anyhow::Result<Self> {
        let mut connection = open(client, Some(BLOCK + PATIENCE)).await?;
        let streams: Vec<_> = (1..=NODES)
            .filter(|other| *other != node)
            .map(|other| stream(cluster, other))
            .collect();
        let mut last = Vec::new();
        for stream in &streams {
            let mut command = redis::cmd("XREVRANGE");
            command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
            let newest: Value = command.query_async(&mut connection).await?;
            last.push(first_id(&newest).unwrap_or_else(|| "0-0".to_owned()));
        }
        Ok(Self {
            connection,
            streams,
            last,
        })
    }

    /// Waits for batches, for a fifth of a second at most, and gives those that have come.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn read(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let answer: Value = self.command().query_async(&mut self.connection).await?;
        let mut batches = Vec::new();
        let Value::Array(streams) = answer else {
            return Ok(batches);
        };
        for stream in streams {
            let Value::Array(mut parts) = stream else {
                continue;
            };
            let (Some(Value::Array(entries)), Some(name)) = (parts.pop(), parts.pop()) else {
                continue;
            };
            let name: String = from_redis_value_ref(&name)?;
            let Some(place) = self.streams.iter().position(|it| *it == name) else {
                continue;
            };
            for entry in entries {
                let Value::Array(mut parts) = entry else {
                    continue;
                };
                let (Some(Value::Array(mut fields)), Some(id)) = (parts.pop(), parts.pop()) else {
                    continue;
                };
                self.last[place] = from_redis_value_ref(&id)?;
                if let Some(Value::BulkString(batch)) = fields.pop() {
                    batches.push(batch);
                }
            }
        }
        Ok(batches)
    }

    fn command(&self) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command
            .arg("COUNT")
            .arg(AT_ONCE)
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64)
            .arg("STREAMS")
            .arg(&self.streams)
            .arg(&self.last);
        command
    }
}

fn first_id(entries: &Value) -> Option<String> {
    let Value::Array(entries) = entries else {
        return None;
    };
    let Value::Array(entry) = entries.first()? else {
        return None;
    };
    from_redis_value_ref(entry.first()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_logged() {
        assert_eq!(
            without_password("rediss://user:s@cret@engine:6379"),
            "rediss://engine:6379"
        );
    }
}
