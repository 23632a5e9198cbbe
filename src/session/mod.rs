//! One client's state machine: pushes in, frames and effects out. Pure: no socket, no clock, no database.
//!
//! It knows the channels of one connection, their tokens and bindings, and what the protocol answers (reference,
//! sections 3 and 5 to 8). Its answers go into the outbox and what it says into rooms at once, so that their order is that
//! of what the client said. What takes time (a subscription, a delay, rights to a private channel) it asks for as an
//! [`Effect`], and hears of as an [`Input`]. Permission for rows is decided in the router, never here.
//!
//! `exchange` has the words for that; `join` begins channels; `rights` asks and hears what private ones allow; `speech` is what clients say in them.

mod binding_list;
mod exchange;
mod join;
mod options;
mod rights;
mod speech;

pub use exchange::{Counted, Effect, Input, JoinId, Question, ReplayWish, Wish};

use crate::{
    auth::{TokenError, Verifier},
    claims::Claims,
    hub::{Member, MemberId, MessageForm, Outbox, Reads, RoomName, Rooms, system_frame},
    limits::Meters,
    policy::topic::Granted,
    protocol::{Codec, Event, Frame, Push, Reply, refusal},
};
use join::Joining;
use rights::{Asked, Parting};
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// The reserved topic of heartbeats.
const HEARTBEAT_TOPIC: &str = "phoenix";
/// What a topic starts with.
const TOPIC_PREFIX: &str = "realtime:";
/// Bytes of pushes that wait for an answer about their channel; beyond that, no more should be read.
const HELD_BYTES: usize = 1024 * 1024;
/// What a held push costs beside its payload and its names, more or less.
const PUSH_BYTES: usize = 512;

/// What the operator may choose about sessions.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bindings one join may have.
    pub max_bindings: usize,
    /// Regular expressions in the filters of one socket. Postgres evaluates them, and one can take long.
    pub max_patterns: usize,
    /// How long the refusal of a join is held back, against storms of rejoins.
    pub join_error_delay: Duration,
}

/// A channel of this connection.
struct Channel {
    id: JoinId,
    join_ref: Value,
    /// The join's own reference: what its reply must name.
    reference: Value,
    token: String,
    claims: Claims,
    member: Arc<Member>,
    room: RoomName,
    /// What it is present under.
    presence_key: String,
    /// Whether the client, or the server for everybody, switched presence on.
    presence: bool,
    /// Whether broadcasts are acknowledged.
    ack: bool,
    /// Whether it hears its own broadcasts.
    echo: bool,
    has_bindings: bool,
    /// Regular expressions in its filters.
    patterns: usize,
    /// What is left of the join until it is complete.
    joining: Option<Box<Joining>>,
    /// What it may hear of.
    reads: Reads,
    /// What it may say; none when that was not asked since the token changed.
    writes: Option<Granted>,
    /// What has to be known before the next push counts.
    asked: Option<Asked>,
    /// Pushes that wait for that, with what each costs.
    held: VecDeque<(Push, usize)>,
    /// Bytes of what it tracks.
    tracked: usize,
    /// When presence was pushed, as far back as a limit looks.
    presence_times: VecDeque<i64>,
}

/// What a session is made of.
pub struct Parts {
    /// What it may do.
    pub config: Arc<Config>,
    /// Who checks its tokens.
    pub verifier: Verifier,
    /// How it speaks.
    pub codec: &'static dyn Codec,
    /// Where its frames go.
    pub outbox: Outbox,
    /// The rooms of the server.
    pub rooms: Rooms,
    /// The limits of the server.
    pub meters: Arc<Meters>,
    /// The server's number of the connection, never given twice.
    pub connection: u64,
    /// The key of the upgrade, as it was sent, and verified.
    pub key: String,
    /// The `x-` headers of the upgrade, as the text of a JSON object: policies may read them.
    pub headers: Arc<str>,
}

/// The state of one connection.
pub struct Session {
    parts: Parts,
    channels: HashMap<String, Channel>,
    next_join: u64,
    next_question: u64,
    /// Whether it counts as a user.
    is_user: bool,
    held_bytes: usize,
    /// Broadcasts of channels that were left before it was known whether they may be said.
    parting: Vec<Parting>,
    /// Which keys the channels' tokens have been verified with.
    generation: u64,
    /// What came of the input that is being handled.
    effects: Vec<Effect>,
}

