//! The bounded queue towards one connection. Nobody waits for it.
//!
//! Row changes that find no room are not lost: the log has them, so whoever offers them is told and offers them again
//! later. What has no log (replies, system messages) goes into a reserve behind the limit, and when even that is full
//! the connection is closed as slow.
//!
//! A closed outbox is the truth that a client is gone: everything that still holds the sending end learns it from the
//! next push, and no cleanup depends on anybody saying goodbye.

use crate::protocol::{Frame, refusal::Disconnect};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Places behind the limit, for what has no log.
const RESERVE_FRAMES: usize = 1024;
/// The most frames a queue can count; a setting may say more.
const MAX_FRAMES: usize = Semaphore::MAX_PERMITS - RESERVE_FRAMES;
/// Bytes behind the limit, for what has no log: room for a few of the largest broadcasts. These are shared by all
/// who get them, so the reserve is not what a full outbox costs.
pub(super) const RESERVE_BYTES: usize = 8 * 1024 * 1024;

struct Shared {
    queued_bytes: AtomicUsize,
    limit_bytes: usize,
    limit_frames: usize,
    closed: CancellationToken,
    reason: OnceLock<Disconnect>,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is in the queue.
    Queued,
    /// There is no room at the moment.
    Full,
    /// The connection is gone.
    Closed,
}

/// The sending end. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    frames: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
}

/// The connection's end.
pub struct OutboxReceiver {
    frames: mpsc::Receiver<Frame>,
    shared: Arc<Shared>,
}

/// A queue that holds at most so many frames and bytes. A single frame may be larger than the limit of bytes.
pub fn outbox(limit_frames: usize, limit_bytes: usize) -> (Outbox, OutboxReceiver) {
    let limit_frames = limit_frames.clamp(1, MAX_FRAMES);
    let (sender, receiver) = mpsc::channel(limit_frames + RESERVE_FRAMES);
    let shared = Arc::new(Shared {
        queued_bytes: AtomicUsize::new(0),
        limit_bytes,
        limit_frames,
        closed: CancellationToken::new(),
        reason: OnceLock::new(),
    });
    (Outbox { frames: sender, shared: shared.clone() }, OutboxReceiver { frames: receiver, shared })
}

impl Outbox {
    /// Queues a frame that has no log; false when the connection is gone, or is now, because it does not keep up.
    pub fn push(&self, frame: Frame) -> bool {
        if self.shared.closed.is_cancelled() {
            return false;
        }
        let length = frame.len();
        let queued = self.shared.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let limit = self.shared.limit_bytes.saturating_add(RESERVE_BYTES);
        if (queued > 0 && queued + length > limit) || self.frames.try_send(frame).is_err() {
            self.close(Disconnect::Slow);
            return false;
        }
        true
    }

    /// Queues frames that can be offered again, all of them or none.
    pub fn offer(&self, frames: Vec<Frame>) -> Offer {
        if self.is_closed() {
            return Offer::Closed;
        }
        let bytes: usize = frames.iter().map(Frame::len).sum();
        let queued_frames = self.queued_frames();
        let queued_bytes = self.shared.queued_bytes.load(Ordering::Relaxed);
        let fits =
            queued_frames + frames.len() <= self.shared.limit_frames && queued_bytes + bytes <= self.shared.limit_bytes;
        // One change over the limit goes through an empty queue: it would never fit otherwise.
        if !fits && queued_frames > 0 {
            return Offer::Full;
        }
        for frame in frames {
            if !self.push(frame) {
                return Offer::Closed;
            }
        }
        Offer::Queued
    }

    /// Whether the queue has drained to a quarter, so that it is worth while to go on.
    pub fn has_drained(&self) -> bool {
        self.queued_frames() <= self.shared.limit_frames / 4
            && self.shared.queued_bytes.load(Ordering::Relaxed) <= self.shared.limit_bytes / 4
    }

    fn queued_frames(&self) -> usize {
        self.frames.max_capacity() - self.frames.capacity()
    }

    /// Ends the connection. The first reason counts.
    pub fn close(&self, reason: Disconnect) {
        if self.shared.reason.set(reason).is_ok() {
            self.shared.closed.cancel();
        }
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled() || self.frames.is_closed()
    }

