//! How many data connections a second can be announced, opened, used and closed, over many control
//! sessions at once; and how long one takes from PASV to SYN+ACK.
//!
//! Client and server are XDP programs of the benchmark's (see `xtask/ebpf/src/talk.rs`): a load
//! generator on sockets costs several times what a router does, and would measure itself.

use std::{
    net::Ipv4Addr,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions},
};
use ftp_nat_tests::{
    gateway::Gateway,
    lab::{HOST_INTERFACE, Lab, WAN},
    link::{ifindex, mac},
};

use super::{
    figure::Figure,
    frame::{ACK, FIN, PSH, SYN, SYN_OPTIONS, Tcp, sum},
    options::Options,
    packets::attach,
    programs::{
        self, Cell, last_cpu,
        layout::{self, FRAME, Game, KICK, Talk, Template, template},
        stay_on_cpu, take, xdp,
    },
    scene::{Router, Scene, Settings},
    session::Session,
};
use crate::progress::say;

/// Openings of one measurement. Connection tracking remembers closed connections for two minutes,
/// and must have room for all of them.
pub(crate) const OPENINGS: u32 = 12_000;
/// And the sessions that they are announced in.
pub(crate) const SESSIONS: u32 = layout::SESSIONS as u32;
/// So much room has ftp-nat, too: Linux' own default on a machine with some memory.
const ROOM: u32 = 262_144;
/// And of one with a single session.
const SINGLE: u32 = 2_000;
/// The word in the JSON's keys of redirect that shares its sessions through an engine.
const SHARED: &str = "shared";
/// When nothing happened for so long, nothing will.
const PATIENCE: Duration = Duration::from_secs(2);

/// A contestant between the load generator's two ends.
pub(crate) struct Match<'lab> {
    scene: Scene<'lab>,
    ebpf: Ebpf,
    game: Cell<Game>,
    setup: Array<MapData, u32>,
    kick: Vec<u8>,
    ifindex: u32,
}

/// What a round came to.
pub(crate) struct Round {
    /// Openings a second.
    pub(crate) rate: f64,
    /// Microseconds from PASV to SYN+ACK, sorted.
    pub(crate) setup: Vec<f64>,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let contestants: Vec<_> = Router::ALL
        .iter()
        .map(|router| (router.key(), *router, false))
        .chain([(SHARED, Router::Redirect, true)])
        .collect();
    let labs = Lab::several(contestants.len())?;
    let mut matches = Vec::new();
    for (lab, (key, router, is_shared)) in labs.iter().zip(&contestants) {
        say(&format!("openings: {key}"));
        let settings = Settings {
            connections: Some(ROOM),
            is_shared: *is_shared,
            ..Settings::default()
        };
        matches.push(Match::new(lab, *router, options, &settings)?);
    }
    let figures = |suffix: &str, unit| -> Vec<_> {
        contestants
            .iter()
            .map(|(key, ..)| Figure::new(format!("openings.{key}{suffix}"), unit))
            .collect()
    };
    let mut rates = figures("", "openings/s");
    let mut setups = [
        (figures(".setup_p50", "µs"), SESSIONS, 0.5),
        (figures(".setup_p99", "µs"), SESSIONS, 0.99),
        (figures(".single_setup_p50", "µs"), 1, 0.5),
        (figures(".single_setup_p99", "µs"), 1, 0.99),
    ];
    for turn in 0..=options.runs(9) {
        for (at, contest) in matches.iter_mut().enumerate() {
            for (sessions, openings) in [(SESSIONS, OPENINGS), (1, SINGLE)] {
                let round = contest.play(sessions, options.turns(openings))?;
                // The first turn warms up.
                if turn == 0 {
                    continue;
                }
                if sessions > 1 {
                    rates[at].runs.push(round.rate);
                }
                for (figures, of, share) in &mut setups {
                    if *of == sessions {
                        let place = (round.setup.len() as f64 * *share) as usize;
                        figures[at].runs.push(round.setup[place]);
                    }
                }
            }
        }
    }
    rates.extend(setups.into_iter().flat_map(|(figures, ..)| figures));
    Ok(rates)
}

impl<'lab> Match<'lab> {
    pub(crate) fn new(
        lab: &'lab Lab,
        router: Router,
        options: &Options,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let scene = Scene::new(lab, router, settings)?;
        // A session by sockets first: all know each other's hardware address then.
        let mut session = Session::open(&scene)?;
        drop(session.data(&scene)?);
        drop(session);
        let mut ebpf = programs::load(&options.object)?;
        let mut templates: Array<_, Template> = take(&mut ebpf, "TEMPLATES")?;
        for (number, segment) in segments(lab.server().v4) {
            templates.set(number, segment, 0)?;
        }
        let mut talks: Array<_, Talk> = take(&mut ebpf, "TALKS")?;
        for session in 0..SESSIONS {
            talks.set(session, Talk::default(), 0)?;
        }
        for (program, host) in [("ftp_server", lab.server()), ("ftp_client", lab.client())] {
            attach(xdp(&mut ebpf, program)?, &host.namespace, HOST_INTERFACE)?;
        }
        let host = &lab.client().namespace;
        let mut kick = Vec::new();
        kick.extend(mac(&lab.router, WAN)?);
        kick.extend(mac(host, HOST_INTERFACE)?);
        kick.extend(KICK.to_be_bytes());
        kick.resize(60, 0);
        Ok(Self {
            game: Cell::take(&mut ebpf, "GAME")?,
            setup: take(&mut ebpf, "SETUP")?,
            ifindex: ifindex(host, HOST_INTERFACE)?,
            kick,
            ebpf,
            scene,
        })
    }

