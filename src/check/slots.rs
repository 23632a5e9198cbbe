//! What it means how a replication slot is doing: one sentence with the fix, for `check` and for `slot status`. Pure.

use super::{Finding, Status};
use crate::pg::slot::{Slot, Slots, size};
use postgres_protocol::escape::escape_literal;
use serde::Serialize;

/// A slot that nobody reads and that is not ours counts as forgotten after this long, where Postgres tells (17 on).
const FORGOTTEN_AFTER_SECONDS: i64 = 60;

/// How a slot is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    /// How bad it is.
    pub status: Status,
    /// What it means, and what to do.
    pub meaning: String,
    /// The SQL that mends it, when there is one.
    pub fix: Option<String>,
}

impl Judgement {
    fn ok(meaning: impl Into<String>) -> Judgement {
        Judgement { status: Status::Ok, meaning: meaning.into(), fix: None }
    }

    fn warning(meaning: impl Into<String>) -> Judgement {
        Judgement { status: Status::Warning, ..Judgement::ok(meaning) }
    }

    fn error(meaning: impl Into<String>) -> Judgement {
        Judgement { status: Status::Error, ..Judgement::ok(meaning) }
    }

    fn with_fix(self, sql: impl Into<String>) -> Judgement {
        Judgement { fix: Some(sql.into()), ..self }
    }

    /// As a finding.
    fn of(self, id: &'static str, subject: String) -> Finding {
        Finding { id, status: self.status, subject, meaning: self.meaning, fix: self.fix }
    }
}

/// The command that drops a slot.
fn drop_command(slot: &str, is_ours: bool) -> String {
    if is_ours { "`walcast slot drop`".to_owned() } else { format!("`walcast slot drop --slot {slot}`") }
}

/// How a slot is doing. `ours` is the name that is configured.
pub(crate) fn judge(slot: &Slot, ours: &str) -> Judgement {
    let is_ours = slot.name == ours;
    let command = drop_command(&slot.name, is_ours);
    let drop_slot = format!("select pg_catalog.pg_drop_replication_slot({});", escape_literal(&slot.name));
    if let Some(why) = slot.foreign() {
        let meaning = format!("not ours: {why}; choose another name with --slot (WALCAST_SLOT)");
        return Judgement::error(meaning);
    }
    if slot.synced == Some(true) {
        return Judgement::ok("a copy of the primary's: it is used after a failover, and dropped on the primary");
    }
    let kept = slot.retained_bytes.map_or_else(String::new, |bytes| format!(", holds back {} of WAL", size(bytes)));
    if slot.is_lost() && !slot.active {
        let why = match slot.invalidation_reason.as_deref() {
            None | Some("wal_removed") => "it fell behind max_slot_wal_keep_size",
            Some("rows_removed") => "rows of the catalogue that it needs were removed",
            Some("wal_level_insufficient") => "wal_level was not logical",
            Some("idle_timeout") => "nobody read it for longer than idle_replication_slot_timeout",
            Some(other) => other,
        };
        let after = if is_ours {
            "what was not delivered is lost to clients, and `serve` makes a new one"
        } else {
            "it is of no use"
        };
        return Judgement::error(format!("has lost its WAL: {why}; {after}; drop it with {command}"))
            .with_fix(drop_slot);
    }
    if matches!(slot.wal_status.as_deref(), Some("unreserved" | "lost")) {
        let way = match (slot.active, is_ours) {
            (true, _) => "its reader is too slow",
            (false, true) => "start `walcast serve` at once",
            (false, false) => "start its reader at once",
        };
        let meaning = format!(
            "about to lose its WAL{kept}: {way}, or raise max_slot_wal_keep_size; without it what was not delivered is \
             lost to clients"
        );
        return Judgement::warning(meaning)
            .with_fix("alter system set max_slot_wal_keep_size = '20GB';\nselect pg_catalog.pg_reload_conf();");
    }
    if slot.active {
        let reader = slot.reader.as_ref().map_or_else(String::new, |reader| format!(" by {reader}"));
        let ends = if slot.temporary { "; it ends with that session" } else { "" };
        return Judgement::ok(format!("being read{reader}{kept}{ends}"));
    }
    if is_ours {
        return Judgement::ok(format!(
            "nobody reads it now{kept}: start `walcast serve`, or drop it with {command} when it is not to be used again"
        ));
    }
    if slot.inactive_seconds.is_some_and(|seconds| seconds < FORGOTTEN_AFTER_SECONDS) {
        return Judgement::ok(format!("nobody has read it for less than a minute{kept}"));
    }
    let meaning = format!(
        "orphan: nobody reads it{kept}, and more with every write; unless a server or a subscription elsewhere comes \
         back to it, drop it with {command}"
    );
    Judgement::warning(meaning).with_fix(drop_slot)
}

