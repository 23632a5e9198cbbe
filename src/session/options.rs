//! What a join asks for beside its bindings (protocol reference, section 3.2). What is ill-typed counts as not said,
//! except where a guess would be dangerous.

use crate::{change::cursor::Resume, protocol::refusal};
use serde_json::Value;
use std::time::Duration;

/// How long a join that waits for its subscription waits at most, unless it says less.
const WAIT_DEFAULT: Duration = Duration::from_millis(15_000);
/// The longest it may say.
const WAIT_CAP: Duration = Duration::from_millis(20_000);
/// The most messages that are replayed, and as many as are when it is not said.
const REPLAY_LIMIT: u32 = 25;
/// The longest key to be present under: every channel keeps its own, and every difference repeats it.
const MAX_KEY_BYTES: usize = 16 * 1024;
/// More than any cursor takes.
const MAX_CURSOR_BYTES: usize = 256;

/// Messages of the past that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplayRange {
    /// Milliseconds since the epoch.
    pub(super) since: i64,
    pub(super) limit: u32,
}

/// What is said of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayOption {
    Absent,
    /// The key is there, and means nothing.
    Empty,
    Range(ReplayRange),
    Invalid,
}

#[derive(Debug, PartialEq)]
pub(super) struct Options {
    pub(super) is_private: bool,
    /// Whether broadcasts are acknowledged.
    pub(super) ack: bool,
    /// Whether the sender hears its own broadcasts.
    pub(super) echo: bool,
    pub(super) replay: ReplayOption,
    /// Whether the client wants to know when the stream of the database is up.
    pub(super) replication_ready: bool,
    /// The key to be present under; none when the server is to make one.
    pub(super) presence_key: Option<String>,
    /// Whether the state of the presence is wanted.
    pub(super) presence: bool,
    /// Whether to hear of rows that enter and leave what is seen.
    pub(super) visibility: bool,
    /// Whether the client wants to be able to come back to where it was, and whether it does.
    pub(super) resume: Option<Resume>,
    /// Whether the reply is to wait for the subscription, and how long (section 3.7).
    pub(super) wait: Option<Duration>,
}

impl Options {
    pub(super) fn read(config: Option<&Value>) -> Result<Options, &'static str> {
        let part = |part: &str, key: &str| config.and_then(|config| config.get(part)?.get(key));
        let row_option = |key| part("postgres_changes_options", key);
        let timeout = row_option("timeout").and_then(Value::as_u64).filter(|&milliseconds| milliseconds > 0);
        let presence_key = part("presence", "key").and_then(key);
        if presence_key.as_ref().is_some_and(|key| key.len() > MAX_KEY_BYTES) {
            return Err(refusal::PRESENCE_KEY_TOO_LONG);
        }
        let timeout = timeout.map_or(WAIT_DEFAULT, Duration::from_millis).min(WAIT_CAP);
        Ok(Options {
            is_private: is_private(config.and_then(|config| config.get("private")))?,
            ack: is_true(part("broadcast", "ack")),
            echo: is_true(part("broadcast", "self")),
            replay: replay(part("broadcast", "replay")),
            replication_ready: is_truthy(part("broadcast", "replication_ready")),
            presence_key,
            presence: is_true(part("presence", "enabled")),
            visibility: is_true(row_option("visibility")),
            resume: row_option("resume").and_then(resume),
            wait: is_true(row_option("wait")).then_some(timeout),
        })
    }
}

/// A boolean, or its name in any letter case.
fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(boolean).unwrap_or(false)
}

/// Whatever is there and does not say no.
fn is_truthy(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null() && boolean(value) != Some(false))
}

/// A guess could make a private channel public, so anything but a boolean is refused.
fn is_private(value: Option<&Value>) -> Result<bool, &'static str> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(value) => boolean(value).ok_or(refusal::PRIVATE_NOT_BOOLEAN),
    }
}

fn key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A cursor, or a boolean. What is too long for a cursor, or anything else, is none: whoever sends it means to come back,
/// and hears that it is not possible.
fn resume(value: &Value) -> Option<Resume> {
    match (boolean(value), value) {
        (Some(resume), _) => resume.then_some(Resume::Start),
        (None, Value::String(text)) => {
            let cursor = if text.len() <= MAX_CURSOR_BYTES { text.clone() } else { String::new() };
            Some(Resume::From(cursor))
        }
        (None, _) => Some(Resume::From(String::new())),
    }
}

