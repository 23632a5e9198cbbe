//! The queue from a source to whoever reads it: bounded in items and in bytes, because one row may be as large as a
//! thousand fragments of small ones. What the reader has taken counts until it asks for the next, by when it has handed
//! that on or put it where it has a bound of its own.

use super::Feed;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes are counted in these.
const UNIT_BYTES: usize = 1024;

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the changes any more")]
pub struct ReaderGone;

struct Queued {
    feed: Feed,
    /// Its bytes, as long as they are in memory for the queue's sake.
    room: OwnedSemaphorePermit,
}

/// The source's end. Cheap to clone.
#[derive(Clone)]
pub struct FeedSender {
    items: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    units: usize,
}

/// The reader's end.
pub struct FeedReceiver {
    items: mpsc::Receiver<Queued>,
    /// That of the item that was received last.
    taken: Option<OwnedSemaphorePermit>,
}

/// A place in the queue.
pub struct Place<'a> {
    item: mpsc::Permit<'a, Queued>,
    room: OwnedSemaphorePermit,
}

/// A queue of so many items and bytes. What is larger goes through while nothing else is in it.
pub fn feed(items: usize, bytes: usize) -> (FeedSender, FeedReceiver) {
    let units = (bytes / UNIT_BYTES).clamp(1, u32::MAX as usize);
    let (sender, receiver) = mpsc::channel(items);
    let sender = FeedSender { items: sender, room: Arc::new(Semaphore::new(units)), units };
    (sender, FeedReceiver { items: receiver, taken: None })
}

impl FeedSender {
    /// Waits for room. Safe to cancel.
    pub async fn reserve(&self, feed: &Feed) -> Result<Place<'_>, ReaderGone> {
        let bytes = match feed {
            Feed::Fragment(fragment) => fragment.bytes(),
            Feed::Begin(_) => 0,
        };
        let wanted = u32::try_from((bytes / UNIT_BYTES + 1).min(self.units)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(wanted) => room.map_err(|_| ReaderGone)?,
            // Without a reader nothing is ever given back.
            () = self.items.closed() => return Err(ReaderGone),
        };
        let item = self.items.reserve().await.map_err(|_| ReaderGone)?;
        Ok(Place { item, room })
    }

    /// Waits for room, and puts it in.
    pub async fn send(&self, feed: Feed) -> Result<(), ReaderGone> {
        self.reserve(&feed).await?.put(feed);
        Ok(())
    }
}

impl Place<'_> {
    /// Puts in what the place was asked for.
    pub fn put(self, feed: Feed) {
        self.item.send(Queued { feed, room: self.room });
    }
}

impl FeedReceiver {
    /// The next item, once what came before it is done with; none when no more will come. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Feed> {
        self.taken = None;
        let Queued { feed, room } = self.items.recv().await?;
        self.taken = Some(room);
        Some(feed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{
            Change, Datum, Fragment, Operation, Row,
            cursor::Beside,
            position::Era,
            relation::{Relation, ReplicaIdentity},
        },
        lsn::Lsn,
    };
    use futures_util::FutureExt;

    fn fragment(bytes: usize) -> Feed {
        let relation = Arc::new(Relation {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            replica_identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        });
        let new = Some(Row(vec![Datum::Text(vec![b'x'; bytes].into())]));
        let changes = vec![Change { operation: Operation::Insert, relation, old: None, new, ordinal: 0 }];
        let (era, beside) = (Era::default(), Beside::default());
        let (xid, commit_lsn, commit_time, end_lsn) = (1, Lsn(1), 0, None);
        Feed::Fragment(Arc::new(Fragment { era, beside, xid, commit_lsn, commit_time, changes, end_lsn }))
    }

    #[tokio::test]
    async fn what_was_taken_counts_until_the_next_is_asked_for() {
        let (sender, mut receiver) = feed(8, 100 * 1024);
        for _ in 0..2 {
            assert_eq!(sender.send(fragment(40 * 1024)).now_or_never(), Some(Ok(())));
        }
        assert!(sender.send(fragment(40 * 1024)).now_or_never().is_none(), "there is no room for a third");
        assert!(receiver.recv().await.is_some());
        assert!(sender.send(fragment(40 * 1024)).now_or_never().is_none(), "the reader still has the first");
        assert!(receiver.recv().await.is_some());
        assert_eq!(sender.send(fragment(40 * 1024)).now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn what_is_larger_than_the_queue_goes_through_alone() {
        let (sender, mut receiver) = feed(8, 64 * 1024);
        assert_eq!(sender.send(fragment(1)).now_or_never(), Some(Ok(())));
        assert!(sender.send(fragment(1024 * 1024)).now_or_never().is_none());
        assert!(receiver.recv().await.is_some());
        assert!(receiver.recv().now_or_never().is_none());
        assert_eq!(sender.send(fragment(1024 * 1024)).now_or_never(), Some(Ok(())));
        assert!(sender.send(fragment(1)).now_or_never().is_none());
        assert!(receiver.recv().await.is_some());
    }

    #[tokio::test]
    async fn whoever_waits_for_room_learns_that_nobody_reads_any_more() {
        let (sender, receiver) = feed(1, 1024);
        sender.send(fragment(1)).await.unwrap();
        let large = fragment(4096);
        let waiting = sender.reserve(&large);
        drop(receiver);
        assert_eq!(waiting.await.map(|_| ()), Err(ReaderGone));
    }
}
