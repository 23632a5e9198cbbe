//! What private channels allow: asked at the join, at the first word said, and whenever the token changes (protocol
//! reference, sections 3.11 and 8).
//!
//! While a question is open, later pushes of the channel wait, the next token among them: so every push is judged by
//! the token it came under, and no answer is ever about another token than the channel's own.

use super::{Channel, Counted, Effect, Question, Session, TOPIC_PREFIX};
use crate::{
    auth::{OPAQUE_PREFIX, TokenError},
    hub::{Reads, RoomName},
    policy::topic::{ChannelAccess, ChannelUser, Granted, RightsError},
    protocol::{Broadcast, Payload, Push, refusal},
};
use serde_json::Value;
use std::{collections::VecDeque, sync::Arc};

/// What has to be known before a channel's next push counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Rights: the question's number, and what it is about.
    Rights(u64, About),
    /// The messages a join missed.
    Replay,
}

/// What an answer decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Whether the channel may be joined.
    Join,
    /// Whether it may stay so under another token.
    Refresh,
    /// Whether the push that waits may be said.
    Speech,
}

/// What was said in a channel that was left before it was known whether it may be said.
pub(super) struct Parting {
    question: u64,
    room: RoomName,
    broadcasts: Vec<Broadcast>,
    cost: usize,
}

impl Channel {
    /// Who uses it, as policies see him.
    pub(super) fn user(&self, headers: Arc<str>) -> ChannelUser {
        let topic = self.member.topic();
        let topic = topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic).into();
        ChannelUser { topic, claims: self.claims.clone(), headers }
    }

    fn reads_of(&self, granted: Granted) -> Reads {
        Reads { broadcast: granted.broadcast, presence: granted.presence }
    }

    /// Whether that is anything: of presence one has something only when it is switched on.
    fn is_of_use(&self, reads: Reads) -> bool {
        reads.broadcast || (reads.presence && self.presence)
    }

    /// Whether something is missing that was there before.
    fn has_lost(&self, reads: Reads) -> bool {
        let before = self.reads;
        (before.broadcast && !reads.broadcast) || (self.presence && before.presence && !reads.presence)
    }
}

impl Session {
    /// Asks; what was asked about the channel before does not count any more.
    pub(super) fn ask(&mut self, topic: &str, access: ChannelAccess, about: About) {
        let headers = self.parts.headers.clone();
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let number = self.next_question;
        self.next_question += 1;
        channel.asked = Some(Asked::Rights(number, about));
        let question = Question { number, user: channel.user(headers), access };
        self.effects.push(Effect::Authorize(Box::new(question)));
    }

    pub(super) fn authorized(&mut self, question: u64, outcome: Result<Granted, RightsError>, now: i64) {
        let open = self.channels.iter_mut().find_map(|(topic, channel)| match channel.asked {
            Some(Asked::Rights(number, about)) if number == question => Some((topic.clone(), channel, about)),
            _ => None,
        });
        // Nobody asks any more, when the channel was left or joined anew: but for what was said before.
        let Some((topic, channel, about)) = open else { return self.say_parting(question, outcome, now) };
        channel.asked = None;
        match about {
            About::Join => self.admit_or_refuse(&topic, outcome),
            About::Refresh => self.stay_or_close(&topic, outcome),
            About::Speech => self.say(&topic, outcome, now),
        }
        self.hear_held(&topic, now);
    }

