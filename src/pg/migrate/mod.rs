//! Prepares a database: roles, `auth` functions, publications, our schema, broadcasts from the database, and on request
//! the demo. Owns which steps there are and that they run once; which connection, and where the report goes, is the
//! caller's.
//!
//! Every step is looked for before it is run and after, so a run can be repeated, and what somebody else made (the
//! roles, functions and publication of Supabase's own stack) is left as it is. A step runs in a transaction of its
//! own; a right that is missing leaves the step, and those that build on it, to an administrator.

mod lookups;
mod messages;
pub mod notify;
mod report;
mod steps;

pub use report::{Outcome, Report, StepReport};

use std::{collections::HashSet, fmt::Write};
use steps::{CORE, DEMO, DEMO_INDEXES, DEMO_TABLES, LEAST_PRIVILEGE, Step};
use tokio_postgres::{Client, Error, error::SqlState};

/// Two migrations of one database wait for each other. The number is ours alone by being arbitrary ("walcast").
const LOCK: i64 = 0x0077_616c_6361_7374;

/// A table's lock may be held by a long transaction: give up instead of making every writer queue behind us.
const LOCK_TIMEOUT: &str = "30s";

const OLDEST_SERVER: i32 = 140_000;

/// Why a migration ended early. What it had done stays.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Names we need belong to something else.
    #[error("the database already has {}, which walcast did not make; nothing was changed: rename what is there{}",
        list(.taken), if *.demo { ", or migrate without the demo" } else { "" })]
    Taken {
        /// What has the name: kind and qualified name.
        taken: Vec<String>,
        /// Whether it is the demo that needs the names.
        demo: bool,
    },
    /// Somebody else is migrating and does not end.
    #[error("another migration of this database is running: try again when it has ended")]
    Busy,
    /// A standby, or a session made read-only.
    #[error("the database is read-only: migrate the primary")]
    ReadOnly,
    /// A server older than we support.
    #[error("the server is PostgreSQL {0}: 14 or newer is needed")]
    TooOld(String),
    /// A step failed for another reason than a missing right.
    #[error("cannot make {step}")]
    Step {
        /// What the step makes.
        step: &'static str,
        /// What the database said.
        source: Error,
    },
    /// The database did not answer what we asked around the steps.
    #[error("cannot ask the database what it has")]
    Ask(#[source] Error),
    /// The catalogue is not what was expected.
    #[error("cannot understand the catalogue")]
    Understand(#[source] serde_json::Error),
}

fn list(names: &[String]) -> String {
    let mut text = String::new();
    for (position, name) in names.iter().enumerate() {
        let _ = write!(text, "{}{name}", if position == 0 { "" } else { ", " });
    }
    text
}

/// Makes what is missing, as far as the connected role may, and says what was done and what is left.
///
/// With `demo` also the example tables; without it no table of the user is touched.
pub async fn migrate(client: &mut Client, demo: bool) -> Result<Report, MigrateError> {
    locked(client, async |client| run(client, demo).await).await
}

/// Does something on a primary that is new enough, while nobody else migrates it.
async fn locked(
    client: &mut Client,
    migration: impl AsyncFnOnce(&mut Client) -> Result<Report, MigrateError>,
) -> Result<Report, MigrateError> {
    let version: String = one(client, "select current_setting('server_version_num')").await?;
    if version.parse::<i32>().is_ok_and(|number| number < OLDEST_SERVER) {
        return Err(MigrateError::TooOld(one(client, "select current_setting('server_version')").await?));
    }
    let recovering: bool = one(client, "select pg_is_in_recovery()").await?;
    if recovering {
        return Err(MigrateError::ReadOnly);
    }
    let session = format!("set search_path = ''; set lock_timeout = '{LOCK_TIMEOUT}'");
    client.batch_execute(&session).await.map_err(MigrateError::Ask)?;
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await.map_err(|error| match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => MigrateError::Busy,
        _ => MigrateError::Ask(error),
    })?;
    let report = migration(client).await;
    // The lock goes with the session at the latest, so failing here changes nothing about the report.
    let unlocked = client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await;
    let reset = client.batch_execute("reset search_path; reset lock_timeout").await;
    if let Err(error) = unlocked.map(|_| ()).and(reset) {
        tracing::debug!(%error, "cannot leave the session as it was");
    }
    report
}

