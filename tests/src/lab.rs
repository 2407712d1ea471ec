//! The scene: hosts outside, a router, hosts inside.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{
    medium::{End, Medium},
    namespace::Namespace,
    process::{self, Outcome, Running},
    reaper,
};

/// The router's interface to the outside.
pub const WAN: &str = "wan";
/// The router's interface to the inside.
pub const LAN: &str = "lan";
/// The router's address outside.
pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router's address inside.
pub const LAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The router's IPv6 address outside.
pub const WAN_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// The router's IPv6 address inside.
pub const LAN_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1);

/// The name of the one interface of every host.
pub const HOST_INTERFACE: &str = "eth0";

/// The last part of the first outside host's addresses.
const FIRST_OUTSIDE: u8 = 20;
/// The last part of the first inside host's addresses.
const FIRST_INSIDE: u8 = 5;

/// A scene to be set up.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many hosts stand outside.
    pub outside: u8,
    /// How many hosts stand inside.
    pub inside: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            outside: 1,
            inside: 1,
        }
    }
}

/// The namespaces of one scene. Dropping it removes them and ends what runs in them.
#[derive(Debug)]
pub struct Lab {
    /// Hosts on the router's WAN side, in the order of their addresses.
    pub outside: Vec<Host>,
    /// Hosts on the router's LAN side, in the order of their addresses.
    pub inside: Vec<Host>,
    /// The router between them.
    pub router: Namespace,
    /// Switches, where a side has more than one host.
    switches: Vec<Namespace>,
    /// What has to run so that the sides stay joined.
    _carriers: Vec<Running>,
}

/// A machine with one interface.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// One side of the router.
struct Side {
    interface: &'static str,
    router_v4: Ipv4Addr,
    router_v6: Ipv6Addr,
    first_host: u8,
    hosts: u8,
    /// What joins the router to its one host.
    medium: Medium,
    /// Hosts inside reach the rest of the world by the router. Those outside have no route to the
    /// addresses inside: as on the internet, an inner address that leaks is of no use to them.
    default_route: bool,
    role: &'static str,
}

impl Lab {
    /// So many labs of [`Self::new`], one beside the other.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn several(count: usize) -> anyhow::Result<Vec<Self>> {
        (0..count).map(|_| Self::new()).collect()
    }

    /// Sets up one client outside and one server inside.
    ///
    /// # Errors
    ///
    /// As [`Self::with`].
    pub fn new() -> anyhow::Result<Self> {
        Self::with(Plan::default())
    }

    /// Sets up the scene of `plan`, under a name that nobody else has.
    ///
    /// # Errors
    ///
    /// For want of root, of iproute2, or of a kernel with veth (and bridge, for more than one host
    /// on a side).
    pub fn with(plan: Plan) -> anyhow::Result<Self> {
        Self::named(&reaper::unique_name(), plan)
    }

    /// Sets up the scene of `plan`; the namespaces are called `name`, a hyphen, and the role.
    ///
    /// # Errors
    ///
    /// As [`Self::with`].
    pub fn named(name: &str, plan: Plan) -> anyhow::Result<Self> {
        Self::build(name, plan, [Medium::Veth; 2])
    }

    /// Sets up one client outside and one server inside, joined to the router by these media.
    ///
    /// # Errors
    ///
    /// As [`Self::with`], and when the kernel lacks what a medium needs.
    pub fn over(wan: Medium, lan: Medium) -> anyhow::Result<Self> {
        Self::build(&reaper::unique_name(), Plan::default(), [wan, lan])
    }

    fn build(name: &str, plan: Plan, [wan, lan]: [Medium; 2]) -> anyhow::Result<Self> {
        let router = Namespace::create(&format!("{name}-router"))?;
        let mut switches = Vec::new();
        let mut carriers = Vec::new();
        let mut set_up = |side: &Side| {
            side.set_up(name, &router, &mut switches, &mut carriers)
                .with_context(|| format!("cannot set up the {} side of the lab", side.interface))
        };
        let outside = set_up(&Side {
            interface: WAN,
            router_v4: WAN_ADDRESS,
            router_v6: WAN_ADDRESS_V6,
            first_host: FIRST_OUTSIDE,
            hosts: plan.outside,
            medium: wan,
            default_route: false,
            role: "client",
        })?;
        let inside = set_up(&Side {
            interface: LAN,
            router_v4: LAN_ADDRESS,
            router_v6: LAN_ADDRESS_V6,
            first_host: FIRST_INSIDE,
            hosts: plan.inside,
            medium: lan,
            default_route: true,
            role: "server",
        })?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        Ok(Self {
            outside,
            inside,
            router,
            switches,
            _carriers: carriers,
        })
    }

    /// Joins one more host to the router, by an interface of its own: a network of their own with these
    /// addresses, the router's first. The router is the host's way to everywhere.
    ///
    /// # Errors
    ///
    /// As [`Self::with`].
    pub fn attach_host(
        &self,
        interface: &str,
        v4: [Ipv4Addr; 2],
        v6: [Ipv6Addr; 2],
    ) -> anyhow::Result<Host> {
        let namespace = quiet_v6(Namespace::create(&reaper::unique_name())?)?;
        connect(&self.router, interface, &namespace, HOST_INTERFACE)?;
        self.router.ip(&format!(
            "link set {interface} up\n\
             addr add {}/24 dev {interface}\n\
             addr add {}/64 dev {interface} nodad",
            v4[0], v6[0]
        ))?;
        namespace.ip(&format!(
            "link set lo up\n\
             link set {HOST_INTERFACE} up\n\
             addr add {}/24 dev {HOST_INTERFACE}\n\
             addr add {}/64 dev {HOST_INTERFACE} nodad\n\
             route add 0.0.0.0/0 via {}\n\
             route add ::/0 via {}",
            v4[1], v6[1], v4[0], v6[0]
        ))?;
        let ([_, v4], [_, v6]) = (v4, v6);
        Ok(Host { namespace, v4, v6 })
    }

    /// The first host outside.
    #[must_use]
    pub fn client(&self) -> &Host {
        &self.outside[0]
    }

    /// The first host inside.
    #[must_use]
    pub fn server(&self) -> &Host {
        &self.inside[0]
    }

    /// Leaves the whole scene standing after this process.
    pub fn keep(&mut self) {
        self.router.keep();
        for host in self.outside.iter_mut().chain(&mut self.inside) {
            host.namespace.keep();
        }
        for switch in &mut self.switches {
            switch.keep();
        }
    }

    /// All namespaces of the scene.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let hosts = self.outside.iter().chain(&self.inside);
        hosts
            .map(|host| &host.namespace)
            .chain([&self.router])
            .chain(&self.switches)
    }
}

