//! A connection: its ends and its two flow entries.

use ftp_nat_common::{abi::Flow, wire::addr::Endpoint};

use super::flow::{self, State, signs};

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The end outside: the client of a published server, or the server of a masqueraded client.
    pub outside: Endpoint,
    /// The end of the public address.
    pub public: Endpoint,
    /// The end behind the gateway; unspecified where only the kernel's own NAT knows it.
    pub inside: Endpoint,
    /// The direction from outside to inside.
    pub inbound: Flow,
    /// The direction from inside to outside.
    pub outbound: Flow,
}

impl Connection {
    /// How far it is, by the signs of both directions.
    pub fn state(&self) -> State {
        State::of(signs(&self.inbound), signs(&self.outbound))
    }

    /// When the last packet of either direction was seen, in ticks as `now` is.
    pub fn seen_at(&self, now: u64) -> u64 {
        flow::seen_at(&self.inbound, Some(&self.outbound), now)
    }

    /// What both directions have in common, from whichever is there.
    pub fn common(&self) -> &Flow {
        if self.inbound.kind == 0 {
            &self.outbound
        } else {
            &self.inbound
        }
    }
}
