//! The servers: does each answer on its control port, as an FTP server, and does it find the way
//! back to clients?

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use ftp_nat_common::abi::interface_flag;
use tokio::{net::TcpSocket, task::JoinSet};

use super::{
    finding::Findings,
    kernel_routes,
    subject::{Service, Subject},
};
use crate::{
    greeting::{self, Answer, Patience},
    kernel::{netlink::Netlink, network::Route},
};

/// How long a connection may take, longer than the kernel looks for a neighbour (three seconds), and
/// how long a greeting may.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(4),
    greet: Duration::from_secs(5),
};
/// Servers that are tried.
const SERVERS_MAX: usize = 256;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    // Many public addresses may be one server.
    let mut servers: Vec<&Service> = Vec::new();
    // Which addresses of a network have servers nobody has said.
    for service in subject.services.iter().filter(|it| it.network.is_none()) {
        let is_new = servers.iter().all(|other| other.server != service.server);
        if is_new && (service.local || matches!(service.route, Route::Through(_))) {
            servers.push(service);
        }
    }
    if servers.len() > SERVERS_MAX {
        findings.note(
            "servers-not-tried",
            None,
            format!("only {SERVERS_MAX} of {} servers were tried", servers.len()),
            "name those that matter with --publish",
        );
        servers.truncate(SERVERS_MAX);
    }
    let answers = match ask_all(subject, &servers) {
        Ok(answers) => answers,
        Err(error) => return findings.unread("the servers", &error),
    };
    for (service, (answer, from_outside)) in servers.iter().zip(answers) {
        match answer {
            Some(answer) => judge(service, answer, from_outside, findings),
            None => findings.unread(
                &format!("the server {}", service.server),
                &anyhow::anyhow!("it was not tried"),
            ),
        }
    }
}

type Answers = Vec<(Option<Answer>, Option<Answer>)>;

/// Tries all at once: from the address that the kernel chooses, and as if from outside.
fn ask_all(subject: &Subject, servers: &[&Service]) -> anyhow::Result<Answers> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut answers: Answers = servers.iter().map(|_| (None, None)).collect();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (place, service) in servers.iter().enumerate() {
            let server = service.server;
            tasks.spawn(async move { (place, false, ask(server, None).await) });
            let inside = match service.route {
                Route::Through(index) if !service.local && !service.hides_clients => {
                    subject.network.numbered(index)
                }
                _ => None,
            };
            if let (Some(inside), Some(outside)) = (inside, outside(subject, server))
                && takes_answers(server.ip(), outside, inside.index)
            {
                let from = From {
                    address: outside,
                    interface: inside.name.clone(),
                };
                tasks.spawn(async move { (place, true, ask(server, Some(from)).await) });
            }
        }
        while let Some(done) = tasks.join_next().await {
            let Ok((place, is_outside, answer)) = done else {
                continue;
            };
            let (inner, outer) = &mut answers[place];
            *(if is_outside { outer } else { inner }) = Some(answer);
        }
    });
    Ok(answers)
}

/// An address of this machine that lies outside, as the server sees it: an answer to it must take
/// the same way as one to a client.
fn outside(subject: &Subject, server: SocketAddr) -> Option<IpAddr> {
    subject
        .interfaces(interface_flag::WAN)
        .find_map(|wan| subject.network.address_of(wan.index, server.is_ipv4()))
}

/// Whether this machine's stack would take what the server answers to that address: where rules send what has
/// it elsewhere, a reverse-path filter refuses that. Redirected packets do not meet it.
fn takes_answers(server: IpAddr, outside: IpAddr, interface: u32) -> bool {
    let way = Netlink::open().and_then(|mut netlink| {
        kernel_routes::way(&mut netlink, Some(server), outside, Some(interface))
    });
    way.is_ok()
}

/// Where a connection is to come from.
struct From {
    address: IpAddr,
    /// The interface to leave by: rules that route by source mean those who have the address, not
    /// what is forwarded to the server.
    interface: String,
}

