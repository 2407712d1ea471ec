//! The driver's medium in the kernel: how it reads and writes the packet that it works on.

use super::work::Work;
use super::{bytes, options, rewrite};
use crate::kernel::helpers::{jiffies, repeat};
use crate::open::learning;
use crate::open::pinhole::Pinholes;
use crate::state::maps;
use crate::state::scratch::{self, Control, WINDOW};
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::{LINE_MAX, Lines, LinesKey, Session};
use ftp_nat_common::stream::driver::{Cursor, Medium, Parts, Turn};

/// A loop's body as `bpf_loop` calls it; 1 ends the loop.
unsafe extern "C" fn turn<'a, T: Turn<Work<'a>>>(index: u64, work: *mut Work<'a>) -> i64 {
    // SAFETY: `repeat` hands over the work, which outlives the loop and is borrowed by it.
    i64::from(T::turn(unsafe { &mut *work }, index as u32))
}

impl Medium for Work<'_> {
    type Gate = Pinholes;

    #[inline(always)]
    fn parts(&mut self) -> Parts<'_, Pinholes> {
        // SAFETY: by the contract of `new`; the fields lie apart from each other, and the borrow of
        // the work makes each reference unique on this CPU. Of the session each direction's packets
        // write their own half.
        let (session, part) = unsafe { (&mut *self.session, &mut *self.part) };
        Parts {
            session,
            segment: &mut part.segment,
            inspection: &mut part.inspection,
            judge: &mut part.judge,
            gate: &mut self.gate,
        }
    }

    #[inline(always)]
    fn cursor(&mut self) -> &mut Cursor {
        &mut self.part().cursor
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        jiffies()
    }

    #[inline(always)]
    fn is_shared(&self) -> bool {
        learning::is_shared()
    }

    #[inline(always)]
    fn is_listened_to(&self) -> bool {
        learning::is_listened_to()
    }

    #[inline(always)]
    fn hold_timeout(&self) -> u64 {
        maps::SETTINGS.get(0).map_or(0, |it| it.hold_timeout)
    }

    #[inline(always)]
    fn repeat<T: Turn<Self>>(&mut self, times: u32) {
        repeat(times, self, turn::<T>);
    }

    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        let place = at as usize & (WINDOW - 1);
        if place == 0 {
            let skb = self.skb;
            let part = self.part();
            let rest = part.cursor.len.wrapping_sub(at).min(WINDOW as u32);
            let skip = part.cursor.known.wrapping_add(at);
            let from = part.place.payload.wrapping_add(skip);
            if !skb.load_into(from, &mut part.window, rest) {
                return None;
            }
        }
        Some(self.part().window[place])
    }

    #[inline(always)]
    fn word(&mut self, at: u32) -> u64 {
        bytes::word(&self.part().window, at)
    }

    #[inline(always)]
    fn kept(&mut self, at: u32) -> u8 {
        self.part().kept[at as usize & (LINE_MAX - 1)]
    }

    #[inline(always)]
    fn load_kept(&mut self, place: u16) -> bool {
        let key = lines_key(self);
        let Some(lines) = maps::LINES.get_ptr(key) else {
            return false;
        };
        // SAFETY: the entry stays in its place while the program runs.
        let half = unsafe { (*lines).half(place) };
        bytes::copy_line(&mut self.part().kept, half);
        true
    }

    #[inline(always)]
    fn has_room_to_keep(&mut self) -> bool {
        let key = lines_key(self);
        // Taken anew: Linux 6.1 puts nothing into a map that lies behind a pointer from another
        // function.
        let Some(part) = scratch::control() else {
            return false;
        };
        // SAFETY: this CPU's own memory, which nobody writes meanwhile.
        !lines(&key, unsafe { &(*part).no_lines }).is_null()
    }

    #[inline(always)]
    fn keep_line(&mut self, place: u16) {
        let key = lines_key(self);
        let Some(lines) = maps::LINES.get_ptr_mut(key) else {
            return;
        };
        // SAFETY: the entry stays in its place while the program runs.
        let half = unsafe { (*lines).half_mut(place) };
        bytes::copy_line(half, &self.part().inspection.said.line);
    }

    #[inline(always)]
    fn load_line(&mut self, place: u16) -> bool {
        let key = lines_key(self);
        let Some(lines) = maps::LINES.get_ptr(key) else {
            return false;
        };
        // SAFETY: the entry stays in its place while the program runs.
        let half = unsafe { (*lines).half(place) };
        bytes::copy_line(&mut self.part().inspection.said.line, half);
        true
    }

    #[inline(always)]
    fn is_exact(&mut self) -> bool {
        let skb = self.skb;
        let part = self.part();
        skb.len() == part.place.payload.wrapping_add(part.segment.len)
    }

    #[inline(always)]
    fn patch(&mut self, age: u32, at: u32, from: u32, len: u32) -> bool {
        rewrite::patch(self, age, at, from, len)
    }

    #[inline(always)]
    fn begin_anew(&mut self) -> bool {
        rewrite::begin(self)
    }

    #[inline(always)]
    fn old(&mut self, at: u32) -> u8 {
        self.part().window[at as usize & (WINDOW - 1)]
    }

    #[inline(always)]
    fn put(&mut self, at: u32, byte: u8) {
        self.part().out[at as usize & (WINDOW - 1)] = byte;
    }

    #[inline(always)]
    fn end_anew(&mut self) -> bool {
        rewrite::end(self)
    }

    #[inline(always)]
    fn clear_fin(&mut self) -> bool {
        rewrite::clear_fin(self)
    }

    #[inline(always)]
    fn set_seq(&mut self, seq: u32) -> bool {
        rewrite::set_seq(self, seq)
    }

    #[inline(always)]
    fn set_urgent(&mut self, urgent: u32) -> bool {
        rewrite::set_urgent(self, urgent)
    }

    #[inline(always)]
    fn set_ack(&mut self, ack: u32) -> bool {
        rewrite::set_ack(self, ack)
    }

    #[inline(always)]
    fn move_blocks(&mut self) -> bool {
        options::ftp_nat_move_blocks(self.skb.context(), self.session, self.part) != 0
    }

    #[inline(always)]
    fn act(&mut self) {
        // SAFETY: by the contract of `new`. No reference to the memory lives on while a step runs.
        unsafe {
            if (*self.part).inspection.must_announce() {
                ftp_nat_announce(self.session, self.part);
                if (*self.part).inspection.must_write() {
                    ftp_nat_write(self.session, self.part);
                    if (*self.part).inspection.must_insert() {
                        ftp_nat_insert(self.session, self.part);
                    }
                }
            }
        }
        ftp_nat_judge(self.session, self.part);
        ftp_nat_conclude(self.session, self.part);
    }
}

