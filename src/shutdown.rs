//! The stop token and the set of named tasks: the only place that spawns.
//!
//! Every long-lived task is spawned through a [`Tasks`] and awaited at the end, each within a limit; what belongs to a
//! value and ends with it (a connection's driver) goes through `drive`.

use std::{future::Future, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// The token that tells tasks to come to an end.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task until it ends by itself. A panic is logged with the task's name and ends nothing else.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        #[expect(clippy::disallowed_methods, reason = "this is the place that spawns")]
        let handle = tokio::spawn(task);
        self.tracker.spawn(async move {
            if handle.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(task = name, "task panicked");
            }
        });
    }

    /// Tells all tasks to stop and waits for them; false when some did not end within the limit.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

/// Drives the I/O of a value that somebody holds; it ends when the value is dropped.
pub(crate) fn drive(io: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the place that spawns")]
    tokio::spawn(io)
}
