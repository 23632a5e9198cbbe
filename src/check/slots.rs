//! What it means how a replication slot is doing: one sentence with the fix, for `check` and for `slot status`. Pure.

use super::{Finding, Status};
use crate::{
    pg::slot::{Slot, Slots, size},
    source::guard::shed_limit,
};
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
        let ends = match (slot.temporary, is_ours) {
            (true, _) => "; it ends with that session",
            (false, true) => "; another `walcast serve` on it waits as a standby",
            (false, false) => "",
        };
        return Judgement::ok(format!("being read{reader}{kept}{ends}"));
    }
    if is_ours {
        return Judgement::ok(format!(
            "nobody reads it now{kept}: start `walcast serve`, or drop it with {command} when it is not to be used again, \
             and before wal_level is set back: Postgres does not start with it then"
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

/// Below this, a server that is down over night comes back to a slot that Postgres has given up.
const SHORT_IDLE_TIMEOUT_SECONDS: i64 = 24 * 3600;

/// How much WAL is meant to be kept for the slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// How far it is confirmed behind what was handed on.
    pub(crate) window: i64,
    /// How much may be kept; none when that is only watched.
    pub(crate) budget: Option<i64>,
}

impl Keeping {
    /// What is kept in ordinary operation: the window, the segments at both ends, and what Postgres frees only with the
    /// next checkpoint.
    fn ordinary(self, segment: i64) -> i64 {
        self.window.saturating_add(segment.saturating_mul(3))
    }
}

/// Our slot, those of this database that nobody reads, and whether what is to be kept can be.
pub(super) fn findings(slots: &Slots, ours: &str, keeping: Keeping) -> Vec<Finding> {
    let mut findings = states(slots, ours);
    findings.extend(window(slots, keeping));
    findings.push(budget(slots, keeping));
    findings.extend(idle_timeout(slots));
    findings
}

/// What changes about our slot when changes are read from the outbox.
pub(super) fn unread(findings: &mut [Finding], slots: &Slots, ours: &str) {
    let Some(slot) = slots.slots.iter().find(|slot| slot.name == ours && slot.is_idle()) else { return };
    let Some(finding) = findings.iter_mut().find(|finding| finding.id == "slot") else { return };
    let kept = slot.retained_bytes.map_or_else(String::new, |bytes| format!(", holds back {} of WAL", size(bytes)));
    finding.status = Status::Warning;
    finding.meaning = format!(
        "nobody reads it while changes are read from the outbox{kept}, and more with every write: drop it with {}; whoever \
         reads the log again makes a new one",
        drop_command(ours, true)
    );
    finding.fix = Some(format!("select pg_catalog.pg_drop_replication_slot({});", escape_literal(ours)));
}

fn window(slots: &Slots, keeping: Keeping) -> Option<Finding> {
    let (id, subject) = ("resume_window", "WALCAST_RESUME_WINDOW_BYTES");
    let keep = slots.max_slot_wal_keep_bytes?;
    let needed = keeping.ordinary(slots.segment_bytes);
    if keep >= needed {
        return None;
    }
    let meaning = format!(
        "the window of {} keeps up to {} of WAL, more than max_slot_wal_keep_size ({}): Postgres may give the slot up while \
         all goes well; raise max_slot_wal_keep_size, or make the window smaller",
        size(keeping.window),
        size(needed),
        size(keep)
    );
    let enough = needed.saturating_mul(4) / (1 << 20);
    let sql = format!("alter system set max_slot_wal_keep_size = '{enough}MB';\nselect pg_catalog.pg_reload_conf();");
    Some(Finding::warning(id, subject, meaning).with_fix(sql))
}

fn budget(slots: &Slots, keeping: Keeping) -> Finding {
    let (id, subject) = ("wal_budget", "WALCAST_WAL_BUDGET_BYTES");
    let unsigned = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let keep = slots.max_slot_wal_keep_bytes;
    let Some(budget) = keeping.budget else {
        return match keep {
            None => Finding::ok(id, subject, "none: WAL that is kept for the slot is watched, and nothing more"),
            Some(keep) => {
                let meaning = format!("none: Postgres gives the slot up at {} without a warning before", size(keep));
                Finding::ok(id, subject, meaning)
            }
        };
    };
    let needed = keeping.ordinary(slots.segment_bytes);
    let limit = shed_limit(unsigned(budget), keep.map(unsigned), unsigned(slots.segment_bytes));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    if limit < needed.saturating_mul(2) {
        let meaning = format!(
            "the slot is dropped at {}, but keeps up to {} while all goes well: half of the budget must be more than that; \
             make it larger, or WALCAST_RESUME_WINDOW_BYTES smaller",
            size(limit),
            size(needed)
        );
        return if limit < needed {
            Finding::error(id, subject, meaning)
        } else {
            Finding::warning(id, subject, meaning)
        };
    }
    if limit < budget {
        let meaning = format!(
            "{}, more than max_slot_wal_keep_size allows: the slot is dropped at {}, before Postgres gives it up",
            size(budget),
            size(limit)
        );
        return Finding::warning(id, subject, meaning);
    }
    Finding::ok(id, subject, format!("warned of at {}, and the slot is dropped at {}", size(limit / 2), size(limit)))
}

fn idle_timeout(slots: &Slots) -> Option<Finding> {
    let id = "idle_replication_slot_timeout";
    let seconds = slots.idle_timeout_seconds?;
    if seconds >= SHORT_IDLE_TIMEOUT_SECONDS {
        return Some(Finding::ok(id, id, format!("{} h", seconds / 3600)));
    }
    let meaning = format!(
        "a slot that nobody reads for {seconds} s is given up: a server that is down for longer loses changes to clients"
    );
    let sql = "alter system set idle_replication_slot_timeout = '2d';\nselect pg_catalog.pg_reload_conf();";
    Some(Finding::warning(id, id, meaning).with_fix(sql))
}

fn states(slots: &Slots, ours: &str) -> Vec<Finding> {
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
    use super::{Keeping, Status, findings, judge};
    use crate::pg::slot::{Slot, Slots};
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

    const MIB: i64 = 1 << 20;

    fn status(keep: Option<i64>, idle: Option<i64>, keeping: Keeping, id: &str) -> Option<Status> {
        let slots: Slots = serde_json::from_value(json!({
            "version_number": 180_000, "database": "app", "login": "walcast", "in_recovery": false, "end_lsn": "0/1",
            "segment_bytes": 16 * MIB, "max_slot_wal_keep_bytes": keep, "idle_timeout_seconds": idle, "slots": []
        }))
        .unwrap();
        findings(&slots, "walcast", keeping).into_iter().find(|finding| finding.id == id).map(|finding| finding.status)
    }

    #[test]
    fn a_window_that_postgres_may_not_keep_and_a_budget_that_the_window_uses_up_are_told() {
        let (window, none) = (64 * MIB, None);
        let keeping = |budget| Keeping { window, budget };
        for (keep, expected) in [(none, None), (Some(1024 * MIB), None), (Some(100 * MIB), Some(Status::Warning))] {
            assert_eq!(status(keep, None, keeping(None), "resume_window"), expected, "{keep:?}");
        }
        for (keep, budget, expected) in [
            (none, None, Status::Ok),
            (Some(1024 * MIB), None, Status::Ok),
            (none, Some(1024 * MIB), Status::Ok),
            (none, Some(200 * MIB), Status::Warning),
            (none, Some(100 * MIB), Status::Error),
            (Some(1024 * MIB), Some(2048 * MIB), Status::Warning),
            (Some(4096 * MIB), Some(2048 * MIB), Status::Ok),
        ] {
            assert_eq!(status(keep, None, keeping(budget), "wal_budget"), Some(expected), "{keep:?} {budget:?}");
        }
        for (idle, expected) in [(None, None), (Some(600), Some(Status::Warning)), (Some(172_800), Some(Status::Ok))] {
            assert_eq!(status(none, idle, keeping(None), "idle_replication_slot_timeout"), expected, "{idle:?}");
        }
    }
}
