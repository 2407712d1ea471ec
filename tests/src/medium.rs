//! What joins the interfaces of two namespaces: a veth pair, or what networks have instead.

use std::{
    fs,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    link::mac_text,
    namespace::Namespace,
    netns::ip,
    process::{self, Running},
};

/// What joins two interfaces. All but [`Self::Veth`] and those of tun need modules that not every kernel has;
/// `cargo xtask vm` boots kernels that have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A veth pair.
    Veth,
    /// A VLAN of a veth pair (8021q).
    Vlan,
    /// A bond of two veth pairs (bonding): one carries, the other stands by.
    Bond,
    /// Two network cards of this machine, side by side on one cable, as `cargo xtask vm` plugs them
    /// in: the pair of this number.
    Cards(u8),
    /// Two tun interfaces and a program that carries packets from one to the other: no Ethernet
    /// header, and no module.
    Tun,
    /// The same, by a program that loses three of a hundred packets, doubles two and lets twelve be
    /// overtaken, as this seed has it.
    RoughTun(u64),
    /// WireGuard over a veth pair: no Ethernet header.
    Wireguard,
    /// PPPoE over a veth pair: no Ethernet header. With the addresses that both ends agree upon, the first
    /// end's first.
    Pppoe([Ipv4Addr; 2]),
}

/// The hardware address of a card: pair, and end of it. `cargo xtask vm` gives the cards theirs.
#[must_use]
pub fn card(pair: u8, end: u8) -> String {
    format!("52:54:00:66:{pair:02x}:{end:02x}")
}

/// How long a card may take to come back from a namespace that went away, and a PPP connection to
/// come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The VLAN's number.
const VLAN: u16 = 100;

/// The addresses of the veth pair below a tunnel.
const BELOW: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// WireGuard's port, at both ends.
const WIREGUARD_PORT: u16 = 51_820;

/// One end: where, and what the interface is to be called.
#[derive(Clone, Copy)]
pub(crate) struct End<'n> {
    pub(crate) namespace: &'n Namespace,
    pub(crate) interface: &'n str,
}

impl End<'_> {
    /// The name of an interface that carries this one.
    fn below(&self, number: usize) -> String {
        format!("{}-below{number}", self.interface)
    }
}

