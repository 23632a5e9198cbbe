//! `walcast tap`: every change of the publication on stdout, for whoever builds or looks for a fault.
//!
//! Reads through a temporary slot of its own, which ends with the session however that ends. No rights are asked: it
//! shows what the stream carries. `line` writes a change, `choice` says which are wanted.

mod choice;
mod line;

pub(crate) use line::{printable, wants_colour};

use crate::{
    change::{Fragment, relation::Relation},
    check,
    config::{ConfigError, Settings},
    policy::catalog::Catalog,
    router::{Refresh, Refresher},
    shutdown::Tasks,
    source::{
        Feed, FeedReceiver, HandedOn, Order, SourceState, WindowConfig, Wish, feed,
        slot::{self, Config},
        slot_task::Walreceiver,
    },
};
use choice::{Choice, Event};
use clap::{Args, ValueEnum};
use line::Form;
use rand::Rng;
use std::{
    collections::HashMap,
    io::{ErrorKind, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, Stdout},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Fragments that wait for stdout, and their bytes. With a slow reader the rest waits in Postgres.
const FRAGMENT_QUEUE: usize = 4;
const FRAGMENT_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that are gathered before they are written.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long the end may take.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The flags of `walcast tap`.
#[derive(Args)]
pub struct Arguments {
    /// Only changes of this table: `schema.table`, `table` (in schema public) or `*`; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only this kind of change; may be repeated
    #[arg(long = "event", value_name = "EVENT", ignore_case = true)]
    events: Vec<Event>,
    /// How changes are written [default: text on a terminal, otherwise json]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// End after this many changes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// TOML file with settings, by the names of the flags with underscores
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database to stream from: postgresql://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Publication whose tables are streamed [default: supabase_realtime]
    #[arg(long, env = "WALCAST_PUBLICATION", value_name = "NAME")]
    publication: Option<String>,
}

/// How changes are written.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One object a line
    Json,
    /// For people
    Text,
}

impl Arguments {
    fn settings(&self) -> Result<Settings, ConfigError> {
        let settings = Settings {
            config: self.config.clone(),
            database_url: self.database_url.clone(),
            publication: self.publication.clone(),
            ..Settings::default()
        };
        settings.with_file()
    }

    fn form(&self) -> Form {
        let is_terminal = std::io::stdout().is_terminal();
        match self.format {
            Some(Format::Json) => Form::Json,
            None if !is_terminal => Form::Json,
            Some(Format::Text) | None => Form::Text { colour: is_terminal && wants_colour() },
        }
    }
}

/// Runs the command until a signal, a closed stdout or the limit ends it.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tasks = Tasks::new();
    let outcome = tokio::select! {
        outcome = listen(&arguments, &tasks) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // The slot ends with the session at the latest; ending in order only saves the server a line in its log.
    tasks.stop(STOP_LIMIT).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn listen(arguments: &Arguments, tasks: &Tasks) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    let (target, publication) = (settings.target()?, settings.publication());
    // Now, while nothing runs, an error is the answer; later it is one to wait for the end of.
    check::preflight_stream(&target, &publication).await?;
    let (refresh, refresher) = Refresher::start(&target, &publication).await?;
    let config = Config {
        publication,
        slot: format!("walcast_tap_{}_{:08x}", std::process::id(), rand::rng().random::<u32>()),
        temporary: true,
        application: "walcast tap".to_owned(),
        lookups: false,
        messages: false,
        window: WindowConfig::default(),
        silence_limit: Duration::from_secs(40),
    };
    let started = slot::start_alone(&target, &config)
        .await
        .map_err(|error| anyhow::Error::msg(error.with_hint(&config, &target.user())))?;
    let choice = Choice::new(&arguments.tables, &arguments.events);
    announce(&config.publication, &choice, &refresh.catalog());

    let (feed, fed) = feed(FRAGMENT_QUEUE, FRAGMENT_QUEUE_BYTES);
    let (handed_on, handed_on_reader) = watch::channel(HandedOn::default());
    let (state, state_reader) = watch::channel(SourceState::default());
    let stop = tasks.stop_token().clone();
    tasks.spawn("catalogue", refresher.run(stop.clone()));
    let (_, wish) = watch::channel(Wish::default());
    let (_, order) = watch::channel(Order::default());
    let walreceiver = Walreceiver { target, config, feed, handed_on: handed_on_reader, wish, order, state, stop };
    tasks.spawn("walreceiver", walreceiver.run_from(started));

    let printer = Printer {
        choice,
        form: arguments.form(),
        left: arguments.limit,
        refresh,
        known: HashMap::new(),
        stdout: tokio::io::stdout(),
    };
    printer.run(fed, &handed_on, state_reader).await
}

