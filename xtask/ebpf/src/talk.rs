//! A load generator that speaks FTP: many sessions that open one data connection after another.
//!
//! Client and server are XDP programs, so that they cost next to nothing beside the router between
//! them. Each segment that arrives is answered by one, in the same buffer:
//!
//! ```text
//! PASV ─► 227 ─► SYN ─► SYN+ACK ─► ACK ─► data+FIN ─► FIN+ACK ─► ACK ─► PASV of the next round
//! ```
//!
//! The server keeps no state: what it answers follows from the segment. Nothing is lost between
//! namespaces, so nothing is repeated; if a session stops nevertheless, user space sees that the
//! count does.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    helpers::generated::{
        bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
        bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};

use crate::layout::{
    CLIENT_ISN, CONTROL, CONTROL_PORTS, FRAME, Game, KICK, SERVER_ISN, SESSIONS, TIMES, Talk,
    Template, template,
};

/// The segments.
#[map]
static TEMPLATES: Array<Template> = Array::with_max_entries(template::ALL, 0);

/// The sessions.
#[map]
static TALKS: Array<Talk> = Array::with_max_entries(SESSIONS as u32, 0);

/// Whose data connection comes from this port of the server: the session's number and 1.
#[map]
static ANNOUNCED: Array<u32> = Array::with_max_entries(65536, 0);

/// The whole.
#[map]
static GAME: Array<Game> = Array::with_max_entries(1, 0);

/// From PASV to the data connection's SYN+ACK, in nanoseconds.
#[map]
static SETUP: Array<u32> = Array::with_max_entries(TIMES as u32, 0);

/// Where a segment is put together, or read.
#[map]
static SCRATCH: PerCpuArray<[u8; FRAME]> = PerCpuArray::with_max_entries(1, 0);

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// A segment that arrived.
struct Segment {
    from: u32,
    to: u32,
    /// Ports in the machine's order.
    from_port: u16,
    to_port: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    /// Where its payload starts.
    payload: u32,
    /// Length of the payload.
    len: u32,
}

/// Reads a frame's `T`.
///
/// # Safety
///
/// It must lie within the packet.
#[inline(always)]
unsafe fn view<T: Copy>(start: usize, at: usize) -> T {
    // SAFETY: the caller's; the CPUs that eBPF runs on need no alignment.
    unsafe { core::ptr::read_unaligned((start + at) as *const T) }
}

/// The segment in a frame, if it is one of TCP over IPv4 without options of IP.
#[inline(always)]
fn read(ctx: &XdpContext) -> Option<Segment> {
    let start = ctx.data();
    if start + 54 > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were checked just now, for all that follows.
    unsafe {
        if view::<u16>(start, 12) != 0x0800_u16.to_be()
            || view::<u8>(start, 14) != 0x45
            || view::<u8>(start, 23) != 6
        {
            return None;
        }
        let total = u32::from(u16::from_be(view(start, 16)));
        let header = u32::from(view::<u8>(start, 46) >> 4) * 4;
        Some(Segment {
            from: view(start, 26),
            to: view(start, 30),
            from_port: u16::from_be(view(start, 34)),
            to_port: u16::from_be(view(start, 36)),
            seq: u32::from_be(view(start, 38)),
            ack: u32::from_be(view(start, 42)),
            flags: view(start, 47),
            payload: 34 + header,
            len: total.wrapping_sub(20 + header),
        })
    }
}

/// What an answer is made of.
struct Answer {
    template: u32,
    from: u32,
    to: u32,
    from_port: u16,
    to_port: u16,
    seq: u32,
    ack: u32,
}

impl Segment {
    /// An answer to it, with the numbers that follow from it.
    #[inline(always)]
    fn answer(&self, template: u32) -> Answer {
        let ends = u32::from(self.flags & (SYN | FIN) != 0);
        Answer {
            template,
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            seq: self.ack,
            ack: self.seq.wrapping_add(self.len).wrapping_add(ends),
        }
    }
}

#[inline(always)]
fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

