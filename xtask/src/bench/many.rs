//! A million connections, every packet of another one; and floods of SYNs from invented sources.
//!
//! As `packets` measures, and with the same generator and sink: only that each packet comes from
//! another source. The connections of ftp-nat are copies of one that is real (`crowd`); those of
//! connection tracking are made by their first packets, which it takes up in the middle
//! (nf_conntrack_tcp_loose), with room for all of them and a bucket for each.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
};

use anyhow::Context as _;
use aya::maps::Map;
use ftp_nat_common::abi::map;
use ftp_nat_tests::{
    attack::numbers,
    lab::{HOST_INTERFACE, LAN, Lab, WAN, WAN_ADDRESS},
    link::{ifindex, mac},
};

use super::{
    crowd::{self, Flows},
    figure::Figure,
    frame::{SYN, Tcp},
    options::Options,
    packets::{Range, shot},
    programs::{
        layout::{SMALL, flow_address, flow_port},
        pinned,
    },
    scene::{Router, Scene, Settings},
    session::{self, Session},
};
use crate::progress::say;

/// Packets of one measurement.
const PACKETS: u32 = 200_000;
/// The data port where nobody has announced one.
const DATA_PORT: u16 = 50_000;
/// The one option of a flood's SYNs: a segment size of 1460 bytes.
const SEGMENT_SIZE: [u8; 4] = [2, 4, 5, 180];

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut figures = random(options)?;
    figures.extend(floods(options)?);
    Ok(figures)
}

/// Packets of a million connections.
fn random(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let connections: u32 = if options.smoke { 1 << 10 } else { 1 << 20 };
    let _room = Room::make(connections)?;
    let labs = Lab::several(5)?;
    let mask = connections - 1;
    let mut ranges = vec![alone(&labs[0], options, mask, &[])?];
    for (lab, router) in labs[1..].iter().zip([
        Router::Plain,
        Router::KernelHelper,
        Router::Redirect,
        Router::Xdp,
    ]) {
        say(&format!(
            "a million connections, at random: {}",
            router.name()
        ));
        let mut range = crowded(lab, router, options, connections)?;
        let mut sent = 0;
        while sent < connections {
            let packets = PACKETS.min(connections - sent);
            range.send(packets)?;
            sent += packets;
        }
        ranges.push(range);
    }
    measure("random_1m", &mut ranges, options, |range, packets| {
        Ok(range.shoot(packets)?.0)
    })
}

/// SYNs to the published port.
fn floods(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let labs = Lab::several(3)?;
    let mut ranges = vec![alone(&labs[0], options, u32::MAX, &SEGMENT_SIZE)?];
    for (lab, router) in labs[1..].iter().zip([Router::Plain, Router::Redirect]) {
        say(&format!("a flood of SYNs: {}", router.name()));
        let scene = Scene::new(lab, router, &Settings::default())?;
        let std::net::SocketAddr::V4(to) = scene.control() else {
            anyhow::bail!("the lab's sessions are over IPv4");
        };
        let server = SocketAddrV4::new(lab.server().v4, 21);
        let from = &lab.client().namespace;
        let mut range = Range::new(router.key(), scene, from, server, options)?;
        let macs = [mac(&lab.router, WAN)?, mac(from, HOST_INTERFACE)?];
        let interface = ifindex(from, HOST_INTERFACE)?;
        range.aim(syn(to), macs, interface, u32::MAX)?;
        ranges.push(range);
    }
    measure("syn_flood", &mut ranges, options, |range, packets| {
        // A SYN that is refused is dealt with as well.
        let (took, _) = range.send(packets)?;
        Ok(took.as_secs_f64() * 1e9 / f64::from(packets))
    })
}