/// The key of the direction's lines.
#[inline(always)]
fn lines_key(work: &mut Work<'_>) -> LinesKey {
    let part = work.part();
    LinesKey {
        session: part.place.session,
        is_replies: part.segment.is_replies.into(),
    }
}

/// Where the lines of a direction are kept; a null pointer: there is no room for them.
#[inline(never)]
fn lines(key: &LinesKey, none: &Lines) -> *mut Lines {
    // One that is there already stays.
    let _ = maps::LINES.insert(key, none, u64::from(BPF_NOEXIST));
    maps::LINES
        .get_ptr_mut(key)
        .unwrap_or(core::ptr::null_mut())
}

/// One step of [`ftp_nat_common::ftp::parser::Inspection::act`].
macro_rules! act {
    ($name:ident, $step:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// A global function: the verifier checks it once and by itself.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(session: *mut Session, part: *mut Control) -> u32 {
            // SAFETY: what `Work::act` hands over, by the contract of `Work::new`.
            let (Some(session), Some(part)) = (unsafe { (session.as_mut(), part.as_mut()) }) else {
                return 0;
            };
            let mut gate = Pinholes {
                session: part.place.session,
            };
            part.inspection.$step(session, &mut gate);
            0
        }
    };
}

act!(ftp_nat_announce, announce, "Opens what a line announces.");
act!(ftp_nat_write, write, "Writes an announcement anew.");
act!(
    ftp_nat_insert,
    insert,
    "Notes the edit that puts it in its place."
);
act!(ftp_nat_judge, judge, "Refuses what is refused.");
act!(ftp_nat_conclude, conclude, "Ends a line.");
