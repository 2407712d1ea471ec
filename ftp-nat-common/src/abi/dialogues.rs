//! DIALOGUES: between which servers and clients there are sessions, for what a server sends to its client
//! beside them.

use super::sessions::{Session, role};
use crate::wire::addr::Addr;
use bytemuck::{Pod, Zeroable};

/// A server and its client, as a packet of the server names them on its way to the gateway: its source and
/// its destination. The value is the number of their latest session, which may have ended; whoever
/// reads it looks at the session itself. Nothing follows from an entry but what is told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct DialogueKey {
    /// The server's address.
    pub server: Addr,
    /// The client's: for a server outside, the public address of the client's session.
    pub client: Addr,
}

impl DialogueKey {
    /// That of a session.
    #[inline(always)]
    pub const fn of(session: &Session) -> Self {
        if session.role == role::PUBLISH {
            Self {
                server: session.inside.addr,
                client: session.alias.addr,
            }
        } else {
            Self {
                server: session.outside.addr,
                client: session.public.addr,
            }
        }
    }
}
