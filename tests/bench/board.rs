//! Where a run writes down when each change was committed and how long it took to arrive: stamps by the change's id,
//! and histograms. Shared by the writer and all readers, so everything is an atomic.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Changes a whole run may make.
const MAX_CHANGES: usize = 4_000_000;
/// Buckets a power of two is divided into: a figure is right within 1/32.
const FINE: u64 = 32;
const BUCKETS: usize = 40 * 32;

/// Latencies in microseconds, counted in buckets.
pub(crate) struct Histogram(Vec<AtomicU64>);

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    pub(crate) fn add(&self, microseconds: u64) {
        let value = microseconds.max(1);
        let power = u64::from(value.ilog2());
        let index = if power < 5 { value } else { (power - 4) * FINE + (value >> (power - 5)) - FINE };
        self.0[usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// The latency that this share of the messages does not exceed; none without messages.
    pub(crate) fn quantile(histograms: &[&Histogram], share: f64) -> Option<Duration> {
        let count = |index: usize| histograms.iter().map(|histogram| histogram.0[index].load(Relaxed)).sum::<u64>();
        let total: u64 = (0..BUCKETS).map(count).sum();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        (0..BUCKETS).filter(|_| total > 0).find_map(|index| {
            seen += count(index);
            let index = index as u64;
            let value = if index < FINE { index } else { (FINE + index % FINE) << (index / FINE - 1) };
            (seen >= wanted).then(|| Duration::from_micros(value))
        })
    }
}

/// The stamps of the run and the latencies of the step that is under way.
pub(crate) struct Board {
    origin: Instant,
    committed: Vec<AtomicU64>,
    next: AtomicUsize,
    first: AtomicU64,
    middle: AtomicU64,
    /// Latencies of the first and the second half of the step.
    pub(crate) halves: [Histogram; 2],
    /// Messages of this step that arrived.
    pub(crate) arrived: AtomicUsize,
    /// Clients that were closed, failed, or told of a gap.
    pub(crate) broken: AtomicUsize,
}

impl Board {
    pub(crate) fn new() -> Board {
        Board {
            origin: Instant::now(),
            committed: (0..MAX_CHANGES).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicUsize::new(1),
            first: AtomicU64::new(1),
            middle: AtomicU64::new(u64::MAX),
            halves: [Histogram::new(), Histogram::new()],
            arrived: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Begins a step that is to make so many changes: what is still on its way from before counts no more.
    pub(crate) fn begin(&self, changes: usize) {
        let first = self.next.load(Relaxed) as u64;
        self.first.store(first, Relaxed);
        self.middle.store(first + changes as u64 / 2, Relaxed);
        self.halves.iter().for_each(Histogram::clear);
        self.arrived.store(0, Relaxed);
    }

    /// Ids for the next changes.
    pub(crate) fn ids(&self, count: usize) -> std::ops::Range<usize> {
        let first = self.next.fetch_add(count, Relaxed);
        assert!(first + count < MAX_CHANGES, "the run makes more changes than expected");
        first..first + count
    }

    /// Changes are about to be committed.
    pub(crate) fn commit(&self, ids: std::ops::Range<usize>) {
        let now = self.now();
        self.committed[ids].iter().for_each(|at| at.store(now, Relaxed));
    }

    /// A change has arrived at a reader of its own, outside the count of the step.
    pub(crate) fn arrive_at(&self, id: u64, histogram: &Histogram) {
        if id >= self.first.load(Relaxed) {
            histogram.add(self.age(id));
        }
    }

    /// A change has arrived at a client.
    pub(crate) fn arrive(&self, id: u64) {
        if id < self.first.load(Relaxed) {
            return;
        }
        let half = usize::from(id >= self.middle.load(Relaxed));
        self.halves[half].add(self.age(id));
        self.arrived.fetch_add(1, Relaxed);
    }

    fn age(&self, id: u64) -> u64 {
        let committed = self.committed.get(usize::try_from(id).unwrap_or(MAX_CHANGES));
        committed.map_or(0, |at| self.now().saturating_sub(at.load(Relaxed)))
    }
}

/// A histogram of its own.
pub(crate) fn histogram() -> Histogram {
    Histogram::new()
}

/// The number behind the first `mark` in a text, and what follows it.
pub(crate) fn number_after<'a>(text: &'a [u8], mark: &[u8]) -> Option<(u64, &'a [u8])> {
    let rest = &text[memchr::memmem::find(text, mark)? + mark.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // A number at the end of the text may go on.
    if digits == 0 || digits == rest.len() {
        return None;
    }
    let number = rest[..digits].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some((number, &rest[digits..]))
}
