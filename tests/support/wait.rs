//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

/// Asks again and again until the answer is yes; panics when the limit passes first.
#[track_caller]
pub fn until<F: Future<Output = bool>>(limit: Duration, mut condition: impl FnMut() -> F) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        // The wall clock: what is waited for runs in other processes, which a paused clock does not stop.
        let start = Instant::now();
        while !condition().await {
            assert!(start.elapsed() < limit, "waited {limit:?} in vain at {caller}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
