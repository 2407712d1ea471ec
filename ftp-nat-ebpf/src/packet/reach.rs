//! The first look at a packet: what it carries, and the ports of TCP.

use super::extension;
use super::headers::{ICMP, ICMP6, Ipv4, Ipv6, MOST, TCP, Tcp};
use crate::kernel::skb::Skb;
use ftp_nat_common::wire::addr::PortPair;

/// What the first look at a packet came to. All of it is always set: on a way on which it is not,
/// the verifier sees a register that nobody wrote.
#[derive(Clone, Copy)]
pub struct Reach {
    /// What it carries.
    pub carries: Carries,
    /// Where that one's header starts.
    pub at: u32,
    /// TCP's ports.
    pub ports: PortPair,
    /// TCP's flags; of an extension header its kind.
    pub flags: u8,
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Carries {
    /// Neither of those below, or cut short.
    Other = 0,
    /// TCP.
    Tcp = 1,
    /// ICMP or ICMPv6.
    Icmp = 2,
    /// An IPv6 extension header.
    Extension = 3,
}

impl Reach {
    #[inline(always)]
    fn new(carries: Carries, at: u32) -> Self {
        Self {
            carries,
            at,
            ports: PortPair::default(),
            flags: 0,
        }
    }
}

/// The first look at an IPv4 packet, whose header starts at `IP`, as cheap as can be.
#[inline(always)]
pub fn reach4<const IP: u32>(skb: &Skb) -> Reach {
    // Some drivers leave all but the first bytes outside: then one is fetched before all are.
    if !skb.has(IP as usize + size_of::<Ipv4>()) {
        match skb.load::<u8>(IP + 9) {
            Some(TCP | ICMP) if skb.pull(MOST.min(skb.len())) => {}
            _ => return Reach::new(Carries::Other, 0),
        }
    }
    let Some(ip) = skb.view::<Ipv4>(IP as usize) else {
        return Reach::new(Carries::Other, 0);
    };
    let at = IP + ip.len();
    match ip.protocol() {
        TCP => tcp_at(skb, at),
        ICMP => Reach::new(Carries::Icmp, at),
        _ => Reach::new(Carries::Other, 0),
    }
}

/// The first look at an IPv6 packet. Extension headers are not followed here.
#[inline(always)]
pub fn reach6<const IP: u32>(skb: &Skb) -> Reach {
    if !skb.has(IP as usize + size_of::<Ipv6>()) {
        match skb.load::<u8>(IP + 6) {
            Some(header)
                if (matches!(header, TCP | ICMP6) || extension::is_one(header))
                    && skb.pull(MOST.min(skb.len())) => {}
            _ => return Reach::new(Carries::Other, 0),
        }
    }
    let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
        return Reach::new(Carries::Other, 0);
    };
    let at = IP + size_of::<Ipv6>() as u32;
    match ip.next_header() {
        TCP => tcp_at(skb, at),
        ICMP6 => Reach::new(Carries::Icmp, at),
        header if extension::is_one(header) => Reach {
            flags: header,
            ..Reach::new(Carries::Extension, at)
        },
        _ => Reach::new(Carries::Other, 0),
    }
}

/// TCP at `at`, pulled into the linear part if need be.
#[inline(always)]
fn tcp_at(skb: &Skb, at: u32) -> Reach {
    let mut reach = Reach::new(Carries::Tcp, at);
    if !skb.has(at as usize + size_of::<Tcp>()) {
        if !skb.pull(MOST.min(skb.len())) {
            return Reach::new(Carries::Other, 0);
        }
        // Cut short, perhaps: but whose it is shows in its ports.
        match skb.load::<u32>(at) {
            Some(ports) => reach.ports = PortPair(ports),
            None => return Reach::new(Carries::Other, 0),
        }
    }
    if let Some(tcp) = skb.view::<Tcp>(at as usize) {
        reach.ports = tcp.ports();
        reach.flags = tcp.flags();
    }
    reach
}
