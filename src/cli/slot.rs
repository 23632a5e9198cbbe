//! `walcast slot status` and `walcast slot drop`: replication slots for operators, so that nobody leaves one behind that
//! holds back WAL until the disk is full. What a slot's state means is `crate::check`'s to say.
//!
//! `drop` ends with 0 when the slot is gone, also when there was none, and with 1 when it was not dropped.

use crate::{
    check::{self, Judgement, judge},
    config::Settings,
    pg::{
        connect::describe,
        slot::{Dropped, Slot, Slots, drop_slot, size},
    },
    tap::printable,
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{
    fmt::{Display, Write},
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

/// How long dropping may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What is to be done with slots.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Say how every slot of this database is doing that carries logical replication, and what to do about it
    Status(StatusArguments),
    /// Drop a slot that nobody reads; ends with 0 when it is gone, also when there was none, else with 1
    Drop(DropArguments),
}

#[derive(Args)]
pub(super) struct StatusArguments {
    /// Print it as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(super) struct DropArguments {
    /// Do not ask first; where nobody can be asked, nothing is dropped without it
    #[arg(long, alias = "force")]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

/// Where the slot is.
#[derive(Args)]
struct Place {
    /// TOML file with settings, by the names of the flags with underscores
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database of the slot: postgresql://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Replication slot that `serve` uses, or the one to drop [default: walcast]
    #[arg(long, env = "WALCAST_SLOT", value_name = "NAME")]
    slot: Option<String>,
}

impl Place {
    /// A connection, and the name of the slot.
    async fn connect(&self) -> anyhow::Result<(tokio_postgres::Client, String)> {
        let settings = Settings {
            config: self.config.clone(),
            database_url: self.database_url.clone(),
            slot: self.slot.clone(),
            ..Settings::default()
        };
        let settings = settings.with_file()?;
        let slot = settings.slot()?;
        Ok((check::connect(&settings.target()?, "walcast slot").await?, slot))
    }
}

/// Runs the command.
pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status(arguments) => status(&arguments).await,
        Command::Drop(arguments) => drop(&arguments).await,
    }
}

/// A slot and what its state means.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    slot: &'a Slot,
    is_ours: bool,
    judgement: Judgement,
}

/// Everything there is to say.
#[derive(Serialize)]
struct Report<'a> {
    database: &'a str,
    max_slot_wal_keep_bytes: Option<i64>,
    idle_timeout_seconds: Option<i64>,
    slots: Vec<Line<'a>>,
}

