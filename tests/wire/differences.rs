//! Reads `differences.md` and changes a recording to what Walcast does instead. Each row names a rule by its id; the
//! rule is here. A rule that finds nothing to change is dead and fails, so the list cannot outlive its reasons.

use serde_json::json;

use super::fixture::{ALICE, BOB};
use super::recording::{Recording, Step, change};
use super::{checks, replay};
use crate::support::json::Json;
use crate::support::socket::{Message, Vsn};

const TABLE: &str = include_str!("differences.md");

/// Changes a recording in place; false when there was nothing to change.
type Rule = fn(&mut Recording) -> bool;

/// The rules that recordings need. Rows whose id is not here are proved by the checks they name.
const RULES: &[(&str, Rule)] = &[
    ("bad-binding-alone", bad_binding_alone),
    ("char-whole", char_whole),
    ("delete-judged", delete_judged),
    ("kind-0-json-only", kind_0_json_only),
    ("no-broken-json", no_broken_json),
    ("no-diff-after-close", no_diff_after_close),
    ("tenant-ignored", tenant_ignored),
    ("too-long-has-a-code", too_long_has_a_code),
    ("update-old-record", update_old_record),
];

struct Row {
    rule: &'static str,
    recordings: Vec<&'static str>,
    checks: Vec<u16>,
}

/// The rows of the table: `| rule | applies to | where | replaced server | Walcast | why |`.
fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.starts_with('|'));
    let rows = lines.skip(2).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 6, "a row of differences.md has six cells: {line}");
        let (checks, recordings): (Vec<&str>, Vec<&str>) =
            cells[1].split(", ").partition(|place| place.starts_with("check "));
        let checks = checks.iter().map(|place| place["check ".len()..].parse().expect("the number of a check"));
        Row { rule: cells[0], recordings, checks: checks.collect() }
    });
    rows.collect()
}

/// Applies the rows that name this recording; returns the complaints about dead rules.
pub fn apply(recording: &mut Recording) -> Vec<String> {
    let mut dead = Vec::new();
    for row in rows() {
        let (name, one_version) = (recording.name.as_str(), format!("{}.{}", recording.name, recording.suffix));
        if !row.recordings.iter().any(|place| *place == name || *place == one_version) {
            continue;
        }
        let rule = RULES.iter().find(|(id, _)| *id == row.rule);
        let (_, rule) =
            rule.unwrap_or_else(|| panic!("differences.md names the rule {}, which nobody wrote", row.rule));
        if !rule(recording) {
            dead.push(format!("the rule {} changes nothing in {}: take it off the list", row.rule, recording.name));
        }
    }
    dead
}

/// A DELETE whose old image is whole is judged like any row: whoever may see it gets it, nobody else learns of it.
fn delete_judged(recording: &mut Recording) -> bool {
    let mut last_seen = Json::Null;
    let mut applied = false;
    recording.steps.retain_mut(|step| {
        let Step::Receive { conn, message } = step else { return true };
        let data = change(message);
        if *data.at("table") != "notes_full" {
            return true;
        }
        if *data.at("type") != "DELETE" {
            last_seen = data.at("record").clone();
            return true;
        }
        applied = true;
        set(message, &["data", "old_record"], last_seen.clone());
        may_see(conn, &last_seen)
    });
    applied
}

/// The old values of an UPDATE go to whoever could see them; others get the key.
fn update_old_record(recording: &mut Recording) -> bool {
    let mut applied = false;
    for step in &mut recording.steps {
        let Step::Receive { conn, message } = step else { continue };
        let old = change(message).at("old_record").clone();
        if *change(message).at("type") == "UPDATE" && old.has("owner") && !may_see(conn, &old) {
            let key = Json::Object([("id".to_owned(), old.at("id").clone())].into());
            set(message, &["data", "old_record"], key);
            applied = true;
        }
    }
    applied
}

/// The policy of the recorded tables, for the connections of `changes-rls`.
fn may_see(conn: &str, row: &Json) -> bool {
    match conn {
        "service" => true,
        "alice" => *row.at("owner") == ALICE,
        "bob" => *row.at("owner") == BOB,
        _ => false,
    }
}

/// The good binding beside a bad one works, and says so.
fn bad_binding_alone(recording: &mut Recording) -> bool {
    let refused = recording
        .steps
        .iter()
        .position(|step| matches!(step, Step::Receive { conn, message } if conn == "mix" && message.event == "system"));
    let Some(refused) = refused else { return false };
    let Step::Receive { conn, message } = &recording.steps[refused] else { return false };
    let (conn, error) = (conn.clone(), Message::clone(message));
    let reply = recording.steps[..refused].iter().rev().find_map(|step| match step {
        Step::Receive { message, .. } if message.event == "phx_reply" => Some(message.payload.clone()),
        _ => None,
    });
    let id = reply.expect("the join was answered").at("response").at("postgres_changes").nth(0).at("id").clone();

    let mut active = error.clone();
    set(&mut active, &["status"], Json::from(json!("ok")));
    set(&mut active, &["message"], Json::from(json!("Subscribed to PostgreSQL")));
    let mut event = error;
    event.event = Json::from(json!("postgres_changes"));
    event.join_ref = Json::Null;
    event.payload = Json::from(json!({"data": {
        "schema": "public", "table": "open_notes", "type": "INSERT", "errors": null,
        "commit_timestamp": "2026-11-20T18:36:10.135Z",
        "columns": [
            {"name": "id", "type": "int8"}, {"name": "body", "type": "text"}, {"name": "n", "type": "int4"},
            {"name": "tags", "type": "_text"}, {"name": "meta", "type": "jsonb"}, {"name": "at", "type": "timestamptz"},
        ],
        "record": {"id": 1, "body": "mix", "n": null, "tags": null, "meta": null, "at": "2026-11-20T18:36:10.135123+00:00"},
    }}));
    set(&mut event, &["ids"], Json::Array(vec![id]));
    let statement = recording.steps.iter().position(|step| matches!(step, Step::Sql(sql) if sql.contains("'mix'")));
    let Some(statement) = statement else { return false };
    recording.steps.insert(statement + 1, Step::Receive { conn: conn.clone(), message: Box::new(event) });
    recording.steps.insert(refused + 1, Step::Receive { conn, message: Box::new(active) });
    true
}