/// Turns the packet into the answer, back to where it came from.
#[inline(always)]
fn send(ctx: &XdpContext, answer: &Answer, swap: bool) -> u32 {
    let (Some(template), Some(frame)) = (TEMPLATES.get(answer.template), SCRATCH.get_ptr_mut(0))
    else {
        return XDP_ABORTED;
    };
    // SAFETY: this CPU's own scratch; a map's values are aligned to eight bytes. By words, because
    // the compiler copies bytes by way of the stack, which is too short for that.
    let frame = unsafe {
        let (from, to) = (template.frame.as_ptr().cast::<u64>(), frame.cast::<u64>());
        for word in 0..FRAME / 8 {
            to.add(word).write_volatile(from.add(word).read_volatile());
        }
        &mut *frame
    };
    let start = ctx.data();
    if start + 14 > ctx.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: the bounds were checked just now.
    let macs: [[u8; 6]; 2] = unsafe { view(start, 0) };
    let (to_mac, from_mac) = if swap {
        (macs[1], macs[0])
    } else {
        (macs[0], macs[1])
    };
    frame[..6].copy_from_slice(&to_mac);
    frame[6..12].copy_from_slice(&from_mac);
    let addresses = halves(u32::from_be(answer.from)) + halves(u32::from_be(answer.to));
    let ip = fold(template.ip_sum + addresses);
    let numbers = halves(answer.seq) + halves(answer.ack);
    let ports = u32::from(answer.from_port) + u32::from(answer.to_port);
    let tcp = fold(template.tcp_sum + addresses + numbers + ports);
    frame[24..26].copy_from_slice(&ip.to_be_bytes());
    frame[26..30].copy_from_slice(&answer.from.to_ne_bytes());
    frame[30..34].copy_from_slice(&answer.to.to_ne_bytes());
    frame[34..36].copy_from_slice(&answer.from_port.to_be_bytes());
    frame[36..38].copy_from_slice(&answer.to_port.to_be_bytes());
    frame[38..42].copy_from_slice(&answer.seq.to_be_bytes());
    frame[42..46].copy_from_slice(&answer.ack.to_be_bytes());
    frame[50..52].copy_from_slice(&tcp.to_be_bytes());
    let len = template.len;
    if !(54..=FRAME as u32).contains(&len) {
        return XDP_ABORTED;
    }
    // SAFETY: plain helper calls; the length was checked just now.
    unsafe {
        let there = bpf_xdp_get_buff_len(ctx.ctx) as i32;
        if bpf_xdp_adjust_tail(ctx.ctx, len as i32 - there) != 0
            || bpf_xdp_store_bytes(ctx.ctx, 0, frame.as_mut_ptr().cast::<c_void>(), len) != 0
        {
            return XDP_ABORTED;
        }
    }
    // Not XDP_TX: between veths that wakes the other end up only if it runs XDP, too.
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(ctx.ingress_ifindex() as u32, 0) as u32 }
}

/// The server.
#[xdp]
fn ftp_server(ctx: XdpContext) -> u32 {
    let Some(segment) = read(&ctx) else {
        return XDP_PASS;
    };
    let is_control = segment.to_port == CONTROL;
    let template = if segment.flags & RST != 0 {
        return odd();
    } else if segment.flags & SYN != 0 {
        template::SYN_ACK
    } else if segment.flags & FIN != 0 {
        template::ACK
    } else if !is_control {
        // The handshake's end.
        template::DATA
    } else if segment.len != 0 {
        let session = u32::from(segment.from_port.wrapping_sub(CONTROL_PORTS));
        if session >= SESSIONS as u32 {
            return odd();
        }
        template::REPLY + session
    } else if segment.ack == SERVER_ISN.wrapping_add(1) {
        template::GREETING
    } else {
        return XDP_DROP;
    };
    let mut answer = segment.answer(template);
    if template == template::SYN_ACK {
        answer.seq = SERVER_ISN;
    }
    send(&ctx, &answer, true)
}