async fn status(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let (client, ours) = arguments.place.connect().await?;
    let slots = check::slots(&client, &ours).await?;
    let line =
        |slot| Line { slot, is_ours: slot.name == ours && slot.foreign().is_none(), judgement: judge(slot, &ours) };
    let report = Report {
        database: &slots.database,
        max_slot_wal_keep_bytes: slots.max_slot_wal_keep_bytes,
        idle_timeout_seconds: slots.idle_timeout_seconds,
        slots: slots.slots.iter().map(line).collect(),
    };
    check::print(&if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { text(&report, &ours) })?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report, ours: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn Display| {
        // Names come from the database: whatever is in them must not reach the terminal as a command.
        let written = format!("{name:<24}{}", printable(&value.to_string()));
        let _ = writeln!(text, "{}", written.trim_end());
    };
    line("database", &report.database);
    let limit = report.max_slot_wal_keep_bytes.map_or_else(|| "no limit".to_owned(), exact);
    line("max_slot_wal_keep_size", &limit);
    if let Some(seconds) = report.idle_timeout_seconds {
        line("idle timeout", &format!("{seconds} s"));
    }
    if !report.slots.iter().any(|line| line.slot.name == ours) {
        line("", &"");
        line("slot", &format!("{ours} (ours): not there yet, `walcast serve` makes it"));
    }
    for Line { slot, is_ours, judgement } in &report.slots {
        line("", &"");
        line("slot", &format!("{}{}", slot.name, if *is_ours { " (ours)" } else { "" }));
        let reader = slot.reader.as_ref().map_or_else(String::new, |reader| format!(", read by {reader}"));
        line("  active", &format!("{}{reader}", yes(slot.active)));
        let optional = [
            ("  retained WAL", slot.retained_bytes.map(exact)),
            ("  restart_lsn", slot.restart_lsn.clone()),
            ("  confirmed_flush_lsn", slot.confirmed_lsn.clone()),
            ("  wal_status", slot.wal_status.clone()),
            ("  safe_wal_size", slot.safe_wal_bytes.map(exact)),
            ("  catalog_xmin age", slot.catalog_xmin_age.map(|age| format!("{age} transactions"))),
            ("  failover", slot.failover.map(|failover| yes(failover).to_owned())),
            ("  synced", slot.synced.map(|synced| yes(synced).to_owned())),
            ("  inactive since", slot.inactive_since.clone()),
            ("  invalidation reason", slot.invalidation_reason.clone()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                line(name, &value);
            }
        }
        line("  meaning", &judgement.meaning);
    }
    text
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// A size for people and exactly.
fn exact(bytes: i64) -> String {
    if bytes.abs() < 1024 { size(bytes) } else { format!("{} ({bytes} bytes)", size(bytes)) }
}

async fn drop(arguments: &DropArguments) -> anyhow::Result<ExitCode> {
    let (client, name) = arguments.place.connect().await?;
    let slots = check::slots(&client, &name).await?;
    let Some(slot) = slots.slots.iter().find(|slot| slot.name == name) else {
        check::print(&format!("There is no replication slot \"{name}\".\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(why) = refusal(slot, &slots) {
        bail!("replication slot \"{name}\" is not dropped: {why}");
    }
    let meaning = meaning(slot);
    if !arguments.yes && !slot.is_lost() && !is_confirmed(&format!("{meaning} Drop it? [y/N] "), &meaning)? {
        check::print("Nothing was dropped.\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let dropped = tokio::time::timeout(LIMIT, drop_slot(&client, &name)).await;
    let dropped = dropped.context("the database does not answer")?;
    match dropped.map_err(|error| anyhow::anyhow!("cannot drop replication slot \"{name}\": {}", describe(&error)))? {
        Dropped::Done => check::print(&format!("Dropped. {meaning}\n"))?,
        Dropped::Absent => check::print(&format!("There is no replication slot \"{name}\" any more.\n"))?,
        Dropped::Active => bail!("replication slot \"{name}\" is not dropped: somebody began to read it just now"),
        Dropped::Forbidden => {
            bail!("role {0} may not drop slots; run as an administrator: alter role {0} replication;", slots.login)
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why it must not be dropped, and what to do.
fn refusal(slot: &Slot, slots: &Slots) -> Option<String> {
    if let Some(why) = slot.foreign() {
        let fix = match &slot.database {
            Some(database) if slot.plugin.as_deref() == Some("pgoutput") => {
                format!("connect to database {database} to drop it")
            }
            _ => "whoever made it has to drop it".to_owned(),
        };
        return Some(format!("it is not ours: {why}; {fix}"));
    }
    if slot.synced == Some(true) && slots.in_recovery {
        return Some("it is a copy of the primary's; drop it there".to_owned());
    }
    slot.active.then(|| {
        let (reader, pid) = match &slot.reader {
            Some(reader) => (format!("{reader} reads it"), reader.pid.to_string()),
            None => ("a session reads it".to_owned(), "<pid>".to_owned()),
        };
        format!("{reader}; stop that server first, or end the session with: select pg_terminate_backend({pid});")
    })
}

/// What dropping it means.
fn meaning(slot: &Slot) -> String {
    if slot.is_lost() {
        return format!("Slot \"{}\" had lost its WAL already: clients lose nothing more by it.", slot.name);
    }
    let since = slot.confirmed_lsn.as_deref().map_or_else(String::new, |lsn| format!(" after {lsn}"));
    let kept = slot.retained_bytes.map_or_else(String::new, |bytes| format!("; {} of WAL are set free", size(bytes)));
    format!(
        "Without slot \"{}\" the changes{since} that were not delivered are lost to clients, and cursors from before it \
         are not resumed{kept}.",
        slot.name
    )
}

/// Whether whoever sits there says yes.
fn is_confirmed(question: &str, meaning: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("{meaning} Run it again with --yes to drop it");
    }
    check::print(question)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
