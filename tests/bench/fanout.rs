//! The benchmark of the fan-out: one sender and 100, 1,000 and 5,000 members of one room, payloads of 256 bytes; what a
//! delivery costs the server, how long it takes, and what an idle member costs. A command, not a test; see `RESULTS.md`.
//!
//! It starts a Postgres of its own and the server as a process, measures, prints a table in Markdown and ends.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod audience;
#[expect(dead_code, reason = "the stamps of changes are for the benchmark of the whole line")]
mod board;
mod ledger;
#[expect(dead_code, reason = "the other benchmarks ask for other sums")]
mod process;
#[expect(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../support/mod.rs"]
mod support;

use audience::{Audience, Form, Sender};
use ledger::Ledger;
use process::{resident_mib, user_and_system_seconds};
use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use support::{
    postgres::{Database, Postgres},
    server::Server,
};

/// Messages that may be on their way: enough to keep the server busy, few enough that no outbox fills.
const WINDOW: u64 = 32;
/// Deliveries a second for which the latency is measured: about a tenth of what two cores do.
const CALM_DELIVERIES: usize = 20_000;

struct Plan {
    counts: Vec<usize>,
    busy: Duration,
    calm: Duration,
}

fn plan() -> Plan {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let known = |argument: &String| argument == "--quick" || argument.parse::<usize>().is_ok_and(|count| count > 0);
    if !arguments.iter().all(known) {
        eprintln!("usage: cargo bench --profile bench-fast --bench fanout -- [--quick] [MEMBERS]...");
        std::process::exit(2);
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let mut counts: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![100, 1000, 5000];
    }
    let seconds = if quick { (1.5, 1.5) } else { (6.0, 4.0) };
    Plan { counts, busy: Duration::from_secs_f64(seconds.0), calm: Duration::from_secs_f64(seconds.1) }
}

fn main() {
    let plan = plan();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(plan));
}

async fn run(plan: Plan) {
    let started = Instant::now();
    let database = Postgres::default().database().await;
    database.execute("create publication supabase_realtime").await;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{cores} cores that server and members share; {WINDOW} messages on their way, then {CALM_DELIVERIES} deliveries/s.\n"
    );
    println!(
        "| members | of version | pushed as | deliveries/CPU s | user µs each | system µs each | deliveries/s | at deliveries/s | p50 ms | p99 ms | CPU µs each | members lost |"
    );
    println!("|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut notes = Vec::new();
    for &count in &plan.counts {
        let versions: &[&str] = if count == 1000 { &["2.0.0", "1.0.0"] } else { &["2.0.0"] };
        for version in versions {
            match rows(&plan, &database, count, version).await {
                Ok(note) => notes.push(note),
                Err(why) => println!("| {count} | {version} | failed: {why} |"),
            }
        }
    }
    println!();
    notes.iter().for_each(|note| println!("{note}"));
    println!("The run took {:.0} s; load {}.", started.elapsed().as_secs_f64(), load());
}

/// The load of the machine, as the kernel says it.
fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// Prints the rows of one audience; says what its members cost while they were idle.
async fn rows(plan: &Plan, database: &Database, count: usize, version: &'static str) -> Result<String, String> {
    // Members say nothing, not even that they are there.
    let server = Server::start(database, &[("WALCAST_IDLE_TIMEOUT_MS", "600000")]).await;
    let ledger = Arc::new(Ledger::new(count));
    let before = resident_mib(server.pid());
    let audience = Audience::join(server.address(), version, count, &ledger).await?;
    let after = resident_mib(server.pid());
    for form in [Form::Binary, Form::Text] {
        let case = Case { plan, server: &server, ledger: &ledger, count, version, form };
        println!("{}", case.run().await.map_err(|error| error.to_string())?);
    }
    let (end, lost) = (resident_mib(server.pid()), ledger.lost.load(Relaxed));
    drop(audience);
    let status = server.stop().await;
    if !status.success() {
        return Err(format!("the server ended with {status}"));
    }
    Ok(format!(
        "{count} members of {version}: {before:.0} MiB before they joined, {after:.0} MiB with all of them idle ({:.1} KiB each), \
         {end:.0} MiB after all of it; {lost} lost.",
        (after - before) * 1024.0 / count as f64
    ))
}

struct Case<'a> {
    plan: &'a Plan,
    server: &'a Server,
    ledger: &'a Ledger,
    count: usize,
    version: &'static str,
    form: Form,
}

/// What a while of sending was.
struct Spent {
    deliveries: f64,
    user: f64,
    system: f64,
    wall: f64,
}

impl Case<'_> {
    async fn run(&self) -> io::Result<String> {
        let mut sender = Sender::join(self.server.address(), self.form).await?;
        // The first messages pay for what is made on demand.
        self.send(&mut sender, Duration::from_millis(300), None).await?;
        let busy = self.send(&mut sender, self.plan.busy, None).await?;
        let rate = CALM_DELIVERIES as f64 / self.count as f64;
        self.ledger.forget_latencies();
        let calm = self.send(&mut sender, self.plan.calm, Some(Duration::from_secs_f64(1.0 / rate))).await?;
        let latency = |share| self.ledger.latency(share).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0);
        let each = |seconds: f64, spent: &Spent| seconds * 1e6 / spent.deliveries;
        Ok(format!(
            "| {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.1} | {:.1} | {:.2} | {} |",
            self.count,
            self.version,
            if self.form == Form::Binary { "kind 3" } else { "text" },
            busy.deliveries / (busy.user + busy.system),
            each(busy.user, &busy),
            each(busy.system, &busy),
            busy.deliveries / busy.wall,
            calm.deliveries / calm.wall,
            latency(0.5),
            latency(0.99),
            each(calm.user + calm.system, &calm),
            self.ledger.lost.load(Relaxed)
        ))
    }

    /// Sends for a while, as fast as members receive or at a pace, and waits until everything has arrived.
    async fn send(&self, sender: &mut Sender, length: Duration, pause: Option<Duration>) -> io::Result<Spent> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "messages do not arrive");
        let (start, sent) = (Instant::now(), self.ledger.sent());
        let (user, system) = user_and_system_seconds(self.server.pid());
        let mut due = start;
        while start.elapsed() < length {
            if !self.ledger.wait_for(WINDOW - 1).await {
                return Err(late());
            }
            if let Some(pause) = pause {
                tokio::time::sleep_until(due.into()).await;
                due += pause;
            }
            sender.send(self.ledger.send()).await?;
        }
        if !self.ledger.wait_for(0).await {
            return Err(late());
        }
        let (user_after, system_after) = user_and_system_seconds(self.server.pid());
        Ok(Spent {
            deliveries: (self.ledger.sent() - sent) as f64 * self.count as f64,
            user: user_after - user,
            system: system_after - system,
            wall: start.elapsed().as_secs_f64(),
        })
    }
}
