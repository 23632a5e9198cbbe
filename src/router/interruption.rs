//! A stream that does not run for long: when clients are told so, and that it runs again.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How it stands with the stream.
pub(super) struct Interruption {
    limit: Duration,
    /// Since when it does not run.
    since: Option<Instant>,
    is_told: bool,
}

impl Interruption {
    /// One that is told of after this time.
    pub(super) fn new(limit: Duration) -> Interruption {
        Interruption { limit, since: None, is_told: false }
    }

    /// Takes in whether it runs; whether it is to be told that it does not (true), or does again (false).
    pub(super) fn note(&mut self, is_running: bool) -> Option<bool> {
        if is_running {
            self.since = None;
            return std::mem::take(&mut self.is_told).then_some(false);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.is_told || since.elapsed() < self.limit {
            return None;
        }
        self.is_told = true;
        Some(true)
    }

    /// Waits until it is to be told that it does not run.
    pub(super) async fn due(&self) {
        match self.since.filter(|_| !self.is_told) {
            Some(since) => sleep_until(since + self.limit).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_interruption_is_told_once_when_it_lasts_and_so_is_its_end() {
        let mut interruption = Interruption::new(Duration::from_secs(10));
        assert_eq!(interruption.note(false), None);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(
            (interruption.note(false), interruption.note(true)),
            (None, None),
            "a short one is nobody's business"
        );
        assert_eq!(interruption.note(false), None);
        interruption.due().await;
        assert_eq!((interruption.note(false), interruption.note(false)), (Some(true), None));
        assert_eq!((interruption.note(true), interruption.note(true)), (Some(false), None));
    }
}
