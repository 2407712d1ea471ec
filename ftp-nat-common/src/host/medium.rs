//! A segment in vectors.

use super::segment::{Limits, Segment};
use crate::abi::{LINE_MAX, Lines, Session, direction};
use crate::ftp::parser::Inspection;
use crate::ftp::tls::PlainText;
use crate::gate::Gate;
use crate::masked;
use crate::stream::driver::{self, Cursor, Medium, Parts, Turn};
use bytemuck::Zeroable;
use std::boxed::Box;
use std::vec::Vec;

/// A segment on its way, and all that it needs.
pub(super) struct Vectors<'a, G> {
    session: &'a mut Session,
    lines: &'a mut Lines,
    gate: &'a mut G,
    now: u64,
    timeout: u64,
    sent: Segment,
    segment: driver::Segment,
    inspection: Box<Inspection>,
    judge: PlainText,
    cursor: Cursor,
    kept: [u8; LINE_MAX],
    out: Vec<u8>,
}

impl<'a, G: Gate> Vectors<'a, G> {
    pub(super) fn new(
        session: &'a mut Session,
        lines: &'a mut [Lines; 2],
        gate: &'a mut G,
        is_replies: bool,
        sent: &Segment,
        now: u64,
        limits: &Limits,
    ) -> Self {
        let room = limits.payload.min(driver::LONGEST as usize) as u32;
        let len = sent.payload.len() as u32;
        let ack = sent.ack.unwrap_or_default();
        Self {
            session,
            lines: masked::at_mut(lines, usize::from(is_replies)),
            gate,
            now,
            timeout: limits.timeout,
            sent: sent.clone(),
            segment: driver::Segment {
                timestamp: sent.timestamp,
                ..driver::Segment::new(
                    sent.seq,
                    ack,
                    len,
                    room,
                    sent.flags(),
                    sent.window.into(),
                    is_replies,
                )
            },
            inspection: Box::new(Inspection::zeroed()),
            judge: PlainText::zeroed(),
            cursor: Cursor::default(),
            kept: [0; LINE_MAX],
            out: Vec::new(),
        }
    }

    /// What leaves.
    pub(super) fn into_segment(mut self) -> Segment {
        if self.segment.probe != 0 {
            self.sent.payload.clear();
        }
        self.sent
    }
}

impl<G: Gate> Medium for Vectors<'_, G> {
    type Gate = G;

    fn parts(&mut self) -> Parts<'_, G> {
        Parts {
            session: self.session,
            segment: &mut self.segment,
            inspection: &mut self.inspection,
            judge: &mut self.judge,
            gate: self.gate,
        }
    }

    fn cursor(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn hold_timeout(&self) -> u64 {
        self.timeout
    }

    fn repeat<T: Turn<Self>>(&mut self, times: u32) {
        for index in 0..times {
            if T::turn(self, index) {
                break;
            }
        }
    }

    fn byte(&mut self, at: u32) -> Option<u8> {
        let at = (self.cursor.known as usize).saturating_add(at as usize);
        self.sent.payload.get(at).copied()
    }

    fn word(&mut self, at: u32) -> u64 {
        let at = (self.cursor.known as usize).saturating_add(at as usize);
        let there = self.sent.payload.get(at..).unwrap_or_default();
        // Behind the payload's end, what no reader may take for a part of it.
        let mut bytes = [b'\n'; 8];
        for (byte, from) in bytes.iter_mut().zip(there) {
            *byte = *from;
        }
        u64::from_le_bytes(bytes)
    }

    fn kept(&mut self, at: u32) -> u8 {
        *masked::at(&self.kept, at as usize)
    }

    fn load_kept(&mut self, place: u16) -> bool {
        self.kept = *self.lines.half(place);
        true
    }

    fn has_room_to_keep(&mut self) -> bool {
        true
    }

    fn keep_line(&mut self, place: u16) {
        *self.lines.half_mut(place) = self.inspection.said.line;
    }

    fn load_line(&mut self, place: u16) -> bool {
        self.inspection.said.line = *self.lines.half(place);
        true
    }

    fn is_exact(&mut self) -> bool {
        true
    }

    fn patch(&mut self, age: u32, at: u32, from: u32, len: u32) -> bool {
        let edits = &direction(self.session, self.segment.is_replies).edits;
        let Some(edit) = edits.recent(age) else {
            return false;
        };
        let (at, from, len) = (at as usize, from as usize, len as usize);
        let place = self.sent.payload.get_mut(at..at.saturating_add(len));
        let text = edit.text.get(from..from.saturating_add(len));
        let (Some(place), Some(text)) = (place, text) else {
            debug_assert!(false, "the driver patches bytes that are there");
            return false;
        };
        place.copy_from_slice(text);
        true
    }

    fn begin_anew(&mut self) -> bool {
        self.out = std::vec![0; self.segment.out as usize];
        true
    }

    fn old(&mut self, at: u32) -> u8 {
        let byte = self.sent.payload.get(at as usize).copied();
        debug_assert!(byte.is_some(), "the driver copies bytes that are there");
        byte.unwrap_or_default()
    }

    fn put(&mut self, at: u32, byte: u8) {
        let place = self.out.get_mut(at as usize);
        debug_assert!(place.is_some(), "the driver writes into what it has begun");
        if let Some(place) = place {
            *place = byte;
        }
    }

    fn end_anew(&mut self) -> bool {
        self.sent.payload = core::mem::take(&mut self.out);
        true
    }

    fn clear_fin(&mut self) -> bool {
        self.sent.fin = false;
        true
    }

    fn set_seq(&mut self, seq: u32) -> bool {
        self.sent.seq = seq;
        true
    }

    fn set_urgent(&mut self, _urgent: u32) -> bool {
        true
    }

    fn set_ack(&mut self, ack: u32) -> bool {
        self.sent.ack = Some(ack);
        true
    }

    fn move_blocks(&mut self) -> bool {
        true
    }
}
