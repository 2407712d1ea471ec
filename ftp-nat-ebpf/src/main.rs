//! The datapath of ftp-nat: TC programs for the kernel.
//!
//! The files follow a packet's way: [`interest`] decides in one look ([`packet`]) whether it may be
//! FTP, [`gateway`] finds its flow or opens one ([`publish`], [`mapping`]), [`control`] reads a
//! control segment ([`doorman`] opens what it announces, [`rebuild`] writes the changed text),
//! [`translate`] changes addresses, [`clamp`] a SYN's segment size, and [`forward`] sends it on.
//! [`icmp`] translates errors about flows; [`xdp`] is the shortcut for data. [`count`] counts and tells; [`maps`] holds what outlives
//! a packet; all calls into the kernel are in [`kernel`].
#![no_std]
#![no_main]

mod clamp;
mod control;
mod count;
mod doorman;
mod flow;
mod forward;
mod gateway;
mod icmp;
mod interest;
mod kernel;
mod mapping;
mod maps;
mod packet;
mod publish;
mod rebuild;
mod translate;
mod xdp;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use kernel::Skb;

/// Entrance: packets that come in from the WAN.
#[classifier]
fn wan_ingress(ctx: TcContext) -> i32 {
    interest::enter(&ctx, gateway::Hook::WanIngress)
}

/// Entrance: packets that leave for the WAN.
#[classifier]
fn wan_egress(ctx: TcContext) -> i32 {
    interest::enter(&ctx, gateway::Hook::WanEgress)
}

/// Entrance: packets that come from the inside.
#[classifier]
fn lan_ingress(ctx: TcContext) -> i32 {
    interest::enter(&ctx, gateway::Hook::LanIngress)
}

/// Station: TCP on a port of FTP.
#[classifier]
fn gateway(ctx: TcContext) -> i32 {
    gateway::enter(&Skb::new(&ctx))
}

/// Station: ICMP errors.
#[classifier]
fn icmp(ctx: TcContext) -> i32 {
    icmp::enter(&Skb::new(&ctx))
}

/// Fast path: frames that come in from the WAN.
#[xdp]
fn wan_xdp(ctx: XdpContext) -> u32 {
    xdp::enter(&ctx, gateway::Hook::WanIngress)
}

/// Fast path: frames that come from the inside.
#[xdp]
fn lan_xdp(ctx: XdpContext) -> u32 {
    xdp::enter(&ctx, gateway::Hook::LanIngress)
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
