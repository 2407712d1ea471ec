//! SACK blocks (RFC 2018) of a segment that acknowledges an edited direction.

use super::rewrite::change;
use super::work::Work;
use crate::kernel::skb::{Context, Skb};
use crate::state::scratch::{Control, Options};
use ftp_nat_common::abi::{Session, direction};
use ftp_nat_common::stream::driver::{Medium, Turn};
use ftp_nat_common::wire::tcp::offset;

/// The longest options, in bytes; each option but one has two bytes or more.
const LONGEST: u32 = 40;
/// "No operation" (RFC 9293 section 3.2).
const NOP: u8 = 1;
/// Selective acknowledgements (RFC 2018 section 3).
const SACK: u8 = 5;

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
    work.repeat::<WalkOption>(LONGEST);
    u32::from(work.part().options.failed == 0)
}

/// One option, or one edge of a block.
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
        let Some([kind, len]) = skb.load::<[u8; 2]>(walk.at) else {
            return true;
        };
        if kind == NOP {
            walk.at = walk.at.wrapping_add(1);
        } else if kind == SACK {
            walk.edge = 0;
            walk.blocks_end = walk.at.wrapping_add(u32::from(len)).min(place.payload);
            walk.at = walk.at.wrapping_add(2);
        } else {
            walk.at = walk.at.wrapping_add(u32::from(len.max(2)));
        }
        kind == 0 || walk.at >= place.payload
    }
}