/// Packets a second and nanoseconds that the router takes of a packet's time, of each range but the
/// first one, which is generator and sink alone.
fn measure(
    key: &str,
    ranges: &mut [Range<'_>],
    options: &Options,
    nanoseconds: impl Fn(&mut Range<'_>, u32) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<Figure>> {
    let mut times = vec![Vec::new(); ranges.len()];
    for turn in 0..=options.runs(15) {
        for (range, times) in ranges.iter_mut().zip(&mut times) {
            let time = nanoseconds(range, options.turns(PACKETS))?;
            // The first turn warms up.
            if turn > 0 {
                times.push(time);
            }
        }
    }
    let alone = Figure::of("alone", "ns", times[0].clone()).median();
    let mut figures = Vec::new();
    for (range, times) in ranges.iter().zip(&times).skip(1) {
        let costs: Vec<f64> = times.iter().map(|time| time - alone).collect();
        let rates = costs.iter().map(|cost| 1e9 / cost).collect();
        let name = format!("{key}.{}", range.key);
        figures.push(Figure::of(format!("{name}.router_ns"), "ns", costs));
        figures.push(Figure::of(name, "packets/s", rates));
    }
    Ok(figures)
}

/// The source of flow number 0.
fn source() -> SocketAddrV4 {
    let address = Ipv4Addr::from(u32::from_be(flow_address(0)));
    SocketAddrV4::new(address, u16::from_be(flow_port(0)))
}

fn syn(to: SocketAddrV4) -> Vec<u8> {
    Tcp {
        flags: SYN,
        options: &SEGMENT_SIZE,
        ..Tcp::new(source(), to, 1, 0)
    }
    .frame(SMALL)
}

/// Straight to the server; SYNs, if they have options.
fn alone<'lab>(
    lab: &'lab Lab,
    options: &Options,
    flows: u32,
    syn_options: &[u8],
) -> anyhow::Result<Range<'lab>> {
    let scene = Scene::new(lab, Router::Plain, &Settings::default())?;
    let host = &lab.server().namespace;
    let macs = [mac(host, HOST_INTERFACE)?, mac(&lab.router, LAN)?];
    let interface = ifindex(&lab.router, LAN)?;
    let is_flood = !syn_options.is_empty();
    let port = if is_flood { 21 } else { DATA_PORT };
    let to = SocketAddrV4::new(lab.server().v4, port);
    let frame = if is_flood {
        syn(to)
    } else {
        shot(source(), to, 1, 1)
    };
    let mut range = Range::new("alone", scene, &lab.router, to, options)?;
    range.aim(frame, macs, interface, flows)?;
    Ok(range)
}

/// Through a router that knows so many connections, or will, once each had a packet.
fn crowded<'lab>(
    lab: &'lab Lab,
    router: Router,
    options: &Options,
    connections: u32,
) -> anyhow::Result<Range<'lab>> {
    let settings = Settings {
        connections: router.datapath().map(|_| connections + 4096),
        ..Settings::default()
    };
    let mut scene = Scene::new(lab, router, &settings)?;
    let server = SocketAddrV4::new(lab.server().v4, DATA_PORT);
    let mut held = None;
    let (to, arrives, seq, ack) = match router {
        Router::Plain => (server, server, 1, 1),
        Router::KernelHelper => {
            lab.router.nft(&format!(
                "table ip many {{\n chain data {{\n type nat hook prerouting priority -110;\n \
                 tcp dport {DATA_PORT} dnat to {server}\n }}\n}}"
            ))?;
            (SocketAddrV4::new(WAN_ADDRESS, DATA_PORT), server, 1, 1)
        }
        Router::Stack | Router::Redirect | Router::Xdp => {
            let mut session = Session::open(&scene)?;
            let mut data = session.data(&scene)?;
            let pins = scene.pins()?;
            // Its programs stay; no sweep comes in between.
            if let Some(gateway) = &mut scene.gateway {
                gateway.stop()?;
            }
            let mut flows: Flows = pinned(&pins, map::FLOWS4, Map::HashMap)?;
            crowd::fill(&mut flows, &mut data, connections)?;
            let (_, public) = session::ends(&data.client)?;
            let (inside, _) = session::ends(&data.server)?;
            let (seq, ack) = numbers::next(&data.client)?;
            held = Some((session, data));
            (public, inside, seq, ack)
        }
    };
    let from = &lab.client().namespace;
    let macs = [mac(&lab.router, WAN)?, mac(from, HOST_INTERFACE)?];
    let interface = ifindex(from, HOST_INTERFACE)?;
    let mut range = Range::new(router.key(), scene, from, arrives, options)?;
    range.session = held;
    range.aim(
        shot(source(), to, seq, ack),
        macs,
        interface,
        connections - 1,
    )?;
    Ok(range)
}

/// Room for connections in connection tracking, whose settings are the whole machine's: they are put
/// back in the end.
struct Room([(&'static str, String); 2]);

impl Room {
    const SETTINGS: [&'static str; 2] = [
        "/proc/sys/net/netfilter/nf_conntrack_max",
        "/sys/module/nf_conntrack/parameters/hashsize",
    ];

    fn make(connections: u32) -> anyhow::Result<Self> {
        let [most, buckets] = Self::SETTINGS;
        let read = |path: &'static str| -> anyhow::Result<_> {
            let old = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
            Ok((path, old.trim().to_owned()))
        };
        let room = Self([read(most)?, read(buckets)?]);
        for ((path, old), wanted) in room.0.iter().zip([connections + 65_536, connections]) {
            if old.parse::<u32>().is_ok_and(|old| old < wanted) {
                fs::write(path, wanted.to_string())
                    .with_context(|| format!("cannot write {path}"))?;
            }
        }
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The number of buckets sets the other one: it goes first.
        for (path, old) in self.0.iter().rev() {
            let _ = fs::write(path, old);
        }
    }
}
