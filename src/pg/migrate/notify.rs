//! What serving without logical replication takes: the outbox, the function that fills it, and a trigger on every table
//! that clients can subscribe to. `pg::outbox` says how it is read.
//!
//! A table published later is captured when this is run again; a table no longer published loses its trigger then.

use super::{
    MigrateError, Outcome, Report, StepReport, attempt, is_there, locked, make,
    steps::{CORE, Step},
};
use crate::pg::{
    messages,
    outbox::{self, Listed},
};
use postgres_protocol::escape::escape_identifier;
use std::{borrow::Cow, collections::BTreeMap};
use tokio_postgres::{Client, error::SqlState};

const SCHEMA: &str = "schema walcast";
const OUTBOX: &str = "table walcast.outbox";
const RETIRED: &str = "sequence walcast.outbox_retired";
const SEEN: &str = "column seen of walcast.outbox_state";
const LEAD: &str = "view walcast.outbox_lead";
const CAPTURE: &str = "function walcast.capture()";
const READER: &str = "role walcast, if there is one, reads the outbox";
const READER_SQL: &str = include_str!("../../../migrations/notify/003_role_walcast_outbox.sql");

const OBJECTS: &[Step] = &[
    Step {
        name: OUTBOX,
        probe: "select exists (select from pg_class c where c.relnamespace = to_regnamespace('walcast') \
                and c.relname = 'outbox' and obj_description(c.oid, 'pg_class') like 'walcast:%')",
        sql: include_str!("../../../migrations/notify/001_outbox.sql"),
        needs: "CREATE on schema walcast",
        after: &[SCHEMA],
    },
    Step {
        name: RETIRED,
        probe: "select exists (select from pg_class c where c.relnamespace = to_regnamespace('walcast') \
                and c.relname = 'outbox_retired' and obj_description(c.oid, 'pg_class') like 'walcast:%')",
        sql: include_str!("../../../migrations/notify/004_outbox_shapes_retired.sql"),
        needs: "CREATE on schema walcast and ownership of walcast.outbox",
        after: &[OUTBOX],
    },
    Step {
        name: SEEN,
        probe: "select exists (select from pg_attribute a join pg_class c on c.oid = a.attrelid \
                where c.relnamespace = to_regnamespace('walcast') and c.relname = 'outbox_state' \
                and a.attname = 'seen' and not a.attisdropped)",
        sql: include_str!("../../../migrations/notify/005_outbox_seen.sql"),
        needs: "ownership of walcast.outbox_state",
        after: &[OUTBOX],
    },
    Step {
        name: LEAD,
        probe: "select exists (select from pg_class c where c.relnamespace = to_regnamespace('walcast') \
                and c.relname = 'outbox_lead' and c.relkind = 'v' \
                and obj_description(c.oid, 'pg_class') like 'walcast:%')",
        sql: include_str!("../../../migrations/notify/006_outbox_lead.sql"),
        needs: "CREATE on schema walcast and ownership of walcast.outbox",
        after: &[OUTBOX],
    },
    Step {
        name: CAPTURE,
        // With the version of what it does.
        probe: "select exists (select from pg_proc p where p.pronamespace = to_regnamespace('walcast') \
                and p.proname = 'capture' and p.prosecdef \
                and obj_description(p.oid, 'pg_proc') = 'walcast: fills the outbox, 2')",
        sql: include_str!("../../../migrations/notify/002_function_capture.sql"),
        needs: "CREATE on schema walcast and ownership of walcast.outbox",
        after: &[RETIRED],
    },
    Step {
        name: READER,
        probe: "select not exists (select from pg_roles where rolname = 'walcast') or 7 = ( \
                select count(*) from pg_class c, pg_roles reader where reader.rolname = 'walcast' \
                and c.relnamespace = to_regnamespace('walcast') \
                and has_schema_privilege(reader.oid, c.relnamespace, 'usage') \
                and case c.relname when 'outbox' then has_table_privilege(reader.oid, c.oid, 'select') \
                and has_table_privilege(reader.oid, c.oid, 'delete') \
                and has_table_privilege(reader.oid, c.oid, 'truncate') \
                when 'outbox_shapes' then has_table_privilege(reader.oid, c.oid, 'select') \
                and has_table_privilege(reader.oid, c.oid, 'update') \
                and has_table_privilege(reader.oid, c.oid, 'delete') \
                when 'outbox_transactions' then has_table_privilege(reader.oid, c.oid, 'select') \
                and has_table_privilege(reader.oid, c.oid, 'insert') \
                and has_table_privilege(reader.oid, c.oid, 'delete') \
                and has_table_privilege(reader.oid, c.oid, 'truncate') \
                when 'outbox_state' then has_table_privilege(reader.oid, c.oid, 'select') \
                and has_table_privilege(reader.oid, c.oid, 'update') \
                when 'outbox_lead' then has_table_privilege(reader.oid, c.oid, 'update') \
                when 'outbox_full' then has_sequence_privilege(reader.oid, c.oid, 'select') \
                and has_sequence_privilege(reader.oid, c.oid, 'update') \
                when 'outbox_retired' then has_sequence_privilege(reader.oid, c.oid, 'select') \
                and has_sequence_privilege(reader.oid, c.oid, 'update') else false end)",
        sql: READER_SQL,
        needs: "ownership of walcast.outbox and of schema walcast",
        after: &[RETIRED, LEAD],
    },
];

/// Makes what the fallback takes, for the tables of this publication and for `realtime.messages`.
pub async fn install(client: &mut Client, publication: &str) -> Result<Report, MigrateError> {
    locked(client, async |client| run(client, publication).await).await
}

