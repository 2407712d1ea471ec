//! The datapath, packet in and packet out: the loaded programs run by BPF_PROG_TEST_RUN, attached
//! to nothing, with maps that the test fills.
//!
//! Each fixture is a packet, the verdict, the packet that must come out (built from scratch, with
//! its checksums) and the counters that must move: all others must not.

mod adjusting;
mod clamping;
mod control;
#[path = "../../../ftp-nat-common/tests/protocol/conversation.rs"]
mod conversation;
#[path = "../../../ftp-nat-common/tests/protocol/conversations/mod.rs"]
mod conversations;
mod counters;
mod differential;
mod encryption;
mod errors;
mod events;
mod fixture;
mod forwarding;
mod held;
mod holding;
mod hops;
mod learned;
mod loaded;
mod masquerade;
mod opening;
mod packet;
mod passing;
mod policy;
mod pools;
mod return_path;
mod said;
mod scene;
mod shares;
mod shortcut;
mod skb;
mod table;
mod tagged;
mod talk;
mod timestamps;
mod tls_range;
mod two_cpus;
mod two_ends;
mod uninvited;

use held::pass;
