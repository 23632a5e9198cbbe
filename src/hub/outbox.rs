//! The bounded queue towards one connection. Nobody waits for it: what does not fit closes it.
//!
//! A closed outbox is the truth that a client is gone: everything that still holds the sending end learns it from the
//! next push, and no cleanup depends on anybody saying goodbye.

use crate::protocol::{Frame, refusal::Disconnect};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct Shared {
    queued_bytes: AtomicUsize,
    limit_bytes: usize,
    closed: CancellationToken,
    reason: OnceLock<Disconnect>,
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
    let (sender, receiver) = mpsc::channel(limit_frames.max(1));
    let shared = Arc::new(Shared {
        queued_bytes: AtomicUsize::new(0),
        limit_bytes,
        closed: CancellationToken::new(),
        reason: OnceLock::new(),
    });
    (Outbox { frames: sender, shared: shared.clone() }, OutboxReceiver { frames: receiver, shared })
}

impl Outbox {
    /// Queues a frame; false when the connection is gone, or is now, because it does not keep up.
    pub fn push(&self, frame: Frame) -> bool {
        if self.shared.closed.is_cancelled() {
            return false;
        }
        let length = frame.len();
        let queued = self.shared.queued_bytes.fetch_add(length, Ordering::Relaxed);
        if (queued > 0 && queued + length > self.shared.limit_bytes) || self.frames.try_send(frame).is_err() {
            self.close(Disconnect::Slow);
            return false;
        }
        true
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Frame {
        Frame("x".repeat(length).into())
    }

    #[tokio::test]
    async fn what_does_not_fit_closes_the_outbox_as_slow() {
        for (frames, bytes) in [(2, 1000), (100, 25)] {
            let (sender, _receiver) = outbox(frames, bytes);
            assert!(sender.push(frame(10)) && sender.push(frame(10)));
            assert!(!sender.push(frame(10)));
            assert_eq!(sender.closed().await, Some(Disconnect::Slow));
            assert!(!sender.push(frame(1)), "a closed outbox takes nothing");
        }
    }

    #[tokio::test]
    async fn bytes_that_were_taken_out_make_room() {
        let (sender, mut receiver) = outbox(10, 20);
        let mut taken = Vec::new();
        for _ in 0..5 {
            assert!(sender.push(frame(10)) && sender.push(frame(10)));
            assert_eq!(receiver.receive(&mut taken, 16).await, 2);
        }
        assert_eq!(taken.len(), 10);
    }

    #[tokio::test]
    async fn one_frame_over_the_limit_goes_through_an_empty_outbox() {
        let (sender, mut receiver) = outbox(10, 20);
        assert!(sender.push(frame(50)));
        assert_eq!(receiver.receive_ready().map(|frame| frame.len()), Some(50));
        assert!(sender.push(frame(5)));
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
