//! `Reading`: whether somebody who is behind reads fast, so that a large transaction waits for him (`pace`). Each change he
//! has taken in buys him time for the next ones, and who is faster saves the rest, for a while: a busy machine gives no
//! process its turn in time. Pure; times are microseconds.

/// Whoever takes in a slice within so long reads fast, be it ever so small.
pub(super) const FAST_WITHIN: i64 = 50_000;
/// What a change buys: 10,000 of them a second are fast.
const CHANGE_TIME: i64 = 100;
/// More than this is not saved.
const PATIENCE: i64 = 1_000_000;

/// Until when somebody counts as one who reads fast.
#[derive(Clone, Copy, Default)]
pub(super) struct Reading {
    until: Option<i64>,
}

impl Reading {
    /// He has taken in what he had, and was given so many changes more.
    pub(super) fn take_in(&mut self, changes: usize, now: i64) {
        let time = i64::try_from(changes).unwrap_or(i64::MAX).saturating_mul(CHANGE_TIME);
        let most = now.saturating_add(PATIENCE);
        let from = self.until.unwrap_or(now).clamp(now, most);
        self.until = Some(from.saturating_add(time).max(now.saturating_add(FAST_WITHIN)).min(most));
    }

    /// Whether he may be waited for.
    pub(super) fn is_fast(&self, now: i64) -> bool {
        // Nobody has saved more: a clock may have been set back.
        self.until.is_some_and(|until| now <= until && until.saturating_sub(now) <= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_fast_may_stop_for_as_long_as_he_has_saved() {
        let mut reading = Reading::default();
        assert!(!reading.is_fast(0), "he has taken nothing in");
        reading.take_in(1, 0);
        assert!(reading.is_fast(FAST_WITHIN) && !reading.is_fast(FAST_WITHIN + 1));
        // Ten times as fast as he has to be.
        for turn in 0..10 {
            reading.take_in(500, turn * 5_000);
        }
        assert!(reading.is_fast(45_000 + 450_000) && !reading.is_fast(600_000));
        reading.take_in(1_000_000, 0);
        assert!(reading.is_fast(PATIENCE) && !reading.is_fast(PATIENCE + 1));
        assert!(!reading.is_fast(-3_600_000_000), "the clock was set back");
        reading.take_in(1, -3_600_000_000);
        assert!(reading.is_fast(-3_600_000_000));
    }
}
