//! `ftp-nat probe`: does this FTP server work from here, and what breaks it?
//!
//! It is a client without privileges and knows nothing of eBPF. [`session`] logs in, [`passive`]
//! and [`active`] try what there is to try, [`path`] finds out how far packets get where they do
//! not arrive. All that leaves facts ([`seen`]), from which [`diagnosis`] concludes and [`advice`]
//! says what to do.

pub mod active;
pub mod advice;
pub mod control;
pub mod diagnosis;
pub mod dial;
pub mod limits;
pub mod listing;
pub mod passive;
pub mod password;
pub mod path;
pub mod reply;
pub mod report;
pub mod seen;
pub mod server;
pub mod session;
pub mod story;
pub mod stream;
pub mod target;
pub mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use limits::{Limits, since};
use listing::Lister;
use password::Login;
use report::End;
use seen::{Attempt, Encryption, Mode, Passive, Relation, Seen, Verdict};
use session::{Door, Refusal, Session};
use story::Story;
use target::Target;
use tls::Tls;

use crate::{cli::ProbeArgs, output::failure::Failure};

/// Probes a server.
///
/// # Errors
///
/// When the arguments are wrong, or when something does not work: the error has the verdict.
pub fn run(args: &ProbeArgs, is_verbose: bool) -> Result<(), Failure> {
    let encryption = match args {
        args if args.implicit_tls => Encryption::Implicit,
        args if args.tls => Encryption::Explicit,
        _ => Encryption::None,
    };
    let default_port = match encryption {
        Encryption::Implicit => 990,
        Encryption::None | Encryption::Explicit => 21,
    };
    let target = Target::parse(&args.target, default_port).map_err(Failure::usage)?;
    if args.insecure && encryption == Encryption::None {
        return Err(Failure::usage(
            "--insecure is about certificates: it needs --tls or --implicit-tls",
        ));
    }
    let login = Login::of(args)?;
    let tls = match encryption {
        Encryption::None => None,
        _ => Some(Tls::new(&target.host, args.insecure).map_err(|error| anyhow!(error))?),
    };

    let story = Story::new(!args.json, is_verbose);
    let limits = Limits::new(Duration::from_secs(args.timeout.into()));
    story.tell(&format!("{}, port {}", target.host, target.port));
    let probe = Probe {
        args,
        encryption,
        tls,
        login,
        limits,
        story: &story,
    };
    let end = match probe.addresses(&target) {
        Ok(addresses) => probe.try_each(&addresses),
        Err(error) => End::Refused(None, Refusal::NotReached(error)),
    };
    match report::conclude(&target, encryption, &end, &story, args.json)? {
        None => Ok(()),
        Some(summary) => Err(Failure::Failed(anyhow!("{}: {summary}", target.host))),
    }
}

struct Probe<'p> {
    args: &'p ProbeArgs,
    encryption: Encryption,
    tls: Option<Tls>,
    login: Login,
    limits: Limits,
    story: &'p Story,
}