/// Says on stderr what is listened to, and which tables that were asked for will never come.
fn announce(publication: &str, choice: &Choice, catalog: &Catalog) {
    let mut tables: Vec<String> =
        catalog.tables.values().map(|table| format!("{}.{}", table.schema, table.name)).collect();
    tables.sort();
    let list = if tables.is_empty() { "no table".to_owned() } else { tables.join(", ") };
    for unknown in choice.unknown(catalog) {
        tell(&format!("warning: table {unknown} is not in publication \"{publication}\", which has {list}"));
    }
    if tables.is_empty() {
        tell(&format!("warning: publication \"{publication}\" has no table"));
    }
    tell(&format!("listening to publication \"{publication}\" (tables: {}); Ctrl-C ends it", tables.len()));
}

/// A line on stderr. That nobody reads it is no reason to end.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "walcast: {}", printable(text));
}

struct Printer {
    choice: Choice,
    form: Form,
    left: Option<u64>,
    refresh: Refresh,
    /// The descriptions the catalogue has been asked about, by the table's oid: as many as there are tables.
    known: HashMap<u32, Arc<Relation>>,
    stdout: Stdout,
}

impl Printer {
    async fn run(
        mut self,
        mut feed: FeedReceiver,
        handed_on: &watch::Sender<HandedOn>,
        mut state: watch::Receiver<SourceState>,
    ) -> anyhow::Result<()> {
        let mut interrupted: Option<String> = None;
        loop {
            tokio::select! {
                fed = feed.recv() => {
                    let fragment = match fed {
                        Some(Feed::Fragment(fragment)) => fragment,
                        // That changes were missed is said with the problem.
                        Some(Feed::Begin(_)) => continue,
                        None => return Ok(()),
                    };
                    match self.print(&fragment).await {
                        Ok(true) => {}
                        Ok(false) => return Ok(()),
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                        Err(error) => return Err(anyhow::Error::new(error).context("cannot write to stdout")),
                    }
                    if let Some(lsn) = fragment.end_lsn {
                        handed_on.send_replace(HandedOn { era: fragment.era.number, lsn });
                    }
                }
                Ok(()) = state.changed() => {
                    let (streaming, problem) = {
                        let state = state.borrow_and_update();
                        (state.streaming, state.problem.clone())
                    };
                    match problem {
                        Some(problem) if interrupted.as_ref() != Some(&problem) => {
                            tell(&format!("{problem}; changes are missed until the stream runs again"));
                            interrupted = Some(problem);
                        }
                        None if streaming && interrupted.take().is_some() => {
                            tell("the stream runs again with a new slot; changes in between were missed");
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Writes what is wanted of a fragment; false when the limit is reached.
    async fn print(&mut self, fragment: &Fragment) -> std::io::Result<bool> {
        let mut lines = Vec::new();
        for change in &fragment.changes {
            if !self.choice.wants(change) {
                continue;
            }
            self.learn(&change.relation).await;
            let catalog = self.refresh.catalog();
            line::push(&mut lines, self.form, fragment, change, &catalog);
            if lines.len() >= CHUNK_BYTES {
                self.stdout.write_all(&lines).await?;
                lines.clear();
            }
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    break;
                }
            }
        }
        self.stdout.write_all(&lines).await?;
        self.stdout.flush().await?;
        Ok(self.left != Some(0))
    }

    /// Has the catalogue read anew when it cannot know a table as the stream describes it now.
    async fn learn(&mut self, relation: &Arc<Relation>) {
        if self.known.get(&relation.oid).is_some_and(|known| Arc::ptr_eq(known, relation)) {
            return;
        }
        let catalog = self.refresh.catalog();
        let knows_columns = catalog.tables.get(&relation.oid).is_some_and(|table| {
            relation.columns.iter().all(|column| table.column(&column.name).is_some())
                && relation.columns.iter().all(|column| catalog.types.get(column.type_oid).is_some())
        });
        if !knows_columns {
            self.refresh.now().await;
        }
        self.known.insert(relation.oid, relation.clone());
    }
}
