//! `phx_join`: the checks in their order, the channel, its bindings, its place in the room (protocol reference, sections
//! 3.2 to 3.7, 5 and 6.6).
//!
//! A join may have to wait, in this order: for what its policies allow, for the messages it missed, for its subscription.
//! From the second on it is in its room already, which keeps for it what is said meanwhile.

use super::{
    Channel, Effect, JoinId, ReplayWish, Session, TOPIC_PREFIX, Wish, binding_list,
    options::{Options, ReplayOption},
    reason,
    rights::{About, Asked},
};
use crate::{
    auth::OPAQUE_PREFIX,
    change::cursor::Resume,
    hub::{Entry, Greeting, MessageForm, Reads, RoomName},
    policy::{
        binding::{Binding, legacy_binding},
        topic::ChannelAccess,
    },
    protocol::{
        Broadcast, Event, Frame, Push, Reply, StoredBroadcast,
        refusal::{self, Disconnect},
    },
};
use serde_json::{Map, Value};
use std::{collections::VecDeque, time::Duration};
use uuid::Uuid;

/// What is left of a join until it is complete.
pub(super) struct Joining {
    reply: Frame,
    /// The join this one took the topic from: its close goes behind the reply.
    pub(super) replaced: Option<Value>,
    bindings: Vec<Binding>,
    visibility: bool,
    resume: Option<Resume>,
    wait: Option<Duration>,
    replay: ReplayOption,
    replication_ready: bool,
    /// Whether it is in the room.
    has_entered: bool,
    /// What it missed, and the ids of that.
    replayed: Vec<Frame>,
    heard: Vec<Uuid>,
}

/// Why a join is refused.
struct Refused {
    text: String,
    /// The limit that forbids it.
    setting: Option<&'static str>,
    then: Option<Disconnect>,
}

impl From<String> for Refused {
    fn from(text: String) -> Refused {
        Refused { text, setting: None, then: None }
    }
}

impl From<&str> for Refused {
    fn from(text: &str) -> Refused {
        text.to_owned().into()
    }
}

fn limited(setting: &'static str, text: &str) -> Refused {
    Refused { setting: Some(setting), ..text.into() }
}

impl Session {
    pub(super) fn join(&mut self, topic: &str, push: &Push, now: i64) {
        // The join before is over, whatever becomes of this one; it hears so after the new one's reply. Where clients
        // cannot tell which join is closed, that would end the new one.
        let replaced = self.channels.get(topic).map(|channel| channel.join_ref.clone());
        let mut replaced = replaced.filter(|_| self.parts.codec.names_joins());
        self.drop_channel(topic);
        if let Err(refused) = self.try_join(topic, push, &mut replaced, now) {
            self.refuse(&push.topic, &push.join_ref, &push.reference, refused);
        }
        if let Some(join_ref) = replaced {
            self.send_close(topic, &join_ref);
        }
    }

    fn refuse(&mut self, topic: &Value, join_ref: &Value, reference: &Value, refused: Refused) {
        let Refused { text, setting, then } = refused;
        let response = reason(&text);
        let frame = self.parts.codec.reply(&Reply { join_ref, reference, topic, is_ok: false, response: &response });
        self.effects.extend(setting.map(Effect::Limited));
        self.effects.push(Effect::SendLater { frame, delay: self.parts.config.join_error_delay, then });
    }

    /// Ends a channel whose join turns out to be refused.
    pub(super) fn refuse_joining(&mut self, topic: &str, text: String) {
        let Some(channel) = self.channels.get(topic) else { return };
        let (join_ref, reference) = (channel.join_ref.clone(), channel.reference.clone());
        self.refuse(&Value::from(topic), &join_ref, &reference, text.into());
        self.drop_channel(topic);
    }

