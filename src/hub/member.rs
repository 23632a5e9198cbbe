//! `Member`: one connection's membership in one channel, as long as its join lasts.
//!
//! **Lagging is a state, not a fault.** A change that finds the outbox full is skipped, its position is noted here, and
//! what follows is skipped, too, until the router has served the member again from there. What stands before that
//! position is still on its way, and goes through: so the router begins again only when nothing is. Changes from before
//! that moment carry an older generation, so they cannot overtake.

use super::{Offer, Outbox};
use crate::{
    change::{cursor::Cursor, position::Position},
    lsn::Lsn,
    protocol::{Codec, Event, Frame},
};
use serde_json::{Map, Value};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// How row changes are worded for a channel (protocol reference, sections 4.1 and 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageForm {
    /// Event `postgres_changes` with `ids` and `data`.
    Modern,
    /// The same with a cursor in the data: the client may come back with it.
    Resumable,
    /// Event `INSERT`, `UPDATE` or `DELETE` with the data as payload.
    Legacy,
}

/// Where a client that may come back with a cursor stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing<'a> {
    /// Whether it gets everything behind the cursor it came with.
    pub resumed: bool,
    /// Why not, when it came with one.
    pub reason: Option<&'a str>,
    /// From where on it gets everything; none while that cannot be said.
    pub cursor: Option<Cursor>,
    /// Between which positions of the log changes are lost to everybody.
    pub gap: Option<(Lsn, Lsn)>,
}

/// Tells deliveries from before a lag from those after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the outbox.
    Queued,
    /// It was skipped, and the member lags: it has to be offered again.
    Lagging,
    /// It is too late: the membership has ended, or the change is of an older generation and will come again.
    Dropped,
}

/// Tells memberships apart: the server's number of the connection, and the connection's of the join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// Never given twice.
    pub connection: u64,
    /// Never given twice within the connection.
    pub join: u64,
}

#[derive(Default)]
struct State {
    ended: bool,
    generation: Generation,
    /// The first change that was skipped.
    lag: Option<Position>,
    /// Of the change there, so many messages were given before this join.
    given: Option<(Position, u32)>,
    /// The last change that was told, and whether that was since somebody asked.
    told: Position,
    is_told: bool,
}

/// A membership. What is delivered through it stops the moment it is ended, wherever the delivery comes from.
pub struct Member {
    id: MemberId,
    topic: Arc<str>,
    join_ref: Value,
    codec: &'static dyn Codec,
    form: MessageForm,
    outbox: Outbox,
    // The lock makes "ended" and "delivered" exclude each other: nothing follows the `phx_close` of a join.
    state: Mutex<State>,
    /// Whether its client knows that a policy fails on rows.
    knows_of_failure: AtomicBool,
    /// Whether its client knows that changes are left out now.
    is_skipping: AtomicBool,
    /// Whom to wake when the member begins to lag.
    on_lag: OnceLock<Arc<Notify>>,
    /// Changes on their way that somebody else decides about.
    on_their_way: AtomicUsize,
}

/// A member while a change for it is on its way through somebody else's hands.
pub struct OnItsWay(Arc<Member>);

impl OnItsWay {
    /// Counts until it is dropped.
    pub fn new(member: &Arc<Member>) -> OnItsWay {
        member.on_their_way.fetch_add(1, Ordering::AcqRel);
        OnItsWay(member.clone())
    }

