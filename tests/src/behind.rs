//! One more network behind a host of the lab: for clients with a router of their own, and for
//! servers behind two NATs.
//!
//! ```text
//!  the host, eth0 ── inner 192.168.77.1 ─── eth0 192.168.77.2
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    lab::{HOST_INTERFACE, Host, Lab, connect, quiet_v6},
    namespace::Namespace,
};

/// The interface of the host that became a router, towards the one behind it.
pub const INNER: &str = "inner";

/// Makes `router`, a host of the lab, the router of a new host behind it.
///
/// # Errors
///
/// As [`crate::lab::Lab::with`].
pub fn behind(router: &Host) -> anyhow::Result<Host> {
    let near = Ipv4Addr::new(192, 168, 77, 1);
    let near_v6 = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);
    let host = Host {
        namespace: quiet_v6(Namespace::create(&format!(
            "{}-behind",
            router.namespace.name()
        ))?)?,
        v4: Ipv4Addr::new(192, 168, 77, 2),
        v6: Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 2),
    };
    connect(&router.namespace, INNER, &host.namespace, HOST_INTERFACE)?;
    router.namespace.ip(&format!(
        "addr add {near}/24 dev {INNER}\naddr add {near_v6}/64 dev {INNER} nodad\n\
         link set {INNER} up"
    ))?;
    host.namespace.ip(&format!(
        "addr add {}/24 dev {HOST_INTERFACE}\naddr add {}/64 dev {HOST_INTERFACE} nodad\n\
         link set {HOST_INTERFACE} up\nroute add 0.0.0.0/0 via {near}\nroute add ::/0 via {near_v6}",
        host.v4, host.v6
    ))?;
    router.namespace.sysctl("net.ipv4.ip_forward", "1")?;
    router
        .namespace
        .sysctl("net.ipv6.conf.all.forwarding", "1")?;
    Ok(host)
}

/// Makes a host with a network of its own, 10.0.9.0/24 and fd00:9::/64, on one more interface of
/// the lab's router.
///
/// # Errors
///
/// As [`crate::lab::Lab::with`].
pub fn beside(lab: &Lab, interface: &str) -> anyhow::Result<Host> {
    let host = Host {
        namespace: quiet_v6(Namespace::create(&format!(
            "{}-{interface}",
            lab.router.name()
        ))?)?,
        v4: Ipv4Addr::new(10, 0, 9, 2),
        v6: Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2),
    };
    connect(&lab.router, interface, &host.namespace, HOST_INTERFACE)?;
    lab.router.ip(&format!(
        "addr add 10.0.9.1/24 dev {interface}\naddr add fd00:9::1/64 dev {interface} nodad\n\
         link set {interface} up"
    ))?;
    host.namespace.ip(&format!(
        "addr add {}/24 dev {HOST_INTERFACE}\naddr add {}/64 dev {HOST_INTERFACE} nodad\n\
         link set {HOST_INTERFACE} up\nroute add 0.0.0.0/0 via 10.0.9.1\n\
         route add ::/0 via fd00:9::1",
        host.v4, host.v6
    ))?;
    Ok(host)
}
