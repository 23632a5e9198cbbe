//! The stop token and the set of named tasks: the only place that spawns.
//!
//! Every long-lived task is spawned through a [`Tasks`] and awaited at the end, each within a limit; what belongs to a
//! value and ends with it (a connection's driver) goes through `drive`. Without an essential task a server is of no use:
//! its end sounds the [`Alarm`], and whoever assembled the server ends the rest of it.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// An essential task that has ended though nobody told it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub task: &'static str,
    /// Whether it panicked; else it returned.
    pub has_panicked: bool,
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.has_panicked { "has panicked" } else { "has ended" };
        write!(formatter, "task \"{}\" {how}, without which nothing can be served", self.task)
    }
}

/// What is heard of essential tasks, by all parts of a server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Alarm {
    failed: watch::Sender<Option<Failed>>,
    /// Whether a part was told to stop: from then on tasks may end.
    is_stopping: Arc<AtomicBool>,
}

impl Alarm {
    /// The task that failed, while none has.
    pub fn watch(&self) -> watch::Receiver<Option<Failed>> {
        self.failed.subscribe()
    }

    /// Waits until an essential task has failed.
    pub async fn heard(&self) -> Failed {
        let mut failed = self.watch();
        let heard = failed.wait_for(Option::is_some).await.ok().and_then(|failed| *failed);
        match heard {
            Some(failed) => failed,
            // The sender is `self`'s.
            None => std::future::pending().await,
        }
    }

    fn sound(&self, failed: Failed) {
        if self.is_stopping.load(Ordering::Acquire) {
            return;
        }
        tracing::error!(task = failed.task, "{failed}");
        self.failed.send_if_modified(|known| {
            // One that panics may be what others ended by.
            let is_cause = known.is_none_or(|known| failed.has_panicked && !known.has_panicked);
            if is_cause {
                *known = Some(failed);
            }
            is_cause
        });
    }
}

/// The tasks of one part of a server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    alarm: Alarm,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// An empty set whose essential tasks sound this alarm.
    pub fn with_alarm(alarm: &Alarm) -> Tasks {
        Tasks { alarm: alarm.clone(), ..Tasks::default() }
    }

    /// The token that tells tasks to come to an end.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task until it ends by itself. A panic is logged with the task's name and ends nothing else.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_and(name, task, |_| {});
    }

    /// Runs a task that must not end, by itself or by a panic, before it is told to.
    pub fn spawn_essential(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let alarm = self.alarm.clone();
        self.spawn_and(name, task, move |has_panicked| alarm.sound(Failed { task: name, has_panicked }));
    }

    fn spawn_and(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
        ended: impl FnOnce(bool) + Send + 'static,
    ) {
        #[expect(clippy::disallowed_methods, reason = "this is the place that spawns")]
        let handle = tokio::spawn(task);
        self.tracker.spawn(async move {
            let has_panicked = handle.await.is_err_and(|error| error.is_panic());
            if has_panicked {
                tracing::error!(task = name, "task panicked");
            }
            ended(has_panicked);
        });
    }

    /// Tells all tasks to stop and waits for them; false when some did not end within the limit.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.alarm.is_stopping.store(true, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn heard(alarm: &Alarm) -> Option<Failed> {
        tokio::time::timeout(LIMIT, alarm.heard()).await.ok()
    }

    #[tokio::test]
    async fn an_essential_task_that_panics_is_named_to_all_parts_also_when_others_end_because_of_it() {
        let alarm = Alarm::default();
        let (stream, router) = (Tasks::with_alarm(&alarm), Tasks::with_alarm(&alarm));
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        stream.spawn_essential("follower", async { drop(receiver.await) });
        router.spawn("anybody", async { panic!("of no account") });
        router.spawn_essential("cause", async move {
            let _held = sender;
            tokio::task::yield_now().await;
            panic!("injected");
        });
        assert!(heard(&alarm).await.is_some());
        let by_panic = Failed { task: "cause", has_panicked: true };
        let mut watch = alarm.watch();
        let cause = tokio::time::timeout(LIMIT, watch.wait_for(|failed| *failed == Some(by_panic))).await;
        assert!(cause.is_ok_and(|cause| cause.is_ok()));
        assert!(by_panic.to_string().starts_with("task \"cause\" has panicked"));
    }

    #[tokio::test]
    async fn an_essential_task_that_returns_before_it_is_told_to_is_a_failure_and_one_that_is_told_to_is_none() {
        let alarm = Alarm::default();
        let (stream, router) = (Tasks::with_alarm(&alarm), Tasks::with_alarm(&alarm));
        for tasks in [&stream, &router] {
            tasks.spawn_essential("patient", tasks.stop_token().clone().cancelled_owned());
        }
        assert!(stream.stop(LIMIT).await && router.stop(LIMIT).await);
        assert_eq!(*alarm.watch().borrow(), None);

        let alarm = Alarm::default();
        Tasks::with_alarm(&alarm).spawn_essential("hasty", async {});
        assert_eq!(heard(&alarm).await, Some(Failed { task: "hasty", has_panicked: false }));
    }
}
