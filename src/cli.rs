//! The commands and their flags.

use crate::{
    check,
    config::{Settings, check_environment},
    serve, tap, telemetry, token,
};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;
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
    /// Serve clients from an existing database
    Serve(Box<Settings>),
    /// Say whether a database can be served from, and what to do about it
    Check(check::Arguments),
    /// Print the changes of a database as they are committed
    Tap(tap::Arguments),
    /// Print a signed token, for development
    Token(token::Arguments),
}

/// Parses the command line, runs the command, and says how the process ends.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = check_environment(std::env::vars_os().map(|(name, _)| name), &known_variables())
        .map_err(anyhow::Error::from)
        .and_then(|()| execute(cli));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("walcast: {}", crate::pg::connect::describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(settings) => serve_until_signal(*settings).await,
            Command::Check(arguments) => check::run(arguments).await,
            Command::Tap(arguments) => tap::run(arguments).await,
            Command::Token(arguments) => token::run(&arguments),
        }
    });
    // A write to a stdout that nobody reads would keep an ordinary end of the runtime waiting for ever.
    runtime.shutdown_background();
    outcome
}

async fn serve_until_signal(settings: Settings) -> anyhow::Result<ExitCode> {
    let settings = settings.with_file()?;
    let log = settings.log()?;
    telemetry::start(log.format, &log.level).map_err(anyhow::Error::msg)?;
    let config = settings.serve()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    check::preflight(&config.target, &config.slot.publication, &config.slot.slot).await?;
    let running = serve::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Every `WALCAST_*` variable some command knows.
fn known_variables() -> Vec<String> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    arguments.filter_map(|argument| argument.get_env()).map(|name| name.to_string_lossy().into_owned()).collect()
}