impl Host {
    /// Its address of the same family as `other`.
    #[must_use]
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        }
    }

    /// `port` at its IPv4 address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.v4, port).into()
    }

    /// Runs a program on this host to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run(&self, words: &[&str], limit: Duration) -> anyhow::Result<Outcome> {
        let (program, arguments) = words.split_first().context("no program to run")?;
        process::run(self.namespace.command(program)?.args(arguments), limit)
    }
}

impl Side {
    /// Makes the hosts and the links to the router.
    fn set_up(
        &self,
        name: &str,
        router: &Namespace,
        switches: &mut Vec<Namespace>,
        carriers: &mut Vec<Running>,
    ) -> anyhow::Result<Vec<Host>> {
        let hosts = (0..self.hosts)
            .map(|index| {
                let suffix = match index {
                    0 => String::new(),
                    index => (index + 1).to_string(),
                };
                Ok(Host {
                    namespace: quiet_v6(Namespace::create(&format!(
                        "{name}-{}{suffix}",
                        self.role
                    ))?)?,
                    v4: replace_last(self.router_v4, self.first_host + index),
                    v6: replace_last_v6(self.router_v6, self.first_host + index),
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        router.sysctl("net.ipv6.conf.default.accept_dad", "0")?;

        if let [host] = &hosts[..] {
            let ends = [(router, self.interface), (&host.namespace, HOST_INTERFACE)];
            carriers.extend(self.medium.join(ends.map(end))?);
        } else {
            ensure!(
                self.medium == Medium::Veth,
                "a switch has veth pairs and nothing else"
            );
            let switch = Namespace::create(&format!("{name}-{}-switch", self.interface))?;
            switch.ip("link add switch type bridge\nlink set switch up")?;
            connect(router, self.interface, &switch, "router")?;
            plug_in(&switch, "router")?;
            for (index, host) in hosts.iter().enumerate() {
                let port = format!("port{index}");
                connect(&host.namespace, HOST_INTERFACE, &switch, &port)?;
                plug_in(&switch, &port)?;
            }
            switches.push(switch);
        }

        router.ip(&format!(
            "addr add {}/24 dev {dev}\naddr add {}/64 dev {dev} nodad\nlink set {dev} up",
            self.router_v4,
            self.router_v6,
            dev = self.interface,
        ))?;
        for host in &hosts {
            host.namespace.ip(&format!(
                "addr add {}/24 dev {dev}\naddr add {}/64 dev {dev} nodad\nlink set {dev} up",
                host.v4,
                host.v6,
                dev = HOST_INTERFACE,
            ))?;
            if self.default_route {
                host.namespace.ip(&format!(
                    "route add 0.0.0.0/0 via {}\nroute add ::/0 via {}",
                    self.router_v4, self.router_v6
                ))?;
            }
        }
        Ok(hosts)
    }
}

/// Duplicate address detection would make every address wait two seconds.
pub(crate) fn quiet_v6(namespace: Namespace) -> anyhow::Result<Namespace> {
    namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    Ok(namespace)
}

/// Makes a veth pair between two namespaces.
pub(crate) fn connect(
    one: &Namespace,
    one_interface: &str,
    other: &Namespace,
    other_interface: &str,
) -> anyhow::Result<()> {
    let ends = [(one, one_interface), (other, other_interface)];
    Medium::Veth.join(ends.map(end)).map(drop)
}

fn end<'n>((namespace, interface): (&'n Namespace, &'n str)) -> End<'n> {
    End {
        namespace,
        interface,
    }
}

fn plug_in(switch: &Namespace, port: &str) -> anyhow::Result<()> {
    switch.ip(&format!(
        "link set {port} master switch\nlink set {port} up"
    ))
}

fn replace_last(address: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = address.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// The last group shows the same digits as in IPv4: `::20`, not `::14`.
fn replace_last_v6(address: Ipv6Addr, last: u8) -> Ipv6Addr {
    let mut groups = address.segments();
    groups[7] = u16::from(last / 100) << 8 | u16::from(last / 10 % 10) << 4 | u16::from(last % 10);
    groups.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_show_the_same_digits() {
        assert_eq!(replace_last(WAN_ADDRESS, 20).to_string(), "198.51.100.20");
        assert_eq!(
            replace_last_v6(WAN_ADDRESS_V6, 20).to_string(),
            "2001:db8:1::20"
        );
        assert_eq!(replace_last_v6(LAN_ADDRESS_V6, 5).to_string(), "fd00:10::5");
    }
}
