//! How many small packets a second come through the router.
//!
//! A session and its data connection are made in earnest; then packets of that connection are made
//! in the kernel (live frames of BPF_PROG_TEST_RUN) and sent into the client's interface, and an
//! XDP program at the server counts those that arrive as the server must see them, and drops them.
//! All of it happens on one CPU, generator and sink included, and these are the same for all: what
//! they cost alone is measured too, from the router's own interface straight to the server.
//!
//! All packets have the same sequence number. So they stay within the window, as connection
//! tracking wants it, and GRO cannot make few large packets of them.
//!
//! Generator and sink would be other machines. So besides the packets a second as counted there is
//! what the router alone takes of a packet's time, the difference to the median of that shorter
//! way, and how many packets a second one CPU of the router would carry by that.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use ftp_nat_tests::{
    attack::numbers,
    lab::{HOST_INTERFACE, LAN, Lab, WAN},
    link::{ifindex, mac},
    namespace::Namespace,
};

use super::{
    figure::Figure,
    frame::{ACK, PSH, Tcp, words},
    options::Options,
    programs::{
        self, Cell, last_cpu,
        layout::{SMALL, Shot, Wanted},
        stay_on_cpu, take, xdp,
    },
    scene::{Router, Scene, Settings},
    session::{self, Pair, Session},
};
use crate::progress::say;

/// Packets of one measurement.
const PACKETS: u32 = 200_000;
/// The kernel sends so many frames at once, as many as a driver takes at once.
const BATCH: u32 = 64;

/// One of the rows: a contestant, or generator and sink alone.
pub(crate) struct Range<'lab> {
    pub(crate) key: &'static str,
    pub(crate) scene: Scene<'lab>,
    ebpf: Ebpf,
    arrived: Array<MapData, u64>,
    /// Which namespace sends.
    from: &'lab Namespace,
    frame: Vec<u8>,
    /// The real session, if there is one, which has to last as long.
    pub(crate) session: Option<(Session, Pair)>,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let labs = Lab::several(Router::ALL.len() + 1)?;
    let mut ranges = vec![Range::alone(&labs[0], options)?];
    for (lab, router) in labs[1..].iter().zip(Router::ALL) {
        say(&format!("packets: {}", router.name()));
        ranges.push(Range::through(lab, router, options)?);
    }
    let figures = |suffix: &str, unit| -> Vec<_> {
        ranges
            .iter()
            .map(|range| Figure::new(format!("packets.{}{suffix}", range.key), unit))
            .collect()
    };
    let mut counted = figures(".counted", "packets/s");
    let mut costs = figures(".router_ns", "ns");
    let mut rates = figures("", "packets/s");
    let mut losses = figures(".lost", "%");
    for turn in 0..=options.runs(31) {
        for (at, range) in ranges.iter_mut().enumerate() {
            let (nanoseconds, lost) = range.shoot(options.turns(PACKETS))?;
            // The first turn warms up.
            if turn > 0 {
                counted[at].runs.push(1e9 / nanoseconds);
                losses[at].runs.push(lost);
            }
        }
    }
    let alone = 1e9 / counted[0].median();
    for at in 1..ranges.len() {
        for rate in &counted[at].runs {
            let nanoseconds = 1e9 / rate - alone;
            costs[at].runs.push(nanoseconds);
            rates[at].runs.push(1e9 / nanoseconds);
        }
    }
    let measured = [rates, costs, counted, losses].into_iter().flatten();
    Ok(measured.filter(|figure| !figure.runs.is_empty()).collect())
}

impl<'lab> Range<'lab> {
    /// Through a router.
    fn through(lab: &'lab Lab, router: Router, options: &Options) -> anyhow::Result<Self> {
        let scene = Scene::new(lab, router, &Settings::default())?;
        let mut session = Session::open(&scene)?;
        let data = session.data(&scene)?;
        let (client, public) = session::ends(&data.client)?;
        let (server, _) = session::ends(&data.server)?;
        let (seq, ack) = numbers::next(&data.client)?;
        let frame = shot(client, public, seq, ack);
        let from = &lab.client().namespace;
        let macs = [mac(&lab.router, WAN)?, mac(from, HOST_INTERFACE)?];
        let interface = ifindex(from, HOST_INTERFACE)?;
        let mut range = Self::new(router.key(), scene, from, server, options)?;
        range.session = Some((session, data));
        range.aim(frame, macs, interface, 0)?;
        Ok(range)
    }

