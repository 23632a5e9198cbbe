//! The benchmark of memory: what the server takes through a transaction of a million rows, through rows of 50 MB, and
//! for connections that are joined and hear nothing; and how long what is small waits behind what is large. A command, not
//! a test; see `RESULTS.md`.
//!
//! It starts a Postgres of its own and the server as a process, measures, prints tables in Markdown and ends.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

#[expect(dead_code, reason = "other benchmarks have histograms")]
mod board;
mod clients;
#[expect(dead_code, reason = "the other benchmarks ask for other sums")]
mod process;
mod reader;
mod sequence;
#[expect(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../support/mod.rs"]
mod support;

use board::Board;
use clients::{Crowd, Subscriber, person};
use process::{cpu_seconds, forget_peak, peak_mib, resident_mib};
use reader::{Course, Pace, Reader};
use sequence::Sequence;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use support::{
    postgres::{Database, Postgres, drive},
    server::Server,
    token,
};
use tokio_util::sync::CancellationToken;

/// One table for each way to decide: by grants alone, by rows of another table, by Postgres.
const TABLES: &str = "
    create schema auth;
    create function auth.uid() returns uuid language sql stable as
      $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
    create schema bench;
    create function bench.person(bigint) returns uuid language sql immutable as
      $$ select ('00000000-0000-4000-8000-' || lpad($1::text, 12, '0'))::uuid $$;
    create table bench.open (id bigint primary key, room bigint, body text);
    create table bench.posted (id bigint primary key, room bigint, body text);
    create table bench.members (room bigint, person uuid, primary key (room, person));
    create table bench.asked (id bigint primary key, room bigint, body text);
    alter table bench.posted enable row level security;
    alter table bench.asked enable row level security;
    insert into bench.members select n, bench.person(n) from generate_series(0, 999) n;
    create function bench.is_mine(room bigint) returns boolean language plpgsql stable as
      $$ begin if bench.person(room) = auth.uid() then return true; end if; return false; end $$;
    create policy member on bench.posted for select to authenticated using (
      exists (select 1 from bench.members m where m.room = posted.room and m.person = (select auth.uid())));
    create policy mine on bench.asked for select to authenticated using (bench.is_mine(room));
    grant usage on schema auth, bench to anon, authenticated, service_role, walcast;
    grant select on all tables in schema bench to anon, authenticated, service_role, walcast;
    create publication supabase_realtime for table bench.open, bench.posted, bench.asked;
    create publication walcast_lookups for table bench.members;
";

/// Whose rows one subscriber sees: one of a thousand.
const ROOM: usize = 7;
const ROOMS: u64 = 1000;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);

struct Plan {
    rows: u64,
    large: u64,
    mib: u64,
    idle: usize,
    parts: Vec<String>,
}

const PARTS: [&str; 3] = ["million", "large", "idle"];

