//! A packet in, and all that must become of it.

use ftp_nat_common::counter::Counter;

use crate::{
    loaded::{DROP, Datapath, Hook, MARK, NEXT, Outcome, REDIRECT},
    packet::{Packet, hex},
};

/// One row of a table.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    name: String,
    hook: Hook,
    frame: Vec<u8>,
    gso_size: u32,
    verdict: i32,
    out: Vec<u8>,
    mark: u32,
    counted: Vec<Counter>,
}

impl Fixture {
    /// A frame that must pass as it is, until something else is said.
    pub(crate) fn new(name: impl Into<String>, hook: Hook, frame: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            hook,
            out: frame.clone(),
            frame,
            gso_size: 0,
            verdict: NEXT,
            mark: 0,
            counted: Vec::new(),
        }
    }

    /// A packet at the WAN's ingress.
    pub(crate) fn wan(name: impl Into<String>, packet: &Packet) -> Self {
        Self::new(name, Hook::WanIngress, packet.bytes())
    }

    /// A packet at the LAN's ingress.
    pub(crate) fn lan(name: impl Into<String>, packet: &Packet) -> Self {
        Self::new(name, Hook::LanIngress, packet.bytes())
    }

    /// A packet at the WAN's egress.
    pub(crate) fn egress(name: impl Into<String>, packet: &Packet) -> Self {
        Self::new(name, Hook::WanEgress, packet.bytes())
    }

    /// It stands for segments of this size.
    pub(crate) fn gso(self, gso_size: u32) -> Self {
        Self { gso_size, ..self }
    }

    /// It goes straight to the other interface, as `out`.
    pub(crate) fn redirected(self, out: &Packet) -> Self {
        let counter = match self.hook {
            Hook::WanIngress => Counter::InboundRedirected,
            Hook::WanEgress | Hook::LanIngress => Counter::OutboundRedirected,
        };
        Self {
            verdict: REDIRECT,
            out: out.bytes(),
            ..self
        }
        .counting(&[counter])
    }

    /// It goes on through the stack, as `out` and with the mark.
    pub(crate) fn translated(self, out: &Packet) -> Self {
        let counter = match self.hook {
            Hook::WanIngress => Counter::InboundStack,
            Hook::WanEgress | Hook::LanIngress => Counter::OutboundStack,
        };
        Self {
            out: out.bytes(),
            mark: MARK,
            ..self
        }
        .counting(&[counter])
    }

    /// It leaves by the other interface as these bytes; nothing is counted by itself.
    pub(crate) fn sent_straight(self, out: Vec<u8>) -> Self {
        Self {
            verdict: REDIRECT,
            out,
            ..self
        }
    }

    /// It goes on through the stack as these bytes, with the mark.
    pub(crate) fn marked(self, out: Vec<u8>) -> Self {
        Self {
            out,
            mark: MARK,
            ..self
        }
    }

    /// It goes on as `out`, but nobody translates it.
    pub(crate) fn rewritten(self, out: &Packet) -> Self {
        self.rewritten_as(out.bytes())
    }

    /// The same of a whole frame.
    pub(crate) fn rewritten_as(self, out: Vec<u8>) -> Self {
        Self { out, ..self }
    }

    /// It goes no further.
    pub(crate) fn dropped(self) -> Self {
        Self {
            verdict: DROP,
            ..self
        }
    }

    /// These counters move by one, besides those said before.
    pub(crate) fn counting(mut self, counters: &[Counter]) -> Self {
        self.counted.extend(counters);
        self
    }

    /// Changes bytes of the frame and of what comes out alike: checksums are not set right.
    pub(crate) fn spoilt(mut self, spoil: impl Fn(&mut Vec<u8>)) -> Self {
        spoil(&mut self.frame);
        spoil(&mut self.out);
        self
    }

    /// Runs the packet and compares everything.
    pub(crate) fn check(mut self, datapath: &Datapath) {
        let before = datapath.counts();
        let length = if self.verdict == DROP {
            self.frame.len()
        } else {
            self.out.len()
        };
        let outcome = datapath.run_to(self.hook, &self.frame, length, self.gso_size);
        let counted = datapath.counted_since(&before);
        self.compare(&outcome);
        let mut found: Vec<_> = counted
            .iter()
            // How many events there were in this jiffy is the business of one test alone.
            .filter(|(counter, _)| *counter != Counter::EventsWithheld)
            .flat_map(|(counter, by)| (0..by.packets).map(|_| *counter))
            .collect();
        self.counted.sort_by_key(|counter| *counter as u16);
        found.sort_by_key(|counter| *counter as u16);
        assert_eq!(found, self.counted, "{}: counters", self.name);
    }

    fn compare(&self, outcome: &Outcome) {
        assert_eq!(outcome.verdict, self.verdict, "{}: verdict", self.name);
        assert_eq!(outcome.mark, self.mark, "{}: mark", self.name);
        if self.verdict != DROP {
            let mut frame = outcome.frame.clone();
            if self.hook != Hook::WanIngress {
                without_return_path(&mut frame, &self.out);
            }
            assert!(
                frame == self.out,
                "{}: what came out\n{}\nand what was expected\n{}",
                self.name,
                hex(&outcome.frame),
                hex(&self.out),
            );
        }
    }
}

/// Gives a frame that goes back where its connection's packets come from the addresses that all frames
/// come with: `return_path` tests which ones it has.
pub(crate) fn without_return_path(frame: &mut [u8], expected: &[u8]) {
    let [came, expected] = [&frame[..12], &expected[..12]].map(<[u8]>::to_vec);
    let exchanged = [&expected[6..], &expected[..6]].concat();
    if came == exchanged {
        frame[..12].copy_from_slice(&expected);
    }
}
