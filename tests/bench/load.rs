//! One step of a case: changes at a rate, until they have arrived or it is clear that they do not; and which rate to
//! try next.

use crate::{
    board::{Board, Histogram},
    support::postgres::Database,
    writer,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The highest rate that is tried: beyond it the writer is what is measured.
pub(crate) const MAX_RATE: usize = 50_000;

/// Rates to try: three times as many as long as that works, then what lies between.
pub(crate) struct Ladder {
    pub(crate) start: usize,
    pub(crate) passed: Option<usize>,
    pub(crate) failed: Option<usize>,
}

impl Ladder {
    pub(crate) fn new(start: usize) -> Ladder {
        Ladder { start: start.max(1), passed: None, failed: None }
    }

    pub(crate) fn next(&self) -> Option<usize> {
        let rate = match (self.passed, self.failed) {
            (None, None) => self.start,
            (Some(passed), None) if passed >= MAX_RATE => return None,
            (Some(passed), None) => (passed * 3).min(MAX_RATE),
            (None, Some(failed)) => failed / 3,
            (Some(passed), Some(failed)) => (passed * failed).isqrt(),
        };
        let is_new = rate > 0 && Some(rate) != self.passed && self.failed.is_none_or(|failed| rate * 100 < failed * 95);
        is_new.then_some(rate)
    }

    pub(crate) fn note(&mut self, rate: usize, passed: bool) {
        if passed { self.passed = Some(rate) } else { self.failed = Some(rate) }
    }
}

/// Makes changes and waits until they have arrived.
pub(crate) struct Load<'a> {
    pub(crate) database: &'a Database,
    pub(crate) board: &'a Arc<Board>,
    pub(crate) insert: String,
    pub(crate) recipients: usize,
    /// Whether each step is told on stderr.
    pub(crate) verbose: bool,
}

impl Load<'_> {
    /// Whether the rate is sustained: written in time, all arrived soon after, nobody lost, and the second half not
    /// slower than the first.
    pub(crate) async fn step(&self, rate: usize, duration: Duration) -> bool {
        let thousandths = usize::try_from(duration.as_millis()).unwrap_or(usize::MAX);
        let changes = (rate * thousandths / 1000).max(2);
        self.board.begin(changes);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = writer::write(&self.database.url, &self.insert, rate, changes, self.board, &stop);
        let start = Instant::now();
        let limit = duration.max(Duration::from_secs_f64(changes as f64 / rate as f64)).mul_f64(1.1)
            + Duration::from_millis(500);
        while !writer.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if start.elapsed() > limit || self.board.broken.load(Relaxed) > 0 {
                stop.store(true, Relaxed);
            }
        }
        let written = writer.join().expect("the writer ends in order");
        let in_time = written.changes == changes && written.took < limit;
        let wanted = written.changes * self.recipients;
        let end = Instant::now();
        let mut drained = None;
        while drained.is_none() && end.elapsed() < Duration::from_secs(8) && self.board.broken.load(Relaxed) == 0 {
            if self.board.arrived.load(Relaxed) >= wanted {
                drained = Some(end.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let [first, second] =
            self.board.halves.each_ref().map(|half| Histogram::quantile(&[half], 0.99).unwrap_or_default());
        let steady = second <= first.mul_f64(1.5) + Duration::from_millis(20);
        let passed = in_time
            && steady
            && drained.is_some_and(|drained| drained < Duration::from_millis(1000))
            && self.board.broken.load(Relaxed) == 0;
        if self.verbose {
            eprintln!(
                "  rate {rate}: written {} in {:?}, drained {drained:?}, p99 {first:?} {second:?}, arrived {} of {wanted}, broken {} -> {passed}",
                written.changes,
                written.took,
                self.board.arrived.load(Relaxed),
                self.board.broken.load(Relaxed)
            );
        }
        passed
    }
}