async fn ask(server: SocketAddr, from: Option<From>) -> Answer {
    let socket = match from.map(|from| bound(server, &from)).transpose() {
        Ok(socket) => socket,
        Err(error) => return Answer::NoConnection(error),
    };
    greeting::ask(server, socket, PATIENCE).await
}

fn bound(server: SocketAddr, from: &From) -> io::Result<TcpSocket> {
    let socket = greeting::socket(server)?;
    socket.bind_device(Some(from.interface.as_bytes()))?;
    socket.bind(SocketAddr::new(from.address, 0))?;
    Ok(socket)
}

fn judge(service: &Service, answer: Answer, from_outside: Option<Answer>, findings: &mut Findings) {
    let server = service.server;
    match answer {
        Answer::Ready => {
            if let Some(Answer::Nothing | Answer::NoConnection(_)) = from_outside {
                findings.error(
                    "no-way-back",
                    None,
                    format!(
                        "{server} answers this machine's inside address, but not its outside one: \
                         its answers to clients do not come back this way"
                    ),
                    "let the server's default route (or its route to the clients) lead to this \
                     gateway, and its own firewall let strangers in",
                );
            }
        }
        Answer::Other(line) => {
            let start = line.chars().take(80).collect::<String>();
            no_greeting(server, &format!("it says {start:?}"), findings);
        }
        Answer::HungUp(None) => no_greeting(server, "it hangs up without a word", findings),
        Answer::HungUp(Some(error)) => {
            no_greeting(server, &format!("it breaks off ({error})"), findings);
        }
        Answer::Silent => findings.warning(
            "server-slow",
            None,
            format!("{server} accepts a connection, but says nothing within {} s", PATIENCE.greet.as_secs()),
            "mostly it looks up its clients' names: turn that off (vsftpd reverse_lookup_enable=NO, \
             ProFTPD UseReverseDNS off, Pure-FTPd -H), or repair its DNS",
        ),
        Answer::NoConnection(error) => no_connection(service, &error, findings),
        Answer::Nothing => findings.error(
            "server-silent",
            None,
            format!("{server} does not answer within {} s", PATIENCE.connect.as_secs()),
            "look at the server's own firewall and at rules of this machine's output chain",
        ),
    }
}

fn no_greeting(server: SocketAddr, what: &str, findings: &mut Findings) {
    findings.error(
        "not-an-ftp-server",
        None,
        format!("{server} accepts a connection, but does not greet as FTP does: {what}"),
        "correct the port; a server that greets with 421 or 530 turns this gateway away (too many \
         clients, a list of addresses)",
    );
}

fn no_connection(service: &Service, error: &io::Error, findings: &mut Findings) {
    let server = service.server;
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return findings.error(
            "server-refuses",
            None,
            format!("{server} refuses connections: nothing listens there, or a firewall rejects"),
            "start the server, correct the port, or look at what it is bound to (listen_address, \
             inetd)",
        );
    }
    if !service.local
        && let Some(neighbour) = failed_neighbour(service)
    {
        return findings.error(
            "no-neighbour",
            None,
            format!(
                "nobody answers for {neighbour} on the way to {server} (ARP, or neighbour \
                     discovery)"
            ),
            "the machine is off, has another address, or is on another link or VLAN",
        );
    }
    findings.error(
        "server-unreachable",
        None,
        format!("cannot connect to {server}: {error}"),
        "look at the route to it and at the firewalls in between",
    );
}

/// The next hop to a server, if the kernel looked for it in vain.
fn failed_neighbour(service: &Service) -> Option<IpAddr> {
    let mut netlink = Netlink::open().ok()?;
    let way = kernel_routes::way(&mut netlink, None, service.server.ip(), None).ok()?;
    let hop = way.gateway.unwrap_or(service.server.ip());
    kernel_routes::has_failed(&mut netlink, way.out?, hop)
        .ok()?
        .then_some(hop)
}
