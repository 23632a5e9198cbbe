//! A published key set: the last good copy, and when it is fetched again.
//!
//! It is fetched at the start, after an interval, and when a token names a key that is not there, but never more often
//! than the pause says, whoever asks. What cannot be fetched leaves the copy as it is.

use super::{fetch::fetch, jwks_url::JwksUrl, key_set::KeySet};
use crate::metrics::Metrics;
use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

/// How long somebody may wait for keys that are fetched for his token.
const WAIT: Duration = Duration::from_secs(3);
/// How soon what could not be fetched is tried again, at the earliest; twice as late after every further failure.
const RETRY: Duration = Duration::from_secs(1);

/// When a published set is fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// At the latest.
    pub interval: Duration,
    /// At the earliest.
    pub pause: Duration,
}

impl Default for Refresh {
    fn default() -> Refresh {
        Refresh { interval: Duration::from_secs(300), pause: Duration::from_secs(10) }
    }
}

pub(super) struct Remote {
    url: JwksUrl,
    set: RwLock<Arc<KeySet>>,
    schedule: Mutex<Schedule>,
    wanted: Notify,
    /// Attempts that have ended.
    attempts: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
struct Schedule {
    refresh: Refresh,
    /// When the last attempt began.
    last: Option<Instant>,
    /// Attempts in a row that failed.
    failures: u32,
}

impl Schedule {
    /// When it is to be fetched again, nobody asking: after a failure sooner than otherwise.
    fn due(&self) -> Option<Instant> {
        let retry = self.refresh.pause.max(RETRY).saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        let wait = if self.failures > 0 { retry.min(self.refresh.interval) } else { self.refresh.interval };
        self.last.map(|last| last + wait.max(self.refresh.pause))
    }

    fn earliest(&self) -> Option<Instant> {
        self.last.map(|last| last + self.refresh.pause)
    }
}

impl Remote {
    pub(super) fn new(url: JwksUrl, refresh: Refresh) -> Remote {
        Remote {
            url,
            set: RwLock::default(),
            schedule: Mutex::new(Schedule { refresh, last: None, failures: 0 }),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
        }
    }

    pub(super) fn url(&self) -> &JwksUrl {
        &self.url
    }

    /// The last good copy.
    pub(super) fn set(&self) -> Arc<KeySet> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reschedule(&self, refresh: Refresh) {
        self.schedule(|schedule| schedule.refresh = refresh);
    }

    /// Asks for a fetch; costs nothing, and is heeded when the pause is over.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Asks for a fetch and waits until one has ended; not at all when that would take too long.
    pub(super) async fn wait(&self) {
        let mut attempts = self.attempts.subscribe();
        self.want();
        let earliest = self.schedule(|schedule| schedule.earliest());
        if earliest.is_none_or(|earliest| earliest <= Instant::now() + WAIT) {
            // Too late, or nobody fetches: then the token is refused as it would have been without waiting.
            let _ = timeout(WAIT, attempts.changed()).await;
        }
    }

    /// Waits until it is to be fetched.
    pub(super) async fn due(&self) {
        let Some(due) = self.schedule(|schedule| schedule.due()) else { return };
        tokio::select! {
            () = sleep_until(due) => {}
            () = self.wanted.notified() => {
                if let Some(earliest) = self.schedule(|schedule| schedule.earliest()) {
                    sleep_until(earliest).await;
                }
            }
        }
    }

    /// Fetches it, and tells when there are other keys now. They are in use before that is told, and whoever waits goes
    /// on after it.
    pub(super) async fn fetch(&self, metrics: &Metrics, tell: impl FnOnce()) {
        self.schedule(|schedule| schedule.last = Some(Instant::now()));
        match fetch(&self.url).await {
            Ok(set) => {
                metrics.key_fetches.add(1);
                self.schedule(|schedule| schedule.failures = 0);
                if !set.is_same(&self.set()) {
                    tracing::info!(url = %self.url, keys = set.len(), unusable = set.unusable(), "token keys have changed");
                    *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
                    tell();
                }
            }
            Err(error) => {
                metrics.key_fetch_failures.add(1);
                self.schedule(|schedule| schedule.failures = schedule.failures.saturating_add(1));
                tracing::warn!(url = %self.url, %error, kept = self.set().len(), "cannot fetch token keys; keeping those there are");
            }
        }
        self.attempts.send_modify(|attempts| *attempts += 1);
    }

    fn schedule<T>(&self, with: impl FnOnce(&mut Schedule) -> T) -> T {
        with(&mut self.schedule.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