/// One tenant: the Host header names nothing.
fn tenant_ignored(recording: &mut Recording) -> bool {
    let mut applied = false;
    for step in &mut recording.steps {
        if let Step::Refusal { conn, url, status: 404, .. } = step {
            *step = Step::Open { conn: conn.clone(), url: url.clone() };
            applied = true;
        }
    }
    applied
}

/// A binary push of plain Phoenix with bytes in the place of JSON is dropped, so nobody answers it.
fn kind_0_json_only(recording: &mut Recording) -> bool {
    let is_push = |step: &Step| matches!(step, Step::SendBinary { bytes, .. } if bytes.first() == Some(&0));
    let Some(push) = recording.steps.iter().position(is_push) else { return false };
    let mut place = 0;
    recording.steps.retain(|step| {
        place += 1;
        let is_answer = matches!(step, Step::ReceiveUnreadable { .. } | Step::Receive { .. });
        place - 1 <= push || !is_answer
    });
    true
}

/// What claims to be JSON and is none goes to nobody who would have to read it within JSON.
fn no_broken_json(recording: &mut Recording) -> bool {
    let before = recording.steps.len();
    recording.steps.retain(|step| !matches!(step, Step::ReceiveUnreadable { frame, .. } if frame.starts_with('{')));
    recording.steps.len() < before
}

/// A channel that has been closed hears nothing more, not even that its own presence ended.
fn no_diff_after_close(recording: &mut Recording) -> bool {
    let mut closed: Vec<(String, Json)> = Vec::new();
    let before = recording.steps.len();
    recording.steps.retain(|step| {
        let Step::Receive { conn, message } = step else { return true };
        if message.event == "phx_close" {
            closed.push((conn.clone(), message.topic.clone()));
        }
        message.event != "presence_diff" || !closed.contains(&(conn.clone(), message.topic.clone()))
    });
    recording.steps.len() < before
}

/// Who sends too long a frame is told so.
fn too_long_has_a_code(recording: &mut Recording) -> bool {
    let closed = recording.steps.iter_mut().find_map(|step| match step {
        Step::Closed { code, .. } if *code == 1006 => Some(code),
        _ => None,
    });
    closed.map(|code| *code = 1009).is_some()
}

/// `char(n)` is what Postgres holds, blanks included, not its first character.
fn char_whole(recording: &mut Recording) -> bool {
    let mut applied = false;
    for step in &mut recording.steps {
        let Step::Receive { message, .. } = step else { continue };
        if *change(message).at("table") == "typed" && *change(message).at("record").at("c") == "c" {
            set(message, &["data", "record", "c"], Json::from(json!("c    ")));
            applied = true;
        }
    }
    applied
}

fn set(message: &mut Message, path: &[&str], value: Json) {
    let mut at = &mut message.payload;
    for key in path {
        let Json::Object(members) = at else { panic!("{path:?} does not lead through objects") };
        at = members.entry((*key).to_owned()).or_insert(Json::Null);
    }
    *at = value;
    message.text = format!("{} {} {} (changed by a rule)", message.topic, message.event, message.payload);
}

#[test]
fn every_row_of_differences_is_proved_by_a_recording_or_a_check() {
    for row in rows() {
        for recording in &row.recordings {
            let name = recording.trim_end_matches(".v1").trim_end_matches(".v2");
            assert!(replay::NAMES.contains(&name), "{}: there is no recording {recording}", row.rule);
            assert!(RULES.iter().any(|(id, _)| *id == row.rule), "{}: no rule of this id", row.rule);
        }
        for number in &row.checks {
            assert!(checks::exists(*number), "{}: there is no check {number}", row.rule);
        }
    }
    for (id, _) in RULES {
        assert!(rows().iter().any(|row| row.rule == *id), "differences.md does not list the rule {id}");
    }
}

#[test]
fn every_recording_in_the_folder_is_played() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/recordings");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some((name, "v1.jsonl" | "v2.jsonl")) = file.split_once('.') else { continue };
        assert!(replay::NAMES.contains(&name), "{file} is played by no test");
    }
}

#[test]
fn no_rule_is_dead() {
    for name in replay::NAMES {
        for vsn in [Vsn::V1, Vsn::V2] {
            let complaints = apply(&mut Recording::load(name, vsn));
            assert!(complaints.is_empty(), "{vsn:?}: {complaints:?}");
        }
    }
}
