//! A host far away, which reaches a router by two providers. Each provider forwards only what has one of
//! the addresses that it has given out (RFC 2827), so that what leaves by the wrong one is lost.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    lab::{HOST_INTERFACE, Host, connect, quiet_v6},
    namespace::Namespace,
    reaper,
};

/// The far host's addresses.
const FAR: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 20),
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x20),
);

/// A router of a provider's, next to the lab's.
#[derive(Clone, Copy, Debug)]
pub struct Provider<'h> {
    /// The host that becomes it.
    pub host: &'h Host,
    /// The networks that it has given out, an IPv4 and an IPv6 one: it forwards packets to and from
    /// them.
    pub networks: [&'h str; 2],
}

/// Sets up the far host; the lab's router has no routes yet.
///
/// # Errors
///
/// As [`crate::lab::Lab::with`].
pub fn far_host(providers: [Provider<'_>; 2]) -> anyhow::Result<Host> {
    let namespace = quiet_v6(Namespace::create(&reaper::unique_name())?)?;
    let (v4, v6) = FAR;
    namespace.ip(&format!(
        "link set lo up\naddr add {v4}/32 dev lo\naddr add {v6}/128 dev lo"
    ))?;
    for (number, provider) in providers.iter().enumerate() {
        let there = &provider.host.namespace;
        let port = format!("eth{number}");
        connect(there, "far", &namespace, &port)?;
        let [net4, net6] = provider.networks;
        let link4 = |last: u8| Ipv4Addr::new(100, 64, number as u8, last);
        let link6 = |last: u16| Ipv6Addr::new(0xfd00, 0x64, number as u16, 0, 0, 0, 0, last);
        there.ip(&format!(
            "link set far up\n\
             addr add {}/30 dev far\n\
             addr add {}/64 dev far nodad\n\
             route add {v4}/32 via {}\n\
             route add {v6}/128 via {}",
            link4(1),
            link6(1),
            link4(2),
            link6(2)
        ))?;
        namespace.ip(&format!(
            "link set {port} up\n\
             addr add {}/30 dev {port}\n\
             addr add {}/64 dev {port} nodad\n\
             route add {net4} via {} src {v4}\n\
             route add {net6} via {} src {v6}",
            link4(2),
            link6(2),
            link4(1),
            link6(1)
        ))?;
        there.sysctl("net.ipv4.ip_forward", "1")?;
        there.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        there.nft(&format!(
            "table inet provider {{\n\
                 chain forward {{\n\
                     type filter hook forward priority filter; policy accept;\n\
                     iifname {HOST_INTERFACE} ip saddr != {net4} drop\n\
                     iifname {HOST_INTERFACE} ip6 saddr != {net6} drop\n\
                 }}\n\
             }}"
        ))?;
    }
    Ok(Host { namespace, v4, v6 })
}