impl Session {
    /// A connection that was opened with a verified key.
    pub fn new(parts: Parts) -> Session {
        Session {
            generation: parts.verifier.generation(),
            parts,
            channels: HashMap::new(),
            next_join: 0,
            next_question: 0,
            is_user: false,
            held_bytes: 0,
            parting: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Takes what happened at `now`, in seconds since the epoch.
    pub fn handle(&mut self, input: Input, now: i64) -> Vec<Effect> {
        match input {
            Input::Push(push) => self.push(push, now),
            Input::Subscribed { join, refusal } => self.subscribed(join, refusal),
            Input::Authorized { question, outcome } => self.authorized(question, outcome, now),
            Input::Replayed { join, outcome } => self.replayed(join, outcome, now),
            Input::Stream { join, is_up } => self.stream(join, is_up),
            Input::Clock => {
                self.close_expired(now);
                self.verify_again(now);
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// Whether more may be read from the client: false while too much waits for answers about its channels.
    pub fn takes_more(&self) -> bool {
        self.held_bytes < HELD_BYTES
    }

    /// When the next token expires, in seconds since the epoch.
    pub fn next_expiry(&self) -> Option<i64> {
        self.channels.values().filter_map(|channel| channel.claims.expires_at).min()
    }

    /// Ends all memberships, as when the connection ends; the joins whose subscriptions are to be forgotten.
    pub fn end(&mut self) -> Vec<JoinId> {
        let topics: Vec<String> = self.channels.keys().cloned().collect();
        let ended = topics.iter().filter_map(|topic| self.remove(topic)).map(|channel| channel.id);
        ended.collect()
    }

    /// The frames that announce the end of the server to every channel.
    pub fn announce_stop(&self) -> Vec<Frame> {
        // Strict clients want all four keys of a system message, so `channel` is there, too.
        let announce = |(topic, channel): (&String, &Channel)| {
            system_frame(self.parts.codec, topic, &channel.join_ref, "system", true, refusal::DISCONNECT)
        };
        self.channels.iter().map(announce).collect()
    }

    fn push(&mut self, push: Push, now: i64) {
        let (Value::String(topic), Value::String(event)) = (&push.topic, &push.event) else {
            return self.unmatched(&push);
        };
        match (topic.as_str(), event.as_str()) {
            (HEARTBEAT_TOPIC, "heartbeat") => self.reply(&push, &Value::Null, true, "{}"),
            (topic, "phx_join") if topic.starts_with(TOPIC_PREFIX) => self.join(topic, &push, now),
            (topic, "phx_leave") if topic.starts_with(TOPIC_PREFIX) => self.leave(topic, &push),
            (topic, _) => match self.channels.get_mut(topic) {
                None => self.unmatched(&push),
                Some(channel) if channel.asked.is_some() => {
                    let cost = cost(&push);
                    self.held_bytes += cost;
                    channel.held.push_back((push, cost));
                }
                Some(_) => {
                    let topic = topic.to_owned();
                    self.channel_push(&topic, push, now);
                }
            },
        }
    }

    /// Hears what was held while something was asked about a channel, until something is asked again.
    fn hear_held(&mut self, topic: &str, now: i64) {
        while let Some(channel) = self.channels.get_mut(topic)
            && channel.asked.is_none()
            && let Some((push, cost)) = channel.held.pop_front()
        {
            self.held_bytes = self.held_bytes.saturating_sub(cost);
            self.channel_push(topic, push, now);
        }
    }

    fn send(&self, frame: Frame) {
        // An outbox that takes nothing more ends the connection by itself.
        let _ = self.parts.outbox.push(frame);
    }

    fn unmatched(&self, push: &Push) {
        self.reply(push, &Value::Null, false, &reason(refusal::UNMATCHED_TOPIC));
    }

    fn reply(&self, push: &Push, join_ref: &Value, is_ok: bool, response: &str) {
        let reference = &push.reference;
        self.send(self.parts.codec.reply(&Reply { join_ref, reference, topic: &push.topic, is_ok, response }));
    }

    fn leave(&mut self, topic: &str, push: &Push) {
        let Some(channel) = self.channels.get(topic) else {
            return self.reply(push, &push.join_ref, true, "{}");
        };
        // A leave that names another join belongs to one that is gone.
        if !push.join_ref.is_null() && push.join_ref != channel.join_ref {
            return;
        }
        let join_ref = channel.join_ref.clone();
        self.part(topic);
        self.drop_channel(topic);
        self.reply(push, &join_ref, true, "{}");
        self.send_close(topic, &join_ref);
    }

    /// Ends a channel's membership: no frame for it follows, and nobody sees it present any more.
    fn remove(&mut self, topic: &str) -> Option<Channel> {
        let channel = self.channels.remove(topic)?;
        channel.member.end();
        self.parts.rooms.leave(&channel.room, channel.member.id());
        let freed: usize = channel.held.iter().map(|(_, cost)| cost).sum();
        self.held_bytes = self.held_bytes.saturating_sub(freed);
        if self.channels.is_empty() && std::mem::take(&mut self.is_user) {
            self.parts.meters.user_ends();
        }
        Some(channel)
    }

    /// Ends a channel's membership and subscription, without a word to the client about them.
    fn drop_channel(&mut self, topic: &str) {
        let Some(channel) = self.remove(topic) else { return };
        if channel.has_bindings {
            self.effects.push(Effect::Unsubscribe(channel.id));
        }
        if let Some(replaced) = channel.joining.and_then(|joining| joining.replaced) {
            self.send_close(topic, &replaced);
        }
    }

    fn send_close(&self, topic: &str, join_ref: &Value) {
        self.send(self.close_frame(topic, join_ref));
    }

    fn close_frame(&self, topic: &str, join_ref: &Value) -> Frame {
        let event = Event { join_ref, reference: join_ref, topic, event: "phx_close", payload: "{}" };
        self.parts.codec.event(&event)
    }

    /// Says why, and closes one channel; the socket and the other channels stay.
    fn close_channel(&mut self, topic: &str, why: &str) {
        let Some(channel) = self.channels.get(topic) else { return };
        let join_ref = channel.join_ref.clone();
        self.drop_channel(topic);
        self.send(system_frame(self.parts.codec, topic, &join_ref, "system", false, why));
        self.send_close(topic, &join_ref);
    }

    /// The same because of a limit.
    fn close_limited(&mut self, topic: &str, setting: &'static str, why: &str) {
        self.effects.push(Effect::Limited(setting));
        self.close_channel(topic, why);
    }

    fn close_expired(&mut self, now: i64) {
        let expired = |channel: &Channel| channel.claims.expires_at.is_some_and(|expiry| expiry <= now);
        let topics: Vec<(String, i64)> = self
            .channels
            .iter()
            .filter(|(_, channel)| expired(channel))
            .map(|(topic, channel)| (topic.clone(), now - channel.claims.expires_at.unwrap_or(now)))
            .collect();
        for (topic, seconds_ago) in topics {
            self.close_channel(&topic, &TokenError::Expired { seconds_ago }.to_string());
        }
    }

    fn stream(&mut self, join: JoinId, is_up: bool) {
        let Some(topic) = self.topic_of(join) else { return };
        if !is_up {
            return self.close_channel(&topic, refusal::REPLICATION_NOT_READY);
        }
        if let Some(channel) = self.channels.get(&topic) {
            channel.member.deliver_system("system", true, refusal::REPLICATION_READY);
        }
    }

    fn topic_of(&self, join: JoinId) -> Option<String> {
        let found = self.channels.iter().find(|(_, channel)| channel.id == join);
        found.map(|(topic, _)| topic.clone())
    }

    fn member(&self, id: JoinId, topic: &str, join_ref: &Value, form: MessageForm) -> Arc<Member> {
        let id = MemberId { connection: self.parts.connection, join: id.0 };
        Member::new(id, topic.into(), join_ref.clone(), self.parts.codec, form, self.parts.outbox.clone())
    }
}

impl Drop for Session {
    /// Nobody is seen present whose connection is gone, whatever ended it.
    fn drop(&mut self) {
        self.end();
    }
}

/// What it costs to hold a push.
fn cost(push: &Push) -> usize {
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    push.payload.size() + text(&push.topic) + text(&push.event) + PUSH_BYTES
}

/// `{"reason": text}`.
fn reason(text: &str) -> String {
    serde_json::json!({ "reason": text }).to_string()
}
