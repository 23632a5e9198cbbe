//! Messages of the database → rooms, within the limits. Called by the router in the order of the stream, and by the
//! database lane for members whose row changes it had in hand.

use super::rows::{Message, message};
use crate::{
    change::Change,
    hub::{OnItsWay, Publication, Published, Rooms},
    limits::Meters,
    lsn::Lsn,
    metrics::Metrics,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Says messages in rooms. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    rooms: Rooms,
    meters: Arc<Meters>,
    metrics: Arc<Metrics>,
    /// The end of the log when the server began: nobody had joined before.
    since: Arc<AtomicU64>,
}

/// A message that some members get only behind the row changes that are on their way to them.
pub struct Postponed {
    message: Message,
    members: Vec<OnItsWay>,
}

impl Postponed {
    /// How many members wait for it.
    pub fn members(&self) -> usize {
        self.members.len()
    }
}

impl Publisher {
    /// One for these rooms. What committed before `since` is not said: the slot may be behind the server's beginning, and
    /// who has joined since must not take for new what was sent to others.
    pub fn new(rooms: Rooms, meters: Arc<Meters>, metrics: Arc<Metrics>, since: Lsn) -> Publisher {
        Publisher { rooms, meters, metrics, since: Arc::new(AtomicU64::new(since.0)) }
    }

    /// An era begins, and what commits in it before this is what nobody who is here has missed. Its positions do not compare
    /// with those of the one before it.
    pub fn begin_anew(&self, from: Lsn) {
        self.since.store(from.0, Ordering::Relaxed);
    }

    /// Says what a change of the message table says, to everybody for whom it is the turn; who is left. `commit` is where
    /// its transaction ended.
    pub fn publish(&self, change: &Change, commit: Lsn) -> Option<Postponed> {
        let message = message(change)?;
        if commit.0 < self.since.load(Ordering::Relaxed) {
            self.metrics.messages_before_start.add(1);
            return None;
        }
        if !self.is_within_limits(&message) {
            return None;
        }
        let Message { room, id, broadcast } = &message;
        let publication = Publication { broadcast, id: Some(*id), except: None };
        let (published, members) = self.rooms.publish_behind_changes(room, &publication);
        self.metrics.messages.add(1);
        self.metrics.broadcasts.add(1);
        self.count(1, published);
        (!members.is_empty()).then_some(Postponed { message, members })
    }

    /// Says it to those who are left.
    pub fn publish_postponed(&self, postponed: &Postponed) {
        let Postponed { message: Message { room, id, broadcast }, members } = postponed;
        let publication = Publication { broadcast, id: Some(*id), except: None };
        self.count(0, self.rooms.publish_to(room, &publication, members));
    }

    fn count(&self, messages: u64, published: Published) {
        self.metrics.broadcast_deliveries.add(published.delivered);
        self.metrics.broadcasts_without_form.add(published.without_form);
        if self.meters.limits_events() {
            self.meters.count_events(messages + published.delivered as u64, now());
        }
    }

    /// What is too much is skipped, as by the server we replace; the log says so, without what was in it.
    fn is_within_limits(&self, message: &Message) -> bool {
        let limit = self.meters.limits().max_payload_bytes();
        let setting = if message.broadcast.size() > limit {
            "max_payload_size_in_kb"
        } else if self.meters.limits_events() && self.meters.has_too_many_events(now()) {
            "max_events_per_second"
        } else {
            return true;
        };
        self.metrics.broadcasts_dropped.add(1);
        self.metrics.refuse(setting);
        false
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
