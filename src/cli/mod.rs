//! The commands and their flags. What `explain` and `slot` print, how `serve` starts and ends, and `health`, have files of
//! their own.

mod explain;
mod health;
mod serve;
mod slot;

use crate::{
    check,
    config::{Settings, check_environment},
    dev::{self, DevArgs},
    pg::{Target, migrate},
    tap, telemetry, token,
};
use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::{fmt::Display, io::Write, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Streams Postgres row changes to Supabase clients, live.
#[derive(Parser)]
#[command(name = "walcast", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a development Postgres with demo tables, and serve clients from it
    Dev(DevArgs),
    /// Serve clients from an existing database
    Serve(Box<Settings>),
    /// Ask a server that runs whether it answers, as health checks of containers do
    Health(health::Arguments),
    /// Set up a database to serve from, as far as the role may, and print the rest
    Migrate(MigrateArgs),
    /// Say whether a database can be served from, and what to do about it
    Check(check::Arguments),
    /// Print the changes of a database as they are committed
    Tap(tap::Arguments),
    /// Say how replication slots are doing, and drop those that nobody is to read any more
    #[command(subcommand)]
    Slot(slot::Command),
    /// Say why a user sees a row, or why not
    Explain(Box<explain::Arguments>),
    /// Print a signed token, for development
    Token(token::Arguments),
}

#[derive(Args)]
struct MigrateArgs {
    /// Database to set up: postgresql://user:password@host:5432/database
    #[arg(long, env = "MIGRATE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    migrate_database_url: Option<String>,
    /// Used when there is no other URL
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Also make the demo tables with their policies and example data
    #[arg(long)]
    demo: bool,
    /// Also make what serving takes where logical replication cannot be had: an outbox, and triggers on published tables
    #[arg(long)]
    notify: bool,
    /// With --notify: take that away again, and do nothing else
    #[arg(long, requires = "notify", conflicts_with = "demo")]
    remove: bool,
    /// Publication whose tables get the triggers [default: supabase_realtime]
    #[arg(long, env = "WALCAST_PUBLICATION", value_name = "NAME")]
    publication: Option<String>,
}

/// Parses the command line, runs the command, and says how the process ends.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Its exit code says whether the row is visible, and so an error needs another one.
    let failure =
        if matches!(cli.command, Command::Explain(_)) { ExitCode::from(explain::ERROR) } else { ExitCode::FAILURE };
    let outcome = check_environment(std::env::vars_os().map(|(name, _)| name), &known_variables())
        .map_err(anyhow::Error::from)
        .and_then(|()| execute(cli));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("walcast: {}", crate::pg::connect::describe(error.as_ref()));
            failure
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Dev(arguments) => dev_until_signal(&arguments).await,
            Command::Serve(settings) => serve::until_signal(*settings).await,
            Command::Health(arguments) => health::run(&arguments).await,
            Command::Migrate(arguments) => run_migrations(arguments).await,
            Command::Check(arguments) => check::run(arguments).await,
            Command::Tap(arguments) => tap::run(arguments).await,
            Command::Slot(command) => slot::run(command).await,
            Command::Explain(arguments) => explain::run(*arguments).await,
            Command::Token(arguments) => token::run(&arguments),
        }
    });
    // A write to a stdout that nobody reads would keep an ordinary end of the runtime waiting for ever.
    runtime.shutdown_background();
    outcome
}

async fn dev_until_signal(arguments: &DevArgs) -> anyhow::Result<ExitCode> {
    telemetry::start(telemetry::LogFormat::Text, "warn").map_err(anyhow::Error::msg)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut running = tokio::select! {
        running = dev::start(arguments) => running?,
        // What was started until now ends with the process.
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
    };
    say(running.banner());
    let failure = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        failure = running.failed() => Some(failure),
    };
    say("Stopping.");
    running.stop().await?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

async fn run_migrations(arguments: MigrateArgs) -> anyhow::Result<ExitCode> {
    let url = arguments.migrate_database_url.or(arguments.database_url).context(
        "no database URL; set MIGRATE_DATABASE_URL or DATABASE_URL, for example \
         postgresql://postgres:password@127.0.0.1:5432/postgres",
    )?;
    let mut client = check::connect(&Target::parse(&url)?, "walcast migrate").await?;
    let report = match (arguments.notify, arguments.remove) {
        (true, true) => migrate::notify::remove(&mut client).await?,
        (is_wanted, _) => {
            let mut report = migrate::migrate(&mut client, arguments.demo).await?;
            if is_wanted {
                let publication = arguments.publication.as_deref().unwrap_or("supabase_realtime");
                report.add(migrate::notify::install(&mut client, publication).await?);
            }
            report
        }
    };
    say(&report);
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes to stdout. A reader that is gone is no error of ours.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Every `WALCAST_*` variable some command knows.
fn known_variables() -> Vec<String> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    arguments.filter_map(|argument| argument.get_env()).map(|name| name.to_string_lossy().into_owned()).collect()
}
