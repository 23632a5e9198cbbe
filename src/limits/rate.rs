//! How often something happens, on average of the last minute: twelve samples of five seconds, as the server we replace
//! takes them (protocol reference, section 10.1). Pure: the time is an argument.
//!
//! Counted from many tasks at once, so a sample is one word: the number of its five seconds and what was counted in
//! them. Whoever comes with newer seconds takes the place of the sample of a minute ago, which is how the past is
//! forgotten without anybody's doing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Samples in a minute.
const SAMPLES: u32 = 12;
/// Seconds of a sample.
const SAMPLE_SECONDS: i64 = 5;
/// Seconds the average is of.
const WINDOW_SECONDS: u64 = 60;

/// A count of the last minute.
#[derive(Default)]
pub(super) struct Rate {
    /// Each: the number of the sample in the upper half, the count in the lower.
    samples: [AtomicU64; SAMPLES as usize],
    /// The newest sample counted in.
    newest: AtomicU32,
}

/// The sample a moment belongs to. The numbers go round after centuries.
fn number(now: i64) -> u32 {
    let sample = now.div_euclid(SAMPLE_SECONDS).rem_euclid(1 << 32);
    u32::try_from(sample).unwrap_or_default()
}

fn split(word: u64) -> (u32, u32) {
    let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default();
    (half(word >> 32), half(word))
}

fn join(number: u32, count: u32) -> u64 {
    (u64::from(number) << 32) | u64::from(count)
}

impl Rate {
    /// Counts so many at `now`.
    pub(super) fn count(&self, count: u64, now: i64) {
        let number = number(now);
        self.forget_a_future(number);
        let Some(sample) = self.samples.get((number % SAMPLES) as usize) else { return };
        let more = u32::try_from(count).unwrap_or(u32::MAX);
        // Never refused: every word has a next one.
        let _ = sample.fetch_update(Relaxed, Relaxed, |word| match split(word) {
            (known, counted) if known == number => Some(join(number, counted.saturating_add(more))),
            _ => Some(join(number, more)),
        });
    }

    /// A clock that was set back by more than a minute has left samples of a time to come, which would count when it
    /// comes. A smaller step does no harm: they count again when their seconds are there again.
    fn forget_a_future(&self, number: u32) {
        let newest = self.newest.load(Relaxed);
        if newest == number {
            return;
        }
        self.newest.store(number, Relaxed);
        if newest.wrapping_sub(number) < u32::MAX / 2 && newest.wrapping_sub(number) > SAMPLES {
            for sample in &self.samples {
                sample.store(0, Relaxed);
            }
        }
    }

    /// What was counted in the last minute.
    fn total(&self, now: i64) -> u64 {
        let number = number(now);
        let counted = |sample: &AtomicU64| {
            let (known, count) = split(sample.load(Relaxed));
            if number.wrapping_sub(known) < SAMPLES { u64::from(count) } else { 0 }
        };
        self.samples.iter().map(counted).sum()
    }

    /// The average of a second, rounded down.
    pub(super) fn average(&self, now: i64) -> u64 {
        self.total(now) / WINDOW_SECONDS
    }

    /// Whether the average is at the limit or over it.
    pub(super) fn has_reached(&self, limit: u64, now: i64) -> bool {
        self.total(now) >= limit.saturating_mul(WINDOW_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;

    const NOW: i64 = 1_763_000_000;

    #[test]
    fn the_average_is_of_a_minute_so_a_burst_below_that_passes() {
        let rate = Rate::default();
        rate.count(59, NOW);
        assert!(!rate.has_reached(1, NOW));
        rate.count(1, NOW + 1);
        assert!(rate.has_reached(1, NOW + 1), "at the limit is over it");
        assert!(!rate.has_reached(2, NOW + 1));
    }

    #[test]
    fn what_is_a_minute_ago_is_forgotten_sample_by_sample() {
        let rate = Rate::default();
        for second in 0..60 {
            rate.count(2, NOW + second);
        }
        assert!(rate.has_reached(2, NOW + 59));
        assert_eq!(rate.average(NOW + 59), 2);
        assert!(!rate.has_reached(2, NOW + 60), "the first five seconds are gone");
        assert!(rate.has_reached(1, NOW + 84));
        assert!(!rate.has_reached(1, NOW + 90));
        assert_eq!(rate.average(NOW + 115), 0);
    }

    #[test]
    fn a_steady_stream_just_below_the_limit_never_trips_it_and_one_at_the_limit_does() {
        for (each_second, trips) in [(9, false), (10, true)] {
            let rate = Rate::default();
            let mut tripped = false;
            for second in 0..600 {
                rate.count(each_second, NOW + second);
                tripped |= rate.has_reached(10, NOW + second);
            }
            assert_eq!(tripped, trips, "{each_second}");
        }
    }

    #[test]
    fn after_a_long_silence_nothing_is_left_of_a_burst() {
        let rate = Rate::default();
        rate.count(1_000_000, NOW);
        // Also where the silence is a multiple of the ring.
        for silence in [60, 3600, 86_400 * 365] {
            assert_eq!(rate.total(NOW + silence), 0, "{silence}");
        }
        rate.count(1, NOW + 3600);
        assert_eq!(rate.total(NOW + 3600), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_loses_nothing_and_one_set_back_far_begins_anew() {
        let rate = Rate::default();
        rate.count(100, NOW);
        rate.count(50, NOW - 7);
        assert_eq!(rate.total(NOW - 7), 50, "what is to come does not count yet");
        assert_eq!(rate.total(NOW + 1), 150, "and counts when it has come");

        rate.count(1, NOW - 7200);
        assert_eq!(rate.total(NOW - 7200), 1);
        assert_eq!(rate.total(NOW + 1), 0, "no ghost of the old future");
    }

    #[test]
    fn a_clock_before_the_epoch_and_absurd_counts_do_no_harm() {
        let rate = Rate::default();
        for now in [i64::MIN, -1, 0, i64::MAX] {
            rate.count(u64::MAX, now);
            assert!(rate.has_reached(1, now), "{now}");
            assert!(!rate.has_reached(u64::MAX, now));
        }
    }

    #[test]
    fn counting_from_many_threads_loses_nothing() {
        let rate = Rate::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| rate.count(3, NOW)));
            }
        });
        assert_eq!(rate.total(NOW), 120_000);
    }
}