/// Our slot, and those of this database that nobody reads.
pub(super) fn findings(slots: &Slots, ours: &str) -> Vec<Finding> {
    let subject = |name: &str| format!("slot {}", escape_literal(name));
    let is_ours = |slot: &&Slot| slot.name == ours;
    let own = match slots.slots.iter().find(is_ours) {
        Some(slot) => judge(slot, ours),
        None => Judgement::ok("not there yet: `serve` makes it"),
    };
    let mut findings = vec![own.of("slot", subject(ours))];
    for slot in slots.slots.iter().filter(|slot| !is_ours(slot)) {
        let judgement = judge(slot, ours);
        if judgement.status != Status::Ok {
            findings.push(judgement.of("other_slot", subject(&slot.name)));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Status, judge};
    use crate::pg::slot::Slot;
    use serde_json::{Value, json};

    fn slot(changed: Value) -> Slot {
        let mut slot = json!({
            "name": "walcast", "plugin": "pgoutput", "database": "app", "is_here": true, "temporary": false,
            "active": false, "restart_lsn": "0/1", "confirmed_lsn": "0/2", "retained_bytes": 3 << 20,
            "wal_status": "reserved"
        });
        slot.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        serde_json::from_value(slot).unwrap()
    }

    #[test]
    fn every_state_of_a_slot_has_a_sentence_that_names_what_to_do() {
        let reader = json!({"pid": 7, "application": "walcast", "role": "w", "client": "10.0.0.1"});
        let lost = json!({"wal_status": "lost", "restart_lsn": null, "retained_bytes": null});
        for (changed, status, words) in [
            (
                json!({"active": true, "reader": reader}),
                Status::Ok,
                "process 7 (\"walcast\") of role \"w\" from 10.0.0.1",
            ),
            (
                json!({}),
                Status::Ok,
                "holds back 3.0 MiB of WAL: start `walcast serve`, or drop it with `walcast slot drop`",
            ),
            (json!({"name": "old"}), Status::Warning, "orphan: nobody reads it"),
            (json!({"name": "old"}), Status::Warning, "`walcast slot drop --slot old`"),
            (json!({"name": "old", "inactive_seconds": 5}), Status::Ok, "less than a minute"),
            (json!({"name": "old", "inactive_seconds": 600}), Status::Warning, "orphan"),
            (lost.clone(), Status::Error, "it fell behind max_slot_wal_keep_size"),
            (lost, Status::Error, "`serve` makes a new one"),
            (
                json!({"wal_status": "lost", "invalidation_reason": "idle_timeout"}),
                Status::Error,
                "idle_replication_slot_timeout",
            ),
            (json!({"wal_status": "unreserved"}), Status::Warning, "start `walcast serve` at once"),
            (json!({"wal_status": "unreserved", "active": true}), Status::Warning, "its reader is too slow"),
            (json!({"plugin": "wal2json"}), Status::Error, "its output plugin is wal2json"),
            (json!({"plugin": null, "database": null}), Status::Error, "a physical slot"),
            (json!({"is_here": false}), Status::Error, "it belongs to database app"),
            (json!({"synced": true}), Status::Ok, "a copy of the primary's"),
            (json!({"temporary": true, "active": true}), Status::Ok, "ends with that session"),
        ] {
            let judgement = judge(&slot(changed.clone()), "walcast");
            assert_eq!(judgement.status, status, "{changed}: {judgement:?}");
            assert!(judgement.meaning.contains(words), "{changed}: {judgement:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_never_offered_to_be_dropped() {
        for changed in [json!({"plugin": "wal2json"}), json!({"is_here": false}), json!({"synced": true})] {
            let judgement = judge(&slot(changed), "walcast");
            assert!(judgement.fix.is_none() && !judgement.meaning.contains("slot drop"), "{judgement:?}");
        }
    }
}
