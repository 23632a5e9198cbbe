//! Where a run of the fan-out writes down which messages are on their way: when each was sent, how many members have
//! it, and which was the last that everybody has. Shared by all members, so everything is an atomic.

use crate::board::Histogram;
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Messages that may be on their way at the same time.
const PLACES: usize = 4096;

#[derive(Default)]
struct Place {
    sent_at: AtomicU64,
    members: AtomicUsize,
}

/// The messages of a run, by numbers that begin at 1.
pub(crate) struct Ledger {
    origin: Instant,
    audience: usize,
    places: Vec<Place>,
    sent: AtomicU64,
    /// The last message that every member has.
    complete: AtomicU64,
    completed: Notify,
    latencies: Histogram,
    /// Members whose connection ended.
    pub(crate) lost: AtomicUsize,
}

impl Ledger {
    pub(crate) fn new(audience: usize) -> Ledger {
        Ledger {
            origin: Instant::now(),
            audience,
            places: (0..PLACES).map(|_| Place::default()).collect(),
            sent: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            completed: Notify::new(),
            latencies: Histogram::new(),
            lost: AtomicUsize::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn place(&self, number: u64) -> &Place {
        &self.places[usize::try_from(number).unwrap_or_default() % PLACES]
    }

    /// The number of a message that is about to be sent.
    pub(crate) fn send(&self) -> u64 {
        let number = self.sent.fetch_add(1, Relaxed) + 1;
        let place = self.place(number);
        place.members.store(0, Relaxed);
        place.sent_at.store(self.now(), Relaxed);
        number
    }

    /// A member has a message.
    pub(crate) fn arrive(&self, number: u64) {
        let place = self.place(number);
        self.latencies.add(self.now().saturating_sub(place.sent_at.load(Relaxed)));
        if place.members.fetch_add(1, Relaxed) + 1 == self.audience {
            // Every member gets them in order, so all before it are complete, too.
            self.complete.fetch_max(number, Relaxed);
            self.completed.notify_one();
        }
    }

    /// How many messages are on their way.
    pub(crate) fn outstanding(&self) -> u64 {
        self.sent.load(Relaxed) - self.complete.load(Relaxed)
    }

    /// Waits until at most so many are; false when that takes too long, as when a member is gone.
    pub(crate) async fn wait_for(&self, outstanding: u64) -> bool {
        let wait = async {
            while self.outstanding() > outstanding {
                self.completed.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok()
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// What counts from now on are other latencies.
    pub(crate) fn forget_latencies(&self) {
        self.latencies.clear();
    }

    pub(crate) fn latency(&self, share: f64) -> Option<Duration> {
        Histogram::quantile(&[&self.latencies], share)
    }
}
