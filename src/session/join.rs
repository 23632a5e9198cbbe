//! `phx_join`: the checks in their order, the channel, its bindings (protocol reference, sections 3.2 to 3.7 and 5).

use super::{Channel, Effect, JoinId, Session, TOPIC_PREFIX, Wish, binding_list, reason};
use crate::{
    auth::OPAQUE_PREFIX,
    hub::MessageForm,
    policy::binding::legacy_binding,
    protocol::{Push, Reply, refusal},
};
use serde_json::{Map, Value};
use std::time::Duration;

/// How long a join that waits for its subscription waits at most, unless it says less.
const WAIT_DEFAULT: Duration = Duration::from_millis(15_000);
/// The longest it may say.
const WAIT_CAP: Duration = Duration::from_millis(20_000);

impl Session {
    pub(super) fn join(&mut self, topic: &str, push: &Push, now: i64) -> Vec<Effect> {
        // The join before is over, whatever becomes of this one; it hears so after the new one's reply.
        let replaced = self.channels.get(topic).map(|channel| channel.join_ref.clone());
        let mut effects = self.drop_channel(topic);
        match self.try_join(topic, push, now) {
            Ok(joined) => effects.extend(joined),
            Err(text) => {
                let (reference, topic) = (&push.reference, &push.topic);
                let response = reason(&text);
                let reply = Reply { join_ref: &push.join_ref, reference, topic, is_ok: false, response: &response };
                effects.push(Effect::SendLater(self.codec.reply(&reply), self.config.join_error_delay));
            }
        }
        // Where clients cannot tell which join is closed, the late close of the old one would end the new one.
        if let Some(join_ref) = replaced.filter(|_| self.codec.names_joins()) {
            effects.push(self.close_frame(topic, &join_ref));
        }
        effects
    }

    fn try_join(&mut self, topic: &str, push: &Push, now: i64) -> Result<Vec<Effect>, String> {
        let sub_topic = topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic);
        if sub_topic.is_empty() {
            return Err(refusal::TOPIC_NAME_REQUIRED.to_owned());
        }
        let Value::Object(payload) = push.payload.json() else {
            return Err(refusal::payload_not_an_object(&push.payload.json().to_string()));
        };
        let config = payload.get("config");
        if is_private(config)? {
            // Private channels are read under policies that this server does not evaluate: nobody may.
            return Err(refusal::unauthorized(sub_topic));
        }
        if self.channels.len() >= self.config.max_channels {
            return Err(refusal::TOO_MANY_CHANNELS.to_owned());
        }
        let token = self.token(payload).to_owned();
        let claims = self.verifier.verify(&token, now).map_err(|error| format!("{}: {error}", error.code()))?;
        let (list, form) = match config {
            // The key's presence is what counts: without it the topic itself names what is wanted.
            None => (vec![Value::Object(legacy_binding(sub_topic))], MessageForm::Legacy),
            Some(config) => {
                let list = config.get("postgres_changes").and_then(Value::as_array).cloned();
                (list.unwrap_or_default(), MessageForm::Modern)
            }
        };
        if list.len() > self.config.max_bindings {
            return Err(refusal::TOO_MANY_BINDINGS.to_owned());
        }
        let (bindings, echo) = binding_list::read(&list);
        let patterns = binding_list::patterns(&bindings);
        let others: usize = self.channels.values().map(|channel| channel.patterns).sum();
        if patterns > 0 && patterns + others > self.config.max_patterns {
            return Err(refusal::TOO_MANY_PATTERNS.to_owned());
        }
        let response = format!(r#"{{"postgres_changes":{echo}}}"#);
        let reply = self.codec.reply(&Reply {
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
            claims: claims.clone(),
            member: member.clone(),
            has_bindings: !bindings.is_empty(),
            patterns,
        };
        self.channels.insert(topic.to_owned(), channel);
        if bindings.is_empty() {
            return Ok(vec![Effect::Send(reply)]);
        }
        let visibility = has_option(config, "visibility");
        let wish = |held_reply| {
            Effect::Subscribe(Box::new(Wish { join: id, member, claims, bindings, visibility, held_reply }))
        };
        Ok(match wait(config) {
            Some(limit) => vec![wish(Some((reply, limit)))],
            None => vec![Effect::Send(reply), wish(None)],
        })
    }

    /// Which token counts (reference, section 3.4).
    fn token<'a>(&'a self, payload: &'a Map<String, Value>) -> &'a str {
        let text = |key: &str| payload.get(key).and_then(Value::as_str);
        let (access, user) = (text("access_token"), text("user_token"));
        match access.or(user) {
            Some(token) if token.starts_with(OPAQUE_PREFIX) => &self.key,
            _ => user.or(access).unwrap_or(&self.key),
        }
    }
}

/// `config.private`: a boolean, or its name in any letter case. Anything else is refused, for a guess could make a
/// private channel public.
fn is_private(config: Option<&Value>) -> Result<bool, String> {
    match config.and_then(|config| config.get("private")) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(private)) => Ok(*private),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(refusal::PRIVATE_NOT_BOOLEAN.to_owned()),
    }
}

/// Whether an option of row changes is switched on: `true`, or the word in any letter case.
fn has_option(config: Option<&Value>, name: &str) -> bool {
    let options = config.and_then(|config| config.get("postgres_changes_options"));
    match options.and_then(|options| options.get(name)) {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Whether the reply is to wait for the subscription, and how long (reference, section 3.7).
fn wait(config: Option<&Value>) -> Option<Duration> {
    let options = config?.get("postgres_changes_options")?;
    let limit = options.get("timeout").and_then(Value::as_u64).filter(|&milliseconds| milliseconds > 0);
    has_option(config, "wait").then(|| limit.map_or(WAIT_DEFAULT, Duration::from_millis).min(WAIT_CAP))
}