    /// The gateway, if ftp-nat is the contestant.
    pub(crate) fn gateway(&self) -> anyhow::Result<&Gateway<'lab>> {
        self.scene.gateway.as_ref().context("no ftp-nat runs here")
    }

    /// Opens so many data connections over so many sessions.
    pub(crate) fn play(&mut self, sessions: u32, openings: u32) -> anyhow::Result<Round> {
        let control = match self.scene.control().ip() {
            std::net::IpAddr::V4(control) => control,
            std::net::IpAddr::V6(_) => bail!("the load generator speaks IPv4"),
        };
        let client = self.scene.lab.client();
        self.game.set(Game {
            client: u32::from_ne_bytes(client.v4.octets()),
            control: u32::from_ne_bytes(control.octets()),
            wanted: openings.into(),
            ..Game::default()
        })?;
        // struct xdp_md (linux/bpf.h): where the packet starts and ends, and its interface.
        let mut context = Vec::new();
        for word in [0, self.kick.len() as u32, 0, self.ifindex, 0, 0] {
            context.extend(word.to_ne_bytes());
        }
        let (ebpf, kick) = (&mut self.ebpf, &self.kick);
        client.namespace.run(|| {
            stay_on_cpu(last_cpu()?)?;
            xdp(ebpf, "ftp_client")?
                .test_run(TestRunOptions {
                    data_in: Some(kick),
                    ctx_in: Some(&context),
                    repeat: sessions,
                    // Each frame in a page of its own: one that is used again is no kick any more.
                    attrs: TestRunAttrs::new().xdp_live_frames(sessions),
                    ..TestRunOptions::default()
                })
                .context("the kernel does not run live frames")?;
            Ok(())
        })?;
        let game = self.wait()?;
        ensure!(
            game.done == u64::from(openings) && game.odd == 0,
            "{}: of {openings} data connections {} were opened and closed, and {} segments were odd",
            self.scene.router.name(),
            game.done,
            game.odd
        );
        let mut setup = (0..openings)
            .map(|number| Ok(f64::from(self.setup.get(&number, 0)?) / 1000.0))
            .collect::<anyhow::Result<Vec<_>>>()?;
        setup.sort_by(f64::total_cmp);
        Ok(Round {
            rate: f64::from(openings) / ((game.last - game.first) as f64 / 1e9),
            setup,
        })
    }

    /// Waits until all is done, or nothing is any more.
    fn wait(&self) -> anyhow::Result<Game> {
        let mut last = 0;
        let mut since = Instant::now();
        loop {
            let game = self.game.get()?;
            if game.done >= game.wanted || since.elapsed() > PATIENCE {
                return Ok(game);
            }
            if game.done != last {
                last = game.done;
                since = Instant::now();
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The segments that the load generator sends, by the number of their template.
fn segments(server: Ipv4Addr) -> Vec<(u32, Template)> {
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let empty = Tcp::new(nobody, nobody, 0, 0);
    let with = |flags, options: &'static [u8], payload: &str| {
        template_of(&Tcp {
            flags,
            options,
            payload: payload.as_bytes(),
            ..empty.clone()
        })
    };
    let [a, b, c, d] = server.octets();
    let mut segments = vec![
        (template::SYN, with(SYN, &SYN_OPTIONS, "")),
        (template::SYN_ACK, with(SYN | ACK, &SYN_OPTIONS, "")),
        (template::ACK, with(ACK, &[], "")),
        (template::FIN, with(FIN | ACK, &[], "")),
        (template::DATA, with(FIN | PSH | ACK, &[], "ten bytes.")),
        (template::PASV, with(PSH | ACK, &[], "PASV\r\n")),
        (template::GREETING, with(PSH | ACK, &[], "220 ready\r\n")),
    ];
    for session in 0..SESSIONS {
        let reply = format!(
            "227 Entering Passive Mode ({a},{b},{c},{d},200,{}).\r\n",
            100 + session
        );
        segments.push((template::REPLY + session, with(PSH | ACK, &[], &reply)));
    }
    segments
}

/// A segment without addresses, ports and numbers, with the sums of what is there.
fn template_of(segment: &Tcp<'_>) -> Template {
    let mut frame = segment.frame(0);
    frame[24..26].fill(0);
    frame[50..52].fill(0);
    let tcp = &frame[34..];
    let mut template = Template {
        frame: [0; FRAME],
        len: frame.len() as u32,
        ip_sum: sum(&frame[14..34]),
        // The pseudo header has protocol and length, too.
        tcp_sum: sum(tcp) + 6 + tcp.len() as u32,
    };
    template.frame[..frame.len()].copy_from_slice(&frame);
    template
}
