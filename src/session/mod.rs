//! One client's state machine: pushes in, effects out. Pure: no socket, no clock, no database.
//!
//! It knows the channels of one connection, their tokens and bindings, and what the protocol answers (reference,
//! sections 3 and 5). What takes time (a subscription, a delay) it asks for as an [`Effect`], and hears of as an
//! [`Input`]. Permission for rows is decided in the router, never here.

mod binding_list;
mod join;

use crate::{
    auth::{OPAQUE_PREFIX, TokenError, Verifier},
    claims::Claims,
    hub::{Member, MemberId, MessageForm, Outbox, Rooms, system_frame},
    limits::Meters,
    policy::binding::Binding,
    protocol::{Codec, Event, Frame, Push, Reply, refusal},
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// The reserved topic of heartbeats.
const HEARTBEAT_TOPIC: &str = "phoenix";
/// What a topic starts with.
const TOPIC_PREFIX: &str = "realtime:";

/// What the operator may choose about sessions.
#[derive(Clone, Debug)]
pub struct Config {
    /// Channels one socket may hold.
    pub max_channels: usize,
    /// Bindings one join may have.
    pub max_bindings: usize,
    /// Regular expressions in the filters of one socket. Postgres evaluates them, and one can take long.
    pub max_patterns: usize,
    /// How long the refusal of a join is held back, against storms of rejoins.
    pub join_error_delay: Duration,
}

/// What happened.
pub enum Input {
    /// The client said something.
    Push(Push),
    /// A subscription is active, or cannot be.
    Subscribed {
        /// Which join asked for it.
        join: JoinId,
        /// The reason when it cannot be.
        refusal: Option<String>,
    },
    /// Time passed; channels whose token has expired are to be closed.
    Clock,
}

/// The server's own number of a join: tells a rejoin of a topic from the join before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinId(pub u64);

/// What is to be done, in this order.
pub enum Effect {
    /// Queue a frame.
    Send(Frame),
    /// Queue a frame after a while; nothing else waits for it.
    SendLater(Frame, Duration),
    /// Subscribe to row changes.
    Subscribe(Box<Wish>),
    /// Judge a join's subscription by other claims.
    ReplaceClaims(JoinId, Claims),
    /// Forget a join's subscription; its member has ended already.
    Unsubscribe(JoinId),
}

/// A subscription that is asked for.
pub struct Wish {
    /// Which join asks.
    pub join: JoinId,
    /// Where changes go.
    pub member: Arc<Member>,
    /// In whose name.
    pub claims: Claims,
    /// What for.
    pub bindings: Vec<Binding>,
    /// Whether it wants to hear of rows that enter and leave what it sees.
    pub visibility: bool,
    /// The join's reply, held back until the subscription is active, and how long that may take.
    pub held_reply: Option<(Frame, Duration)>,
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
    has_bindings: bool,
    /// Regular expressions in its filters.
    patterns: usize,
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
    config: Arc<Config>,
    verifier: Verifier,
    codec: &'static dyn Codec,
    outbox: Outbox,
    connection: u64,
    /// The key of the upgrade, as it was sent.
    key: String,
    channels: HashMap<String, Channel>,
    next_join: u64,
}

impl Session {
    /// A connection that was opened with a verified key.
    pub fn new(parts: Parts) -> Session {
        let Parts { config, verifier, codec, outbox, connection, key, .. } = parts;
        Session { config, verifier, codec, outbox, connection, key, channels: HashMap::new(), next_join: 0 }
    }

    /// Takes what happened at `now`, in seconds since the epoch.
    pub fn handle(&mut self, input: Input, now: i64) -> Vec<Effect> {
        match input {
            Input::Push(push) => self.push(&push, now),
            Input::Subscribed { join, refusal } => self.subscribed(join, refusal),
            Input::Clock => self.close_expired(now),
        }
    }

    /// When the next token expires, in seconds since the epoch.
    pub fn next_expiry(&self) -> Option<i64> {
        self.channels.values().filter_map(|channel| channel.claims.expires_at).min()
    }

    /// Ends all memberships, as when the connection ends; the joins whose subscriptions are to be forgotten.
    pub fn end(&mut self) -> Vec<JoinId> {
        let ended = self.channels.drain().map(|(_, channel)| {
            channel.member.end();
            channel.id
        });
        ended.collect()
    }

    /// The frames that announce the end of the server to every channel.
    pub fn announce_stop(&self) -> Vec<Frame> {
        // Strict clients want all four keys of a system message, so `channel` is there, too.
        let announce = |(topic, channel): (&String, &Channel)| {
            system_frame(self.codec, topic, &channel.join_ref, "system", true, refusal::DISCONNECT)
        };
        self.channels.iter().map(announce).collect()
    }

    fn push(&mut self, push: &Push, now: i64) -> Vec<Effect> {
        let (Value::String(topic), Value::String(event)) = (&push.topic, &push.event) else {
            return vec![self.unmatched(push)];
        };
        match (topic.as_str(), event.as_str()) {
            (HEARTBEAT_TOPIC, "heartbeat") => vec![self.reply(push, &Value::Null, true, "{}")],
            (topic, "phx_join") if topic.starts_with(TOPIC_PREFIX) => self.join(topic, push, now),
            (topic, "phx_leave") if topic.starts_with(TOPIC_PREFIX) => self.leave(topic, push),
            (topic, event) => match self.channels.get(topic) {
                None => vec![self.unmatched(push)],
                Some(_) if event == "access_token" => self.access_token(topic, push, now),
                // An event nobody knows is nobody's error: newer clients say more than older servers hear.
                Some(_) => Vec::new(),
            },
        }
    }

    fn unmatched(&self, push: &Push) -> Effect {
        self.reply(push, &Value::Null, false, &reason(refusal::UNMATCHED_TOPIC))
    }

    fn reply(&self, push: &Push, join_ref: &Value, is_ok: bool, response: &str) -> Effect {
        let reference = &push.reference;
        Effect::Send(self.codec.reply(&Reply { join_ref, reference, topic: &push.topic, is_ok, response }))
    }

    fn leave(&mut self, topic: &str, push: &Push) -> Vec<Effect> {
        let Some(channel) = self.channels.get(topic) else {
            return vec![self.reply(push, &push.join_ref, true, "{}")];
        };
        // A leave that names another join belongs to one that is gone.
        if !push.join_ref.is_null() && push.join_ref != channel.join_ref {
            return Vec::new();
        }
        let join_ref = channel.join_ref.clone();
        let mut effects = self.drop_channel(topic);
        effects.push(self.reply(push, &join_ref, true, "{}"));
        effects.push(self.close_frame(topic, &join_ref));
        effects
    }

    /// Ends a channel's membership and subscription, without a word to the client.
    fn drop_channel(&mut self, topic: &str) -> Vec<Effect> {
        let Some(channel) = self.channels.remove(topic) else { return Vec::new() };
        channel.member.end();
        if channel.has_bindings { vec![Effect::Unsubscribe(channel.id)] } else { Vec::new() }
    }

    fn close_frame(&self, topic: &str, join_ref: &Value) -> Effect {
        let event = Event { join_ref, reference: join_ref, topic, event: "phx_close", payload: "{}" };
        Effect::Send(self.codec.event(&event))
    }

    /// Says why, and closes one channel; the socket and the other channels stay.
    fn close_channel(&mut self, topic: &str, why: &str) -> Vec<Effect> {
        let Some(channel) = self.channels.get(topic) else { return Vec::new() };
        let join_ref = channel.join_ref.clone();
        let mut effects = self.drop_channel(topic);
        effects.push(Effect::Send(system_frame(self.codec, topic, &join_ref, "system", false, why)));
        effects.push(self.close_frame(topic, &join_ref));
        effects
    }

    /// A refreshed token (reference, section 3.11). Success is silent; what cannot be a new token is ignored.
    fn access_token(&mut self, topic: &str, push: &Push, now: i64) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else { return Vec::new() };
        let Some(token) = push.payload.json().get("access_token").and_then(Value::as_str) else { return Vec::new() };
        if token.starts_with(OPAQUE_PREFIX) || token == channel.token {
            return Vec::new();
        }
        match self.verifier.verify(token, now) {
            Ok(claims) => {
                channel.token = token.to_owned();
                channel.claims = claims.clone();
                if channel.has_bindings { vec![Effect::ReplaceClaims(channel.id, claims)] } else { Vec::new() }
            }
            Err(error) => {
                let text = refresh_error_text(&error);
                self.close_channel(topic, &text)
            }
        }
    }

    fn close_expired(&mut self, now: i64) -> Vec<Effect> {
        let expired = |channel: &Channel| channel.claims.expires_at.is_some_and(|expiry| expiry <= now);
        let topics: Vec<(String, i64)> = self
            .channels
            .iter()
            .filter(|(_, channel)| expired(channel))
            .map(|(topic, channel)| (topic.clone(), now - channel.claims.expires_at.unwrap_or(now)))
            .collect();
        let mut effects = Vec::new();
        for (topic, seconds_ago) in topics {
            effects.extend(self.close_channel(&topic, &TokenError::Expired { seconds_ago }.to_string()));
        }
        effects
    }

    fn subscribed(&mut self, join: JoinId, refused: Option<String>) -> Vec<Effect> {
        let Some(reason_text) = refused else { return Vec::new() };
        let topic = self.channels.iter().find(|(_, channel)| channel.id == join).map(|(topic, _)| topic.clone());
        let Some((topic, channel)) =
            topic.and_then(|topic| self.channels.remove(&topic).map(|channel| (topic, channel)))
        else {
            return Vec::new();
        };
        channel.member.end();
        let reply = Reply {
            join_ref: &channel.join_ref,
            reference: &channel.reference,
            topic: &Value::from(topic),
            is_ok: false,
            response: &reason(&reason_text),
        };
        vec![Effect::Send(self.codec.reply(&reply))]
    }

    fn member(&self, id: JoinId, topic: &str, join_ref: &Value, form: MessageForm) -> Arc<Member> {
        let id = MemberId { connection: self.connection, join: id.0 };
        Member::new(id, topic.into(), join_ref.clone(), self.codec, form, self.outbox.clone())
    }
}

/// The text of a refused refresh. A wrong signature shows as the term the replaced server prints.
fn refresh_error_text(error: &TokenError) -> String {
    match error {
        TokenError::Signature => ":signature_error".to_owned(),
        other => other.to_string(),
    }
}

/// `{"reason": text}`.
fn reason(text: &str) -> String {
    serde_json::json!({ "reason": text }).to_string()
}
