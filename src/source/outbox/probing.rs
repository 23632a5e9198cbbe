//! When the log is tried again while the outbox is read, and whether the slot that is there may be made anew for that. Pure.
//!
//! Such a slot may be another server's that has just lost its connection: it comes back within seconds, and finds all it had
//! not been given. So it is left alone until nobody has read it for longer than that.

use crate::{
    lsn::Lsn,
    pg::outbox::{Outlook, SlotSeen},
};
use std::time::Duration;
use tokio::time::Instant;

/// How long it is not tried again after that has failed.
const PAUSE: Duration = Duration::from_secs(30);
/// A slot that nobody has read for so long is nobody's: a server tries again oftener, whatever has happened to it.
const IDLE: Duration = Duration::from_secs(10);

/// What is known of the log.
#[derive(Clone, Copy, Debug)]
pub(in crate::source) struct Probing {
    /// When it may be tried again.
    again_at: Instant,
    /// Since when nobody has read the slot, and where it is.
    idle: Option<(Lsn, Instant)>,
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Probe {
    /// Wait.
    Wait,
    /// A slot can be made, in the place of the one that is idle at this position, if there is one.
    Make(Option<Lsn>),
    /// Another server reads the log.
    Taken(i32),
}

impl Probing {
    /// Nothing is known.
    pub(in crate::source) fn new(now: Instant) -> Probing {
        Probing { again_at: now, idle: None }
    }

    /// It was tried.
    pub(in crate::source) fn tried(&mut self, now: Instant) {
        self.again_at = now + PAUSE;
    }

    /// Takes a look in.
    pub(in crate::source) fn look(&mut self, outlook: Outlook, now: Instant) -> Probe {
        let idle = match outlook.slot {
            Some(SlotSeen { reader: None, confirmed, .. }) => {
                let before = self.idle.filter(|(at, _)| *at == confirmed);
                Some(before.unwrap_or((confirmed, now)))
            }
            _ => None,
        };
        self.idle = idle;
        if !outlook.is_possible || now < self.again_at {
            return Probe::Wait;
        }
        match (outlook.slot, idle) {
            (None, _) => Probe::Make(None),
            (Some(SlotSeen { reader: Some(pid), .. }), _) => Probe::Taken(pid),
            (Some(SlotSeen { is_lost: true, .. }), _) => Probe::Make(None),
            (Some(_), Some((confirmed, since))) if now.duration_since(since) >= IDLE => Probe::Make(Some(confirmed)),
            (Some(_), _) => Probe::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(slot: Option<SlotSeen>) -> Outlook {
        Outlook { is_possible: true, slot }
    }

    fn seen(reader: Option<i32>, confirmed: u64) -> Option<SlotSeen> {
        Some(SlotSeen { reader, confirmed: Lsn(confirmed), is_lost: false })
    }

    #[test]
    fn a_slot_is_made_anew_only_when_nobody_has_read_it_for_long() {
        let start = Instant::now();
        let mut probing = Probing::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(probing.look(with(None), at(0)), Probe::Make(None));
        assert_eq!(probing.look(with(seen(None, 5)), at(1)), Probe::Wait);
        assert_eq!(probing.look(with(seen(None, 5)), at(10)), Probe::Wait);
        // Somebody has read it in between, whether that was seen or not.
        assert_eq!(probing.look(with(seen(None, 6)), at(12)), Probe::Wait);
        assert_eq!(probing.look(with(seen(Some(7), 6)), at(15)), Probe::Taken(7));
        assert_eq!(probing.look(with(seen(None, 6)), at(24)), Probe::Wait);
        assert_eq!(probing.look(with(seen(None, 6)), at(34)), Probe::Make(Some(Lsn(6))));
        let lost = seen(None, 6).map(|slot| SlotSeen { is_lost: true, ..slot });
        assert_eq!(probing.look(with(lost), at(35)), Probe::Make(None));
    }

    #[test]
    fn a_slot_that_rests_while_the_log_cannot_be_read_is_made_anew_as_soon_as_it_can() {
        let start = Instant::now();
        let mut probing = Probing::new(start);
        let outlook = Outlook { is_possible: false, slot: seen(None, 5) };
        assert_eq!(probing.look(outlook, start), Probe::Wait);
        let later = start + IDLE;
        assert_eq!(probing.look(with(outlook.slot), later), Probe::Make(Some(Lsn(5))));
        probing.tried(later);
        assert_eq!(probing.look(with(outlook.slot), later + PAUSE / 2), Probe::Wait);
        assert_eq!(probing.look(with(outlook.slot), later + PAUSE), Probe::Make(Some(Lsn(5))));
    }
}
