//! What has happened so far: counters tell of causes that cannot be seen at rest.

use ftp_nat_common::{abi::kind, counter::Counter};

use super::{
    finding::{Cause, Findings},
    subject::Subject,
};
use crate::client::view::Loaded;

/// Announced connections that never came, above which it is no accident: so many, and this share of
/// all in percent.
const NEVER_LEAST: u64 = 3;
const NEVER_SHARE: u64 = 5;
/// Announcements of a server, from which on its range shows.
const RANGE_LEAST: u64 = 20;
/// Ports, from which on a range is none that somebody has set.
const RANGE_MOST: u16 = 10_000;
/// Answers inside TLS, above which somebody should have made a data connection.
const TLS_ANSWERS_LEAST: u64 = 20;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    if let Err(error) = look(subject, findings) {
        findings.unread("the counters", &error);
    }
}

fn look(subject: &Subject, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(loaded) = &subject.loaded else {
        return Ok(());
    };
    let counts = loaded.maps.counters()?;
    let of = |counter: Counter| counts.get(counter as usize).map_or(0, |it| it.packets);
    let mut waiting = [0_u64; 2];
    loaded.maps.mappings.each(|_, mapping| {
        let is_waiting = mapping.expires > subject.now;
        waiting[usize::from(mapping.kind == kind::ACTIVE)] += u64::from(is_waiting);
    })?;
    let [passive, active] = waiting;
    let opened = of(Counter::PassiveOpened);
    let never = opened.saturating_sub(of(Counter::PassiveUsed) + passive);
    if is_no_accident(never, opened) {
        findings.warning(
            "announced-never-came",
            Some(Cause::Client),
            format!("{never} of {opened} data connections that servers announced never came"),
            "mostly the client's own firewall, or one on its way, lets port 21 out but no high \
             ports: `ftp-nat events` names the clients, `ftp-nat probe` on a client's machine \
             shows it; it is their side that must allow outgoing TCP to ports from 1024 up",
        );
    }
    let asked = of(Counter::ActiveOpened);
    let undialled = asked.saturating_sub(of(Counter::ActiveUsed) + active);
    if is_no_accident(undialled, asked) {
        findings.warning(
            "server-never-dialled",
            Some(Cause::Firewall),
            format!(
                "{undialled} of {asked} data connections that clients announced by PORT or EPRT never \
                 came from their servers"
            ),
            "the server was asked to connect and its connection never reached this gateway: the \
             server's own firewall lets no connection out from its port 20 (or the one that it uses), \
             or it has another default route; a server outside may be behind a firewall that does so. \
             `ftp-nat events` names the servers; clients that use passive mode do not need it",
        );
    }
    if of(Counter::DeniedUninvited) > 0 {
        findings.note(
            "server-dials-uninvited",
            Some(Cause::Firewall),
            format!(
                "{} times a server connected to its client, and no PORT or EPRT had announced that",
                of(Counter::DeniedUninvited)
            ),
            "such a connection is left to the kernel: it arrives only where the firewall and the \
             kernel's NAT let it. The client has said PORT or EPRT inside TLS, where no gateway can read it, \
             or has sent EPSV or PASV and then waits for the server all the same (lynx with ProFTPD): let \
             it use passive mode alone. `ftp-nat events` names the servers and their clients",
        );
    }
    let unannounced = of(Counter::DeniedUnannounced);
    if unannounced >= NEVER_LEAST && never >= NEVER_LEAST {
        findings.warning(
            "came-from-elsewhere",
            Some(Cause::DoubleNat),
            format!(
                "{unannounced} packets came to ports that were announced to somebody else, while \
                 {never} announced connections never came"
            ),
            "clients whose data connections leave from another address than their control \
             connections (several NAT addresses, two lines): they must be given one, or the server \
             published with peer = \"any\"",
        );
    }
    if of(Counter::DeniedNoPort) > 0 {
        findings.warning(
            "no-free-port",
            Some(Cause::Ports),
            format!(
                "{} times no public port was free for an announced connection",
                of(Counter::DeniedNoPort)
            ),
            "give remaps more ports: --remap-ports, or [gateway] remap_ports",
        );
    }
    if of(Counter::DeniedPort) > 0 {
        findings.warning(
            "port-out-of-range",
            Some(Cause::Ports),
            format!(
                "{} times a port was announced that is below 1024 or outside passive_ports",
                of(Counter::DeniedPort)
            ),
            "let passive_ports be the server's own range (vsftpd pasv_min_port and pasv_max_port, \
             ProFTPD PassivePorts, Pure-FTPd PassivePortRange)",
        );
    }
    if of(Counter::Remapped) > 0 {
        findings.note(
            "ports-remapped",
            Some(Cause::Ports),
            format!(
                "{} announced ports were taken already and were replaced",
                of(Counter::Remapped)
            ),
            "nothing; servers behind one address that share a passive range do that. With ranges \
             apart, each port is the one in the server's own log",
        );
    }
    if of(Counter::DeniedBounce) > 0 {
        findings.note(
            "bounce-denied",
            None,
            format!(
                "{} times a client named somebody else's address in PORT or EPRT, and was denied",
                of(Counter::DeniedBounce)
            ),
            "nothing, mostly; a client behind a NAT that does not know FTP does that as well: it \
             must use passive mode",
        );
    }
    announced(subject, loaded, findings)?;
    encrypted(subject, of, findings);
    Ok(())
}