    /// Waits until the connection is to end; the reason, if there is one.
    pub async fn closed(&self) -> Option<Disconnect> {
        tokio::select! {
            () = self.shared.closed.cancelled() => {}
            () = self.frames.closed() => {}
        }
        self.shared.reason.get().copied()
    }
}

impl OutboxReceiver {
    /// Moves up to `limit` frames to `into`, waiting for the first one; 0 when no more will come. Safe to cancel.
    pub async fn receive(&mut self, into: &mut Vec<Frame>, limit: usize) -> usize {
        let before = into.len();
        let count = self.frames.recv_many(into, limit).await;
        let bytes = into[before..].iter().map(Frame::len).sum();
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        count
    }

    /// The same without waiting.
    pub fn receive_ready(&mut self) -> Option<Frame> {
        let frame = self.frames.try_recv().ok()?;
        self.shared.queued_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }

    /// Frames and bytes that wait.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.frames.len(), self.shared.queued_bytes.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Frame {
        Frame::text("x".repeat(length))
    }

    #[tokio::test]
    async fn changes_that_do_not_fit_are_turned_down_and_fit_again_when_the_queue_has_drained() {
        for (frames, bytes) in [(4, 1000), (100, 40)] {
            let (sender, mut receiver) = outbox(frames, bytes);
            for _ in 0..4 {
                assert_eq!(sender.offer(vec![frame(10)]), Offer::Queued);
            }
            assert_eq!(sender.offer(vec![frame(10)]), Offer::Full);
            assert!(!sender.has_drained());
            let mut taken = Vec::new();
            assert_eq!(receiver.receive(&mut taken, 3).await, 3);
            assert!(sender.has_drained());
            assert_eq!(sender.offer(vec![frame(10), frame(10), frame(10)]), Offer::Queued);
            assert_eq!(sender.offer(vec![frame(10)]), Offer::Full, "all or none");
            assert!(!sender.is_closed());
        }
    }

    #[tokio::test]
    async fn what_has_no_log_uses_the_reserve_and_then_closes_the_outbox_as_slow() {
        let (sender, _receiver) = outbox(1, 10);
        assert_eq!(sender.offer(vec![frame(10)]), Offer::Queued);
        for _ in 0..RESERVE_FRAMES {
            assert!(sender.push(frame(1)));
        }
        assert!(!sender.push(frame(1)));
        assert_eq!(sender.closed().await, Some(Disconnect::Slow));
        assert!(!sender.push(frame(1)), "a closed outbox takes nothing");
        assert_eq!(sender.offer(vec![frame(1)]), Offer::Closed);
    }

    #[tokio::test]
    async fn bytes_that_were_taken_out_make_room() {
        let (sender, mut receiver) = outbox(10, 20);
        let mut taken = Vec::new();
        for _ in 0..5 {
            assert_eq!(sender.offer(vec![frame(10), frame(10)]), Offer::Queued);
            assert_eq!(receiver.receive(&mut taken, 16).await, 2);
        }
        assert_eq!(taken.len(), 10);
    }

    #[tokio::test]
    async fn one_frame_over_the_limit_goes_through_an_empty_outbox() {
        let (sender, mut receiver) = outbox(10, 20);
        assert_eq!(sender.offer(vec![frame(50)]), Offer::Queued);
        assert_eq!(sender.offer(vec![frame(1)]), Offer::Full);
        assert_eq!(receiver.receive_ready().map(|frame| frame.len()), Some(50));
        assert_eq!(sender.offer(vec![frame(5)]), Offer::Queued);
    }

    #[test]
    fn limits_that_nothing_can_count_are_no_limits() {
        let (sender, mut receiver) = outbox(usize::MAX, usize::MAX);
        assert_eq!(sender.offer(vec![frame(1), frame(1)]), Offer::Queued);
        assert!(sender.push(frame(1)));
        assert_eq!(std::iter::from_fn(|| receiver.receive_ready()).count(), 3);
    }

    #[tokio::test]
    async fn a_dropped_connection_is_a_closed_outbox() {
        let (sender, receiver) = outbox(10, 20);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.closed().await, None);
        assert!(!sender.push(frame(1)));
    }
}
