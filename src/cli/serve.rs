//! `walcast serve`: what is done before serving, and the signals. SIGTERM and SIGINT end it in order, a second one at
//! once; SIGHUP reads the settings again, and so does a refused login.

use crate::{
    check,
    config::{ServeConfig, Settings},
    pg::{Target, connect::describe, migrate},
    serve::{self, Running},
    telemetry,
};
use std::{process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};

/// The first wait for a database that does not answer; each further one is twice as long ...
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// The signals that end a process.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves until it is told to end.
pub(super) async fn until_signal(flags: Settings) -> anyhow::Result<ExitCode> {
    let mut settings = flags.clone().with_file()?;
    let log = settings.log()?;
    telemetry::start(log.format, &log.level).map_err(anyhow::Error::msg)?;
    say_what_is_not_as_it_seems(&settings);
    let config = settings.serve()?;
    let mut ends = Ends { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let mut hangup = signal(SignalKind::hangup())?;
    let running = tokio::select! {
        running = start(config) => running?,
        // Nothing was taken on that would have to be ended in order.
        () = ends.heard() => return Ok(ExitCode::SUCCESS),
    };
    let code = loop {
        tokio::select! {
            () = ends.heard() => break ExitCode::SUCCESS,
            // Whoever started us starts us again, and clients come back to where they were.
            failed = running.failed() => {
                tracing::error!("{failed}: the server ends");
                break ExitCode::FAILURE;
            }
            _ = hangup.recv() => reload(&running, &mut settings, &flags),
            () = running.login_refused() => reload_login(&running, &mut settings, &flags),
        }
    };
    tokio::select! {
        () = running.stop() => Ok(code),
        () = ends.heard() => {
            tracing::warn!("told to end again: ending at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn say_what_is_not_as_it_seems(settings: &Settings) {
    let replaced = &settings.replaced;
    for contradiction in &replaced.contradictions {
        tracing::warn!("{contradiction}");
    }
    for (variable, why) in &replaced.ignored {
        tracing::debug!(variable, why, "a variable means nothing here");
    }
    if settings.max_bytes_per_second.is_some() {
        tracing::info!("max_bytes_per_second is accepted and not enforced, as by the server we replace");
    }
}

async fn start(config: ServeConfig) -> anyhow::Result<Running> {
    if !config.start.wait.is_zero() {
        wait_for_database(&config.target, config.start.wait).await?;
    }
    if config.start.migrates {
        make_what_is_missing(&config.target).await?;
    }
    check::preflight(&config.target, &config.slot.publication, &config.slot.slot, config.source).await?;
    serve::start(config).await
}

/// In a stack that is started all at once the database comes later than we do.
async fn wait_for_database(target: &Target, limit: Duration) -> Result<(), check::CheckError> {
    let end = Instant::now() + limit;
    let mut wait = FIRST_WAIT;
    loop {
        match check::connect(target, "walcast start").await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_temporary() && Instant::now() + wait < end => {
                if wait == FIRST_WAIT {
                    tracing::info!(error = %describe(&error), ?limit, "the database does not answer yet; waiting for it");
                }
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes what the database lacks, as far as our role may. What stays undone is named: much works without it, and what
/// does not is refused by the look before serving.
async fn make_what_is_missing(target: &Target) -> Result<(), check::CheckError> {
    let mut client = check::connect(target, "walcast migrate").await?;
    let report = match migrate::migrate(&mut client, false).await {
        Ok(report) => report,
        Err(error) => {
            tracing::warn!(error = %describe(&error), "the database was not set up; serving from what it has");
            return Ok(());
        }
    };
    for step in &report.steps {
        match &step.outcome {
            migrate::Outcome::Done => tracing::info!(made = %step.name, "set up the database"),
            migrate::Outcome::NeedsAdministrator(why) => {
                tracing::warn!(missing = %step.name, why, "this role may not set it up; `walcast migrate` prints the SQL");
            }
            migrate::Outcome::AlreadyThere | migrate::Outcome::Offered => {}
        }
    }
    Ok(())
}

/// The database refuses the login: the file may have another one by now. It is asked again with every attempt.
fn reload_login(running: &Running, settings: &mut Settings, flags: &Settings) {
    match settings.reload_login(flags) {
        Ok(Some(target)) => {
            running.replace_login(&target);
            tracing::info!("the database refused the login; the settings have another one, which counts now");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(error = %describe(&error), "the database refuses the login; settings not read again")
        }
    }
}

/// Takes over what can change while serving.
fn reload(running: &Running, settings: &mut Settings, flags: &Settings) {
    match settings.reload(flags) {
        Ok(reload) => {
            running.reload(&reload.config, reload.recalls);
            let (changed, recalled) = (reload.changed.join(", "), reload.recalls);
            tracing::info!(changed, recalled, "settings read again");
            if !reload.postponed.is_empty() {
                tracing::warn!(settings = reload.postponed.join(", "), "these settings count after a restart");
            }
        }
        Err(error) => tracing::error!(error = %describe(&error), "settings not read again; the old ones stay"),
    }
}
