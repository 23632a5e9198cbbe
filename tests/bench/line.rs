//! The benchmark of the whole line: how long a committed change takes to its subscribers, and how many changes a
//! second the line sustains, for 1, 100 and 1,000 subscribers. A command, not a test; see `RESULTS.md` beside it.
//!
//! It starts a Postgres of its own and the server as a process, measures, prints a table in Markdown and ends.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod board;
mod clients;
mod load;
#[expect(dead_code, reason = "the other benchmark asks for its own thread")]
mod process;
mod reference;
#[expect(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../support/mod.rs"]
mod support;
mod writer;

use board::{Board, Histogram};
use clients::{Crowd, Subscriber, person};
use load::{Ladder, Load, MAX_RATE};
use process::{cpu_seconds, resident_mib};
use reference::Reference;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use support::{
    postgres::{Database, Postgres, binaries, default_major},
    server::Server,
    token,
};
use writer::COMMITS_A_SECOND;

/// Everything the cases need; `auth.uid()` as Supabase has it.
const TABLES: &str = "
    create schema auth;
    create function auth.uid() returns uuid language sql stable as
      $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
    create schema bench;
    create function bench.person(bigint) returns uuid language sql immutable as
      $$ select ('00000000-0000-4000-8000-' || lpad($1::text, 12, '0'))::uuid $$;
    create table bench.open (id bigint primary key, room bigint, body text);
    create table bench.owned (id bigint primary key, owner uuid, body text);
    create table bench.shared (id bigint primary key, readers uuid[], body text);
    create table bench.posted (id bigint primary key, room bigint, body text);
    create table bench.members (room bigint, person uuid, primary key (room, person));
    create table bench.asked (id bigint primary key, owner uuid, body text);
    alter table bench.owned enable row level security;
    alter table bench.shared enable row level security;
    alter table bench.posted enable row level security;
    alter table bench.asked enable row level security;
    insert into bench.members select n, bench.person(n) from generate_series(0, 9999) n;
    -- More than one RETURN: such a body is not understood, so every row is asked of Postgres.
    create function bench.is_me(owner uuid) returns boolean language plpgsql stable as
      $$ begin if owner = auth.uid() then return true; end if; return false; end $$;
    create policy owner on bench.owned for select using ((select auth.uid()) = owner);
    create policy reader on bench.shared for select using ((select auth.uid()) = any (readers));
    create policy member on bench.posted for select using (
      exists (select 1 from bench.members m where m.room = posted.room and m.person = (select auth.uid())));
    create policy owner on bench.asked for select using (bench.is_me(owner));
    grant usage on schema auth, bench to anon, authenticated, walcast;
    grant select on all tables in schema bench to anon, authenticated, walcast;
    create publication supabase_realtime for table bench.open, bench.owned, bench.shared, bench.posted, bench.asked;
    create publication walcast_lookups for table bench.members;
";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    All,
    Filtered,
    Owner,
    Readers,
    Members,
    Asked,
}

const KINDS: [Kind; 6] = [Kind::All, Kind::Filtered, Kind::Owner, Kind::Readers, Kind::Members, Kind::Asked];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::All => "no RLS, every subscriber gets every change",
            Kind::Filtered => "no RLS, one equality filter each, one recipient",
            Kind::Owner => "RLS by owner, one recipient",
            Kind::Readers => "RLS by list of readers, 10 recipients",
            Kind::Members => "RLS by membership in another table, one recipient",
            Kind::Asked => "RLS by a function only Postgres can run, one recipient",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Kind::All => "all",
            Kind::Filtered => "filtered",
            Kind::Owner => "owner",
            Kind::Readers => "readers",
            Kind::Members => "members",
            Kind::Asked => "asked",
        }
    }

    fn recipients(self, subscribers: usize) -> usize {
        match self {
            Kind::All => subscribers,
            Kind::Filtered | Kind::Owner | Kind::Members | Kind::Asked => 1,
            Kind::Readers => subscribers.min(10),
        }
    }

    fn insert(self, subscribers: usize) -> String {
        // The multiplier spreads consecutive changes over the subscribers.
        let whose = format!("(id * 7919) % {subscribers}");
        let (table, value) = match self {
            Kind::All | Kind::Filtered => ("open", whose),
            Kind::Owner => ("owned", format!("bench.person({whose})")),
            Kind::Members => ("posted", whose),
            Kind::Asked => ("asked", format!("bench.person({whose})")),
            Kind::Readers => {
                let last = self.recipients(subscribers) - 1;
                let reader = format!("bench.person(({whose} + n) % {subscribers})");
                ("shared", format!("(select array_agg({reader}) from generate_series(0, {last}) n)"))
            }
        };
        format!(
            "insert into bench.{table} select id, {value}, '<change ' || id || '>' || repeat('x', 100) \
                 from unnest($1::bigint[]) as id"
        )
    }

    fn subscriber(self, number: usize) -> Subscriber {
        let (table, filter, token) = match self {
            Kind::All => ("open", None, token::anon()),
            Kind::Filtered => ("open", Some(format!("room=eq.{number}")), token::anon()),
            Kind::Owner => ("owned", None, token::user(&person(number))),
            Kind::Readers => ("shared", None, token::user(&person(number))),
            Kind::Members => ("posted", None, token::user(&person(number))),
            Kind::Asked => ("asked", None, token::user(&person(number))),
        };
        Subscriber { token, table, filter, resumes: false }
    }
}

