//! Whether the rules of nftables have changed (linux/netfilter/nf_tables.h).

use std::io;

use super::netlink::{Netlink, attributes};

/// `NFNL_SUBSYS_NFTABLES`, in a message type's high byte.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFT_MSG_NEWGEN`.
const GENERATION: u16 = SUBSYSTEM | 15;
/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = SUBSYSTEM | 16;
/// `NFTA_GEN_ID`.
const ID: u16 = 1;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

/// The number of this network namespace's rules: another one with each change.
///
/// # Errors
///
/// `EPERM`: no CAP_NET_ADMIN. `EINVAL`, `EPROTONOSUPPORT`: a kernel without nftables.
pub fn generation() -> io::Result<u32> {
    let mut generation = None;
    Netlink::open_netfilter()?.ask(GET_GENERATION, &[0; HEADER], |kind, payload| {
        if kind == GENERATION {
            generation = attributes(payload, HEADER)
                .find(|(kind, _)| *kind == ID)
                .and_then(|(_, value)| value.try_into().ok())
                .map(u32::from_be_bytes);
        }
    })?;
    generation.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