/// The client.
#[xdp]
fn ftp_client(ctx: XdpContext) -> u32 {
    let Some(game) = GAME.get_ptr_mut(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: the whole game is played on one CPU.
    let game = unsafe { &mut *game };
    let Some(segment) = read(&ctx) else {
        return kick(&ctx, game);
    };
    if segment.flags & RST != 0 {
        return odd();
    }
    if segment.from_port == CONTROL {
        let session = u32::from(segment.to_port.wrapping_sub(CONTROL_PORTS));
        let Some(talk) = TALKS.get_ptr_mut(session) else {
            return odd();
        };
        // SAFETY: as above.
        return control(&ctx, game, &segment, session, unsafe { &mut *talk });
    }
    let session = ANNOUNCED
        .get(u32::from(segment.from_port))
        .copied()
        .unwrap_or(0);
    let Some(talk) = TALKS.get_ptr_mut(session.wrapping_sub(1)) else {
        return odd();
    };
    // SAFETY: as above.
    let talk = unsafe { &mut *talk };
    if segment.flags & SYN != 0 {
        // SAFETY: a plain helper call.
        let took = unsafe { bpf_ktime_get_ns() } - talk.asked;
        if let Some(setup) = SETUP.get_ptr_mut(game.opened as u32 & (TIMES as u32 - 1)) {
            // SAFETY: as above.
            unsafe { *setup = took as u32 };
        }
        game.opened += 1;
        return send(&ctx, &segment.answer(template::ACK), true);
    }
    if segment.flags & FIN != 0 {
        return send(&ctx, &segment.answer(template::FIN), true);
    }
    // The last acknowledgement.
    game.done += 1;
    ask(&ctx, game, session - 1, talk, true)
}

/// A segment of a control connection reaches the client.
#[inline(always)]
fn control(
    ctx: &XdpContext,
    game: &mut Game,
    segment: &Segment,
    session: u32,
    talk: &mut Talk,
) -> u32 {
    if segment.flags & SYN != 0 {
        let answer = segment.answer(template::ACK);
        talk.seq = answer.seq;
        talk.ack = answer.ack;
        return send(ctx, &answer, true);
    }
    if segment.len == 0 {
        return XDP_DROP;
    }
    talk.ack = segment.seq.wrapping_add(segment.len);
    if talk.greeted == 0 {
        talk.greeted = 1;
        return ask(ctx, game, session, talk, true);
    }
    let Some((address, port)) = announced(ctx, segment) else {
        return odd();
    };
    talk.address = address;
    talk.port = port;
    talk.own_port = talk.own_port.wrapping_add(1) | 0x4000;
    let Some(owner) = ANNOUNCED.get_ptr_mut(u32::from(port)) else {
        return odd();
    };
    // SAFETY: the whole game is played on one CPU.
    unsafe { *owner = session + 1 };
    let answer = Answer {
        template: template::SYN,
        from: segment.to,
        to: address,
        from_port: talk.own_port,
        to_port: port,
        seq: CLIENT_ISN,
        ack: 0,
    };
    send(ctx, &answer, true)
}

/// The address in a 227: the numbers between its parentheses.
#[inline(always)]
fn announced(ctx: &XdpContext, segment: &Segment) -> Option<(u32, u16)> {
    let text = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's own scratch.
    let text = unsafe { &mut *text };
    let len = segment.len;
    if !(24..=64).contains(&len) {
        return None;
    }
    // SAFETY: the length was checked just now.
    if unsafe {
        bpf_xdp_load_bytes(
            ctx.ctx,
            segment.payload,
            text.as_mut_ptr().cast::<c_void>(),
            len,
        )
    } != 0
    {
        return None;
    }
    let mut numbers = 0_u64;
    let mut is_inside = false;
    for byte in &text[4..64] {
        match byte {
            b'(' => is_inside = true,
            b')' => break,
            b',' => numbers <<= 8,
            b'0'..=b'9' if is_inside => {
                let last = (numbers as u8).wrapping_mul(10).wrapping_add(byte - b'0');
                numbers = numbers & !0xff | u64::from(last);
            }
            _ => {}
        }
    }
    Some((((numbers >> 16) as u32).to_be(), numbers as u16))
}

/// Asks for the next data connection, unless there were enough.
#[inline(always)]
fn ask(ctx: &XdpContext, game: &mut Game, session: u32, talk: &mut Talk, swap: bool) -> u32 {
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    game.last = now;
    if game.asked >= game.wanted {
        return XDP_DROP;
    }
    if game.asked == 0 {
        game.first = now;
    }
    game.asked += 1;
    talk.asked = now;
    let answer = Answer {
        template: template::PASV,
        from: game.client,
        to: game.control,
        from_port: CONTROL_PORTS + session as u16,
        to_port: CONTROL,
        seq: talk.seq,
        ack: talk.ack,
    };
    talk.seq = talk.seq.wrapping_add(6);
    send(ctx, &answer, swap)
}

/// A frame that starts the next session, or lets it go on.
#[inline(always)]
fn kick(ctx: &XdpContext, game: &mut Game) -> u32 {
    let start = ctx.data();
    // SAFETY: the bounds are checked before.
    if start + 14 > ctx.data_end() || unsafe { view::<u16>(start, 12) } != KICK.to_be() {
        return XDP_PASS;
    }
    let session = game.kicked;
    game.kicked += 1;
    let Some(talk) = TALKS.get_ptr_mut(session) else {
        return odd();
    };
    // SAFETY: the whole game is played on one CPU.
    let talk = unsafe { &mut *talk };
    if talk.greeted != 0 {
        return ask(ctx, game, session, talk, false);
    }
    let answer = Answer {
        template: template::SYN,
        from: game.client,
        to: game.control,
        from_port: CONTROL_PORTS + session as u16,
        to_port: CONTROL,
        seq: CLIENT_ISN,
        ack: 0,
    };
    send(ctx, &answer, false)
}

/// Nobody expected that.
#[inline(always)]
fn odd() -> u32 {
    if let Some(game) = GAME.get_ptr_mut(0) {
        // SAFETY: the whole game is played on one CPU.
        unsafe { (*game).odd += 1 };
    }
    XDP_DROP
}