/// The pause after a rate that was too high.
const SETTLE: Duration = Duration::from_secs(2);

struct Plan {
    step: Duration,
    steps: usize,
    latency: Duration,
    counts: Vec<usize>,
    kinds: Vec<Kind>,
    idle: usize,
    verbose: bool,
}

fn plan() -> Plan {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let verbose = arguments.iter().any(|argument| argument == "--verbose");
    let mut counts: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let mut kinds: Vec<Kind> =
        KINDS.into_iter().filter(|kind| arguments.iter().any(|name| name == kind.short())).collect();
    for argument in &arguments {
        let known = argument == "--quick"
            || argument == "--verbose"
            || argument.parse::<usize>().is_ok_and(|count| count > 0)
            || KINDS.iter().any(|kind| kind.short() == argument);
        if !known {
            eprintln!(
                "usage: cargo bench --profile bench-fast --bench line -- [--quick] [--verbose] [all] [filtered] [owner] [readers] [members] [asked] [SUBSCRIBERS]..."
            );
            std::process::exit(2);
        }
    }
    let idle = if counts.is_empty() && kinds.is_empty() { 2000 } else { 0 };
    if counts.is_empty() {
        counts = vec![1, 100, 1000];
    }
    if kinds.is_empty() {
        kinds = KINDS.to_vec();
    }
    let (step, steps, latency) = if quick { (0.5, 3, 1.0) } else { (1.2, 6, 3.0) };
    Plan {
        step: Duration::from_secs_f64(step),
        steps,
        latency: Duration::from_secs_f64(latency),
        counts,
        kinds,
        idle,
        verbose,
    }
}

fn main() {
    let plan = plan();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(plan));
}

async fn run(plan: Plan) {
    let started = Instant::now();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let binaries = binaries(default_major()).await;
    let program = reference::program(&binaries.bin_dir);
    if program.is_none() {
        println!("pg_recvlogical is not installed (Debian: postgresql-client-15): its figures are missing.\n");
    }
    let database = Postgres::default().database().await;
    database.execute(TABLES).await;
    let board = Arc::new(Board::new());
    println!("{cores} cores, PostgreSQL {}; server, database and clients share them.", binaries.version);
    println!("At most {MAX_RATE} changes/s are tried; beyond {COMMITS_A_SECOND} a commit has several rows.\n");
    println!(
        "| case | subscribers | sustained changes/s | messages/s | at changes/s | p50 ms | p99 ms | pg_recvlogical p50 ms | p99 ms | server CPU s | RSS MiB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for kind in &plan.kinds {
        for &subscribers in &plan.counts {
            let case = Case {
                kind: *kind,
                subscribers,
                database: &database,
                board: &board,
                plan: &plan,
                program: program.as_ref(),
            };
            match case.run().await {
                Ok(row) => println!("{row}"),
                Err(why) => println!("| {} | {subscribers} | failed: {why} |", kind.name()),
            }
        }
    }
    if let Some(program) = &program {
        alone(&plan, &database, &board, program).await;
    }
    if plan.idle > 0 {
        println!("\n{}", idle(&plan, &database, &board).await);
    }
    println!("\nThe run took {:.0} s.", started.elapsed().as_secs_f64());
}

struct Case<'a> {
    kind: Kind,
    subscribers: usize,
    database: &'a Database,
    board: &'a Arc<Board>,
    plan: &'a Plan,
    program: Option<&'a PathBuf>,
}

