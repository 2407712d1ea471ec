//! SACK blocks (RFC 2018) of a segment that acknowledges an edited direction.

use super::rewrite::change;
use super::work::Work;
use crate::kernel::skb::{Context, Skb};
use crate::packet::options::{find, kind};
use crate::state::scratch::{Control, Options};
use ftp_nat_common::abi::{Session, direction};
use ftp_nat_common::stream::driver::{Medium, Turn};
use ftp_nat_common::wire::tcp::offset;

/// As many turns as options of 40 bytes may need: an edge for each four bytes, and the SACK options
/// that hold them, of ten bytes or more.
const TURNS: u32 = 16;

/// Moves the edges of SACK blocks; 0: they could not be written.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn ftp_nat_move_blocks(
    context: Context,
    session: *mut Session,
    part: *mut Control,
) -> u32 {
    let skb = Skb::of(context);
    // SAFETY: what `Work::move_blocks` hands over, by the contract of `Work::new`.
    let Some(mut work) = (unsafe { Work::new(&skb, session, part) }) else {
        return 1;
    };
    let part = work.part();
    part.options = Options {
        at: part.place.tcp + offset::OPTIONS,
        edge: 0,
        blocks_end: 0,
        failed: 0,
    };
    work.repeat::<WalkOption>(TURNS);
    u32::from(work.part().options.failed == 0)
}

/// One edge of a block, or the next SACK option.
struct WalkOption;

impl Turn<Work<'_>> for WalkOption {
    #[inline(always)]
    fn turn(work: &mut Work<'_>, _index: u32) -> bool {
        let skb = work.skb;
        // SAFETY: by the contract of `Work::new`; the session is not written to meanwhile.
        let (session, part) = unsafe { (&*work.session, &mut *work.part) };
        let Control {
            segment,
            place,
            options: walk,
            ..
        } = part;
        if walk.at.wrapping_add(4) <= walk.blocks_end {
            let Some(old) = skb.load::<u32>(walk.at) else {
                return true;
            };
            let old = u32::from_be(old);
            let edits = &direction(session, segment.is_replies ^ 1).edits;
            // A left edge must not claim more than was received.
            let new = edits.original(old, walk.edge % 2 == 0);
            if new != old && !change(skb, place.tcp, walk.at, old, new) {
                walk.failed = 1;
                return true;
            }
            walk.edge = walk.edge.wrapping_add(1);
            walk.at = walk.at.wrapping_add(4);
            return false;
        }
        let Some(blocks) = find(skb, walk.at, place.payload, kind::SACK) else {
            return true;
        };
        walk.edge = 0;
        walk.at = blocks.at;
        walk.blocks_end = blocks.at.wrapping_add(blocks.len);
        false
    }
}
