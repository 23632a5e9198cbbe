//! Warnings that anybody could cause by joining, and that therefore come at most once in a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long the same complaint is not repeated.
const PAUSE: Duration = Duration::from_secs(10);

/// When something was last complained of, and how often since.
#[derive(Default)]
pub(super) struct Complaints {
    policy: Pause,
    timeout: Pause,
    connection: Pause,
}

#[derive(Default)]
struct Pause(Mutex<(Option<Instant>, u64)>);

impl Pause {
    /// How many complaints were kept back, when it is time for one.
    fn is_over(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|last| last.elapsed() < PAUSE) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(Instant::now());
        Some(std::mem::take(&mut state.1))
    }
}

impl Complaints {
    /// A policy raised an error, and so granted nothing. Neither topic nor message: both may hold what is nobody's.
    pub(super) fn policy_failed(&self, sqlstate: &str) {
        if let Some(kept_back) = self.policy.is_over() {
            tracing::warn!(sqlstate, table = "realtime.messages", kept_back, "a policy failed, which grants nothing");
        }
    }

    /// Policies took longer than they may.
    pub(super) fn timed_out(&self) {
        if let Some(kept_back) = self.timeout.is_over() {
            tracing::warn!(table = "realtime.messages", kept_back, "policies took too long");
        }
    }

    /// The database could not be asked.
    pub(super) fn unavailable(&self, problem: &str) {
        if let Some(kept_back) = self.connection.is_over() {
            tracing::warn!(problem, kept_back, "cannot ask the database about a private channel");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_is_counted_and_told_with_the_next_complaint() {
        let pause = Pause::default();
        assert_eq!([pause.is_over(), pause.is_over(), pause.is_over()], [Some(0), None, None]);
        pause.0.lock().unwrap().0 = Instant::now().checked_sub(PAUSE);
        assert_eq!([pause.is_over(), pause.is_over()], [Some(2), None]);
    }
}
