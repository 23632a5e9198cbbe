//! Messages of the database → rooms, within the limits. Called by the router in the order of the stream, and by the
//! database lane for members whose row changes it had in hand.

use super::rows::{Message, message};
use crate::{
    change::Change,
    hub::{OnItsWay, Publication, Published, Rooms},
    limits::Meters,
    metrics::Metrics,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// What a payload may take beyond its limit, for what stands around it; as the server we replace reckons.
const SIZE_ALLOWANCE: usize = 500;
/// Seconds between two lines of the log about a rate that is too high.
const WARN_INTERVAL: i64 = 10;

/// Says messages in rooms. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    rooms: Rooms,
    meters: Arc<Meters>,
    metrics: Arc<Metrics>,
    /// When the log last said that the rate is too high.
    warned: Arc<AtomicI64>,
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
    /// One for these rooms.
    pub fn new(rooms: Rooms, meters: Arc<Meters>, metrics: Arc<Metrics>) -> Publisher {
        Publisher { rooms, meters, metrics, warned: Arc::default() }
    }

    /// Says what a change of the message table says, to everybody for whom it is the turn; who is left.
    pub fn publish(&self, change: &Change) -> Option<Postponed> {
        let message = message(change)?;
        if !self.is_within_limits(&message) {
            return None;
        }
        let Message { room, id, broadcast } = &message;
        let publication = Publication { broadcast, id: Some(*id), except: None };
        let (published, members) = self.rooms.publish_behind_changes(room, &publication);
        self.metrics.messages.add(1);
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
        self.meters.count_events(messages + published.delivered as u64, now());
    }

    /// What is too much is skipped, as by the server we replace; the log says so, without what was in it.
    fn is_within_limits(&self, message: &Message) -> bool {
        let limit = self.meters.limits().max_payload_size_in_kb;
        if message.broadcast.size() > limit.saturating_mul(1000).saturating_add(SIZE_ALLOWANCE) {
            self.metrics.messages_too_large.add(1);
            let bytes = message.broadcast.size();
            tracing::warn!(id = %message.id, bytes, "UnableToBroadcastChanges: over max_payload_size_in_kb");
            return false;
        }
        let now = now();
        if self.meters.has_too_many_events(now) {
            self.metrics.messages_over_rate.add(1);
            if now - self.warned.load(Ordering::Relaxed) >= WARN_INTERVAL {
                self.warned.store(now, Ordering::Relaxed);
                tracing::warn!("UnableToBroadcastChanges: over max_events_per_second, messages are skipped");
            }
            return false;
        }
        true
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