impl Probe<'_> {
    /// The addresses to try, of the family that is wanted.
    fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, String> {
        let start = Instant::now();
        let found = target.addresses(self.limits.left()).inspect_err(|error| {
            self.story
                .step("resolve", false, error.clone(), since(start));
        })?;
        let names: Vec<_> = found.iter().map(|it| it.ip().to_string()).collect();
        let is_wanted = |address: &SocketAddr| {
            !(self.args.ipv4 && address.is_ipv6() || self.args.ipv6 && address.is_ipv4())
        };
        let wanted: Vec<_> = found.into_iter().filter(is_wanted).collect();
        let text = names.join(", ");
        if wanted.is_empty() {
            let family = if self.args.ipv4 { "IPv4" } else { "IPv6" };
            self.story.step("resolve", false, text, since(start));
            return Err(format!("{} has no {family} address", target.host));
        }
        if names != [target.host.clone()] {
            self.story.step("resolve", true, text, since(start));
        }
        Ok(wanted)
    }

    /// The first address that lets us in is the one that is probed.
    fn try_each(&self, addresses: &[SocketAddr]) -> End {
        let mut end = None;
        for address in addresses {
            let door = Door {
                address: *address,
                encryption: self.encryption,
                tls: self.tls.clone(),
                login: self.login.clone(),
                limits: self.limits,
                story: self.story,
            };
            match door.open() {
                Ok(session) => {
                    self.name_the_others(addresses, *address);
                    return End::Seen(Box::new(self.look(&door, session)));
                }
                Err(refusal) => {
                    let goes_on = matches!(refusal, Refusal::NotReached(_));
                    end = Some(End::Refused(Some(*address), refusal));
                    if !goes_on || self.limits.are_over() {
                        break;
                    }
                }
            }
        }
        end.unwrap_or_else(|| End::Refused(None, Refusal::NotReached("it has no address".into())))
    }

    fn name_the_others(&self, addresses: &[SocketAddr], taken: SocketAddr) {
        if addresses.iter().any(|it| it.is_ipv4() != taken.is_ipv4()) {
            let (this, flag) = if taken.is_ipv4() {
                ("IPv4", "-6")
            } else {
                ("IPv6", "-4")
            };
            self.story.tell(&format!(
                "  (this is about {this}; the other family is probed with {flag})"
            ));
        }
    }

    /// Tries all modes.
    fn look(&self, door: &Door<'_>, first: Session<'_>) -> Seen {
        let address = door.address.ip();
        let mut seen = Seen {
            address: door.address,
            local_address: first.local_address,
            encryption: self.encryption,
            server: first.server.clone(),
            modes: Vec::new(),
            path: None,
            announced_in_tls: None,
        };
        self.story.fact(
            false,
            "server",
            true,
            match &seen.server.system {
                Some(system) => format!("{}; {system}", seen.server.program.name()),
                None => seen.server.program.name().to_owned(),
            },
        );
        let lister = Lister {
            tls: self.tls.as_ref(),
            limits: self.limits,
        };
        let mut modes = vec![Mode::Epsv];
        if address.to_canonical().is_ipv4() {
            // Six numbers hold no IPv6 address.
            modes.insert(0, Mode::Pasv);
        }
        if self.args.active {
            if address.to_canonical().is_ipv4() {
                modes.push(Mode::Port);
            }
            modes.push(Mode::Eprt);
        }
        let mut session = Some(first);
        for mode in modes {
            self.story.tell("");
            let open = match session.take() {
                Some(open) => Some(open),
                None if self.limits.are_over() => None,
                None => door.open().ok(),
            };
            let Some(mut open) = open else {
                self.story.fact(
                    false,
                    mode.verb(),
                    false,
                    "there is no session to try it in",
                );
                seen.modes.push(Attempt::not_tried(mode));
                continue;
            };
            let (attempt, is_usable) = if mode.is_passive() {
                let samples = self.args.samples;
                passive::attempt(&mut open, door.address, mode, samples, lister, self.story)
            } else {
                active::attempt(&mut open, mode, lister, self.story)
            };
            if seen.path.is_none()
                && let Some(port) = port_to_follow(&attempt)
            {
                seen.path = Some(self.follow(door.address, &open, port));
            }
            if mode == Mode::Pasv && is_wrong(&attempt) {
                seen.announced_in_tls = self.ask_in_tls(door, &seen);
            }
            seen.modes.push(attempt);
            if is_usable {
                session = Some(open);
            }
        }
        if let Some(session) = session {
            session.control.quit();
        }
        seen
    }

    /// What does the server announce when nobody can read along? Where that is something else, a
    /// gateway has put its own address in.
    fn ask_in_tls(&self, door: &Door<'_>, seen: &Seen) -> Option<IpAddr> {
        if self.encryption != Encryption::None || seen.server.offers("AUTH") != Some(true) {
            return None;
        }
        // Whoever it is has had the password in the clear already.
        let tls = Tls::new(&door.address.ip().to_string(), true).ok()?;
        let silence = Story::new(false, false);
        let veiled = Door {
            encryption: Encryption::Explicit,
            tls: Some(tls),
            login: self.login.clone(),
            story: &silence,
            ..*door
        };
        let start = Instant::now();
        let mut session = veiled.open().ok()?;
        let reply = session.control.command(Mode::Pasv.verb()).ok()?;
        session.control.quit();
        let announced = reply.announced(door.address.ip())?;
        let text = format!("asked again by TLS, it announces {}", announced.ip());
        self.story.detail("TLS", true, text, since(start));
        Some(announced.ip())
    }

    /// How far do packets get?
    fn follow(&self, control: SocketAddr, session: &Session<'_>, port: u16) -> path::Path {
        let start = Instant::now();
        let path = path::explore(control, session.local_address, port, self.limits);
        let to_control = path::Path::text(&path.control);
        let to_data = path::Path::text(&path.data);
        self.story.detail(
            "hops",
            true,
            format!("to port {}: {to_control}", control.port()),
            since(start),
        );
        self.story
            .fact(true, "hops", true, format!("to port {port}: {to_data}"));
        path
    }
}

/// Whether a mode announces an address that does not work.
fn is_wrong(attempt: &Attempt) -> bool {
    let wrong = |sample: &Passive| {
        !sample.works() && sample.relation.is_some_and(|it| it != Relation::Same)
    };
    attempt.passive.iter().any(wrong)
}

/// A port that does not work, or whose address is wrong: the way there is worth a look.
fn port_to_follow(attempt: &Attempt) -> Option<u16> {
    if attempt.verdict != Verdict::Broken {
        return None;
    }
    let failed = |sample: &&Passive| !sample.works() && sample.announced.is_some();
    Some(attempt.passive.iter().rev().find(failed)?.announced?.port())
}