    fn try_join(&mut self, topic: &str, push: &Push, replaced: &mut Option<Value>, now: i64) -> Result<(), Refused> {
        let sub_topic = topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic);
        if sub_topic.is_empty() {
            return Err(refusal::TOPIC_NAME_REQUIRED.into());
        }
        let Value::Object(payload) = push.payload.json() else {
            return Err(refusal::payload_not_an_object(&push.payload.json().to_string()).into());
        };
        let config = payload.get("config");
        let options = Options::read(config)?;
        self.check_limits(&options, now)?;
        let token = self.token(payload).to_owned();
        let claims = self.parts.verifier.verify(&token, now).map_err(|error| format!("{}: {error}", error.code()))?;
        let (list, form) = match config {
            // The key's presence is what counts: without it the topic itself names what is wanted.
            None => (vec![Value::Object(legacy_binding(sub_topic))], MessageForm::Legacy),
            Some(config) => {
                let list = config.get("postgres_changes").and_then(Value::as_array).cloned();
                let form = if options.resume.is_some() { MessageForm::Resumable } else { MessageForm::Modern };
                (list.unwrap_or_default(), form)
            }
        };
        if list.len() > self.parts.config.max_bindings {
            return Err(refusal::TOO_MANY_BINDINGS.into());
        }
        let (bindings, echo) = binding_list::read(&list);
        let patterns = binding_list::patterns(&bindings);
        let others: usize = self.channels.values().map(|channel| channel.patterns).sum();
        if patterns > 0 && patterns + others > self.parts.config.max_patterns {
            return Err(refusal::TOO_MANY_PATTERNS.into());
        }
        if !options.is_private && options.replay != ReplayOption::Absent {
            return Err(refusal::REPLAY_OF_PUBLIC.into());
        }
        // Asked again where it is counted: others have joined since.
        if !self.is_user && !self.parts.meters.user_begins() {
            return Err(limited("max_concurrent_users", refusal::TOO_MANY_CONNECTED));
        }
        self.is_user = true;
        let response = format!(r#"{{"postgres_changes":{echo}}}"#);
        let reply = self.parts.codec.reply(&Reply {
            join_ref: &push.join_ref,
            reference: &push.reference,
            topic: &push.topic,
            is_ok: true,
            response: &response,
        });
        let id = JoinId(self.next_join);
        self.next_join += 1;
        let member = self.member(id, topic, &push.join_ref, form);
        let channel = Channel {
            id,
            join_ref: push.join_ref.clone(),
            reference: push.reference.clone(),
            token,
            claims,
            room: RoomName { topic: member.topic().clone(), is_private: options.is_private },
            member,
            presence_key: options.presence_key.unwrap_or_else(|| Uuid::new_v4().to_string()),
            presence: options.presence || self.parts.meters.limits().presence_enabled,
            ack: options.ack,
            echo: options.echo,
            has_bindings: !bindings.is_empty(),
            patterns,
            joining: Some(Box::new(Joining {
                reply,
                replaced: replaced.take(),
                bindings,
                visibility: options.visibility,
                resume: options.resume,
                wait: options.wait,
                replay: options.replay,
                replication_ready: options.replication_ready,
                has_entered: false,
                replayed: Vec::new(),
                heard: Vec::new(),
            })),
            reads: Reads::ALL,
            writes: None,
            asked: None,
            held: VecDeque::new(),
            tracked: 0,
            presence_times: VecDeque::new(),
        };
        self.channels.insert(topic.to_owned(), channel);
        if options.is_private {
            self.ask(topic, ChannelAccess::Read, About::Join);
        } else {
            self.admit(topic);
        }
        Ok(())
    }

    /// What no token and no policy can make good.
    fn check_limits(&self, options: &Options, now: i64) -> Result<(), Refused> {
        let meters = &self.parts.meters;
        let limits = meters.limits();
        if limits.suspend {
            return Err(limited("suspend", refusal::SUSPENDED));
        }
        if limits.private_only && !options.is_private {
            return Err(limited("private_only", refusal::PRIVATE_ONLY));
        }
        if !self.is_user && meters.is_full_of_users() {
            return Err(limited("max_concurrent_users", refusal::TOO_MANY_CONNECTED));
        }
        if meters.has_too_many_joins(now) {
            let refused = limited("max_joins_per_second", refusal::TOO_MANY_JOINS);
            return Err(Refused { then: Some(Disconnect::Joins), ..refused });
        }
        meters.count_join(now);
        if self.channels.len() >= limits.max_channels_per_client {
            return Err(limited("max_channels_per_client", refusal::TOO_MANY_CHANNELS));
        }
        Ok(())
    }

    /// The channel may be joined: it enters its room, after the messages it missed, where it asks for them.
    pub(super) fn admit(&mut self, topic: &str) {
        let headers = self.parts.headers.clone();
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let Some(joining) = &channel.joining else { return };
        match joining.replay {
            ReplayOption::Range(range) if channel.reads.broadcast => {
                let wish = ReplayWish {
                    join: channel.id,
                    user: channel.user(headers),
                    since: range.since,
                    limit: range.limit,
                };
                channel.asked = Some(Asked::Replay);
                self.enter(topic, None);
                self.effects.push(Effect::Replay(Box::new(wish)));
            }
            ReplayOption::Invalid => self.refuse_joining(topic, refusal::REPLAY_PARAMETERS.to_owned()),
            ReplayOption::Absent | ReplayOption::Empty | ReplayOption::Range(_) => self.begin(topic),
        }
    }