fn plan() -> Plan {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let is_known = |argument: &String| argument == "--quick" || PARTS.contains(&argument.as_str());
    if !arguments.iter().all(is_known) {
        eprintln!("usage: cargo bench --profile bench-fast --bench memory -- [--quick] [million] [large] [idle]");
        std::process::exit(2);
    }
    let mut parts: Vec<String> = arguments.into_iter().filter(|argument| argument != "--quick").collect();
    if parts.is_empty() {
        parts = PARTS.map(str::to_owned).to_vec();
    }
    let (rows, large, mib, idle) = if quick { (100_000, 6, 20, 500) } else { (1_000_000, 20, 50, 5000) };
    Plan { rows, large, mib, idle, parts }
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
    database.execute(TABLES).await;
    let has = |part: &str| plan.parts.iter().any(|name| name == part);
    if has("million") {
        println!("A transaction of {} rows of about 150 bytes, and one of one row behind it.\n", plan.rows);
        println!(
            "| table | RSS before | most | 10 s behind | last row with the reader of everything s | small one with who sees 1 in {ROOMS} rows s | same, before s | server CPU s | reader of everything | who sees 1 in {ROOMS} | reader of 200/s | who reads nothing |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---|---|---|---|");
        for table in ["open", "posted"] {
            report(Large { plan: &plan, database: &database, table, rows: plan.rows, mib: 0 }.run().await);
        }
        println!();
    }
    if has("large") {
        println!("A transaction of {} rows of {} MB, and one of one small row behind it.\n", plan.large, plan.mib);
        println!(
            "| table | RSS before | most | 10 s behind | last row with the reader of everything s | small one with who sees 1 in {ROOMS} rows s | same, before s | server CPU s | reader of everything | who sees some | reader of 200/s | who reads nothing |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---|---|---|---|");
        for table in ["open", "posted", "asked"] {
            report(Large { plan: &plan, database: &database, table, rows: plan.large, mib: plan.mib }.run().await);
        }
        println!();
    }
    if has("idle") {
        match idle(&plan, &database).await {
            Ok(text) => println!("{text}"),
            Err(why) => println!("Idle connections: {why}."),
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nThe run took {:.0} s; load {}.", started.elapsed().as_secs_f64(), load.trim());
}

fn report(row: Result<String, String>) {
    match row {
        Ok(row) => println!("{row}"),
        Err(why) => println!("| failed: {why} |"),
    }
}

/// A large transaction and a small one behind it.
struct Large<'a> {
    plan: &'a Plan,
    database: &'a Database,
    table: &'static str,
    rows: u64,
    /// The size of a row; none means a small one.
    mib: u64,
}

impl Large<'_> {
    /// Ids of the small rows behind all others: one before the large transaction, one behind it.
    fn small(&self) -> [u64; 2] {
        [2, 1].map(|place| 10_000_000 - place)
    }

    async fn readers(&self, server: &Server, origin: Instant) -> Result<Vec<Reader>, String> {
        let everybody = self.table == "open";
        let all = token::service();
        let some = token::user(&person(ROOM));
        let filter = everybody.then(|| format!("room=eq.{ROOM}"));
        let [before, behind] = self.small();
        // The rows of the large transaction: all of them, or those of one room.
        let every = (1, 1, self.rows);
        let mine = if self.mib > 0 { every } else { (ROOM as u64, ROOMS, self.rows) };
        let mut readers = Vec::new();
        for (name, token, filter, pace, resumes, rows, marks) in [
            ("all", &all, None, Pace::Fast, true, every, [self.rows, behind]),
            ("some", &some, filter, Pace::Fast, true, mine, [before, behind]),
            ("slow", &all, None, Pace::Slow(200), true, every, [self.rows, behind]),
            ("stuck", &all, None, Pace::Never, false, every, [0, 0]),
        ] {
            let subscriber = Subscriber { token: token.clone(), table: self.table, filter, resumes };
            let sequence = Sequence { before, rows, behind, due: 0 };
            let course = Course { name, pace, sequence, marks, origin };
            readers.push(Reader::join(server.address(), &subscriber, course).await?);
        }
        Ok(readers)
    }

    async fn run(&self) -> Result<String, String> {
        let table = self.table;
        self.database.execute(&format!("truncate bench.{table}")).await;
        let server = Server::start(self.database, &[("WALCAST_IDLE_TIMEOUT_MS", "600000")]).await;
        let origin = Instant::now();
        let readers = self.readers(&server, origin).await?;
        let client = self.database.connect().await;
        let small = async |id: u64| {
            let sql = format!("insert into bench.{table} values ({id}, {ROOM}, 'small')");
            client.batch_execute(&sql).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(origin.elapsed())
        };
        let [before_id, behind_id] = self.small();
        // What is made on demand is made; then what a small one takes by itself.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = small(before_id).await?;
        self.wait("the small row before", || readers[1].notes.at(0)).await?;
        let (cpu, rss) = (cpu_seconds(server.pid()), resident_mib(server.pid()));
        forget_peak(server.pid());
        let body = if self.mib > 0 {
            format!("repeat(md5(n::text), {} / 32)", self.mib * 1_000_000)
        } else {
            "repeat('x', 100)".to_owned()
        };
        let room = if self.mib > 0 { ROOM.to_string() } else { format!("n % {ROOMS}") };
        let insert =
            format!("insert into bench.{table} select n, {room}, {body} from generate_series(1, {}) n", self.rows);
        client.batch_execute(&insert).await.map_err(|error| error.to_string())?;
        let committed = origin.elapsed();
        let behind = small(behind_id).await?;
        let arrived = self.wait("the small row", || readers[1].notes.at(1)).await?;
        let sent = self.wait("the last row", || readers[0].notes.at(0).or(readers[0].notes.at(1))).await;
        let cpu = cpu_seconds(server.pid()) - cpu;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (most, after) = (peak_mib(server.pid()), resident_mib(server.pid()));
        let alone = readers[1].notes.at(0).unwrap_or_default().saturating_sub(before);
        let seconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64());
        let sent = sent.map_or("-".to_owned(), |at| seconds(at.saturating_sub(committed)));
        let notes: Vec<String> = readers.iter().map(told).collect();
        drop(readers);
        let status = server.stop().await;
        if !status.success() {
            return Err(format!("the server ended with {status}"));
        }
        Ok(format!(
            "| {table} | {rss:.0} | {most:.0} | {after:.0} | {sent} | {} | {} | {cpu:.1} | {} |",
            seconds(arrived.saturating_sub(behind)),
            seconds(alone),
            notes.join(" | ")
        ))
    }

    async fn wait(&self, what: &str, at: impl Fn() -> Option<Duration>) -> Result<Duration, String> {
        let start = Instant::now();
        loop {
            if let Some(at) = at() {
                return Ok(at);
            }
            if start.elapsed() > LIMIT {
                return Err(format!("{what} does not come in {} of {}", self.table, self.plan.rows));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What a reader got.
fn told(reader: &Reader) -> String {
    let notes = &reader.notes;
    let [changes, faults, gaps, lost, ends] =
        [&notes.changes, &notes.faults, &notes.gaps, &notes.lost, &notes.ends].map(|count| count.load(Relaxed));
    let mut text = format!("{}: {changes} rows", reader.name);
    let left = notes.left();
    if left > 0 {
        text += &format!(", {left} to come");
    }
    if gaps > 0 {
        text += &format!(", told {gaps} times that {lost} are lost");
    }
    // The one who reads nothing has no order.
    if changes > 0 {
        text += &match faults {
            0 => ", 0 out of order".to_owned(),
            _ => format!(", **{faults} out of order**"),
        };
    }
    if ends > 0 {
        text += ", closed";
    }
    text
}

/// What connections cost that are joined with resume and hear nothing, also when cursors have been renewed.
async fn idle(plan: &Plan, database: &Database) -> Result<String, String> {
    let settings = [("WALCAST_IDLE_TIMEOUT_MS", "600000"), ("WALCAST_RESUME_WINDOW_MS", "20000")];
    let server = Server::start(database, &settings).await;
    let board = Arc::new(Board::new());
    let before = resident_mib(server.pid());
    let subscriber = |number: usize| Subscriber {
        token: token::user(&person(number)),
        table: "posted",
        filter: None,
        resumes: true,
    };
    // Somebody writes, else there is nothing to renew cursors for.
    let stop = CancellationToken::new();
    let (url, stopped) = (database.url.clone(), stop.clone());
    drive(async move {
        let client = support::postgres::connect(&url).await;
        let writing = async {
            for id in 20_000_000.. {
                let _ = client.batch_execute(&format!("insert into bench.open values ({id}, 0, 'x')")).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        stopped.run_until_cancelled(writing).await;
    });
    let crowd = Crowd::join(server.address(), (0..plan.idle).map(subscriber).collect(), &board).await?;
    let joined = resident_mib(server.pid());
    let cpu = cpu_seconds(server.pid());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let cpu = (cpu_seconds(server.pid()) - cpu) / 30.0;
    let later = resident_mib(server.pid());
    stop.cancel();
    drop(crowd);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let gone = resident_mib(server.pid());
    server.stop().await;
    Ok(format!(
        "{} idle connections joined with resume: {before:.0} MiB before, {joined:.0} MiB after ({:.1} KiB each), {later:.0} MiB 30 s \
         later with a new cursor every 5 s, {gone:.0} MiB when all had left; {:.1} % of a core meanwhile.",
        plan.idle,
        (joined - before) * 1024.0 / plan.idle as f64,
        cpu * 100.0
    ))
}
