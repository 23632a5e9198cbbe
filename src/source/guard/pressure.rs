//! When WAL that is kept for the slot is too much: warned of once a crossing, then shed. Pure.

use std::time::{Duration, Instant};

/// It is warned of at this share of the limit, in percent ...
const WARN_PERCENT: u64 = 50;
/// ... and not again before it has been below this one.
const CALM_PERCENT: u64 = 40;
/// How long the walreceiver may take to leave the slot before it is dropped without it, or told again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// WAL that is kept for the slot, in bytes.
    pub retained: u64,
    /// At how much of it the slot is dropped; none when it never is.
    pub limit: Option<u64>,
    /// Whether Postgres is about to give the slot's WAL up.
    pub is_endangered: bool,
    /// Whether somebody reads the slot.
    pub is_active: bool,
    /// Whether that is us.
    pub is_ours: bool,
}

/// How it stands with the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Far from it.
    #[default]
    Calm,
    /// More than half of it.
    High,
    /// Reached: the slot is given up.
    Shedding,
}

impl Pressure {
    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Pressure::Calm => "calm",
            Pressure::High => "high",
            Pressure::Shedding => "shedding",
        }
    }

    /// What there is to be afraid of, and what to do.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Pressure::Calm => None,
            Pressure::High => Some(
                "more than half of the WAL budget is kept for the slot; at the limit the slot is dropped and clients lose \
                 changes: look for a transaction that stays open (pg_stat_activity), or for what holds the stream",
            ),
            Pressure::Shedding => {
                Some("the WAL budget is used up: the slot is dropped and made anew, and clients lose changes")
            }
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Say that it is much.
    Warn,
    /// Have the walreceiver make a new slot.
    Order,
    /// Drop the slot, which nobody reads.
    Drop,
}

/// What is remembered from look to look.
#[derive(Default)]
pub(super) struct Gauge {
    pressure: Pressure,
    /// When the walreceiver was told last, while it is to leave the slot.
    ordered: Option<Instant>,
}

impl Gauge {
    /// How it stands.
    pub(super) fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Takes a reading in; what is to be done now.
    pub(super) fn take(&mut self, reading: Reading, now: Instant) -> Option<Act> {
        let Some(limit) = reading.limit else {
            *self = Gauge::default();
            return None;
        };
        if reading.retained >= limit || reading.is_endangered {
            // Whoever else reads it has a budget of his own.
            return if reading.is_active && !reading.is_ours { self.high() } else { self.shed(reading, now) };
        }
        self.ordered = None;
        let percent = u128::from(reading.retained) * 100 / u128::from(limit.max(1));
        if percent >= u128::from(WARN_PERCENT) {
            return self.high();
        }
        if percent < u128::from(CALM_PERCENT) || self.pressure == Pressure::Shedding {
            self.pressure = Pressure::Calm;
        }
        None
    }

    fn high(&mut self) -> Option<Act> {
        let was_calm = self.pressure == Pressure::Calm;
        self.pressure = Pressure::High;
        was_calm.then_some(Act::Warn)
    }

    fn shed(&mut self, reading: Reading, now: Instant) -> Option<Act> {
        self.pressure = Pressure::Shedding;
        match self.ordered {
            Some(at) if now.duration_since(at) < PATIENCE => None,
            Some(_) if !reading.is_active => Some(Act::Drop),
            _ => {
                self.ordered = Some(now);
                Some(Act::Order)
            }
        }
    }
}

/// At how much WAL the slot is dropped: the budget, or less where Postgres would give the slot up before that. It looks
/// only at checkpoints and by whole segments, so some of it is kept free.
pub fn shed_limit(budget: u64, keep: Option<u64>, segment: u64) -> u64 {
    let before_postgres = keep.map(|keep| (keep - keep / 10).min(keep.saturating_sub(segment)).max(keep / 2));
    before_postgres.map_or(budget, |bytes| budget.min(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1000;

    fn ours(retained: u64) -> Reading {
        Reading { retained, limit: Some(LIMIT), is_active: true, is_ours: true, is_endangered: false }
    }

    #[test]
    fn each_crossing_is_warned_of_once() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        let mut acts = |readings: &[u64]| -> Vec<_> {
            readings.iter().map(|&retained| gauge.take(ours(retained), now).is_some()).collect()
        };
        assert_eq!(
            acts(&[0, 499, 500, 800, 999, 450, 510, 399, 450, 500]),
            [false, false, true, false, false, false, false, false, false, true]
        );
    }

    #[test]
    fn at_the_limit_the_walreceiver_is_told_and_told_again_while_it_stays_in_the_slot() {
        let (mut gauge, start) = (Gauge::default(), Instant::now());
        assert_eq!(gauge.take(ours(1000), start), Some(Act::Order));
        assert_eq!(gauge.pressure(), Pressure::Shedding);
        assert_eq!(gauge.take(ours(2000), start + PATIENCE / 2), None);
        assert_eq!(gauge.take(ours(2000), start + PATIENCE), Some(Act::Order));
        assert_eq!(gauge.take(ours(10), start + PATIENCE), None);
        assert_eq!(gauge.pressure(), Pressure::Calm);
        assert_eq!(gauge.take(ours(1000), start + PATIENCE), Some(Act::Order), "the next time at once");
    }

    #[test]
    fn a_slot_that_nobody_reads_is_dropped_when_the_walreceiver_does_not_come_to_it() {
        let (mut gauge, start) = (Gauge::default(), Instant::now());
        let idle = Reading { is_active: false, is_ours: false, ..ours(1000) };
        assert_eq!(gauge.take(idle, start), Some(Act::Order));
        assert_eq!(gauge.take(idle, start + PATIENCE / 2), None);
        assert_eq!(gauge.take(idle, start + PATIENCE), Some(Act::Drop));
    }

    #[test]
    fn a_slot_that_somebody_else_reads_is_his_to_shed() {
        let mut gauge = Gauge::default();
        let theirs = Reading { is_ours: false, ..ours(5000) };
        assert_eq!(gauge.take(theirs, Instant::now()), Some(Act::Warn));
        assert_eq!(gauge.take(theirs, Instant::now()), None);
    }

    #[test]
    fn a_slot_that_postgres_is_about_to_give_up_is_shed_only_with_a_budget() {
        let mut gauge = Gauge::default();
        let endangered = Reading { is_endangered: true, ..ours(10) };
        assert_eq!(gauge.take(Reading { limit: None, ..endangered }, Instant::now()), None);
        assert_eq!(gauge.take(endangered, Instant::now()), Some(Act::Order));
    }

    #[test]
    fn the_limit_stays_below_what_postgres_keeps() {
        const MIB: u64 = 1 << 20;
        assert_eq!(shed_limit(500 * MIB, None, 16 * MIB), 500 * MIB);
        assert_eq!(shed_limit(500 * MIB, Some(10_000 * MIB), 16 * MIB), 500 * MIB);
        assert_eq!(shed_limit(500 * MIB, Some(400 * MIB), 16 * MIB), 360 * MIB);
        assert_eq!(shed_limit(500 * MIB, Some(100 * MIB), 16 * MIB), 84 * MIB);
        assert_eq!(shed_limit(500 * MIB, Some(16 * MIB), 16 * MIB), 8 * MIB);
    }
}
