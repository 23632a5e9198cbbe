//! The limits of the server we replace, by its names (protocol reference, section 10), and what is counted against them.
//! Pure: the time is an argument, in seconds since the epoch.
//!
//! Rates are off until somebody sets them: nobody loses data by a limit he did not choose.

mod rate;

use rate::Rate;
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
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

/// What a payload may take beyond its limit, for what stands around it; as the server we replace reckons.
const PAYLOAD_ALLOWANCE: usize = 500;

impl Limits {
    /// `max_payload_size_in_kb` in bytes, with that server's allowance.
    pub fn max_payload_bytes(&self) -> usize {
        self.max_payload_size_in_kb.saturating_mul(1000).saturating_add(PAYLOAD_ALLOWANCE)
    }
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

/// A rate and what it may reach. While it may reach anything, nothing is counted.
struct Limited {
    rate: Rate,
    /// `UNLIMITED` when there is none.
    limit: AtomicU64,
}

/// The limit that is none.
const UNLIMITED: u64 = u64::MAX;

impl Limited {
    fn new(limit: Option<u32>) -> Limited {
        let limited = Limited { rate: Rate::default(), limit: AtomicU64::default() };
        limited.set(limit);
        limited
    }

    fn set(&self, limit: Option<u32>) {
        self.limit.store(limit.map_or(UNLIMITED, u64::from), Relaxed);
    }

    fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|&limit| limit != UNLIMITED)
    }

    fn count(&self, count: u64, now: i64) {
        if self.limit().is_some() {
            self.rate.count(count, now);
        }
    }

    fn is_reached(&self, now: i64) -> bool {
        self.limit().is_some_and(|limit| self.rate.has_reached(limit, now))
    }
}

/// The limits in force, and what has been counted against them. One for the whole server.
pub struct Meters {
    limits: RwLock<Arc<Limits>>,
    users: AtomicUsize,
    events: Limited,
    joins: Limited,
    presences: Limited,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters::new(Limits::default())
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").field("limits", &self.limits()).finish_non_exhaustive()
    }
}

impl Meters {
    /// Nothing counted yet.
    pub fn new(limits: Limits) -> Meters {
        Meters {
            users: AtomicUsize::new(0),
            events: Limited::new(limits.max_events_per_second),
            joins: Limited::new(limits.max_joins_per_second),
            presences: Limited::new(limits.max_presence_events_per_second),
            limits: RwLock::new(Arc::new(limits)),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others from now on. What was counted stays counted.
    pub fn set_limits(&self, limits: Limits) {
        self.events.set(limits.max_events_per_second);
        self.joins.set(limits.max_joins_per_second);
        self.presences.set(limits.max_presence_events_per_second);
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// A socket has its first channel; false, and nothing is counted, when there are too many.
    pub fn user_begins(&self) -> bool {
        let limit = self.limits().max_concurrent_users.unwrap_or(usize::MAX);
        let more = |users: usize| (users < limit).then_some(users + 1);
        self.users.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// A socket has lost its last channel.
    pub fn user_ends(&self) {
        // Never below none, whatever the caller does.
        let _ = self.users.fetch_update(Relaxed, Relaxed, |users| users.checked_sub(1));
    }

    /// Sockets with at least one channel.
    pub fn users(&self) -> usize {
        self.users.load(Relaxed)
    }

    /// Whether there are as many users as there may be.
    pub fn is_full_of_users(&self) -> bool {
        self.limits().max_concurrent_users.is_some_and(|limit| self.users() >= limit)
    }

    /// Whether events are counted: only then a delivery has to be looked at.
    pub fn limits_events(&self) -> bool {
        self.events.limit().is_some()
    }

    /// Counts so many messages.
    pub fn count_events(&self, count: u64, now: i64) {
        self.events.count(count, now);
    }

    /// Whether there are more messages than there may be.
    pub fn has_too_many_events(&self, now: i64) -> bool {
        self.events.is_reached(now)
    }

    /// Messages a second, on average of the last minute; 0 while they are not limited.
    pub fn events_per_second(&self, now: i64) -> u64 {
        if self.limits_events() { self.events.rate.average(now) } else { 0 }
    }

    /// Counts a join.
    pub fn count_join(&self, now: i64) {
        self.joins.count(1, now);
    }

    /// Whether there are more joins than there may be.
    pub fn has_too_many_joins(&self, now: i64) -> bool {
        self.joins.is_reached(now)
    }

    /// Counts a presence push.
    pub fn count_presence(&self, now: i64) {
        self.presences.count(1, now);
    }

    /// Whether there are more presence pushes than there may be.
    pub fn has_too_many_presences(&self, now: i64) -> bool {
        self.presences.is_reached(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_000_000;

    #[test]
    fn without_a_limit_nothing_is_ever_too_much() {
        let meters = Meters::default();
        for _ in 0..100_000 {
            meters.count_join(NOW);
            meters.count_presence(NOW);
            assert!(meters.user_begins());
        }
        meters.count_events(u64::MAX, NOW);
        assert!(!meters.has_too_many_events(NOW) && !meters.has_too_many_joins(NOW));
        assert!(!meters.has_too_many_presences(NOW) && !meters.is_full_of_users());
    }

    #[test]
    fn every_rate_has_a_limit_of_its_own_that_can_be_raised_and_lifted() {
        let limits = |limit: Option<u32>| Limits {
            max_events_per_second: limit,
            max_joins_per_second: limit.map(|limit| limit * 2),
            max_presence_events_per_second: limit.map(|limit| limit * 3),
            ..Limits::default()
        };
        let meters = Meters::new(limits(Some(1)));
        let reached =
            || [meters.has_too_many_events(NOW), meters.has_too_many_joins(NOW), meters.has_too_many_presences(NOW)];
        meters.count_events(119, NOW);
        (0..119).for_each(|_| meters.count_join(NOW));
        (0..180).for_each(|_| meters.count_presence(NOW));
        assert_eq!(reached(), [true, false, true]);
        assert_eq!(meters.events_per_second(NOW), 1);
        meters.set_limits(limits(Some(2)));
        assert_eq!(reached(), [false; 3], "what was counted stays, below the new limits");
        meters.count_events(1, NOW);
        assert_eq!(reached(), [true, false, false]);
        meters.set_limits(limits(None));
        assert_eq!(reached(), [false; 3]);
    }

    #[test]
    fn a_user_more_than_there_may_be_is_not_counted() {
        let meters = Meters::new(Limits { max_concurrent_users: Some(2), ..Limits::default() });
        assert!(meters.user_begins() && meters.user_begins() && meters.is_full_of_users());
        assert!(!meters.user_begins());
        meters.user_ends();
        assert!(!meters.is_full_of_users() && meters.user_begins());
        (0..5).for_each(|_| meters.user_ends());
        assert_eq!(meters.users(), 0);
    }
}
