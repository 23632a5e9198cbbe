//! Subscribers that note what they get: whether every row comes, once and in order, and when.

use crate::{
    board::number_after,
    clients::{Subscriber, open},
    sequence::{Arrival, Sequence},
    support::postgres::drive,
};
use futures_util::StreamExt;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// How a subscriber reads.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    Fast,
    /// So many messages a second.
    Slow(u32),
    Never,
}

/// What a subscriber has got.
pub(crate) struct Notes {
    origin: Instant,
    pub(crate) changes: AtomicU64,
    sequence: Mutex<Sequence>,
    /// Rows that were not due, without word of it.
    pub(crate) faults: AtomicU64,
    /// Times it was told that changes are lost to it.
    pub(crate) gaps: AtomicU64,
    /// Sums of what was lost then.
    pub(crate) lost: AtomicU64,
    pub(crate) ends: AtomicU64,
    /// When the row came that was waited for, in microseconds.
    marks: [(u64, AtomicU64); 2],
}

impl Notes {
    /// When the row of this mark came.
    pub(crate) fn at(&self, mark: usize) -> Option<Duration> {
        let at = self.marks.get(mark).map_or(0, |(_, at)| at.load(Relaxed));
        (at > 0).then(|| Duration::from_micros(at))
    }

    /// Rows that have not come.
    pub(crate) fn left(&self) -> u64 {
        self.sequence.lock().unwrap_or_else(PoisonError::into_inner).left()
    }

    fn arrive(&self, id: u64, is_behind_gap: bool) {
        self.changes.fetch_add(1, Relaxed);
        if let Some((_, at)) = self.marks.iter().find(|(mark, _)| *mark == id) {
            at.store(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
        match self.sequence.lock().unwrap_or_else(PoisonError::into_inner).arrive(id) {
            Arrival::InOrder => {}
            Arrival::Skipping(count) if is_behind_gap => {
                self.lost.fetch_add(count, Relaxed);
            }
            Arrival::Skipping(_) | Arrival::OutOfOrder => {
                self.faults.fetch_add(1, Relaxed);
            }
        }
    }
}

/// A subscriber that has joined. It leaves when this is dropped.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) notes: Arc<Notes>,
    stop: CancellationToken,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What is expected of a reader.
pub(crate) struct Course {
    pub(crate) name: &'static str,
    pub(crate) pace: Pace,
    /// The rows it is to get.
    pub(crate) sequence: Sequence,
    /// Rows whose arrival is noted.
    pub(crate) marks: [u64; 2],
    pub(crate) origin: Instant,
}

impl Reader {
    pub(crate) async fn join(address: &str, subscriber: &Subscriber, course: Course) -> Result<Reader, String> {
        let mut socket = open(address, subscriber).await?;
        let Course { name, pace, sequence, marks, origin } = course;
        let notes = Arc::new(Notes {
            origin,
            changes: AtomicU64::new(0),
            sequence: Mutex::new(sequence),
            faults: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            marks: marks.map(|id| (id, AtomicU64::new(0))),
        });
        let stop = CancellationToken::new();
        let (noting, stopped) = (notes.clone(), stop.clone());
        drive(async move {
            let reading = async {
                if pace == Pace::Never {
                    return std::future::pending().await;
                }
                let mut is_behind_gap = false;
                while let Some(Ok(message)) = socket.next().await {
                    let Message::Text(text) = message else { continue };
                    match number_after(text.as_bytes(), b"\"record\":{\"id\":") {
                        Some((id, _)) => noting.arrive(id, std::mem::take(&mut is_behind_gap)),
                        None if text.contains("\"status\":\"error\"") => {
                            noting.gaps.fetch_add(1, Relaxed);
                            is_behind_gap = true;
                        }
                        None => {}
                    }
                    if let Pace::Slow(rate) = pace {
                        tokio::time::sleep(Duration::from_secs(1) / rate).await;
                    }
                }
                noting.ends.fetch_add(1, Relaxed);
            };
            stopped.run_until_cancelled(reading).await;
        });
        Ok(Reader { name, notes, stop })
    }
}