    fn admit_or_refuse(&mut self, topic: &str, outcome: Result<Granted, RightsError>) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let text = match outcome.map(|granted| channel.reads_of(granted)) {
            Ok(reads) if channel.is_of_use(reads) => {
                channel.reads = reads;
                return self.admit(topic);
            }
            Ok(_) => refusal::unauthorized(sub_topic(topic)),
            Err(RightsError::Unavailable) => refusal::RIGHTS_UNAVAILABLE.to_owned(),
            Err(RightsError::Canceled) => refusal::RIGHTS_CANCELED_AT_JOIN.to_owned(),
        };
        self.refuse_joining(topic, text);
    }

    fn stay_or_close(&mut self, topic: &str, outcome: Result<Granted, RightsError>) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let text = match outcome.map(|granted| channel.reads_of(granted)) {
            Ok(reads) if !channel.is_of_use(reads) => refusal::no_permissions(sub_topic(topic)),
            Ok(reads) if channel.has_lost(reads) => refusal::no_longer_permitted(sub_topic(topic)),
            Ok(reads) => {
                channel.reads = reads;
                return self.parts.rooms.set_reads(&channel.room, channel.member.id(), reads);
            }
            Err(RightsError::Unavailable) => refusal::RIGHTS_UNAVAILABLE.to_owned(),
            Err(RightsError::Canceled) => refusal::RIGHTS_CANCELED.to_owned(),
        };
        self.close_channel(topic, &text);
    }

    /// The push that waited, and those behind it, are heard by what is allowed now. When nobody could say, they are refused,
    /// and the next one asks again.
    fn say(&mut self, topic: &str, outcome: Result<Granted, RightsError>, now: i64) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let (id, is_known) = (channel.id, outcome.is_ok());
        channel.writes = Some(outcome.unwrap_or_default());
        if is_known {
            return;
        }
        self.hear_held(topic, now);
        if let Some(channel) = self.channels.get_mut(topic).filter(|channel| channel.id == id) {
            channel.writes = None;
        }
    }

    /// A channel is left while it is being asked whether its last broadcasts may be said: they were said before, so they
    /// still may. Nobody hears of an acknowledgement any more.
    pub(super) fn part(&mut self, topic: &str) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let Some(Asked::Rights(question, About::Speech)) = channel.asked else { return };
        let mut parting = Parting { question, room: channel.room.clone(), broadcasts: Vec::new(), cost: 0 };
        // What came under a later token, the answer is not about.
        while let Some((push, cost)) = pop_unless_token(&mut channel.held) {
            match push.payload {
                Payload::Broadcast(broadcast) => {
                    parting.broadcasts.push(broadcast);
                    parting.cost += cost;
                }
                Payload::Json(_) | Payload::Stored(_) => self.held_bytes = self.held_bytes.saturating_sub(cost),
            }
        }
        self.parting.push(parting);
    }

    fn say_parting(&mut self, question: u64, outcome: Result<Granted, RightsError>, now: i64) {
        let Some(place) = self.parting.iter().position(|parting| parting.question == question) else { return };
        let Parting { room, broadcasts, cost, .. } = self.parting.swap_remove(place);
        self.held_bytes = self.held_bytes.saturating_sub(cost);
        for broadcast in broadcasts {
            if outcome.as_ref().is_ok_and(|granted| granted.broadcast) {
                self.publish(&room, &broadcast, None, now);
            } else {
                self.count(Counted::Dropped, 1);
            }
        }
    }

    /// A refreshed token (reference, section 3.11). Success is silent; what cannot be a new token is ignored.
    pub(super) fn access_token(&mut self, topic: &str, push: &Push, now: i64) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let Some(token) = push.payload.json().get("access_token").and_then(Value::as_str) else { return };
        if token.starts_with(OPAQUE_PREFIX) || token == channel.token {
            return;
        }
        match self.parts.verifier.verify(token, now) {
            Ok(claims) => {
                channel.token = token.to_owned();
                channel.claims = claims.clone();
                channel.writes = None;
                let is_private = channel.room.is_private;
                if channel.has_bindings {
                    self.effects.push(Effect::ReplaceClaims(channel.id, claims));
                }
                if is_private {
                    self.ask(topic, ChannelAccess::Read, About::Refresh);
                }
            }
            Err(error) => self.close_channel(topic, &refresh_error_text(&error)),
        }
    }

    /// When the keys have changed, every token is verified anew (reference, section 3.12): what was signed with a key
    /// that is gone ends, and so does what an opaque key stood for and does not any more.
    pub(super) fn verify_again(&mut self, now: i64) {
        let generation = self.parts.verifier.generation();
        if std::mem::replace(&mut self.generation, generation) == generation {
            return;
        }
        let verify = |(topic, channel): (&String, &Channel)| match self.parts.verifier.verify(&channel.token, now) {
            Ok(claims) if claims == channel.claims => None,
            Ok(_) => Some((topic.clone(), TokenError::Claim { claim: "role".to_owned() })),
            Err(error) => Some((topic.clone(), error)),
        };
        let refused: Vec<(String, TokenError)> = self.channels.iter().filter_map(verify).collect();
        for (topic, error) in refused {
            self.close_channel(&topic, &refresh_error_text(&error));
        }
    }
}

fn pop_unless_token(held: &mut VecDeque<(Push, usize)>) -> Option<(Push, usize)> {
    if held.front()?.0.event == "access_token" { None } else { held.pop_front() }
}

fn sub_topic(topic: &str) -> &str {
    topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic)
}

/// The text of a refused refresh. A wrong signature shows as the term the replaced server prints.
fn refresh_error_text(error: &TokenError) -> String {
    match error {
        TokenError::Signature => ":signature_error".to_owned(),
        other => other.to_string(),
    }
}
