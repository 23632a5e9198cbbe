//! `Pace`: how long a large transaction is held back for those who read fast and lag all the same. It is read from the slot,
//! or from a file, faster than any socket takes it; without this a transaction that is larger than the backlog would be
//! lost to everybody who gets all of it. Whoever reads slowly holds up nobody (`core::catch_up` says who that is), and
//! what is held up is held up for a bounded time. Pure.

use crate::lsn::Lsn;
use std::time::{Duration, Instant};

/// How long one transaction is held back altogether.
const LIMIT: Duration = Duration::from_secs(30);

/// The transaction that is being routed, and how long it may still be held back.
#[derive(Default)]
pub(super) struct Pace {
    transaction: Option<Lsn>,
    left: Duration,
    /// When it was held back last, and has been since.
    since: Option<Instant>,
}

impl Pace {
    /// Whether nothing is routed now, `pressed` being the transaction for which somebody needs that.
    pub(super) fn holds(&mut self, pressed: Option<Lsn>, now: Instant) -> bool {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now.duration_since(since));
        }
        let Some(transaction) = pressed else { return false };
        if self.transaction != Some(transaction) {
            (self.transaction, self.left) = (Some(transaction), LIMIT);
        }
        let holds = !self.left.is_zero();
        self.since = holds.then_some(now);
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transaction_is_held_back_as_long_as_somebody_needs_it_and_no_longer_than_the_limit() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert!(!pace.holds(None, at(0.0)));
        assert!(pace.holds(Some(Lsn(1)), at(1.0)));
        assert!(pace.holds(Some(Lsn(1)), at(5.0)));
        // What passes meanwhile does not count.
        assert!(!pace.holds(None, at(6.0)));
        assert!(pace.holds(Some(Lsn(1)), at(100.0)));
        assert!(pace.holds(Some(Lsn(1)), at(124.9)));
        assert!(!pace.holds(Some(Lsn(1)), at(125.1)), "the time is over");
        assert!(!pace.holds(Some(Lsn(1)), at(126.0)));
        assert!(pace.holds(Some(Lsn(2)), at(127.0)), "the next one has its own");
    }
}
