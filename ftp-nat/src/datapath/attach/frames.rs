//! Whether an interface can send the frames that XDP redirects to it.
//!
//! Not every one on which XDP runs can: a veth passes them on only if its other end, perhaps in a
//! container that nobody here can look into, runs XDP or has GRO on. Frames sent to it all the same
//! are lost. The kernel's `netdev` family tells (Linux 6.3).

use std::io;

use crate::kernel::{
    netlink::{Netlink, attributes, message, push_attribute, text},
    network::Link,
};

/// The family that knows all families (`GENL_ID_CTRL`), and what it is asked (linux/genetlink.h).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// What `netdev` is asked (linux/netdev.h).
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`.
const SENDS_FRAMES: u64 = 4;

/// Length of a generic netlink header.
const HEADER: usize = 4;

/// The question for one interface's attributes, and where its type is (linux/if_link.h).
const INTERFACE_INFO: usize = 16;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// Whether the interface sends XDP's frames. Where the kernel does not tell (before Linux 6.3), a
/// veth is taken not to: whether its other end takes them cannot be known here.
pub(super) fn are_sent_by(link: &Link) -> bool {
    match ask(link) {
        Ok(Some(sends)) => sends,
        // Drivers of hardware that run XDP send its frames too.
        Ok(None) | Err(_) => !is_veth(link).unwrap_or(true),
    }
}

fn is_veth(link: &Link) -> io::Result<bool> {
    let mut question = vec![0; INTERFACE_INFO];
    question[4..8].copy_from_slice(&link.index.to_ne_bytes());
    let mut is_veth = false;
    Netlink::open()?.ask(message::GET_LINK, &question, |_, answer| {
        let info = attributes(answer, INTERFACE_INFO).find(|(kind, _)| *kind == LINK_INFO);
        let kind = info.and_then(|(_, info)| {
            let mut nested = attributes(info, 0);
            nested.find(|(kind, _)| *kind == INFO_KIND)
        });
        is_veth = kind.is_some_and(|(_, name)| text(name) == "veth");
    })?;
    Ok(is_veth)
}

fn ask(link: &Link) -> io::Result<Option<bool>> {
    let mut netlink = Netlink::open_generic()?;
    let mut family = None;
    let question = request(GET_FAMILY, FAMILY_NAME, b"netdev\0");
    netlink.ask(CONTROL, &question, |_, answer| {
        let id = attributes(answer, HEADER).find(|(kind, _)| *kind == FAMILY_ID);
        family = id.and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)));
    })?;
    let Some(family) = family else {
        return Ok(None);
    };
    let mut sends = None;
    let question = request(GET_DEVICE, IFINDEX, &link.index.to_ne_bytes());
    netlink.ask(family, &question, |_, answer| {
        let features = attributes(answer, HEADER).find(|(kind, _)| *kind == XDP_FEATURES);
        let features =
            features.and_then(|(_, value)| Some(u64::from_ne_bytes(value.try_into().ok()?)));
        sends = features.map(|features| features & SENDS_FRAMES != 0);
    })?;
    Ok(sends)
}

fn request(command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let mut message = vec![command, 1, 0, 0];
    push_attribute(&mut message, attribute, value);
    message
}