fn replay(value: Option<&Value>) -> ReplayOption {
    let Some(value) = value else { return ReplayOption::Absent };
    let Value::Object(range) = value else { return ReplayOption::Empty };
    let limit = match range.get("limit") {
        None | Some(Value::Null) => Some(REPLAY_LIMIT),
        Some(limit) => limit.as_u64().and_then(|limit| u32::try_from(limit).ok()),
    };
    match (range.get("since").and_then(Value::as_i64), limit.filter(|limit| (1..=REPLAY_LIMIT).contains(limit))) {
        (Some(since), Some(limit)) => ReplayOption::Range(ReplayRange { since, limit }),
        _ => ReplayOption::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> Options {
        Options::read(Some(&config)).unwrap()
    }

    #[test]
    fn booleans_are_read_as_words_too_and_ill_typed_parts_count_as_not_said() {
        let options = read(json!({"broadcast": {"ack": "TRUE", "self": "true"}, "presence": {"enabled": "True"}}));
        assert!(options.ack && options.echo && options.presence && !options.is_private);
        for config in [json!({}), json!(null), json!(5), json!({"broadcast": 5, "presence": null}), json!([1])] {
            assert_eq!(read(config.clone()), Options::read(None).unwrap(), "{config}");
        }
        let options =
            read(json!({"broadcast": {"ack": 1, "self": "yes"}, "presence": {"enabled": "FALSE", "key": []}}));
        assert_eq!(options, Options::read(None).unwrap());
    }

    #[test]
    fn whether_a_channel_is_private_is_not_guessed() {
        for (private, expected) in [(json!(true), true), (json!("TRUE"), true), (json!("False"), false)] {
            assert_eq!(read(json!({"private": private})).is_private, expected);
        }
        for private in [json!(1), json!("yes"), json!([]), json!({}), json!("")] {
            assert!(Options::read(Some(&json!({"private": private}))).is_err(), "{private}");
        }
    }

    #[test]
    fn a_presence_key_is_any_scalar_and_nothing_when_empty() {
        let key = |key: Value| read(json!({"presence": {"key": key}})).presence_key;
        assert_eq!(key(json!("ann")).as_deref(), Some("ann"));
        assert_eq!(key(json!(42)).as_deref(), Some("42"));
        assert_eq!(key(json!(true)).as_deref(), Some("true"));
        assert!([json!(""), json!(null), json!({})].into_iter().all(|value| key(value).is_none()));
    }

    #[test]
    fn replay_needs_a_time_and_takes_25_messages_at_most() {
        let replay = |replay: Value| read(json!({"broadcast": {"replay": replay}})).replay;
        let range = |since, limit| ReplayOption::Range(ReplayRange { since, limit });
        assert_eq!(replay(json!({"since": 5})), range(5, 25));
        assert_eq!(replay(json!({"since": 0, "limit": 1})), range(0, 1));
        assert_eq!(replay(json!(null)), ReplayOption::Empty);
        assert_eq!(read(json!({"broadcast": {}})).replay, ReplayOption::Absent);
        for invalid in [
            json!({}),
            json!({"since": "5"}),
            json!({"since": 1.5}),
            json!({"since": 5, "limit": 0}),
            json!({"since": 5, "limit": 26}),
            json!({"since": 5, "limit": -1}),
            json!({"since": 5, "limit": "2"}),
        ] {
            assert_eq!(replay(invalid.clone()), ReplayOption::Invalid, "{invalid}");
        }
    }

    #[test]
    fn resuming_takes_a_boolean_or_a_cursor() {
        let resume = |value: Value| read(json!({"postgres_changes_options": {"resume": value}})).resume;
        assert_eq!(resume(json!(true)), Some(Resume::Start));
        assert_eq!(resume(json!("AbC")), Some(Resume::From("AbC".to_owned())));
        assert_eq!(resume(json!("x".repeat(257))), Some(Resume::From(String::new())));
        assert_eq!(resume(json!(false)), None);
        for neither in [json!(null), json!(5), json!({}), json!([])] {
            assert_eq!(resume(neither.clone()), Some(Resume::From(String::new())), "{neither}");
        }
    }

    #[test]
    fn waiting_has_a_default_and_a_cap() {
        let wait = |options: Value| read(json!({"postgres_changes_options": options})).wait;
        assert_eq!(wait(json!({"wait": true})), Some(WAIT_DEFAULT));
        assert_eq!(wait(json!({"wait": true, "timeout": 10})), Some(Duration::from_millis(10)));
        assert_eq!(wait(json!({"wait": "true", "timeout": 90_000})), Some(WAIT_CAP));
        assert_eq!(wait(json!({"timeout": 10})), None);
    }
}
