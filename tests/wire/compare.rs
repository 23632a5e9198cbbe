//! Compares a message with the recorded one. What a server makes itself is mapped, not ignored: binding ids, the
//! references of presences and generated keys stand in one-to-one relation for a whole conversation, times must have
//! the recorded form.

use std::collections::HashMap;

use crate::support::json::Json;
use crate::support::socket::{Message, Vsn};

/// Names of one kind, of the recording and of Walcast, one-to-one.
struct Pairs<T> {
    ours: HashMap<T, T>,
    recorded: HashMap<T, T>,
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self { ours: HashMap::new(), recorded: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Pairs<T> {
    /// Whether these two have stood for each other so far, or may from now on.
    fn fit(&mut self, recorded: &T, ours: &T) -> bool {
        self.ours.entry(recorded.clone()).or_insert_with(|| ours.clone()) == ours
            && self.recorded.entry(ours.clone()).or_insert_with(|| recorded.clone()) == recorded
    }
}

/// What stands for what in one conversation.
#[derive(Default)]
pub struct Names {
    bindings: Pairs<i64>,
    references: Pairs<String>,
    keys: Pairs<String>,
}

impl Names {
    /// The difference, if there is one.
    pub fn compare(&mut self, recorded: &Message, ours: &Message) -> Result<(), String> {
        for (what, left, right) in [
            ("topic", &recorded.topic, &ours.topic),
            ("event", &recorded.event, &ours.event),
            ("join_ref", &recorded.join_ref, &ours.join_ref),
            ("ref", &recorded.reference, &ours.reference),
        ] {
            if left != right {
                return Err(format!("{what} differs"));
            }
        }
        if recorded.binary != ours.binary {
            return Err("the binary frame differs".to_owned());
        }
        self.walk("payload", &recorded.payload, &ours.payload)
    }

    fn walk(&mut self, path: &str, recorded: &Json, ours: &Json) -> Result<(), String> {
        let key = path.rsplit('.').next().unwrap_or(path);
        match (recorded, ours) {
            (Json::Object(_), Json::Object(_)) => {
                for (left, right) in self.same_keys(recorded, ours).ok_or(format!("{path} has other keys"))? {
                    self.walk(&format!("{path}.{left}"), recorded.at(&left), ours.at(&right))?;
                }
            }
            (Json::Array(left), Json::Array(right)) if path == "payload.ids" => self.same_ids(left, right)?,
            (Json::Array(left), Json::Array(right)) => {
                if left.len() != right.len() {
                    return Err(format!("{path} has another length"));
                }
                for (index, (left, right)) in left.iter().zip(right).enumerate() {
                    self.walk(&format!("{path}[{index}]"), left, right)?;
                }
            }
            (Json::Number(_), Json::Number(_)) if path.contains("postgres_changes[") && key == "id" => {
                let (Some(left), Some(right)) = (recorded.as_i64(), ours.as_i64()) else {
                    return Err(format!("{path} is not an integer"));
                };
                if !(1..=i64::from(i32::MAX)).contains(&right) {
                    return Err(format!("{path} is not a positive integer of 32 bits"));
                }
                if !self.bindings.fit(&left, &right) {
                    return Err(format!("{path} is not stable: the same binding has one id, another binding another"));
                }
            }
            (Json::String(left), Json::String(right)) if key == "commit_timestamp" || key == "at" => {
                if shape(left, key == "at") != shape(right, key == "at") {
                    return Err(format!("{path} has another form"));
                }
            }
            (Json::String(left), Json::String(right)) if key == "phx_ref" || key == "phx_ref_prev" => {
                if !is_reference(right) {
                    return Err(format!("{path} is not 16 characters of URL-safe base64"));
                }
                if !self.references.fit(left, right) {
                    return Err(format!("{path} is another presence's reference"));
                }
            }
            (Json::String(left), Json::String(right)) if path == "payload.meta.id" => {
                if !(is_uuid(right) && self.keys.fit(left, right)) {
                    return Err(format!("{path} is another message's id"));
                }
            }
            (Json::String(left), Json::String(right)) if left.contains(" seconds ago") => {
                if without_digits(left) != without_digits(right) {
                    return Err(format!("{path} differs"));
                }
            }
            _ if recorded == ours => {}
            _ => return Err(format!("{path} differs")),
        }
        Ok(())
    }

    /// The keys of both, in pairs. A generated one may have another name, where it is the only one.
    fn same_keys(&mut self, recorded: &Json, ours: &Json) -> Option<Vec<(String, String)>> {
        let generated = |json: &Json| json.keys().into_iter().filter(|key| is_uuid(key)).map(str::to_owned).collect();
        let (left, right): (Vec<String>, Vec<String>) = (generated(recorded), generated(ours));
        let given = |json: &Json| -> Vec<String> {
            json.keys().into_iter().filter(|key| !is_uuid(key)).map(str::to_owned).collect()
        };
        let mut pairs: Vec<_> = given(recorded).into_iter().zip(given(ours)).collect();
        if given(recorded) != given(ours) || left.len() != right.len() || left.len() > 1 {
            return None;
        }
        for (left, right) in left.into_iter().zip(right) {
            self.keys.fit(&left, &right).then_some(())?;
            pairs.push((left, right));
        }
        Some(pairs)
    }

    fn same_ids(&self, recorded: &[Json], ours: &[Json]) -> Result<(), String> {
        let mapped = recorded.iter().map(|id| id.as_i64().and_then(|id| self.bindings.ours.get(&id).copied()));
        let mut mapped: Vec<Option<i64>> = mapped.collect();
        let mut ours: Vec<Option<i64>> = ours.iter().map(Json::as_i64).collect();
        mapped.sort_unstable();
        ours.sort_unstable();
        if mapped == ours { Ok(()) } else { Err(format!("payload.ids differ: expected {mapped:?}, got {ours:?}")) }
    }
}

/// A time with every digit made alike. A database's own fraction may be shorter by its trailing zeros, or absent.
fn shape(time: &str, any_fraction: bool) -> String {
    let digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "9");
    match time.split_once('.') {
        Some((seconds, rest)) if any_fraction => {
            digits(seconds) + &digits(rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        _ => digits(time),
    }
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok()
}

/// What Phoenix calls a reference of a presence.
fn is_reference(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[test]
fn a_comparison_finds_each_kind_of_difference() {
    let reply = |ids: &str| {
        format!(r#"["1","1","realtime:t","phx_reply",{{"response":{{"postgres_changes":[{ids}]}},"status":"ok"}}]"#)
    };
    let event = |ids: &str, time: &str, at: &str, value: &str| {
        let record = format!(r#"{{"at":"{at}","v":{value}}}"#);
        format!(
            r#"[null,null,"realtime:t","postgres_changes",{{"ids":{ids},"data":{{"commit_timestamp":{time},"record":{record}}}}}]"#
        )
    };
    let mut names = Names::default();
    let mut differ = |recorded: &str, ours: &str| {
        names.compare(&Message::parse(recorded, Vsn::V2), &Message::parse(ours, Vsn::V2)).is_err()
    };
    assert!(!differ(&reply(r#"{"id":11},{"id":12}"#), &reply(r#"{"id":1},{"id":2}"#)));
    assert!(differ(&reply(r#"{"id":11}"#), &reply(r#"{"id":3}"#)), "an id that changed");
    assert!(differ(&reply(r#"{"id":13}"#), &reply(r#"{"id":2}"#)), "an id that was another's");
    assert!(differ(&reply(r#"{"id":14}"#), &reply(r#"{"id":0}"#)), "zero is no id");
    assert!(differ(&reply(r#"{"id":14}"#), &reply(r#"{"id":5,"filter":null}"#)), "a key too many");

    let (time, at) = (r#""2026-11-20T18:41:57.836Z""#, "2026-11-20T18:36:10.134947+00:00");
    let recorded = event("[11,12]", time, at, "1.50");
    assert!(!differ(&recorded, &event("[2,1]", r#""2027-01-02T03:04:05.006Z""#, "2027-01-02T03:04:05.1+00:00", "1.5")));
    assert!(differ(&recorded, &event("[2]", time, at, "1.5")), "an id that is missing");
    assert!(differ(&recorded, &event("[2,1]", "null", at, "1.5")), "no time");
    assert!(differ(&recorded, &event("[2,1]", r#""2027-01-02T03:04:05Z""#, at, "1.5")), "a time without milliseconds");
    assert!(differ(&recorded, &event("[2,1]", time, "2027-01-02 03:04:05.1+00", "1.5")), "a time in Postgres form");
    assert!(differ(&recorded, &event("[2,1]", time, at, "1.51")), "another number");
    assert!(differ(&recorded, &event("[2,1]", time, at, "\"1.5\"")), "a number as text");
    let with_ref = recorded.replacen("null", "\"1\"", 1);
    assert!(differ(&recorded, &with_ref), "a join_ref");
}

#[test]
fn references_of_presences_are_held_against_each_other() {
    let diff = |reference: &str, previous: &str| {
        let meta = format!(r#"{{"phx_ref":"{reference}","phx_ref_prev":"{previous}","n":1}}"#);
        let text = format!(
            r#"[null,null,"realtime:t","presence_diff",{{"joins":{{"k":{{"metas":[{meta}]}}}},"leaves":{{}}}}]"#
        );
        Message::parse(&text, Vsn::V2)
    };
    let mut names = Names::default();
    let (a, b, c) = ("GOnU9HlMGM8o4VAR", "GOnU9Rrdk7Mo4VAh", "GOnU9Z5N4o8o4VAx");
    let (x, y, z) = ("AAAAAAAAAAAAAAA1", "AAAAAAAAAAAAAA-2", "AAAAAAAAAAAAAA_3");
    assert_eq!(names.compare(&diff(b, a), &diff(y, x)), Ok(()));
    assert_eq!(names.compare(&diff(c, b), &diff(z, y)), Ok(()));
    assert!(names.compare(&diff(c, b), &diff(z, x)).is_err(), "another predecessor");
    assert!(names.compare(&diff(b, a), &diff(z, x)).is_err(), "a reference that was another's");
    assert!(names.compare(&diff("a", a), &diff("short", x)).is_err(), "not a reference");
}