    /// Enters the room, or, when it is there already, completes the join in it.
    fn enter(&mut self, topic: &str, greeting: Option<Greeting>) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let Some(joining) = &mut channel.joining else { return };
        let has_entered = std::mem::replace(&mut joining.has_entered, true);
        let (rooms, member) = (&self.parts.rooms, channel.member.clone());
        match greeting {
            Some(greeting) if has_entered => rooms.complete(&channel.room, member.id(), greeting),
            None if has_entered => {}
            greeting => {
                let entry = Entry { member, reads: channel.reads, key: channel.presence_key.clone(), greeting };
                rooms.enter(&channel.room, entry);
            }
        }
    }

    /// Subscribes, before the join is complete or after, as it asks.
    fn begin(&mut self, topic: &str) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let Some(joining) = &mut channel.joining else { return };
        let wait = joining.wait.filter(|_| channel.has_bindings);
        let wish = channel.has_bindings.then(|| {
            Box::new(Wish {
                join: channel.id,
                member: channel.member.clone(),
                claims: channel.claims.clone(),
                bindings: std::mem::take(&mut joining.bindings),
                visibility: joining.visibility,
                resume: joining.resume.take(),
                held_reply: wait.map(|limit| (joining.reply.clone(), limit)),
            })
        });
        match wait {
            Some(_) => self.enter(topic, None),
            None => self.complete(topic, true),
        }
        self.effects.extend(wish.map(Effect::Subscribe));
    }

    /// The join is complete: its reply, unless that was sent, and what follows it.
    fn complete(&mut self, topic: &str, with_reply: bool) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let (id, with_presence) = (channel.id, channel.presence);
        let Some(joining) = &mut channel.joining else { return };
        let replication_ready = joining.replication_ready;
        let mut frames = Vec::new();
        frames.extend(with_reply.then(|| joining.reply.clone()));
        let (replayed, heard) = (std::mem::take(&mut joining.replayed), std::mem::take(&mut joining.heard));
        let replaced = joining.replaced.take();
        frames.extend(replaced.map(|join_ref| self.close_frame(topic, &join_ref)));
        self.enter(topic, Some(Greeting { frames, with_presence, replayed, heard }));
        if let Some(channel) = self.channels.get_mut(topic) {
            channel.joining = None;
        }
        if replication_ready {
            self.effects.push(Effect::AwaitStream(id));
        }
    }

    pub(super) fn replayed(&mut self, join: JoinId, outcome: Result<Vec<StoredBroadcast>, ()>, now: i64) {
        let Some(topic) = self.topic_of(join) else { return };
        let codec = self.parts.codec;
        let Some(channel) = self.channels.get_mut(&topic) else { return };
        let Some(joining) = channel.joining.as_mut().filter(|_| channel.asked == Some(Asked::Replay)) else { return };
        channel.asked = None;
        let Ok(stored) = outcome else { return self.refuse_joining(&topic, refusal::REPLAY_FAILED.to_owned()) };
        let mut without_form = 0;
        for StoredBroadcast { id, mut message } in stored {
            message.meta = Some(format!(r#"{{"replayed":true,"id":"{id}"}}"#));
            let frame = match message.text() {
                Some(payload) => {
                    let (join_ref, reference) = (&channel.join_ref, &Value::Null);
                    let event = Event { join_ref, reference, topic: &topic, event: "broadcast", payload: &payload };
                    Some(codec.event(&event))
                }
                None => codec.broadcast(&topic, &Broadcast::User(message)),
            };
            without_form += usize::from(frame.is_none());
            joining.replayed.extend(frame);
            joining.heard.push(id);
        }
        self.count(super::Counted::WithoutForm, without_form);
        self.begin(&topic);
        self.hear_held(&topic, now);
    }

    pub(super) fn subscribed(&mut self, join: JoinId, refused: Option<String>) {
        let Some(topic) = self.topic_of(join) else { return };
        let Some(text) = refused else { return self.complete(&topic, false) };
        let Some(channel) = self.channels.get(&topic) else { return };
        let reply = self.parts.codec.reply(&Reply {
            join_ref: &channel.join_ref,
            reference: &channel.reference,
            topic: &Value::from(topic.as_str()),
            is_ok: false,
            response: &reason(&text),
        });
        self.drop_channel(&topic);
        self.send(reply);
    }

    /// Which token counts (reference, section 3.4).
    fn token<'a>(&'a self, payload: &'a Map<String, Value>) -> &'a str {
        let text = |key: &str| payload.get(key).and_then(Value::as_str);
        let (access, user) = (text("access_token"), text("user_token"));
        match access.or(user) {
            Some(token) if token.starts_with(OPAQUE_PREFIX) => &self.parts.key,
            _ => user.or(access).unwrap_or(&self.parts.key),
        }
    }
}
