//! Subscribers that note what they get: whether every row comes, once and in order, and when.

use crate::{
    board::number_after,
    clients::{Subscriber, open},
    support::postgres::drive,
};
use futures_util::StreamExt;
use std::{
    sync::{
        Arc,
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
    /// The id of the last row.
    pub(crate) last: AtomicU64,
    /// Rows that did not follow the one before by `step`, without word of it.
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

    fn arrive(&self, id: u64, step: u64, is_behind_gap: bool) {
        let before = self.last.swap(id, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        if let Some((_, at)) = self.marks.iter().find(|(mark, _)| *mark == id) {
            at.store(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
        let missing = id.wrapping_sub(before + step) / step;
        if is_behind_gap {
            self.lost.fetch_add(missing, Relaxed);
        } else if before > 0 && id != before + step && !self.marks.iter().any(|(mark, _)| *mark == id) {
            self.faults.fetch_add(1, Relaxed);
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
    /// How ids of its rows follow each other.
    pub(crate) step: u64,
    /// Rows whose arrival is noted; those that stand outside the sequence, too.
    pub(crate) marks: [u64; 2],
    pub(crate) origin: Instant,
}

impl Reader {
    pub(crate) async fn join(address: &str, subscriber: &Subscriber, course: Course) -> Result<Reader, String> {
        let mut socket = open(address, subscriber).await?;
        let Course { name, pace, step, marks, origin } = course;
        let notes = Arc::new(Notes {
            origin,
            changes: AtomicU64::new(0),
            last: AtomicU64::new(0),
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
                        Some((id, _)) => noting.arrive(id, step, std::mem::take(&mut is_behind_gap)),
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
