//! The datapath of ftp-nat: TC programs for the kernel.
//!
//! A room uses only rooms below it; from the top:
//! [`hooks`] are where packets enter, and tell FTP from the rest at one look. [`stations`] are the
//! programs behind them: TCP on a port of FTP, and ICMP errors; [`trace`] tells what they did, where
//! that is asked for. [`control`] drives a segment of a
//! control connection, [`open`] makes sessions, flows and pinholes, [`forward`] translates and sends.
//! [`state`] is what outlives a packet, [`packet`] reads headers, and all calls into the kernel are in
//! [`kernel`].
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the target has no atomic types of core, but an instruction for atomic addition"
)]

mod control;
mod forward;
mod hooks;
mod kernel;
mod open;
mod packet;
mod state;
mod stations;
mod trace;

use aya_ebpf::{
    macros::{classifier, sk_lookup, xdp},
    programs::{SkLookupContext, TcContext, XdpContext},
};
use kernel::hook::Hook;
use kernel::skb::Skb;
use packet::headers::{BARE, IP};

/// Entrance: packets that come in from the WAN.
#[classifier]
fn wan_ingress(ctx: TcContext) -> i32 {
    hooks::tc::enter::<IP>(&ctx, Hook::WanIngress)
}

/// Entrance: packets that leave for the WAN.
#[classifier]
fn wan_egress(ctx: TcContext) -> i32 {
    hooks::tc::enter::<IP>(&ctx, Hook::WanEgress)
}

/// Entrance: packets that come from the inside.
#[classifier]
fn lan_ingress(ctx: TcContext) -> i32 {
    hooks::tc::enter::<IP>(&ctx, Hook::LanIngress)
}

/// Entrance: the same without Ethernet headers (tun, PPP, WireGuard).
#[classifier]
fn wan_ingress_l3(ctx: TcContext) -> i32 {
    hooks::tc::enter::<BARE>(&ctx, Hook::WanIngress)
}

/// Entrance: packets that leave for the outside without Ethernet headers.
#[classifier]
fn wan_egress_l3(ctx: TcContext) -> i32 {
    hooks::tc::enter::<BARE>(&ctx, Hook::WanEgress)
}

/// Entrance: packets that come from the inside without Ethernet headers.
#[classifier]
fn lan_ingress_l3(ctx: TcContext) -> i32 {
    hooks::tc::enter::<BARE>(&ctx, Hook::LanIngress)
}

/// Station: TCP on a port of FTP.
#[classifier]
fn gateway(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    forward::send::leave(&skb, trace::watch(&skb, stations::gateway::enter))
}

/// Station: ICMP errors.
#[classifier]
fn icmp(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    forward::send::leave(&skb, trace::watch(&skb, stations::icmp::enter))
}

/// Fast path: frames that come in from the WAN.
#[xdp]
fn wan_xdp(ctx: XdpContext) -> u32 {
    hooks::xdp::enter(&ctx, Hook::WanIngress)
}

/// Fast path: frames that come from the inside.
#[xdp]
fn lan_xdp(ctx: XdpContext) -> u32 {
    hooks::xdp::enter(&ctx, Hook::LanIngress)
}

/// Guard: packets that come to this machine's own sockets.
#[sk_lookup]
fn guard(ctx: SkLookupContext) -> u32 {
    hooks::lookup::enter(&ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads the licence from here.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
