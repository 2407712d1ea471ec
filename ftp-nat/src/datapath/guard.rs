//! The guard: keeps this machine's own stack from answering packets of the gateway's connections, where
//! an interface has no programs yet.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf,
    maps::SockMap,
    programs::{SkLookup, sk_lookup::SkLookupLink},
};
use ftp_nat_common::abi::guard;
use log::debug;
use socket2::{SockFilter, SockRef};

/// The program's link to the network namespace, and the sockets that it gives such packets to. It ends
/// with this value: without a daemon nobody attaches anything to a new interface either.
pub struct Guard {
    _link: SkLookupLink,
    _sockets: Vec<TcpListener>,
}

impl Guard {
    /// Sets it up in this network namespace.
    ///
    /// # Errors
    ///
    /// What the kernel refused. Connections then break where an interface is made anew, and only there.
    pub(super) fn set_up(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let map = ebpf.map_mut(guard::MAP).context("no such map")?;
        let mut map: SockMap<_> = map.try_into()?;
        let mut sockets = Vec::new();
        for (index, address) in [
            (guard::V4, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            (guard::V6, IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ] {
            match deaf(address) {
                Ok(socket) => {
                    map.set(index, &socket, 0)
                        .context("cannot enter its socket")?;
                    sockets.push(socket);
                }
                // The namespace has no such family.
                Err(error) => debug!("the guard has no socket at {address}: {error}"),
            }
        }
        if sockets.is_empty() {
            bail!("no socket can listen on this machine's own addresses");
        }
        let program: &mut SkLookup = ebpf
            .program_mut(guard::PROGRAM)
            .context("no such program")?
            .try_into()?;
        program.load()?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        let link = program.attach(namespace)?;
        Ok(Self {
            _link: program.take_link(link)?,
            _sockets: sockets,
        })
    }
}

/// A listening socket that takes nothing: its filter drops whatever is given to it, before TCP looks at
/// it (`tcp_filter` in `tcp_v4_rcv`), so that nothing is answered. It is at a loopback address, where
/// nobody outside can dial it.
fn deaf(address: IpAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind((address, 0))?;
    // BPF_RET | BPF_K: keep 0 bytes.
    let drop_all = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(&socket).attach_filter(&[drop_all])?;
    Ok(socket)
}
