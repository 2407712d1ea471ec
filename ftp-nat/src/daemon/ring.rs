//! The ring that the datapath's events come out of.

use std::time::Duration;

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use bytemuck::Zeroable as _;
use ftp_nat_common::abi::{Event, SAID_HEAD, Said, cluster, event};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, timeout_at},
};

/// Events that are taken at once; then others have their turn, however fast events come.
const AT_ONCE: usize = 256;

/// More than the ring has room for: a short command takes 40 bytes of its megabyte.
const ROOM: usize = 1 << 15;

/// The datapath wakes us once a tick (a hundredth of a second at the longest), however many events
/// there are in it. So we look again for longer than that..
const LINGER: Duration = Duration::from_millis(20);
/// ..and so often that the ring does not run over meanwhile.
const PAUSE: Duration = Duration::from_millis(5);
/// And so often where other gateways wait for events that come too fast to wake us for each.
const PAUSE_PROMPT: Duration = Duration::from_millis(1);
/// The longest jiffy.
const JIFFY: Duration = Duration::from_millis(10);

/// What the datapath tells.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Something that has happened.
    Event(&'a Event),
    /// What a control connection said, and what is told of the line.
    Said(&'a Said, &'a [u8]),
}

/// The ring. There is one reader: the daemon.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Whether events wake us at once.
    is_prompt: bool,
    pace: Pace,
    /// Until when more may come without a wake-up; None: not before the next one.
    until: Option<Instant>,
}

impl Ring {
    /// Listens to a ring. `is_prompt`: the datapath wakes its reader at once for [`cluster::PROMPT`] events of a
    /// tick (`abi::cluster::SHARED`), and for what was said once.
    ///
    /// # Errors
    ///
    /// When the ring cannot be waited for: `ENOMEM`, or `ENOSPC` at the limit of epoll watches.
    pub fn new(ring: RingBuf<MapData>, is_prompt: bool) -> anyhow::Result<Self> {
        // SAFETY: the descriptor is that of the map in `ring`, which stays open as long as it.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)
            .context("cannot listen for events")?;
        // What came before we listened has woken nobody, nor will what comes in the same tick.
        let until = Some(Instant::now() + LINGER);
        Ok(Self {
            ring,
            is_prompt,
            pace: Pace::default(),
            until,
        })
    }