impl Case<'_> {
    async fn crowd(&self, server: &Server) -> Result<Crowd, String> {
        let subscribers = (0..self.subscribers).map(|number| self.kind.subscriber(number)).collect();
        let crowd = Crowd::join(server.address(), subscribers, self.board).await;
        self.board.broken.store(0, Relaxed);
        crowd
    }

    async fn run(&self) -> Result<String, String> {
        let server = Server::start(self.database, &[("WALCAST_IDLE_TIMEOUT_MS", "600000")]).await;
        let mut crowd = self.crowd(&server).await?;
        let load = Load {
            database: self.database,
            board: self.board,
            insert: self.kind.insert(self.subscribers),
            recipients: self.kind.recipients(self.subscribers),
            verbose: self.plan.verbose,
        };
        // The first changes pay for what is made on demand: plans, connections, caches.
        load.step(5, Duration::from_secs(1)).await;
        let mut ladder = Ladder::new(match self.kind {
            Kind::All => 50_000 / self.subscribers.clamp(10, 500),
            Kind::Filtered | Kind::Owner | Kind::Readers | Kind::Members => 3000,
            Kind::Asked => 4000 / self.subscribers.clamp(4, 200),
        });
        let before = cpu_seconds(server.pid());
        for _ in 0..self.plan.steps {
            let Some(rate) = ladder.next() else { break };
            ladder.note(rate, load.step(rate, self.plan.step).await);
            if self.board.broken.load(Relaxed) > 0 {
                drop(crowd);
                // What the server still has to do for those who were told of a gap must not count against the next.
                tokio::time::sleep(SETTLE).await;
                crowd = self.crowd(&server).await?;
            }
        }
        let sustained = ladder.passed.unwrap_or(0);
        let rate = (sustained / 2).clamp(1, 100);
        let reference = match self.program {
            Some(program) => Some(Reference::start(program, self.database, self.board, false).await),
            None => None,
        };
        let passed = load.step(rate, self.plan.latency).await;
        let [first, second] = &self.board.halves;
        let ours = |share| milliseconds(Histogram::quantile(&[first, second], share));
        let (p50, p99) = (ours(0.5), ours(0.99));
        let theirs = |share| {
            reference
                .as_ref()
                .map_or("-".to_owned(), |reference| milliseconds(Histogram::quantile(&[reference.latencies()], share)))
        };
        let (their_p50, their_p99) = (theirs(0.5), theirs(0.99));
        if let Some(reference) = reference {
            reference.stop().await;
        }
        let note = if passed { "" } else { " (not all arrived in time)" };
        let (cpu, rss) = (cpu_seconds(server.pid()) - before, resident_mib(server.pid()));
        drop(crowd);
        let status = server.stop().await;
        if !status.success() {
            return Err(format!("the server ended with {status}"));
        }
        Ok(format!(
            "| {} | {} | {sustained} | {} | {rate}{note} | {p50} | {p99} | {their_p50} | {their_p99} | {cpu:.1} | {rss:.0} |",
            self.kind.name(),
            self.subscribers,
            sustained * load.recipients
        ))
    }
}

/// What `pg_recvlogical` sustains with nothing else running.
async fn alone(plan: &Plan, database: &Database, board: &Arc<Board>, program: &std::path::Path) {
    let reference = Reference::start(program, database, board, true).await;
    board.broken.store(0, Relaxed);
    let load = Load { database, board, insert: Kind::All.insert(1), recipients: 1, verbose: plan.verbose };
    let mut ladder = Ladder::new(10_000);
    for _ in 0..plan.steps {
        let Some(rate) = ladder.next() else { break };
        ladder.note(rate, load.step(rate, plan.step).await);
    }
    let sustained = ladder.passed.unwrap_or(0);
    println!("| pg_recvlogical alone | 1 | {sustained} | {sustained} | | | | | | | |");
    reference.stop().await;
}

/// What connections cost that are joined and hear nothing.
async fn idle(plan: &Plan, database: &Database, board: &Arc<Board>) -> String {
    let server = Server::start(database, &[("WALCAST_IDLE_TIMEOUT_MS", "600000")]).await;
    let before = resident_mib(server.pid());
    let subscribers = (0..plan.idle).map(|number| Kind::Filtered.subscriber(number)).collect();
    let crowd = match Crowd::join(server.address(), subscribers, board).await {
        Ok(crowd) => crowd,
        Err(why) => return format!("Idle connections: {why}."),
    };
    let after = resident_mib(server.pid());
    let cpu = cpu_seconds(server.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle_cpu = (cpu_seconds(server.pid()) - cpu) / 2.0;
    drop(crowd);
    server.stop().await;
    format!(
        "{} idle joined connections: {before:.0} MiB before, {after:.0} MiB after, {:.1} KiB each; the idle server uses {:.1} % of a core.",
        plan.idle,
        (after - before) * 1024.0 / plan.idle as f64,
        idle_cpu * 100.0
    )
}

fn milliseconds(duration: Option<Duration>) -> String {
    duration.map_or("-".to_owned(), |duration| format!("{:.1}", duration.as_secs_f64() * 1000.0))
}
