//! `walcast check`: can this database serve us? Also the look before `serve` and `tap`.
//!
//! `facts` reads, `server`, `slots`, `tables`, `lookups` and `channels` judge, `policies` explains who decides policies, `report` writes;
//! `preflight` keeps to what is certain not to work.
//! It changes nothing and needs no more than the least-privileged role.

mod channels;
mod facts;
mod lookups;
mod messages;
mod outbox;
mod policies;
mod preflight;
mod report;
mod schemas;
mod server;
mod slots;
mod tables;

use facts::Server;
pub(crate) use facts::{catalog, connect, slots};
pub use preflight::{Unsuitable, preflight, preflight_stream};
pub(crate) use slots::{Judgement, Keeping, judge};

use crate::{
    config::{ConfigError, Settings},
    pg::{Target, connect::ConnectError},
    source::choice::Choice,
};
use clap::Args;
use serde::Serialize;
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};
use tokio_postgres::error::SqlState;

/// Why the database could not be looked at, or cannot be served from.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No connection. The cause is part of the text, so that the fix can end the sentence.
    #[error("{}; {fix}", crate::pg::connect::describe(error))]
    Connect {
        /// Why not.
        error: ConnectError,
        /// What to do.
        fix: &'static str,
    },
    /// A statement failed.
    #[error("cannot read the catalogue")]
    Query(#[from] tokio_postgres::Error),
    /// The slots could not be read.
    #[error(transparent)]
    Slots(#[from] crate::pg::slot::SlotsError),
    /// A row of the catalogue is not what was expected.
    #[error("cannot understand the catalogue")]
    Row(#[from] serde_json::Error),
    /// No answer in time.
    #[error("the database does not answer; look for a session that holds a lock on the catalogue")]
    Silent,
    /// What is certain not to work.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
}

impl CheckError {
    /// Whether waiting may help: the server is not there yet, starts, or has no room. A wrong password stays wrong.
    pub fn is_temporary(&self) -> bool {
        let CheckError::Connect { error: ConnectError::Connect { source, .. }, .. } = self else { return false };
        let waits = [SqlState::CANNOT_CONNECT_NOW, SqlState::TOO_MANY_CONNECTIONS, SqlState::ADMIN_SHUTDOWN];
        source.code().is_none_or(|code| waits.contains(code))
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as somebody may expect.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: stable, for programs.
    pub id: &'static str,
    /// How it is.
    pub status: Status,
    /// Of what: a table, a role, a setting.
    pub subject: String,
    /// What it means.
    pub meaning: String,
    /// The SQL that mends it, when there is one.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(id: &'static str, subject: impl Into<String>, meaning: impl Into<String>) -> Finding {
        Finding { id, status: Status::Ok, subject: subject.into(), meaning: meaning.into(), fix: None }
    }

    fn warning(id: &'static str, subject: impl Into<String>, meaning: impl Into<String>) -> Finding {
        Finding { status: Status::Warning, ..Finding::ok(id, subject, meaning) }
    }

    fn error(id: &'static str, subject: impl Into<String>, meaning: impl Into<String>) -> Finding {
        Finding { status: Status::Error, ..Finding::ok(id, subject, meaning) }
    }

    fn with_fix(self, sql: impl Into<String>) -> Finding {
        Finding { fix: Some(sql.into()), ..self }
    }
}

/// The flags of `walcast check`.
#[derive(Args)]
pub struct Arguments {
    /// Print the findings as a JSON array
    #[arg(long)]
    json: bool,
    /// Print instead, for each table and role, what every policy reads and who decides it
    #[arg(long)]
    policies: bool,
    /// TOML file with settings, by the names of the flags with underscores
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database to look at: postgresql://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Publication whose tables are streamed [default: supabase_realtime]
    #[arg(long, env = "WALCAST_PUBLICATION", value_name = "NAME")]
    publication: Option<String>,
    /// Replication slot that `serve` uses [default: walcast]
    #[arg(long, env = "WALCAST_SLOT", value_name = "NAME")]
    slot: Option<String>,
    /// WAL that may be kept for the slot [default: any]
    #[arg(long, env = "WALCAST_WAL_BUDGET_BYTES", value_name = "BYTES")]
    wal_budget_bytes: Option<u64>,
    /// Bytes of the log the slot keeps behind what was delivered [default: 67108864]
    #[arg(long, env = "WALCAST_RESUME_WINDOW_BYTES", value_name = "BYTES")]
    resume_window_bytes: Option<u64>,
    /// For how long it does, at most [default: 300000]
    #[arg(long, env = "WALCAST_RESUME_WINDOW_MS", value_name = "MS")]
    resume_window_ms: Option<u64>,
    /// Where `serve` reads changes [default: auto]
    #[arg(long, env = "WALCAST_SOURCE", value_name = "auto|wal|notify")]
    source: Option<String>,
}

impl Arguments {
    fn settings(&self) -> Result<Settings, ConfigError> {
        let settings = Settings {
            config: self.config.clone(),
            database_url: self.database_url.clone(),
            publication: self.publication.clone(),
            slot: self.slot.clone(),
            wal_budget_bytes: self.wal_budget_bytes,
            resume_window_bytes: self.resume_window_bytes,
            resume_window_ms: self.resume_window_ms,
            source: self.source.clone(),
            ..Settings::default()
        };
        settings.with_file()
    }
}

/// Runs the command: the findings on stdout, and a failure when one of them is an error; or the policies.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings()?;
    let (target, publication) = (settings.target()?, settings.publication());
    if arguments.policies {
        let lines = policy_lines(&target, &publication).await?;
        print(&if arguments.json { json(&lines)? } else { policies::text(&lines) })?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan { slot: settings.slot()?, keeping: settings.keeping(), source: settings.source()? };
    let findings = findings(&target, &publication, &plan).await?;
    let is_coloured = || std::io::stdout().is_terminal() && crate::tap::wants_colour();
    print(&if arguments.json { json(&findings)? } else { report::text(&findings, is_coloured()) })?;
    let failed = findings.iter().any(|finding| finding.status == Status::Error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn json<T: Serialize>(items: &[T]) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(items)?;
    text.push('\n');
    Ok(text)
}

pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads us has seen enough; the exit code still tells.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What every policy is, on a database that can be served from as far as that takes a publication.
async fn policy_lines(target: &Target, publication: &str) -> Result<Vec<policies::PolicyLine>, CheckError> {
    let mut client = facts::connect(target, "walcast check").await?;
    let server = facts::server(&client, publication, "").await?;
    preflight::can_read_policies(&server)?;
    let catalog = facts::catalog(&mut client, publication).await?;
    Ok(policies::lines(&catalog, publication, &server.login_name))
}

/// What `serve` is to do.
struct Plan {
    slot: String,
    keeping: Keeping,
    source: Choice,
}

/// Looks at everything.
async fn findings(target: &Target, publication: &str, plan: &Plan) -> Result<Vec<Finding>, CheckError> {
    let Plan { slot, keeping, source } = plan;
    let mut client = facts::connect(target, "walcast check").await?;
    let server = facts::server(&client, publication, slot).await?;
    let mut findings = server::findings(&server);
    if server.version_number < preflight::OLDEST {
        // The statements about tables need what such a server lacks.
        return Ok(findings);
    }
    let found = facts::slots(&client, slot).await?;
    findings.extend(slots::findings(&found, slot, *keeping));
    let outbox = facts::outbox(&client, publication).await?;
    if outbox::add(&mut findings, &server, &outbox, *source) {
        slots::unread(&mut findings, &found, slot);
    }
    if let Some(operations) = &server.publication {
        let tables = facts::tables(&mut client, publication).await?;
        findings.extend(tables::findings(&server, operations, &tables));
        let catalog = facts::catalog(&mut client, publication).await?;
        let own = facts::lookup_publication(&client, publication).await?;
        findings.extend(channels::findings(&catalog));
        findings.extend(lookups::findings(&server, &catalog, publication, own.as_ref()));
        let messages = facts::messages(&client, publication).await?;
        findings.extend(messages::findings(&server, messages.as_ref()));
    }
    Ok(findings)
}