    /// Straight to the server.
    fn alone(lab: &'lab Lab, options: &Options) -> anyhow::Result<Self> {
        let scene = Scene::new(lab, Router::Plain, &Settings::default())?;
        let server = SocketAddrV4::new(lab.server().v4, 50_000);
        let client = SocketAddrV4::new(lab.client().v4, 50_000);
        let host = &lab.server().namespace;
        let macs = [mac(host, HOST_INTERFACE)?, mac(&lab.router, LAN)?];
        let interface = ifindex(&lab.router, LAN)?;
        let mut range = Self::new("alone", scene, &lab.router, server, options)?;
        range.aim(shot(client, server, 1, 1), macs, interface, 0)?;
        Ok(range)
    }

    /// Frames of this namespace, counted where they arrive at `to`.
    pub(crate) fn new(
        key: &'static str,
        scene: Scene<'lab>,
        from: &'lab Namespace,
        to: SocketAddrV4,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let mut ebpf = programs::load(&options.object)?;
        Cell::take(&mut ebpf, "WANTED")?.set(Wanted {
            address: u32::from_ne_bytes(to.ip().octets()),
            port: to.port().to_be(),
            pad: 0,
        })?;
        let arrived = take(&mut ebpf, "ARRIVED")?;
        attach(
            xdp(&mut ebpf, "sink")?,
            &scene.lab.server().namespace,
            HOST_INTERFACE,
        )?;
        Ok(Self {
            key,
            scene,
            ebpf,
            arrived,
            from,
            frame: Vec::new(),
            session: None,
        })
    }

    /// Sends this frame, between these hardware addresses, out of this interface, from the sources of
    /// so many flows (a mask; [`Shot::flows`]).
    pub(crate) fn aim(
        &mut self,
        mut frame: Vec<u8>,
        macs: [[u8; 6]; 2],
        ifindex: u32,
        flows: u32,
    ) -> anyhow::Result<()> {
        frame[..12].copy_from_slice(macs.as_flattened());
        Cell::take(&mut self.ebpf, "SHOT")?.set(Shot {
            frame: words(&frame),
            ifindex,
            flows,
        })?;
        self.frame = frame;
        Ok(())
    }

    /// Sends, and gives nanoseconds for each that arrived, and the percentage that was lost.
    pub(crate) fn shoot(&mut self, packets: u32) -> anyhow::Result<(f64, f64)> {
        let (took, arrived) = self.send(packets)?;
        ensure!(
            arrived > 0,
            "{}: of {packets} packets none arrived",
            self.scene.router.name()
        );
        let lost = 1.0 - arrived as f64 / f64::from(packets);
        Ok((took.as_secs_f64() * 1e9 / arrived as f64, lost * 100.0))
    }

    /// Sends, and gives how long that took and how many arrived.
    pub(crate) fn send(&mut self, packets: u32) -> anyhow::Result<(Duration, u64)> {
        let before = self.arrived()?;
        let generator: &Xdp = xdp(&mut self.ebpf, "generate")?;
        let frame = &self.frame;
        // The kernel's own measure of one turn, with all that the softirq does in it. To begin and
        // to end such a run takes it tens of milliseconds more, by whole ticks.
        let took = self.from.run(|| {
            stay_on_cpu(last_cpu()?)?;
            let result = generator.test_run(TestRunOptions {
                data_in: Some(frame),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            });
            let result = result.context("the kernel does not run live frames")?;
            Ok(result.duration * packets)
        })?;
        // What is still under way arrives within moments, or never.
        let mut arrived = self.arrived()? - before;
        let patience = Instant::now();
        while arrived < u64::from(packets) && patience.elapsed() < Duration::from_millis(20) {
            arrived = self.arrived()? - before;
        }
        Ok((took, arrived))
    }

    fn arrived(&self) -> anyhow::Result<u64> {
        Ok(self.arrived.get(&0, 0)?)
    }
}

/// A packet of 64 bytes.
pub(crate) fn shot(from: SocketAddrV4, to: SocketAddrV4, seq: u32, ack: u32) -> Vec<u8> {
    Tcp {
        flags: PSH | ACK,
        payload: b"ten bytes.",
        ..Tcp::new(from, to, seq, ack)
    }
    .frame(SMALL)
}

/// Attaches an XDP program to an interface of a namespace, for as long as the program is loaded.
pub(crate) fn attach(
    program: &mut Xdp,
    namespace: &Namespace,
    interface: &str,
) -> anyhow::Result<()> {
    namespace.run(|| {
        program
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("cannot attach an XDP program to {interface}"))?;
        Ok(())
    })
}