    /// Waits for events and shows some of those that have come.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn next(&mut self, mut show: impl FnMut(Message<'_>)) -> anyhow::Result<()> {
        if self.is_prompt {
            return self.next_promptly(show).await;
        }
        if self.until.is_none() {
            self.wait().await?;
            self.until = Some(Instant::now() + LINGER);
        }
        let shown = self.show(AT_ONCE, &mut show);
        let now = Instant::now();
        if shown > 0 {
            self.until = Some(now + LINGER);
        } else if self.until.is_none_or(|until| until <= now) {
            self.until = None;
            return Ok(());
        }
        if shown == AT_ONCE {
            tokio::task::yield_now().await;
        } else {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The same where events wake us at once: what was said since the last wake-up is read with the next
    /// one, or a while later.
    async fn next_promptly(&mut self, mut show: impl FnMut(Message<'_>)) -> anyhow::Result<()> {
        let shown = self.show(AT_ONCE, &mut show);
        let now = Instant::now();
        let is_fast = self.pace.note(shown, now);
        if shown > 0 {
            self.until = Some(now + LINGER);
        }
        if shown == AT_ONCE || shown > 0 && !is_fast {
            tokio::task::yield_now().await;
            return Ok(());
        }
        match self.until {
            _ if is_fast => sleep(PAUSE_PROMPT).await,
            None => return self.wait().await,
            Some(until) => match timeout_at(until, self.wait()).await {
                Ok(waited) => return waited,
                Err(_) => self.until = None,
            },
        }
        Ok(())
    }

    /// Waits for a wake-up. One that comes after this, while the ring is read, is another one.
    async fn wait(&self) -> anyhow::Result<()> {
        let readable = self.ring.readable().await;
        readable.context("cannot wait for events")?.clear_ready();
        Ok(())
    }

    /// Shows all that have come.
    pub fn drain(&mut self, mut show: impl FnMut(Message<'_>)) {
        // So many at most are there at once; what comes meanwhile need not be waited for.
        self.show(ROOM, &mut show);
    }

    /// Shows at most so many; gives how many there were.
    fn show(&mut self, most: usize, show: &mut impl FnMut(Message<'_>)) -> usize {
        let ring = self.ring.get_mut();
        for shown in 0..most {
            let Some(item) = ring.next() else {
                return shown;
            };
            tell(&item, show);
        }
        most
    }
}

/// How fast messages come: those of this stretch of a jiffy's length, and of the one before.
#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    latest: [usize; 2],
}

impl Pace {
    /// So many came just now. Gives whether there can be a jiffy in which not all of them wake us: it lies
    /// within two of these stretches.
    fn note(&mut self, came: usize, now: Instant) -> bool {
        match self.since.map(|since| now - since) {
            Some(age) if age < JIFFY => {}
            Some(age) if age < 2 * JIFFY => {
                self.since = Some(now);
                self.latest = [0, self.latest[0]];
            }
            _ => {
                self.since = Some(now);
                self.latest = [0, 0];
            }
        }
        self.latest[0] += came;
        self.latest.iter().sum::<usize>() as u64 >= cluster::PROMPT
    }
}

/// Shows an entry of the ring.
fn tell(item: &[u8], show: &mut impl FnMut(Message<'_>)) {
    let what = item.get(core::mem::offset_of!(Event, what)).copied();
    if !matches!(what, Some(event::COMMAND | event::REPLY)) {
        if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(item) {
            event.each().for_each(|event| show(Message::Event(&event)));
        }
        return;
    }
    let mut said = Said::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut said);
    if item.len() >= SAID_HEAD
        && let Some(place) = bytes.get_mut(..item.len())
    {
        place.copy_from_slice(item);
        show(Message::Said(&said, &item[SAID_HEAD..]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jiffy_in_which_not_all_wake_us_is_seen() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let half = cluster::PROMPT as usize / 2;
        assert!(!pace.note(half, at(0)));
        // The next stretch: 16 and 16.
        assert!(pace.note(half, at(12)));
        assert!(pace.note(0, at(20)));
        // The one after it has those of one only.
        assert!(!pace.note(0, at(23)));
        assert!(!pace.note(half, at(200)));
        assert!(pace.note(half, at(205)));
        // Both are long past.
        assert!(!pace.note(0, at(230)));
    }

    #[test]
    fn events_and_what_was_said_are_told_apart() {
        let mut shown = Vec::new();
        let mut see = |item: &[u8]| {
            tell(item, &mut |told| {
                shown.push(match told {
                    Message::Event(event) => format!("event {}", event.what),
                    Message::Said(said, line) => {
                        format!("said {} {}", said.number, line.escape_ascii())
                    }
                });
            });
        };
        let event = Event {
            what: event::USED,
            ..Event::default()
        };
        let said = Said {
            what: event::COMMAND,
            number: 7,
            ..Said::zeroed()
        };
        see(bytemuck::bytes_of(&event));
        // As long as an event, and empty.
        let mut bytes = bytemuck::bytes_of(&said)[..size_of::<Event>()].to_vec();
        bytes[SAID_HEAD..].fill(b'a');
        see(&bytes);
        see(&bytes[..SAID_HEAD]);
        see(&bytes[..SAID_HEAD - 1]);
        see(&[]);
        let line = "a".repeat(size_of::<Event>() - SAID_HEAD);
        assert_eq!(
            shown,
            [
                "event 3".to_owned(),
                format!("said 7 {line}"),
                "said 7 ".to_owned()
            ]
        );
    }
}
