//! Every counter, with its meaning. Read by `/health` and `/metrics`; written by the edges, never by pure code that could
//! return a count instead.
//!
//! A limit that refuses something is named here, too: in a counter, and in a log line that is not written again and
//! again while the limit goes on refusing.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A limit that goes on refusing is logged this often.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `by` more.
    pub fn add(&self, by: usize) {
        self.0.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter as reports have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its name, without the `_total` that reports put behind it.
    pub name: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
    /// The count so far.
    pub value: u64,
}

/// Counters: each one's meaning, which is its documentation and what reports say of it, and its name.
macro_rules! counters {
    ($(#[doc = $meaning:literal] $name:ident,)*) => {
        /// The counters of one server.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $meaning] pub $name: Counter,)*
            refusals: Mutex<BTreeMap<&'static str, Refusals>>,
        }

        impl Metrics {
            /// Every counter.
            pub fn readings(&self) -> Vec<Reading> {
                vec![$(Reading { name: stringify!($name), meaning: $meaning.trim_ascii(), value: self.$name.get() }),*]
            }
        }
    };
}

counters! {
    /// Changes read from the stream.
    changes,
    /// Messages about changes put into outboxes.
    deliveries,
    /// Rows the database lane was asked about, once a subscriber's rights.
    lane_questions,
    /// Rows hidden because a value the policy or filter reads was not in the stream.
    hidden_absent,
    /// Rows hidden because the policy or filter failed on them.
    hidden_error,
    /// Rows hidden because a value is of a kind the process does not compute with.
    hidden_unsupported,
    /// Rows that time will show or hide and that did not fit into memory; the database is asked for them later.
    rows_beyond_deadlines,
    /// Subscriptions that fell behind, because their client or the database lane did not keep up.
    lags,
    /// Subscriptions told that changes are lost to them, because the backlog was too short or the database gone.
    gaps,
    /// Subscriptions that came back with a cursor and got all they had missed.
    resumed,
    /// Subscriptions that came back with a cursor that did not hold any more, as they were told.
    not_resumed,
    /// Times more than half of the WAL budget was kept for the slot.
    slot_warnings,
    /// Times the slot was given up to keep its WAL within its budget.
    slot_sheds,
    /// Transactions that did not fit into memory and went to a file until all of them had come.
    transactions_spilled,
    /// Transactions that could not be kept until all of them had come, or not be read again.
    transactions_lost,
    /// Subscriptions to a table of which the role can get nothing, for want of a grant or a policy.
    mute_subscriptions,
    /// Messages of the database that were said to a room, or would have been if it had members.
    messages,
    /// Messages of the database nobody was told, because they were sent before the server began.
    messages_before_start,
    /// Messages of the database nobody was told, because it was not known whether their table holds messages.
    messages_lost,
    /// Times the partitions of realtime.messages could not be seen to.
    message_upkeep_failures,
    /// Frames of clients that could not be understood.
    malformed_frames,
    /// Connections ended because the client did not keep up.
    slow_clients,
    /// Broadcasts said to a room, wherever they came from.
    broadcasts,
    /// Broadcasts put into outboxes, once a member.
    broadcast_deliveries,
    /// Broadcasts that nobody was told, because the sender had no right to speak or the message did not fit a limit.
    broadcasts_dropped,
    /// Broadcasts not put into an outbox because the member's encoding has no form for them.
    broadcasts_without_form,
    /// Requests of the broadcast routes answered with 429.
    requests_turned_away,
    /// Rights to private channels that the process decided.
    rights_in_process,
    /// Rights to private channels that the database was asked about.
    rights_asked,
    /// Rights to private channels refused because a policy failed or took too long, or nobody could be asked.
    rights_failed,
    /// Published token keys that were fetched.
    key_fetches,
    /// Published token keys that could not be fetched.
    key_fetch_failures,
}

/// What one limit refused.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    logged: Option<(Instant, u64)>,
}

impl Refusals {
    /// Counts one more; how many there were since the last line of the log, if it is time for another.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let before = match self.logged {
            Some((at, _)) if now.saturating_duration_since(at) < REFUSAL_LOG_INTERVAL => return None,
            Some((_, count)) => count,
            None => 0,
        };
        self.logged = Some((now, self.count));
        Some(self.count - before)
    }
}

impl Metrics {
    /// Name and value of each counter.
    pub fn snapshot(&self) -> Vec<(String, u64)> {
        self.readings().iter().map(|reading| (format!("{}_total", reading.name), reading.value)).collect()
    }

    /// Counts and logs that the limit of this setting refused something. `setting` is the name an operator would look
    /// for, such as `max_events_per_second`.
    pub fn refuse(&self, setting: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let since = refusals.entry(setting).or_default().count(Instant::now());
        drop(refusals);
        if let Some(refused) = since {
            tracing::warn!(setting, refused, "a limit refused something; `{setting}` sets it");
        }
    }

    /// What each limit that refused something has refused so far, by its setting.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().map(|(&setting, refusals)| (setting, refusals.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_goes_on_refusing_is_logged_now_and_then_with_how_often() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut refusals = Refusals::default();
        assert_eq!(refusals.count(at(0)), Some(1));
        assert_eq!([1, 5, 9].map(|second| refusals.count(at(second))), [None; 3]);
        assert_eq!(refusals.count(at(10)), Some(4));
        assert_eq!(refusals.count(at(11)), None);
        assert_eq!(refusals.count(at(1000)), Some(2));
        assert_eq!(refusals.count, 7);
    }

    #[test]
    fn refusals_are_counted_by_the_name_of_their_setting() {
        let metrics = Metrics::default();
        for setting in ["max_joins_per_second", "max_events_per_second", "max_joins_per_second"] {
            metrics.refuse(setting);
        }
        assert_eq!(metrics.refused(), [("max_events_per_second", 1), ("max_joins_per_second", 2)]);
    }

    #[test]
    fn every_counter_has_one_line_of_meaning_and_is_read_by_its_name() {
        let metrics = Metrics::default();
        metrics.gaps.add(3);
        for reading in metrics.readings() {
            assert!(reading.meaning.ends_with('.') && !reading.meaning.contains('\n'), "{reading:?}");
            assert_eq!(reading.value, if reading.name == "gaps" { 3 } else { 0 }, "{reading:?}");
        }
        assert!(metrics.snapshot().contains(&("gaps_total".to_owned(), 3)));
    }
}
