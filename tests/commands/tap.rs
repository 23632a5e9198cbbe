//! `walcast tap`.

use super::{Running, SOON, stderr, walcast};
use crate::support::{
    postgres::{Database, Postgres, majors},
    wait::until,
};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const TABLES: &str = "
    create table public.notes (id int primary key, body text, twice int generated always as (id * 2) stored);
    create table public.other (id int primary key, at timestamptz);
    create publication supabase_realtime for table public.notes, public.other;";

async fn database(major: u32) -> Database {
    let database = Postgres::shared(major).database().await;
    database.execute(TABLES).await;
    database
}

impl Running {
    /// A tap of the least-privileged role that listens already.
    async fn tap(database: &Database, arguments: &[&str]) -> Running {
        let url = database.walcast_url();
        let running = Running::start(walcast(&[&["tap"], arguments].concat(), &[("DATABASE_URL", &url)]));
        let listening = || async { running.stderr.lines().iter().any(|line| line.contains("listening")) };
        until(SOON, listening).await;
        running
    }

    fn changes(&self) -> Vec<Value> {
        self.stdout.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn lines(&self, count: usize) -> Vec<Value> {
        until(SOON, || async { self.stdout.lines().len() >= count }).await;
        self.changes()
    }
}

async fn slots(database: &Database) -> i64 {
    let sql = "select count(*) from pg_replication_slots where database = current_database()";
    database.connect().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn leaves_no_slot(database: &Database) {
    until(SOON, || async { slots(database).await == 0 }).await;
}

#[tokio::test]
async fn every_kind_of_change_is_one_object_a_line() {
    for major in majors() {
        let database = database(major).await;
        let mut tap = Running::tap(&database, &[]).await;
        assert_eq!(slots(&database).await, 1);
        database.execute("insert into notes values (1, 'a'); update notes set body = null; delete from notes").await;
        database.execute("update notes set id = 2 where id = 1; truncate notes").await;
        let lines = tap.lines(4).await;
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["INSERT", "UPDATE", "DELETE", "TRUNCATE"]);
        let insert = &lines[0];
        assert_eq!((&insert["schema"], &insert["table"]), (&json!("public"), &json!("notes")));
        assert_eq!(insert["record"], json!({"id": 1, "body": "a"}));
        assert_eq!(insert["columns"], json!([{"name": "id", "type": "int4"}, {"name": "body", "type": "text"}]));
        assert_eq!(insert["absent"], json!(["twice"]));
        assert!(insert["lsn"].as_str().unwrap().parse::<walcast::lsn::Lsn>().is_ok());
        assert!(insert["xid"].as_u64().unwrap() > 0 && insert["commit_timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(insert.get("old_record").is_none());
        assert_eq!((&lines[1]["record"], &lines[1]["old_record"]), (&json!({"id": 1, "body": null}), &Value::Null));
        assert_eq!(lines[2]["old_record"], json!({"id": 1}));
        assert_eq!(lines[2]["absent"], json!(["body", "twice"]));
        assert!(lines[2].get("record").is_none());
        assert!(lines[3].get("record").is_none() && lines[3].get("columns").is_none());
        tap.signal("INT");
        assert_eq!(tap.ended().await.code(), Some(0));
        leaves_no_slot(&database).await;
    }
}

#[tokio::test]
async fn tables_and_events_are_chosen_and_the_limit_ends_it() {
    let database = database(crate::support::postgres::default_major()).await;
    let mut tap = Running::tap(&database, &["--table=other", "--event=INSERT", "--event=delete", "--limit=2"]).await;
    let mut all = Running::tap(&database, &["--table", "*", "--event", "*", "--limit", "6"]).await;
    database.execute("insert into notes values (1); insert into other values (1, '2026-01-02 03:04:05+00')").await;
    database.execute("update other set at = null; truncate notes; delete from other").await;
    database.execute("insert into other values (2)").await;
    assert_eq!(tap.ended().await.code(), Some(0));
    let lines = tap.lines(2).await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["record"], json!({"id": 1, "at": "2026-01-02T03:04:05+00:00"}));
    assert_eq!(lines[1]["type"], "DELETE");
    assert_eq!(all.ended().await.code(), Some(0));
    assert_eq!(all.lines(6).await.len(), 6);
    leaves_no_slot(&database).await;
}

#[tokio::test]
async fn a_table_nobody_publishes_is_warned_of_and_an_unknown_event_refused() {
    let database = database(crate::support::postgres::default_major()).await;
    let tap = Running::tap(&database, &["--table", "nots"]).await;
    let said = tap.stderr.lines().join("\n");
    assert!(said.contains("table public.nots is not in") && said.contains("public.notes, public.other"), "{said}");
    let url = database.walcast_url();
    let refused = super::output(&["tap", "--event", "upsert"], &[("DATABASE_URL", &url)]);
    assert!(!refused.status.success() && stderr(&refused).contains("upsert"));
    assert!(stderr(&refused).contains("truncate"), "names those there are");
}

#[tokio::test]
async fn no_slot_is_left_by_a_tap_that_was_killed_or_lost_its_reader() {
    let database = database(crate::support::postgres::default_major()).await;
    let mut killed = Running::tap(&database, &[]).await;
    let mut terminated = Running::tap(&database, &[]).await;
    assert_eq!(slots(&database).await, 2, "each has its own");
    killed.signal("KILL");
    killed.ended().await;
    terminated.signal("TERM");
    assert_eq!(terminated.ended().await.code(), Some(0));
    leaves_no_slot(&database).await;

    let url = database.walcast_url();
    let mut command = walcast(&["tap"], &[("DATABASE_URL", &url)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until(SOON, || async { slots(&database).await == 1 }).await;
    drop(child.stdout.take());
    // The slot is there a moment before the tap listens; whatever it sees last ends it.
    let mut id = 0;
    until(SOON, || {
        id += 1;
        let insert = format!("insert into notes values ({id})");
        let ended = child.try_wait().unwrap();
        let database = &database;
        async move {
            database.execute(&insert).await;
            ended.is_some()
        }
    })
    .await;
    assert_eq!(child.wait().unwrap().code(), Some(0));
    leaves_no_slot(&database).await;
}

#[tokio::test]
async fn a_tap_whose_reader_sleeps_holds_little_and_can_be_ended() {
    let database = database(crate::support::postgres::default_major()).await;
    let url = database.walcast_url();
    let mut command = walcast(&["tap"], &[("DATABASE_URL", &url)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let kept = child.stdout.take().unwrap();
    until(SOON, || async { slots(&database).await == 1 }).await;
    database.execute("insert into notes select n, repeat('x', 1000) from generate_series(1, 100000) n").await;
    // The walsender waits for us: what it has sent stands still.
    let sent = "select coalesce(max(sent_lsn), '0/0')::text, coalesce(max(sent_lsn) < pg_current_wal_lsn(), false)
                from pg_stat_replication where application_name = 'walcast tap' and pid in (
                select active_pid from pg_replication_slots where database = current_database())";
    let client = database.connect().await;
    let seen = std::cell::RefCell::new((String::new(), 0));
    until(SOON, || async {
        let row = client.query_one(sent, &[]).await.unwrap();
        let (now, is_behind): (String, bool) = (row.get(0), row.get(1));
        let mut seen = seen.borrow_mut();
        let times = if now == seen.0 && is_behind { seen.1 + 1 } else { 0 };
        *seen = (now, times);
        times > 50
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 90_000, "{kilobytes} kB of 100 MB");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    until(SOON, || {
        let ended = child.try_wait().unwrap();
        async move { ended.is_some() }
    })
    .await;
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(kept);
    leaves_no_slot(&database).await;
}

#[tokio::test]
async fn a_tap_goes_on_after_its_session_was_ended_and_says_that_changes_are_missed() {
    let database = database(crate::support::postgres::default_major()).await;
    let mut tap = Running::tap(&database, &[]).await;
    let end = "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()";
    database.execute(end).await;
    until(SOON, || async { tap.stderr.lines().iter().any(|line| line.contains("changes in between were missed")) })
        .await;
    database.execute("insert into notes values (7)").await;
    assert_eq!(tap.lines(1).await[0]["record"]["id"], 7);
    tap.signal("INT");
    assert_eq!(tap.ended().await.code(), Some(0));
    leaves_no_slot(&database).await;
}

#[tokio::test]
async fn the_form_for_people_keeps_control_characters_from_the_terminal() {
    let database = database(crate::support::postgres::default_major()).await;
    let tap = Running::tap(&database, &["--format", "text"]).await;
    database.execute("insert into notes values (1, e'a\\u009b31m\\x07'); update notes set body = 'b'").await;
    until(SOON, || async { tap.stdout.lines().len() == 2 }).await;
    let lines = tap.stdout.lines();
    assert!(lines[0].contains("INSERT") && lines[0].contains("public.notes") && lines[0].contains("id=1"), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
}

#[tokio::test]
async fn a_type_and_a_table_made_later_are_rendered_by_their_kind() {
    let database = database(crate::support::postgres::default_major()).await;
    let tap = Running::tap(&database, &[]).await;
    database
        .execute(
            "create type mood as enum ('fine'); create table later (id int primary key, moods mood[]);
             alter publication supabase_realtime add table later; insert into later values (1, '{fine}')",
        )
        .await;
    let line = tap.lines(1).await.remove(0);
    assert_eq!(line["record"], json!({"id": 1, "moods": ["fine"]}));
    assert_eq!(line["columns"][1], json!({"name": "moods", "type": "_mood"}));
}