impl Medium {
    /// Makes the interfaces of both ends, of which neither is up. What has to run for that is given
    /// back, and must live as long as the connection.
    pub(crate) fn join(self, ends: [End<'_>; 2]) -> anyhow::Result<Vec<Running>> {
        match self {
            Self::Veth => veth(ends, ends.map(|end| end.interface.to_owned()))?,
            Self::Vlan => vlan(ends)?,
            Self::Bond => bond(ends)?,
            Self::Cards(pair) => cards(ends, pair)?,
            Self::Tun => return tun(ends, None),
            Self::RoughTun(seed) => return tun(ends, Some(seed)),
            Self::Wireguard => wireguard(ends)?,
            Self::Pppoe(addresses) => return pppoe(ends, addresses),
        }
        Ok(Vec::new())
    }
}

/// Makes a veth pair of these names. In the first namespace: the kernel refuses a name that the
/// namespace of the asking process has, too.
fn veth(ends: [End<'_>; 2], names: [String; 2]) -> anyhow::Result<()> {
    let [one, other] = ends;
    one.namespace.ip(&format!(
        "link add {} type veth peer name {} netns {}",
        names[0],
        names[1],
        other.namespace.name()
    ))
}

/// The same, both up, as carriers of something else.
fn carrier(ends: [End<'_>; 2], number: usize) -> anyhow::Result<()> {
    let names = ends.map(|end| end.below(number));
    veth(ends, names.clone())?;
    for (end, name) in ends.iter().zip(names) {
        end.namespace.ip(&format!("link set {name} up"))?;
    }
    Ok(())
}

fn vlan(ends: [End<'_>; 2]) -> anyhow::Result<()> {
    carrier(ends, 0)?;
    for end in ends {
        end.namespace.ip(&format!(
            "link add link {} name {} type vlan id {VLAN}",
            end.below(0),
            end.interface
        ))?;
    }
    Ok(())
}

fn bond(ends: [End<'_>; 2]) -> anyhow::Result<()> {
    for end in ends {
        end.namespace.ip(&format!(
            "link add {} type bond mode active-backup miimon 100",
            end.interface
        ))?;
    }
    for number in [0, 1] {
        let names = ends.map(|end| end.below(number));
        veth(ends, names.clone())?;
        for (end, name) in ends.iter().zip(names) {
            // Only what is down can be enslaved; the bond sets it up.
            end.namespace
                .ip(&format!("link set {name} master {}", end.interface))?;
        }
    }
    Ok(())
}

fn cards(ends: [End<'_>; 2], pair: u8) -> anyhow::Result<()> {
    for (end, number) in ends.iter().zip(0..) {
        let card = plugged_in(&card(pair, number))?;
        ip(&[
            "link",
            "set",
            &card,
            "netns",
            end.namespace.name(),
            "name",
            end.interface,
        ])?;
    }
    Ok(())
}

/// The interface with this hardware address: it comes back by itself when the namespace that had it
/// goes away, a moment later.
fn plugged_in(address: &str) -> anyhow::Result<String> {
    let start = Instant::now();
    loop {
        for entry in fs::read_dir("/sys/class/net")?.flatten() {
            let its = fs::read_to_string(entry.path().join("address"));
            if its.is_ok_and(|its| its.trim() == address) {
                return Ok(entry.file_name().to_string_lossy().into_owned());
            }
        }
        if start.elapsed() > PATIENCE {
            bail!("this machine has no network card {address}: use `cargo xtask vm`");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Gives the carrier addresses for a tunnel to go over.
fn addressed_carrier(ends: [End<'_>; 2]) -> anyhow::Result<()> {
    carrier(ends, 0)?;
    for (end, address) in ends.iter().zip(BELOW) {
        end.namespace
            .ip(&format!("addr add {address}/30 dev {}", end.below(0)))?;
    }
    Ok(())
}

fn wireguard(ends: [End<'_>; 2]) -> anyhow::Result<()> {
    addressed_carrier(ends)?;
    let keys = [wg_key()?, wg_key()?];
    for (number, end) in ends.into_iter().enumerate() {
        end.namespace
            .ip(&format!("link add {} type wireguard", end.interface))?;
        let other = 1 - number;
        // The private key by standard input: it is nobody's argument.
        let script = format!(
            "printf %s {} | wg set {} listen-port {WIREGUARD_PORT} private-key /proc/self/fd/0 \
             peer {} allowed-ips 0.0.0.0/0,::/0 endpoint {}:{WIREGUARD_PORT}",
            keys[number].0, end.interface, keys[other].1, BELOW[other]
        );
        process::run(end.namespace.command("sh")?.args(["-c", &script]), PATIENCE)?
            .expect_success()?;
    }
    Ok(())
}

/// Makes a tun interface here and another one for a second namespace, and carries packets between them
/// until it is ended, which takes both away. With a seed, some of them at another time, twice or never.
const TUN_RELAY: &str = r#"
import fcntl, heapq, os, random, select, struct, subprocess, sys, time
here, other, there, *seed = sys.argv[1:]
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd
fds = [tun(here), tun("away")]
subprocess.run(["ip", "link", "set", "away", "netns", other, "name", there], check=True)
print("ready", flush=True)
chance = random.Random(seed[0]) if seed else None
late = []
number = 0
def times():
    """In how many seconds each copy of a packet goes on."""
    draw = chance.random() if chance else 1
    if draw < 0.03:
        return []
    if draw < 0.05:
        return [0, chance.uniform(0, 0.005)]
    return [chance.uniform(0.001, 0.01)] if draw < 0.17 else [0]
def send(fd, packet):
    try:
        os.write(fd, packet)
    except OSError:
        pass  # It is not up yet.
while True:
    wait = max(0, late[0][0] - time.monotonic()) if late else None
    for fd in select.select(fds, [], [], wait)[0]:
        try:
            packet = os.read(fd, 65536)
        except OSError:
            continue
        for seconds in times():
            if seconds:
                number += 1
                heapq.heappush(late, (time.monotonic() + seconds, number, fds[fd == fds[0]], packet))
            else:
                send(fds[fd == fds[0]], packet)
    while late and late[0][0] <= time.monotonic():
        send(*heapq.heappop(late)[2:])
"#;

fn tun([one, other]: [End<'_>; 2], seed: Option<u64>) -> anyhow::Result<Vec<Running>> {
    let mut command = one.namespace.command("python3")?;
    command.args(["-c", TUN_RELAY, one.interface]);
    command.args([other.namespace.name(), other.interface]);
    command.args(seed.map(|seed| seed.to_string()));
    let mut relay = Running::start(&mut command)?;
    relay.wait_for("ready", PATIENCE)?;
    Ok(vec![relay])
}

/// A new private key and its public one.
fn wg_key() -> anyhow::Result<(String, String)> {
    let script = "key=$(wg genkey) && echo $key && echo $key | wg pubkey";
    let keys = process::run(
        std::process::Command::new("sh").args(["-c", script]),
        PATIENCE,
    )?
    .expect_success()?
    .text();
    let (private, public) = keys.trim().split_once('\n').context("wg gave no keys")?;
    Ok((private.to_owned(), public.to_owned()))
}

/// The number of the PPPoE session.
const SESSION: u16 = 1;

/// Both ends know the session's number and each other's hardware address: nobody has to look for the other
/// one (RFC 2516 section 5), and no access concentrator is needed. IPv4's addresses are agreed upon by PPP.
fn pppoe(ends: [End<'_>; 2], addresses: [Ipv4Addr; 2]) -> anyhow::Result<Vec<Running>> {
    carrier(ends, 0)?;
    // /dev/ppp is the module's, which nobody else asks for.
    process::run(
        std::process::Command::new("modprobe").arg("pppoe"),
        PATIENCE,
    )?
    .expect_success()?;
    let [one, other] = ends;
    let [first, second] = addresses;
    let mut running = Vec::new();
    for (own, peer, [local, remote]) in
        [(one, other, [first, second]), (other, one, [second, first])]
    {
        let mac = mac_text(peer.namespace, &peer.below(0))?;
        let mut pppd = own.namespace.command("pppd")?;
        pppd.args(["plugin", "pppoe.so"])
            .args(["pppoe-sess", &format!("{SESSION}:{mac}")])
            .arg(own.below(0))
            .args(["noauth", "nodefaultroute", "nodetach", "ipv6", ","])
            .args(["ifname", own.interface])
            .arg(format!("{local}:{remote}"));
        running.push(Running::start(&mut pppd)?);
    }
    let start = Instant::now();
    while !(is_up(one, first)? && is_up(other, second)?) {
        let mut is_over = start.elapsed() > PATIENCE;
        for pppd in &mut running {
            is_over |= !pppd.is_alive()?;
        }
        if is_over {
            let logs: Vec<_> = running.iter().map(Running::log).collect();
            bail!("PPPoE does not come up:\n{}", logs.join("\n"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(running)
}

/// Whether an end of a PPP connection has the address that was agreed upon: the last that pppd sets.
fn is_up(end: End<'_>, address: Ipv4Addr) -> anyhow::Result<bool> {
    let mut show = end.namespace.command("ip")?;
    show.args(["-4", "-o", "addr", "show", "up", "dev", end.interface]);
    // There is no such interface at first.
    let text = process::run(&mut show, PATIENCE)?.text();
    Ok(text.contains(&format!("inet {address} ")))
}
