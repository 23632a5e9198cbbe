//! Every counter, with its meaning. Read by `/health`; written by the edges, never by pure code that could return a
//! count instead.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// The counters of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Changes read from the stream.
    pub changes: Counter,
    /// Messages about changes put into outboxes.
    pub deliveries: Counter,
    /// Rows the database lane was asked about, once a subscriber's rights.
    pub lane_questions: Counter,
    /// Rows hidden because a value the policy or filter reads was not in the stream.
    pub hidden_absent: Counter,
    /// Rows hidden because the policy or filter failed on them.
    pub hidden_error: Counter,
    /// Rows hidden because a value is of a kind the process does not compute with.
    pub hidden_unsupported: Counter,
    /// Rows that time will show or hide and that did not fit into memory; the database is asked for them later.
    pub rows_beyond_deadlines: Counter,
    /// Subscriptions that fell behind, because their client or the database lane did not keep up.
    pub lags: Counter,
    /// Subscriptions told that changes are lost to them, because the backlog was too short or the database gone.
    pub gaps: Counter,
    /// Subscriptions to a table of which the role can get nothing, for want of a grant or a policy.
    pub mute_subscriptions: Counter,
    /// Messages of the database that were broadcast.
    pub messages: Counter,
    /// Messages of the database that were skipped for their size.
    pub messages_too_large: Counter,
    /// Messages of the database that were skipped for a limit of the rate.
    pub messages_over_rate: Counter,
    /// Times the partitions of `realtime.messages` could not be seen to.
    pub message_upkeep_failures: Counter,
    /// Frames of clients that could not be understood.
    pub malformed_frames: Counter,
    /// Connections ended because the client did not keep up.
    pub slow_clients: Counter,
}

impl Metrics {
    /// Name and value of each counter.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("changes_total", self.changes.get()),
            ("deliveries_total", self.deliveries.get()),
            ("lane_questions_total", self.lane_questions.get()),
            ("hidden_absent_total", self.hidden_absent.get()),
            ("hidden_error_total", self.hidden_error.get()),
            ("hidden_unsupported_total", self.hidden_unsupported.get()),
            ("rows_beyond_deadlines_total", self.rows_beyond_deadlines.get()),
            ("lags_total", self.lags.get()),
            ("gaps_total", self.gaps.get()),
            ("mute_subscriptions_total", self.mute_subscriptions.get()),
            ("messages_total", self.messages.get()),
            ("messages_too_large_total", self.messages_too_large.get()),
            ("messages_over_rate_total", self.messages_over_rate.get()),
            ("message_upkeep_failures_total", self.message_upkeep_failures.get()),
            ("malformed_frames_total", self.malformed_frames.get()),
            ("slow_clients_total", self.slow_clients.get()),
        ]
    }
}