/// Whether so many announced connections out of all are too many that never came.
const fn is_no_accident(never: u64, opened: u64) -> bool {
    never >= NEVER_LEAST && never * 100 >= opened * NEVER_SHARE
}

/// Servers without `passive_ports` that have shown which ports they use.
fn announced(subject: &Subject, loaded: &Loaded, findings: &mut Findings) -> anyhow::Result<()> {
    let open = subject.services.iter().filter(|it| it.passive.is_none());
    for service in open.filter(|it| it.network.is_none()) {
        let server = service.server.ip();
        let Some(seen) = loaded.maps.announced.get(&server.into())? else {
            continue;
        };
        if seen.times < RANGE_LEAST {
            continue;
        }
        let (times, first, last) = (seen.times, seen.first, seen.last);
        let saw = format!(
            "passive_ports is not set for {}: of the {times} ports that {server} has announced, the \
             lowest was {first} and the highest {last}",
            service.title()
        );
        let remedy = if last - first < RANGE_MOST {
            format!(
                "compare with the server's own range (vsftpd pasv_min_port and pasv_max_port, \
                 ProFTPD PassivePorts, Pure-FTPd PassivePortRange) and name it in its [[publish]]: \
                 passive_ports = \"{first}-{last}\" holds all that were seen. Then no other port of \
                 that host is ever opened, whatever its replies say"
            )
        } else {
            "it has no range of its own, it seems: give it one (vsftpd pasv_min_port and \
             pasv_max_port, ProFTPD PassivePorts, Pure-FTPd PassivePortRange) and name it as \
             passive_ports in its [[publish]]. Then no other port of that host is ever opened, \
             whatever its replies say"
                .to_owned()
        };
        findings.note("passive-ports-seen", Some(Cause::Ports), saw, remedy);
    }
    Ok(())
}

/// Sessions by TLS, whose replies no gateway can read.
fn encrypted(subject: &Subject, of: impl Fn(Counter) -> u64, findings: &mut Findings) {
    let sessions = of(Counter::SessionEncrypted);
    let without = subject.services.iter().find(|it| it.passive.is_none());
    let why = if sessions > 0 {
        format!("{sessions} sessions went over to TLS")
    } else {
        "require_tls is set".to_owned()
    };
    if let Some(service) = without
        && !service.local
        && (sessions > 0 || service.requires_tls)
    {
        findings.warning(
            "tls-without-passive-ports",
            Some(Cause::Ports),
            format!(
                "{why}, and passive_ports is not set for {}: no gateway can read the ports that are \
                 announced inside TLS, so that no data connection of such a session is let in",
                service.title()
            ),
            "give the server a range of passive ports and name it as passive_ports in its [[publish]]; \
             the server must announce the public address itself: docs/ftps.md",
        );
    }
    if of(Counter::DeniedOutsideRange) > 0 {
        findings.warning(
            "tls-outside-passive-ports",
            Some(Cause::Ports),
            format!(
                "{} times a client with a TLS session came to a port outside passive_ports",
                of(Counter::DeniedOutsideRange)
            ),
            "let passive_ports be the server's own range (vsftpd pasv_min_port and pasv_max_port, \
             ProFTPD PassivePorts, Pure-FTPd PassivePortRange); `ftp-nat events` names the ports",
        );
    }
    let (let_in, permitted) = (of(Counter::PermitUsed), of(Counter::PermitGranted));
    if permitted >= TLS_ANSWERS_LEAST && let_in == 0 {
        findings.note(
            "tls-nobody-came",
            Some(Cause::Address),
            format!(
                "servers answered {permitted} times inside TLS, and no client has made a data connection \
                 to passive_ports"
            ),
            "the server announces another address there, perhaps, which no gateway can change: `ftp-nat \
             probe --tls --user NAME HOST` from outside shows it",
        );
    }
}
