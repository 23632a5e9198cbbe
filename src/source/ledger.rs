//! `Ledger`: which transactions clients were given by the log while triggers fill an outbox beside it. When the log cannot be
//! read any more, the others are theirs. Plain values.

use crate::pg::outbox::{Given, without_epoch};
use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Transactions that are remembered; they are forgotten every few seconds.
const MOST: usize = 1 << 20;

/// Who writes and who asks are different tasks.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there is an outbox, and it captures every table.
    is_kept: bool,
    /// Every transaction that had ended when it began to be kept has a lower id: such a one may have been given without
    /// being noted.
    unknown_below: Option<u64>,
    /// Every transaction before this was given; none before that was found out since it is kept, and is above what is
    /// unknown.
    before: Option<u64>,
    /// What was given since, without epochs.
    given: HashSet<u32>,
}

impl Ledger {
    /// Takes note of a transaction that was handed to whoever delivers.
    pub(super) fn note(&self, xid: u32) {
        let mut inner = self.inner();
        if !inner.is_kept {
            return;
        }
        inner.given.insert(xid);
        if inner.given.len() > MOST {
            *inner = Inner::default();
        }
    }

    /// It is known what was given so far: all that ended was by the outbox.
    pub(super) fn begin(&self, given: Given) {
        *self.inner() = Inner { is_kept: true, unknown_below: Some(0), before: Some(given.before), given: given.also };
    }

    /// From now on it counts. Whatever had not ended by now is noted when it comes.
    pub(super) fn keep(&self) {
        self.inner().is_kept = true;
    }

    /// The outbox does not capture everything, or nobody knows.
    pub(super) fn give_up(&self) {
        *self.inner() = Inner::default();
    }

    /// Every transaction with an id below `before` has been given, and none had one from `next` on, as was seen when it was
    /// kept already.
    pub(super) fn settle(&self, before: u64, next: u64) {
        let mut inner = self.inner();
        if inner.is_kept {
            let unknown_below = *inner.unknown_below.get_or_insert(next);
            if before >= unknown_below {
                inner.before = Some(before);
            }
            // Ids of 32 bits go round: what is behind lies in the next half of the circle.
            inner.given.retain(|&xid| xid.wrapping_sub(without_epoch(before)) < 1 << 31);
        }
    }

    /// What was given, if that is known exactly.
    pub(super) fn take(&self) -> Option<Given> {
        let inner = std::mem::take(&mut *self.inner());
        Some(Given { before: inner.before?, also: inner.given })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_known_only_once_all_before_it_is() {
        let ledger = Ledger::default();
        ledger.note(1);
        ledger.keep();
        ledger.note(7);
        ledger.note(12);
        assert_eq!(ledger.take(), None, "what ended before it was kept may not have been given");
        ledger.keep();
        ledger.note(9);
        ledger.note(12);
        ledger.settle(10, 10);
        ledger.note(14);
        assert_eq!(ledger.take(), Some(Given { before: 10, also: HashSet::from([12, 14]) }));
        assert_eq!(ledger.take(), None);
    }

    #[test]
    fn what_the_outbox_has_given_is_where_it_begins() {
        let ledger = Ledger::default();
        ledger.begin(Given { before: 10, also: HashSet::from([11]) });
        ledger.note(12);
        ledger.keep();
        assert_eq!(ledger.take(), Some(Given { before: 10, also: HashSet::from([11, 12]) }));
    }

    #[test]
    fn while_a_transaction_runs_that_is_older_than_the_ledger_nobody_knows_what_was_given_beside_it() {
        let ledger = Ledger::default();
        // 8 is given before anything is noted; 5 still runs.
        ledger.note(8);
        ledger.keep();
        ledger.settle(5, 9);
        ledger.note(9);
        assert_eq!(ledger.take(), None, "8 would be told again");
        ledger.keep();
        ledger.settle(5, 10);
        ledger.note(5);
        ledger.settle(11, 11);
        assert_eq!(ledger.take(), Some(Given { before: 11, also: HashSet::new() }));
    }

    #[test]
    fn ids_that_went_round_are_behind_those_before() {
        let ledger = Ledger::default();
        ledger.keep();
        let before = (3u64 << 32) - 2;
        for xid in [u32::MAX - 5, u32::MAX - 1, 3] {
            ledger.note(xid);
        }
        ledger.settle(before, before);
        assert_eq!(ledger.take().unwrap().also, HashSet::from([u32::MAX - 1, 3]));
    }

    #[test]
    fn one_that_is_given_up_says_nothing_until_it_is_kept_anew() {
        let ledger = Ledger::default();
        ledger.keep();
        ledger.settle(5, 5);
        ledger.give_up();
        ledger.note(6);
        ledger.settle(7, 7);
        assert_eq!(ledger.take(), None);
    }
}
