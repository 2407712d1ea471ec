//! XDP's hooks: the fast path of data connections, whose packets it sees before the stack has made
//! anything of them.
//!
//! It takes what needs no thought: a plain TCP segment of a flow that TC has opened, whose next hop
//! TC has looked up within the last second. All else passes, and meets TC.

use crate::forward::exit::is_fresh;
use crate::forward::translate::{header4, header6};
use crate::kernel::frame::Frame;
use crate::kernel::hook::Hook;
use crate::kernel::route::redirect;
use crate::packet::headers::{Ethernet, IP, IPV4, IPV6, Ipv4, Ipv6, TCP, Tcp};
use crate::state::flows::{self, Table};
use crate::state::{counters, ports};
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::programs::XdpContext;
use bytemuck::{Pod, Zeroable};
use ftp_nat_common::abi::{Flow, FlowKey4, FlowKey6, flow_flag, kind};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::checksum::{apply, fold, of_addr};
use ftp_nat_common::wire::tcp::flag;

/// The headers of TCP over IPv4 without options.
#[repr(C, packed(2))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Headers4 {
    ethernet: Ethernet,
    ip: Ipv4,
    tcp: Tcp,
}

/// The headers of TCP over IPv6 without extensions.
#[repr(C, packed(2))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Headers6 {
    ethernet: Ethernet,
    ip: Ipv6,
    tcp: Tcp,
}

/// A frame comes to a hook; gives XDP's verdict.
#[inline(always)]
pub fn enter(ctx: &XdpContext, hook: Hook) -> u32 {
    let frame = Frame::new(ctx);
    let Some(ethernet) = frame.view::<Ethernet>() else {
        return XDP_PASS;
    };
    let sent = if ethernet.ether_type() == IPV4 {
        ipv4(&frame, hook)
    } else if ethernet.ether_type() == IPV6 {
        ipv6(&frame, hook)
    } else {
        None
    };
    sent.unwrap_or(XDP_PASS)
}

#[inline(always)]
fn ipv4(frame: &Frame, hook: Hook) -> Option<u32> {
    let Headers4 { ip, tcp, .. } = *frame.view::<Headers4>()?;
    if ip.protocol() != TCP || ports::marks_of_pair(tcp.ports()) == 0 {
        return None;
    }
    // Options and fragments are TC's.
    if !ip.is_plain() || ip.is_fragment() {
        return None;
    }
    let key = FlowKey4 {
        src: ip.src(),
        dst: ip.dst(),
        ports: tcp.ports(),
    };
    let total = ip.total();
    let entry = take(frame, hook, &key, total, ip.ttl(), tcp.flags())?;
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let addresses = u64::from(ip.src()) + u64::from(ip.dst());
    if is_unfinished(
        &tcp,
        addresses,
        total.wrapping_sub(size_of::<Ipv4>() as u32),
    ) {
        return None;
    }
    let changed = frame.change::<Headers4>(|headers| {
        headers.ethernet.set_addresses(flow.macs);
        let (mut ip, mut tcp) = (headers.ip, headers.tcp);
        header4(&mut ip, flow, true);
        segment(&mut tcp, flow);
        headers.ip = ip;
        headers.tcp = tcp;
    });
    changed.then(|| send(entry, hook, &tcp, total))
}

#[inline(always)]
fn ipv6(frame: &Frame, hook: Hook) -> Option<u32> {
    let Headers6 { ip, tcp, .. } = *frame.view::<Headers6>()?;
    if ip.next_header() != TCP || ports::marks_of_pair(tcp.ports()) == 0 {
        return None;
    }
    let key = FlowKey6 {
        src: ip.src(),
        dst: ip.dst(),
        ports: tcp.ports(),
    };
    let len = ip.payload_len();
    let total = len + size_of::<Ipv6>() as u32;
    let entry = take(frame, hook, &key, total, ip.hop_limit(), tcp.flags())?;
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let addresses = of_addr(&ip.src().0, false) + of_addr(&ip.dst().0, false);
    if is_unfinished(&tcp, addresses, len) {
        return None;
    }
    let changed = frame.change::<Headers6>(|headers| {
        headers.ethernet.set_addresses(flow.macs);
        let (mut ip, mut tcp) = (headers.ip, headers.tcp);
        header6(&mut ip, flow, true);
        segment(&mut tcp, flow);
        headers.ip = ip;
        headers.tcp = tcp;
    });
    changed.then(|| send(entry, hook, &tcp, total))
}

/// The flow of a packet that XDP may send.
#[inline(always)]
fn take<N: Table>(
    frame: &Frame,
    hook: Hook,
    key: &N,
    total: u32,
    ttl: u8,
    flags: u8,
) -> Option<*mut Flow> {
    let entry = key.find(hook.side())?;
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let fits = total <= u32::from(flow.out_mtu) && total.wrapping_add(IP) <= frame.len() && ttl > 1;
    let plain = flow.kind != kind::CONTROL
        && flow.flags & (flow_flag::XDP | flow_flag::NO_NAT) == flow_flag::XDP
        && flags & (flag::SYN | flag::FIN | flag::RST) == 0;
    (fits && plain && is_fresh(flow)).then_some(entry)
}

/// Whether a checksum covers only the pseudo header so far (CHECKSUM_PARTIAL), so that the hardware,
/// or whoever passes for it between two ends on one machine, would have to finish it: XDP cannot
/// tell it to. Of finished ones, one in 65,536 looks the same, and goes by TC.
#[inline(always)]
fn is_unfinished(tcp: &Tcp, addresses: u64, len: u32) -> bool {
    let length = u64::from((len as u16).to_be());
    let protocol = u64::from(u16::from(TCP).to_be());
    fold(addresses + length + protocol) == tcp.checksum()
}

/// Ports and checksum.
#[inline(always)]
fn segment(tcp: &mut Tcp, flow: &Flow) {
    tcp.set_ports(flow.ports);
    let change = u64::from(flow.addr_diff) + u64::from(flow.port_diff);
    tcp.set_checksum(apply(tcp.checksum(), fold(change)));
}

#[inline(always)]
fn send(flow: *mut Flow, hook: Hook, tcp: &Tcp, total: u32) -> u32 {
    flows::note(flow, tcp.flags(), tcp.ack(), total);
    counters::add(
        if hook == Hook::WanIngress {
            Counter::InboundXdp
        } else {
            Counter::OutboundXdp
        },
        total,
    );
    // SAFETY: the entry stays in its place while the program runs.
    redirect(unsafe { (*flow).out_ifindex }) as u32
}
