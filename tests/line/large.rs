//! Large transactions and large rows: they go through whole and in order, or it is said to whom they do not; what is small
//! behind them does not wait for whoever they are too much for.

use super::setup::{database, get, is, items, next, subscriber, summary, token_of, wait_for_lookup, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{Database, Postgres},
    server::Server,
    socket::{PATIENCE, Socket},
    token::{ALICE, alice},
};
use serde_json::json;
use std::fs;

/// Documents for whoever reads their kind, so that large transactions are gathered. Alice reads ten of them.
fn shared() -> String {
    format!(
        "create table docs (id int primary key, kind int, body text);
         create table readers (kind int, person uuid, primary key (kind, person));
         insert into readers select n, '{ALICE}' from generate_series(0, 9) n;
         alter publication supabase_realtime add table docs;
         create publication walcast_lookups for table readers;
         alter table docs enable row level security;
         create policy reader on docs for select to authenticated using (
           exists (select 1 from readers r where r.kind = docs.kind and r.person = (select auth.uid())));"
    )
}

async fn counter(server: &Server, name: &str) -> i64 {
    let (_, health) = get(server, "/health").await;
    health.at("counters").at(name).as_i64().unwrap_or_else(|| panic!("{name} in {health}"))
}

/// The highest the server's memory has been since this was asked last.
fn peak_mib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap() / 1024;
    // Begins to look for the highest anew.
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    peak
}

#[tokio::test]
async fn a_transaction_that_does_not_fit_into_memory_is_judged_whole_and_what_is_behind_it_comes_soon() {
    const ROWS: i64 = 60_000;
    let database = database(Postgres::default(), &shared()).await;
    let directory = tempfile::tempdir().unwrap();
    let spill = directory.path().to_str().unwrap();
    let settings = [("WALCAST_TRANSACTION_BYTES", "1000000"), ("WALCAST_SPILL_DIRECTORY", spill)];
    let server = Server::start(&database, &settings).await;
    wait_for_stream(&server).await;
    wait_for_lookup(&server, "public.readers").await;
    let (mut reader, _) = subscriber(&server, &alice(), "docs").await;
    let sql = format!("insert into docs select n, n % 10000, 'x' from generate_series(1, {ROWS}) n");
    database.execute(&format!("begin; {sql}; delete from readers where kind = 3; commit")).await;
    database.execute("insert into docs values (1000001, 0, 'behind')").await;
    // What the transaction says last counts for its first row.
    let expected = (1..=ROWS).filter(|n| n % 10_000 < 10 && n % 10_000 != 3);
    for id in expected.chain([1_000_001]) {
        assert_eq!(next(&mut reader).await, is("INSERT", id));
    }
    assert_eq!(counter(&server, "transactions_spilled_total").await, 1);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the file has no name");
}

#[tokio::test]
async fn what_a_file_may_not_hold_is_lost_to_those_it_was_gathered_for_and_they_hear_of_it() {
    let database = database(Postgres::default(), &format!("{} {}", shared(), items("open"))).await;
    let settings = [("WALCAST_TRANSACTION_BYTES", "100000"), ("WALCAST_SPILL_BYTES", "500000")];
    let server = Server::start(&database, &settings).await;
    wait_for_stream(&server).await;
    wait_for_lookup(&server, "public.readers").await;
    let mut judged = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let config =
        json!({"postgres_changes": super::setup::all_of("docs"), "postgres_changes_options": {"resume": true}});
    judged.join("realtime:line", &json!({ "config": config })).await;
    judged.expect("the system message", |message| message.is("realtime:line", "system")).await;
    let (mut free, _) = subscriber(&server, &token_of(json!({"role": "service_role"})), "open").await;
    let many = |values: &str| format!("insert into {values}, 'x' from generate_series(1, 20000) n;");
    let (docs, open) = (many("docs select n, n % 10000"), many("open select n"));
    database.execute(&format!("begin; {docs} {open} commit")).await;
    let word = judged.expect("word of the loss", |message| message.is("realtime:line", "system")).await.payload;
    assert_eq!((word.at("status").as_str(), word.at("resumed")), (Some("error"), &Json::Bool(false)), "{word}");
    for id in 1..=20_000 {
        assert_eq!(next(&mut free).await, is("INSERT", id), "who needs no other table loses nothing");
    }
    database.execute("insert into docs values (100001, 0, 'behind')").await;
    assert_eq!(next(&mut judged).await, is("INSERT", 100_001));
    assert_eq!(counter(&server, "transactions_lost_total").await, 1);
    let log = server.log().join("\n");
    assert!(log.contains("it takes more than 500000 bytes; raise spill_bytes"), "{log}");
}

/// Rows of 20 MB through all ways to decide: in the process, gathered with a lookup, and by the database.
#[tokio::test]
async fn rows_of_many_megabytes_go_through_with_bounded_memory() {
    const ROWS: i64 = 30;
    const ROW_MIB: u64 = 20;
    let sql = format!(
        "{} create function is_small(int) returns boolean language plpgsql stable as
           $$ begin if $1 < 100 then return true; end if; return false; end $$;
         create policy asked on docs for select to anon using (is_small(id));",
        shared()
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    wait_for_lookup(&server, "public.readers").await;
    let (mut everything, _) = subscriber(&server, &token_of(json!({"role": "service_role"})), "docs").await;
    let (mut member, _) = subscriber(&server, &alice(), "docs").await;
    let mut asked = Socket::open(&server.websocket_url("2.0.0", &token_of(json!({"role": "anon"})))).await;
    // As many as the lane takes at once: whoever falls behind by more than the backlog hears of a gap.
    let few = json!([{"event": "*", "schema": "public", "table": "docs", "filter": "kind=lt.3"}]);
    asked.subscribe("realtime:line", &few).await;
    let before = peak_mib(&server);
    write_large(&database, ROWS, ROW_MIB).await;
    for id in 0..ROWS {
        for (socket, gets) in [(&mut everything, true), (&mut member, id < 10), (&mut asked, id < 3)] {
            if gets {
                let change = socket.change("realtime:line").await;
                assert_eq!(summary(&change), is("INSERT", id));
                assert_eq!(*change.at("data").at("errors").nth(0), "Error 413: Payload Too Large", "{change}");
            }
        }
    }
    let peak = peak_mib(&server);
    // Whatever is held is held of a few rows at a time: one for those who lag, one being read, one that waits, one on its
    // way into the file or out of it, and the question to the database in its forms; the rest is the allocator's.
    assert!(
        peak < before + ROWS.unsigned_abs() / 2 * ROW_MIB,
        "{before} MiB before, {peak} MiB for {ROWS} of {ROW_MIB} MiB"
    );
    database.execute("insert into docs values (50, 0, 'behind')").await;
    for socket in [&mut everything, &mut member, &mut asked] {
        assert_eq!(next(socket).await, is("INSERT", 50));
    }
}

async fn write_large(database: &Database, rows: i64, mib: u64) {
    let client = database.connect().await;
    let sql = format!(
        "insert into docs select n, n, repeat('0123456789abcdef', {mib} * 65536) from generate_series(0, {rows} - 1) n"
    );
    tokio::time::timeout(PATIENCE * 2, client.batch_execute(&sql)).await.unwrap().unwrap();
}