/// Takes it away again.
pub async fn remove(client: &mut Client) -> Result<Report, MigrateError> {
    locked(client, async |client| {
        let mut report = Report { database: super::database(client).await?, steps: Vec::new() };
        for trigger in outbox::triggers(client).await.map_err(MigrateError::Ask)? {
            report.steps.push(without(client, &trigger).await?);
        }
        let is_free = report.is_complete();
        let outcome = match is_free {
            true => done(client, include_str!("../../../migrations/notify/remove.sql"), "the outbox").await?,
            false => Outcome::NeedsAdministrator("triggers are left that use it".to_owned()),
        };
        report.steps.push(StepReport {
            name: "no outbox".into(),
            outcome,
            needs: "ownership of walcast.outbox".into(),
            sql: include_str!("../../../migrations/notify/remove.sql").into(),
        });
        Ok(report)
    })
    .await
}

async fn run(client: &mut Client, publication: &str) -> Result<Report, MigrateError> {
    let mut report = Report { database: super::database(client).await?, steps: Vec::new() };
    let schema = CORE.iter().find(|step| step.name == SCHEMA);
    let mut missing: Option<&'static str> = None;
    for step in schema.into_iter().chain(OBJECTS) {
        let outcome = if is_there(client, step).await? {
            Outcome::AlreadyThere
        } else if let Some(missing) = missing {
            Outcome::NeedsAdministrator(format!("it builds on {missing}"))
        } else {
            make(client, step).await?
        };
        if matches!(outcome, Outcome::NeedsAdministrator(_)) && step.name != READER {
            missing = missing.or(Some(step.name));
        }
        report.steps.push(step.report(outcome));
    }
    let tables = outbox::tables(client, publication, messages::PUBLICATION).await.map_err(MigrateError::Ask)?;
    // Several parts of one table have its trigger in common.
    let mut targets: BTreeMap<u32, Vec<&Listed>> = BTreeMap::new();
    for table in tables.iter().filter(|table| !table.is_filtered) {
        targets.entry(table.target).or_default().push(table);
    }
    let triggers = outbox::triggers(client).await.map_err(MigrateError::Ask)?;
    for trigger in triggers.iter().filter(|trigger| !targets.contains_key(&trigger.table)) {
        report.steps.push(without(client, trigger).await?);
    }
    for (target, listed) in targets {
        let Some(name) = listed.first().map(|listed| listed.target_name.as_str()) else { continue };
        let own: Vec<&outbox::Trigger> = triggers.iter().filter(|trigger| trigger.table == target).collect();
        let sql = trigger_sql(target, name, &own);
        let outcome = if listed.iter().all(|listed| listed.is_captured) && own.len() <= 1 {
            Outcome::AlreadyThere
        } else if let Some(missing) = missing {
            Outcome::NeedsAdministrator(format!("it builds on {missing}"))
        } else {
            done(client, &sql, "a trigger").await?
        };
        report.steps.push(StepReport {
            name: format!("changes of {name} are captured").into(),
            outcome,
            needs: "ownership of the table".into(),
            sql: sql.into(),
        });
    }
    Ok(report)
}

/// The name begins with what sorts before letters: triggers of a row fire by their names, and what those of others write
/// comes behind the row itself. It ends with the table, because a partition may have one of its own and get another one
/// from the table it becomes a part of. It also fires where triggers are off for a session, as the log tells of that, too.
///
/// Others that the table has of its own go with that: one is enough, and what writes a row once more takes time.
fn trigger_sql(table: u32, name: &str, there: &[&outbox::Trigger]) -> String {
    let trigger = escape_identifier(&format!("!walcast {table}"));
    let mut sql: String =
        there.iter().map(|other| format!("drop trigger if exists {} on {name};\n", other.name)).collect();
    if there.is_empty() {
        sql = format!("drop trigger if exists {trigger} on {name};\n");
    }
    sql.push_str(&format!(
        "create trigger {trigger} after insert or update or delete on {name}\n  \
         for each row execute function walcast.capture();\n\
         alter table {name} enable always trigger {trigger};\n"
    ));
    sql
}

async fn without(client: &mut Client, trigger: &outbox::Trigger) -> Result<StepReport, MigrateError> {
    let outbox::Trigger { table_name, name, .. } = trigger;
    let sql = format!("drop trigger {name} on {table_name};\n");
    Ok(StepReport {
        name: Cow::Owned(format!("changes of {table_name} are no longer captured")),
        outcome: done(client, &sql, "the end of a trigger").await?,
        needs: "ownership of the table".into(),
        sql: sql.into(),
    })
}

async fn done(client: &mut Client, sql: &str, what: &'static str) -> Result<Outcome, MigrateError> {
    match attempt(client, sql).await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => match (error.code(), error.as_db_error()) {
            (Some(&SqlState::INSUFFICIENT_PRIVILEGE), Some(reason)) => {
                Ok(Outcome::NeedsAdministrator(reason.message().to_owned()))
            }
            (Some(&SqlState::READ_ONLY_SQL_TRANSACTION), _) => Err(MigrateError::ReadOnly),
            _ => Err(MigrateError::Step { step: what, source: error }),
        },
    }
}

/// What another login than `walcast` takes to read the outbox; its name as SQL has it.
pub fn grants(login: &str) -> String {
    let statements = READER_SQL.lines().filter(|line| !line.starts_with("--"));
    let of_login = statements.map(|line| line.replace(" to walcast;", &format!(" to {login};")));
    of_login.collect::<Vec<_>>().join("\n")
}
