//! The soak: half an hour of mixed load with churn. Writers make transactions of all sizes, and roll some back; subscribers
//! of all kinds of rights come back with cursors, leave, crash, do not read for a while, refresh their tokens, speak and
//! track presences. At the end every subscriber must have got exactly its sequence, memory must be as it was after a third
//! of the time, and nothing may be left of anybody: no subscription, task, thread or file descriptor.
//!
//! ```sh
//! cargo bench --profile bench-fast --bench soak
//! WALCAST_SOAK_SECONDS=60 WALCAST_SOAK_CLIENTS=50 WALCAST_SOAK_SEED=7 cargo bench --profile bench-fast --bench soak
//! ```
//!
//! A command, not a test; its exit code says whether all of this held. See `RESULTS.md`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod client;
mod hearing;
#[expect(dead_code, reason = "the benchmarks ask for more")]
#[path = "../process.rs"]
mod process;
#[expect(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../../support/mod.rs"]
mod support;
mod watch;
mod world;

use client::{Client, Common, Kind, Phase, Report};
use std::{
    env,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use support::{
    postgres::{Database, Postgres, drive},
    server::Server,
};
use tokio::sync::{mpsc, watch as channel};
use watch::{Sample, Watch};
use world::{PERSONS, Truth, WORKERS, Writer};

/// How often the process is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// How often a line is printed, in samples.
const PRINTED_SAMPLES: usize = 15;
/// How long everybody may take to get what is left, and everything to be gone.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let faults = runtime.block_on(run());
    for fault in &faults {
        println!("- **{fault}**");
    }
    println!("{}", if faults.is_empty() { "Everything held." } else { "It did not hold." });
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which kinds there are, and of whom.
fn kind(number: usize) -> Kind {
    let person = i32::try_from(number % PERSONS).expect("there are few");
    match number % 12 {
        0 if number < 48 => Kind::Everything,
        1 | 2 => Kind::Filtered(person),
        3 => Kind::Asked(person),
        4..=7 => Kind::Member(person),
        _ => Kind::Owner(person),
    }
}

async fn run() -> Vec<String> {
    let length = Duration::from_secs(setting("WALCAST_SOAK_SECONDS", 1800));
    let clients = usize::try_from(setting("WALCAST_SOAK_CLIENTS", 120)).expect("a number of clients");
    let seed = setting("WALCAST_SOAK_SEED", 20_261_121);
    let database = Postgres::default().database().await;
    database.execute(&world::tables()).await;
    let server = Server::start(&database, &[]).await;
    let mut watch = Watch::new(&server);
    println!("{} s with {clients} clients and {WORKERS} writers, seed {seed}.\n", length.as_secs());
    println!("{}", Sample::HEAD);

    let mut play = Play::begin(&server, clients, seed).await;
    let truth = play.write(&database, length, seed, &mut watch).await;
    let mut faults = watch.growth();
    play.phase.send_replace(Phase::Settle(Arc::new(truth)));
    let is_settled = play.settle().await;
    if !is_settled {
        faults.push(format!("not everybody had got everything within {SETTLE_LIMIT:?}"));
    }
    let settled = watch.sample().await;
    println!("{}", settled.line());
    if is_settled && (settled.subscriptions, settled.connections) != (clients, clients) {
        faults.push(format!("{} subscriptions of {clients} clients", settled.subscriptions));
    }
    play.phase.send_replace(Phase::End);
    let reports = play.end().await;
    faults.extend(watch.leaks(SETTLE_LIMIT).await);
    faults.extend(reports.iter().flat_map(|report| report.mistakes.iter().cloned()).take(20));
    summary(&reports, &watch);
    let status = server.stop().await;
    if !status.success() {
        faults.push(format!("the server ended with {status}"));
    }
    faults
}

/// The clients and how they are told what to do.
struct Play {
    phase: channel::Sender<Phase>,
    reports: mpsc::Receiver<Report>,
    done: mpsc::Receiver<usize>,
    clients: usize,
}

impl Play {
    /// Everybody joins before anything is written, so that who misses nothing knows how every sequence begins.
    async fn begin(server: &Server, clients: usize, seed: u64) -> Play {
        let (phase, phases) = channel::channel(Phase::Join);
        let (reporter, reports) = mpsc::channel(clients);
        let (settled, mut done) = mpsc::channel(clients);
        let common = Arc::new(Common { address: server.address().to_owned(), done: settled });
        for number in 0..clients {
            let client = Client::new(number, kind(number), common.clone(), seed);
            let (phases, reporter) = (phases.clone(), reporter.clone());
            drive(async move {
                let report = client.live(phases).await;
                let _ = reporter.send(report).await;
            });
        }
        for _ in 0..clients {
            done.recv().await.expect("clients that live");
        }
        Play { phase, reports, done, clients }
    }

    /// Lets writers write for so long; what they have committed.
    async fn write(&mut self, database: &Database, length: Duration, seed: u64, watch: &mut Watch) -> Truth {
        let (stop, stopped) = channel::channel(false);
        let (committed, mut truths) = mpsc::channel(WORKERS);
        for worker in 0..WORKERS {
            let (url, stopped, committed) = (database.url.clone(), stopped.clone(), committed.clone());
            drive(async move {
                let _ = committed.send(Writer::new(worker, seed).write(&url, stopped).await).await;
            });
        }
        self.phase.send_replace(Phase::Play);
        let start = Instant::now();
        for number in 0.. {
            let sample = watch.sample().await;
            if number % PRINTED_SAMPLES == 0 {
                println!("{}", sample.line());
            }
            if start.elapsed() >= length {
                break;
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
        stop.send_replace(true);
        let mut truth = Truth::new();
        for _ in 0..WORKERS {
            truth.extend(truths.recv().await.expect("writers that end"));
        }
        truth
    }

    /// Waits until everybody has everything.
    async fn settle(&mut self) -> bool {
        let all = async {
            for _ in 0..self.clients {
                self.done.recv().await.expect("clients that live");
            }
        };
        tokio::time::timeout(SETTLE_LIMIT, all).await.is_ok()
    }

    async fn end(mut self) -> Vec<Report> {
        drop(self.phase);
        let mut reports = Vec::new();
        while let Ok(Some(report)) = tokio::time::timeout(Duration::from_secs(30), self.reports.recv()).await {
            reports.push(report);
            if reports.len() == self.clients {
                break;
            }
        }
        reports
    }
}

fn summary(reports: &[Report], watch: &Watch) {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "\n{} clients: {} events, each once and in order unless it is said below; {} stays, of which {} resumed, {} could not \
         because they had been away too long, {} gaps while connected; {} pauses without reading, {} tokens refreshed, {} words \
         said, {} heard.",
        reports.len(),
        sum(|report| report.events),
        sum(|report| report.stays),
        sum(|report| report.resumed),
        sum(|report| report.too_old),
        sum(|report| report.gaps),
        sum(|report| report.pauses),
        sum(|report| report.refreshed),
        sum(|report| report.said),
        sum(|report| report.heard),
    );
    println!("{}", watch.summary());
}