async fn run(client: &mut Client, demo: bool) -> Result<Report, MigrateError> {
    // Everything that can be refused is refused before the first step.
    refuse_taken(client, demo).await?;
    let mut report = Report { database: database(client).await?, steps: Vec::new() };
    let mut there = HashSet::new();
    for step in CORE.iter().chain(messages::MESSAGES).chain(if demo { DEMO } else { &[] }) {
        let outcome = if is_there(client, step).await? {
            Outcome::AlreadyThere
        } else if let Some(missing) = step.after.iter().find(|name| !there.contains(*name)) {
            Outcome::NeedsAdministrator(format!("it builds on {missing}"))
        } else {
            make(client, step).await?
        };
        if matches!(outcome, Outcome::Done | Outcome::AlreadyThere) {
            there.insert(step.name);
        }
        report.steps.push(step.report(outcome));
    }
    let missing = (!there.contains(lookups::STEP)).then_some(lookups::STEP);
    report.steps.extend(lookups::add(client, missing).await?);
    for step in LEAST_PRIVILEGE {
        let outcome = if is_there(client, step).await? { Outcome::AlreadyThere } else { Outcome::Offered };
        report.steps.push(step.report(outcome));
    }
    Ok(report)
}

async fn database(client: &Client) -> Result<String, MigrateError> {
    one(client, "select current_database()::text").await
}

async fn refuse_taken(client: &Client, demo: bool) -> Result<(), MigrateError> {
    let core = client.query(include_str!("../../../sql/core_taken.sql"), &[]).await.map_err(MigrateError::Ask)?;
    let taken = |rows: Vec<tokio_postgres::Row>| {
        rows.iter().map(|row| format!("{} {}", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect::<Vec<_>>()
    };
    if !core.is_empty() {
        return Err(MigrateError::Taken { taken: taken(core), demo: false });
    }
    if demo {
        let statement = include_str!("../../../sql/demo_taken.sql");
        let rows = client.query(statement, &[&DEMO_TABLES, &DEMO_INDEXES]).await.map_err(MigrateError::Ask)?;
        if !rows.is_empty() {
            return Err(MigrateError::Taken { taken: taken(rows), demo: true });
        }
    }
    Ok(())
}

async fn make(client: &mut Client, step: &Step) -> Result<Outcome, MigrateError> {
    match attempt(client, step.sql).await {
        // GRANT of a right one may not grant is only a warning in Postgres: believe what is there, not the answer.
        Ok(()) if is_there(client, step).await? => Ok(Outcome::Done),
        Ok(()) => Ok(Outcome::NeedsAdministrator(format!("it takes {}", step.needs))),
        Err(error) => match (error.code(), error.as_db_error()) {
            (Some(&SqlState::INSUFFICIENT_PRIVILEGE), Some(reason)) => {
                Ok(Outcome::NeedsAdministrator(reason.message().to_owned()))
            }
            (Some(&SqlState::READ_ONLY_SQL_TRANSACTION), _) => Err(MigrateError::ReadOnly),
            // Roles belong to the cluster, our lock to the database: a migration of another one was quicker.
            (Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION), _) if is_there(client, step).await? => {
                Ok(Outcome::AlreadyThere)
            }
            _ => Err(MigrateError::Step { step: step.name, source: error }),
        },
    }
}

async fn attempt(client: &mut Client, sql: &str) -> Result<(), Error> {
    // Dropped without a commit, the transaction rolls back.
    let transaction = client.transaction().await?;
    transaction.batch_execute(sql).await?;
    transaction.commit().await
}

async fn is_there(client: &Client, step: &Step) -> Result<bool, MigrateError> {
    let row = client.query_one(step.probe, &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(|source| MigrateError::Step { step: step.name, source })
}

async fn one<T>(client: &Client, query: &str) -> Result<T, MigrateError>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    client.query_one(query, &[]).await.and_then(|row| row.try_get(0)).map_err(MigrateError::Ask)
}
