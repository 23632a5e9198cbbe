//! What the notify fallback is good for here: whether it is installed, captures all there is to capture, and can be read;
//! what it cannot promise; and whether it makes up for logical replication that cannot be had. Pure but for what it is
//! given.

use super::{Finding, Status, facts::Server};
use crate::{
    pg::{
        migrate::notify,
        outbox::{Installed, Listed, Trigger},
    },
    source::choice::Choice,
};

const ID: &str = "notify_fallback";
/// A table with several triggers.
const DOUBLED: &str = "notify_triggers";
const SUBJECT: &str = "walcast.outbox";
/// Findings that speak against reading the log. Not the state of our slot: one that is lost is made anew, and for one that
/// is somebody else's another name is to be chosen.
const OF_LOG: &[&str] = &["wal_level", "replication_right", "replication_slots", "wal_senders", "standby"];
/// What it costs and leaves open.
const PROMISES: &str = "every write of a captured table stores its row once more, an UPDATE the old one, too, and fails if \
                        that cannot be stored; commit_timestamp is the time of writing; transactions that have nothing to \
                        do with each other may come in another order than they were committed in; policies that look into \
                        other tables are decided by the database, by those tables as they are now, and nobody is told that \
                        rights to rows have changed because of them; what fills up while no server runs is kept until one does, up to limit_bytes of \
                        walcast.outbox_state: beyond that nothing is captured, and clients are told of a gap";

/// What was found of it.
pub(super) struct Outbox {
    pub(super) installed: Option<Installed>,
    pub(super) tables: Vec<Listed>,
    pub(super) triggers: Vec<Trigger>,
}

impl Outbox {
    /// Whether changes could be read there.
    pub(super) fn is_usable(&self) -> bool {
        self.installed.as_ref().is_some_and(|installed| installed.may_read && installed.timeline.is_some())
    }
}

/// Adds what is to be said of it to what was found of the server; whether changes are read there.
pub(super) fn add(findings: &mut Vec<Finding>, server: &Server, outbox: &Outbox, choice: Choice) -> bool {
    if choice == Choice::Log {
        return false;
    }
    let is_of_log = |finding: &Finding| finding.status == Status::Error && OF_LOG.contains(&finding.id);
    let is_needed = choice == Choice::Outbox || findings.iter().any(is_of_log);
    if outbox.is_usable() {
        for finding in findings.iter_mut().filter(|finding| is_of_log(finding)) {
            finding.status = Status::Warning;
            finding.meaning.push_str("; changes are read from the outbox instead");
        }
    }
    let Some(installed) = &outbox.installed else {
        if is_needed {
            let meaning =
                "there is none: without logical replication nothing can be served; run: walcast migrate --notify";
            findings.push(Finding::error(ID, SUBJECT, meaning));
        }
        return false;
    };
    if !installed.may_read {
        let meaning = format!("{} may not read it", server.login);
        let status = if is_needed { Status::Error } else { Status::Warning };
        let finding = Finding::warning(ID, SUBJECT, meaning).with_fix(notify::grants(&server.login));
        findings.push(Finding { status, ..finding });
        return false;
    }
    findings.push(match is_needed {
        true => Finding::warning(ID, SUBJECT, format!("changes are read here: {PROMISES}")),
        false => Finding::ok(ID, SUBJECT, format!("installed, for when the log cannot be read: {PROMISES}")),
    });
    if !installed.is_current {
        let meaning = "made by an older version: what tables were is never pruned, and looking for what is new may take long; run: walcast migrate --notify";
        findings.push(Finding::warning("notify_version", SUBJECT, meaning));
    }
    if !installed.may_lead {
        let meaning = format!(
            "{} may not lock walcast.outbox_lead, so any role can keep servers from reading; run: walcast migrate --notify",
            server.login
        );
        findings.push(Finding::warning("notify_lead", SUBJECT, meaning).with_fix(notify::grants(&server.login)));
    }
    findings.extend(outbox.tables.iter().filter_map(captured));
    for table in outbox.tables.iter().filter(|table| table.triggers > 1) {
        let count = table.triggers;
        findings.push(match installed.is_current {
            true => Finding::warning(DOUBLED, &table.name, format!("captured by {count} triggers, of which one tells of its rows; run: walcast migrate --notify")),
            false => Finding::error(DOUBLED, &table.name, format!("captured by {count} triggers, so its rows would come {count} times, and are not served; run: walcast migrate --notify")),
        });
    }
    let is_listed = |trigger: &&Trigger| outbox.tables.iter().any(|table| table.target == trigger.table);
    for trigger in outbox.triggers.iter().filter(|trigger| !is_listed(trigger)) {
        let meaning = "captured, and not published: its rows are stored for nobody; run: walcast migrate --notify";
        let fix = format!("drop trigger {} on {};", trigger.name, trigger.table_name);
        findings.push(Finding::warning("notify_trigger", &trigger.table_name, meaning).with_fix(fix));
    }
    is_needed && outbox.is_usable()
}

/// What is the matter with a table.
fn captured(table: &Listed) -> Option<Finding> {
    let meaning = if table.is_filtered {
        "the publication has a filter for it, which the outbox cannot apply: without logical replication none of its \
         changes come"
    } else if !table.is_captured {
        "not captured: without logical replication none of its changes come; run: walcast migrate --notify"
    } else {
        return None;
    };
    Some(Finding::warning("notify_trigger", &table.name, meaning))
}