    /// The member.
    pub fn member(&self) -> &Arc<Member> {
        &self.0
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.on_their_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Member {
    /// A membership that lasts until `end`.
    pub fn new(
        id: MemberId,
        topic: Arc<str>,
        join_ref: Value,
        codec: &'static dyn Codec,
        form: MessageForm,
        outbox: Outbox,
    ) -> Arc<Member> {
        Arc::new(Member {
            id,
            topic,
            join_ref,
            codec,
            form,
            outbox,
            state: Mutex::default(),
            knows_of_failure: AtomicBool::new(false),
            is_skipping: AtomicBool::new(false),
            on_lag: OnceLock::new(),
            on_their_way: AtomicUsize::new(0),
        })
    }

    /// Which membership it is.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The whole topic, `realtime:` included.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// How the connection wants its frames.
    pub fn codec(&self) -> &'static dyn Codec {
        self.codec
    }

    /// How row changes are worded.
    pub fn form(&self) -> MessageForm {
        self.form
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame that has no log, unless the membership has ended; false when it has.
    pub fn deliver(&self, frame: Frame) -> bool {
        let state = self.state();
        !state.ended && self.outbox.push(frame)
    }

    /// Queues the messages of one change, all or none.
    pub fn deliver_change(&self, generation: Generation, position: Position, mut frames: Vec<Frame>) -> Delivery {
        let mut state = self.state();
        let is_skipped = state.lag.is_some_and(|lag| position >= lag);
        if state.ended || state.generation != generation || is_skipped {
            return Delivery::Dropped;
        }
        if let Some((_, count)) = state.given.filter(|(at, _)| *at == position) {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            // At least one was left then: when there are so few now they are others, because rights have changed.
            if count < frames.len() {
                frames.drain(..count);
            }
        }
        match self.outbox.offer(frames) {
            Offer::Queued => {
                (state.told, state.is_told) = (position, true);
                Delivery::Queued
            }
            Offer::Closed => Delivery::Dropped,
            Offer::Full => {
                self.begin_lag(&mut state, position);
                Delivery::Lagging
            }
        }
    }

    /// Queues a cursor between the changes, unless it would say that changes were given which are still to come.
    pub fn deliver_cursor(&self, generation: Generation, position: Position, cursor: &Cursor) -> bool {
        let mut state = self.state();
        if state.ended || state.generation != generation || state.lag.is_some() {
            return false;
        }
        let mut payload = self.system_payload("postgres_changes", true, "cursor");
        payload.insert("cursor".to_owned(), cursor.to_string().into());
        (state.told, state.is_told) = (position, true);
        self.outbox.push(self.system(&payload))
    }

    /// Of the change at this position so many messages were given before: they are not given again.
    pub fn skip_given(&self, position: Position, count: u32) {
        self.state().given = Some((position, count));
    }

    /// The last change that was told, and whether that was since this was asked last.
    pub fn take_told(&self) -> (Position, bool) {
        let mut state = self.state();
        (state.told, std::mem::take(&mut state.is_told))
    }

    /// Notes that a change could not even be judged for lack of room elsewhere: the member lags from there. What was on
    /// its way before may turn out so only later.
    pub fn lag_from(&self, generation: Generation, position: Position) {
        let mut state = self.state();
        let is_first = state.lag.is_none_or(|lag| position < lag);
        if !state.ended && state.generation == generation && is_first {
            self.begin_lag(&mut state, position);
        }
    }

    fn begin_lag(&self, state: &mut State, position: Position) {
        state.lag = Some(position);
        if let Some(waker) = self.on_lag.get() {
            waker.notify_one();
        }
    }

    /// Whom to wake when the member begins to lag; the first to ask counts.
    pub fn wake_on_lag(&self, waker: Arc<Notify>) {
        // There is one router, so nobody else has asked before.
        let _ = self.on_lag.set(waker);
    }

    /// The first change that was skipped, while the member lags.
    pub fn lag(&self) -> Option<Position> {
        self.state().lag
    }

    /// Whether a change is on its way that somebody else decides about.
    pub fn has_on_their_way(&self) -> bool {
        self.on_their_way.load(Ordering::Acquire) > 0
    }

    /// Ends the lag: deliveries of the new generation count from here on, older ones are dropped.
    pub fn resume(&self) -> Generation {
        let mut state = self.state();
        state.lag = None;
        state.generation = Generation(state.generation.0 + 1);
        state.generation
    }

    /// Whether a failure of a policy is the first one in this join: once is enough to tell.
    pub fn is_first_failure(&self) -> bool {
        !self.knows_of_failure.swap(true, Ordering::Relaxed)
    }

    /// A change is left out; whether it is the first one in a row.
    pub fn begins_skipping(&self) -> bool {
        !self.is_skipping.swap(true, Ordering::Relaxed)
    }

    /// A change is not left out; whether the one before was.
    pub fn ends_skipping(&self) -> bool {
        // Nearly always no, which costs no exclusive access.
        self.is_skipping.load(Ordering::Relaxed) && self.is_skipping.swap(false, Ordering::Relaxed)
    }

    /// Whether the outbox has room for a good deal more.
    pub fn has_drained(&self) -> bool {
        self.outbox.has_drained()
    }

    /// Queues an event that names this join.
    pub fn deliver_event(&self, event: &str, payload: &str) -> bool {
        let (join_ref, topic) = (&self.join_ref, &*self.topic);
        let event = Event { join_ref, reference: &Value::Null, topic, event, payload };
        self.deliver(self.codec.event(&event))
    }

    /// Queues a `system` message of this join.
    pub fn deliver_system(&self, extension: &str, is_ok: bool, message: &str) -> bool {
        self.deliver(self.system(&self.system_payload(extension, is_ok, message)))
    }

    /// Queues a `system` message about row changes that says beside this where the client stands.
    pub fn deliver_standing(&self, is_ok: bool, message: &str, standing: &Standing<'_>) -> bool {
        let mut payload = self.system_payload("postgres_changes", is_ok, message);
        payload.insert("resumed".to_owned(), standing.resumed.into());
        if let Some(cursor) = &standing.cursor {
            payload.insert("cursor".to_owned(), cursor.to_string().into());
        }
        if let Some(reason) = standing.reason {
            payload.insert("reason".to_owned(), reason.into());
        }
        if let Some((old, new)) = standing.gap {
            let gap = serde_json::json!({ "from": old.to_string(), "to": new.to_string() });
            payload.insert("gap".to_owned(), gap);
        }
        self.deliver(self.system(&payload))
    }

    fn system_payload(&self, extension: &str, is_ok: bool, message: &str) -> Map<String, Value> {
        system_payload(&self.topic, extension, is_ok, message)
    }

    fn system(&self, payload: &Map<String, Value>) -> Frame {
        system_event(self.codec, &self.topic, &self.join_ref, payload)
    }

    /// Ends it with `phx_error`: clients join again, and so get a fresh start.
    pub fn fail(&self) {
        let frame = self.codec.event(&Event {
            join_ref: &self.join_ref,
            reference: &self.join_ref,
            topic: &self.topic,
            event: "phx_error",
            payload: "{}",
        });
        let mut state = self.state();
        if !state.ended {
            self.outbox.push(frame);
            state.ended = true;
        }
    }

    /// Ends it: no frame is queued through it after this returns.
    pub fn end(&self) {
        self.state().ended = true;
    }

    /// Whether it has ended, or its connection is gone.
    pub fn is_ended(&self) -> bool {
        self.state().ended || self.outbox.is_closed()
    }
}

/// A `system` message (protocol reference, section 3.10).
pub(crate) fn system_frame(
    codec: &dyn Codec,
    topic: &str,
    join_ref: &Value,
    extension: &str,
    is_ok: bool,
    message: &str,
) -> Frame {
    system_event(codec, topic, join_ref, &system_payload(topic, extension, is_ok, message))
}

fn system_payload(topic: &str, extension: &str, is_ok: bool, message: &str) -> Map<String, Value> {
    let fields = [
        ("extension", extension),
        ("status", if is_ok { "ok" } else { "error" }),
        ("message", message),
        ("channel", topic.strip_prefix("realtime:").unwrap_or(topic)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn system_event(codec: &dyn Codec, topic: &str, join_ref: &Value, payload: &Map<String, Value>) -> Frame {
    let payload = Value::Object(payload.clone()).to_string();
    codec.event(&Event { join_ref, reference: &Value::Null, topic, event: "system", payload: &payload })
}
