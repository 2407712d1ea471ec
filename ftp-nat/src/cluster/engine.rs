//! The engine: Redis from 6.2 on, or Valkey. A stream for each gateway, which it alone writes.
//!
//! Streams are short: what a reader does not read in time is gone, which it notices by the batches'
//! numbers. Writer and reader have a connection each, because a reader blocks.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use redis::{
    AsyncConnectionConfig, Client, TlsCertificates, Value, aio::MultiplexedConnection,
    from_redis_value_ref,
};

use crate::config::{
    Cluster,
    check::{NODES, SENTINELS},
};

/// How long an answer, or a connection, is waited for.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How long the engine waits for something to read.
const BLOCK: Duration = Duration::from_millis(200);
/// How many batches a stream keeps, about.
const KEPT: usize = 4096;
/// How many batches are read at once from each stream.
const AT_ONCE: usize = 64;
/// How often streams are looked for that are not there yet.
const SEARCH: Duration = Duration::from_millis(100);

/// How long a claim of a number counts.
const CLAIM: Duration = Duration::from_secs(3);

/// The name of a gateway's stream.
fn stream(cluster: &str, node: u8) -> String {
    format!("ftpnat:{{{cluster}}}:{node}")
}

/// How engines are reached.
pub struct Engines {
    addresses: Vec<String>,
    /// The certificate of the authority that has signed theirs, as PEM; none: the system's ones count.
    authority: Option<Vec<u8>>,
}

impl Engines {
    /// Those of a configuration.
    ///
    /// # Errors
    ///
    /// When the authority's certificate cannot be read.
    pub fn of(config: &Cluster) -> anyhow::Result<Self> {
        // Fails only where somebody has chosen before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = config
            .ca
            .as_ref()
            .map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())));
        Ok(Self {
            addresses: config.engine.clone(),
            authority: authority.transpose()?,
        })
    }

    /// Connects to the first engine of the list that answers and is a master.
    ///
    /// # Errors
    ///
    /// Why none of them does.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let mut errors = Vec::new();
        for address in &self.addresses {
            let found = match Sentinel::of(address) {
                Some(sentinel) => self.ask_sentinel(&sentinel).await,
                None => Ok(address.clone()),
            };
            let client = match found {
                Ok(engine) => self.master(&engine).await,
                Err(error) => Err(error),
            };
            match client {
                Ok(client) => return Ok(client),
                Err(error) => errors.push(format!("{}: {error:#}", without_password(address))),
            }
        }
        bail!("{}", errors.join("; "))
    }

    fn client(&self, address: &str) -> anyhow::Result<Client> {
        let is_by_tls = address.starts_with("rediss:") || address.starts_with("valkeys:");
        Ok(match &self.authority {
            Some(authority) if is_by_tls => Client::build_with_tls(
                address,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(authority.clone()),
                },
            )?,
            _ => Client::open(address)?,
        })
    }

    /// Where the master is, by a sentinel's word.
    async fn ask_sentinel(&self, sentinel: &Sentinel<'_>) -> anyhow::Result<String> {
        let Sentinel {
            scheme,
            credentials,
            host,
            master,
        } = sentinel;
        let client = self.client(&format!("{scheme}://{host}"))?;
        let mut connection = open(&client, Some(PATIENCE)).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let answer: Option<(String, u16)> = command.query_async(&mut connection).await?;
        let (ip, port) = answer.with_context(|| format!("it knows no master {master}"))?;
        let ip = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip
        };
        Ok(format!("{scheme}://{credentials}{ip}:{port}"))
    }

    async fn master(&self, address: &str) -> anyhow::Result<Client> {
        let client = self.client(address)?;
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
}

/// The address of a sentinel: `sentinel://USER:PASSWORD@HOST:PORT/MASTER`, and `sentinels://..` by TLS. Who
/// and by which password is the engine's matter, not the sentinel's.
#[derive(Debug, PartialEq, Eq)]
struct Sentinel<'a> {
    /// Of the sentinel's and the engine's own addresses.
    scheme: &'static str,
    /// With the `@` behind them; or nothing.
    credentials: &'a str,
    host: &'a str,
    master: &'a str,
}

impl<'a> Sentinel<'a> {
    fn of(address: &'a str) -> Option<Self> {
        let (scheme, rest) = SENTINELS
            .iter()
            .find_map(|(prefix, scheme)| Some((*scheme, address.strip_prefix(prefix)?)))?;
        let (host, master) = rest.rsplit_once('/')?;
        let at = host.rfind('@').map_or(0, |at| at + 1);
        let (credentials, host) = host.split_at(at);
        Some(Self {
            scheme,
            credentials,
            host,
            master,
        })
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
    /// The key by which a gateway claims its number.
    claim: String,
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
            claim: format!("{}:claim", stream(cluster, node)),
        })
    }

    /// Claims this gateway's number; gives who has claimed it before.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn claim(&mut self, epoch: u64) -> anyhow::Result<Option<u64>> {
        let mut command = redis::cmd("SET");
        command
            .arg(&self.claim)
            .arg(epoch)
            .arg("GET")
            .arg("PX")
            .arg(CLAIM.as_millis() as u64);
        Ok(command.query_async(&mut self.connection).await?)
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
    streams: Vec<Stream>,
    /// When those that are not there yet were looked for.
    searched: Instant,
}

/// Another gateway's stream.
struct Stream {
    name: String,
    /// The last entry that was read.
    last: String,
    /// Whether it is there. Most numbers are nobody's, and the engine would have to look at all of them
    /// for each batch.
    is_there: bool,
}

impl Reader {
    /// Connects, and reads from now on.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn open(client: &Client, cluster: &str, node: u8) -> anyhow::Result<Self> {
        let mut connection = open(client, Some(BLOCK + PATIENCE)).await?;
        let names = (1..=NODES)
            .filter(|other| *other != node)
            .map(|other| stream(cluster, other));
        let names: Vec<_> = names.collect();
        let mut all = redis::pipe();
        for name in &names {
            let newest = all.cmd("XREVRANGE").arg(name).arg("+").arg("-");
            newest.arg("COUNT").arg(1);
        }
        let newest: Vec<Value> = all.query_async(&mut connection).await?;
        let streams = names.into_iter().zip(&newest).map(|(name, newest)| {
            let last = first_id(newest);
            Stream {
                name,
                is_there: last.is_some(),
                last: last.unwrap_or_else(|| "0-0".to_owned()),
            }
        });
        Ok(Self {
            connection,
            streams: streams.collect(),
            searched: Instant::now(),
        })
    }

    /// Waits for batches, for a fifth of a second at most, and gives those that have come.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn read(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let is_anybody_there = self.streams.iter().any(|it| it.is_there);
        if is_anybody_there && self.searched.elapsed() > SEARCH {
            self.searched = Instant::now();
            let found = self.read_of(false, None).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let wait = if is_anybody_there { SEARCH } else { BLOCK };
        self.read_of(is_anybody_there, Some(wait)).await
    }

    /// Gives what there is, and does not wait.
    ///
    /// # Errors
    ///
    /// When the engine does not answer, or does not let this gateway read.
    pub async fn read_at_once(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut found = self.read_of(true, None).await?;
        found.extend(self.read_of(false, None).await?);
        Ok(found)
    }

    /// Reads the streams that are there, or those that were not yet.
    async fn read_of(
        &mut self,
        are_there: bool,
        wait: Option<Duration>,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut batches = Vec::new();
        let streams = self.streams.iter().filter(|it| it.is_there == are_there);
        let (names, last): (Vec<_>, Vec<_>) = streams.map(|it| (&it.name, &it.last)).unzip();
        if names.is_empty() {
            return Ok(batches);
        }
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(AT_ONCE);
        if let Some(wait) = wait {
            command.arg("BLOCK").arg(wait.as_millis() as u64);
        }
        command.arg("STREAMS").arg(names).arg(last);
        let answer: Value = command.query_async(&mut self.connection).await?;
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
            let Some(stream) = self.streams.iter_mut().find(|it| it.name == name) else {
                continue;
            };
            stream.is_there = true;
            for entry in entries {
                let Value::Array(mut parts) = entry else {
                    continue;
                };
                let (Some(Value::Array(mut fields)), Some(id)) = (parts.pop(), parts.pop()) else {
                    continue;
                };
                stream.last = from_redis_value_ref(&id)?;
                if let Some(Value::BulkString(batch)) = fields.pop() {
                    batches.push(batch);
                }
            }
        }
        Ok(batches)
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
    fn a_sentinels_address_has_what_the_engine_wants() {
        let sentinel = Sentinel::of("sentinels://user:a/b@c@10.9.0.1:26379/edge");
        assert_eq!(
            sentinel,
            Some(Sentinel {
                scheme: "rediss",
                credentials: "user:a/b@c@",
                host: "10.9.0.1:26379",
                master: "edge",
            })
        );
        assert_eq!(Sentinel::of("redis://10.9.0.1:6379"), None);
    }

    #[test]
    fn no_password_is_logged() {
        assert_eq!(
            without_password("rediss://user:s@cret@engine:6379"),
            "rediss://engine:6379"
        );
    }
}
