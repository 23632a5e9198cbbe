//! WAL that is kept for the slot: told, kept within its budget by giving the slot up, and set free while nothing of what is
//! published changes; and a publication that is made anew under a stream that runs.

use super::setup::{all_of, database, is, items, next, problem, subscriber, wait_for_health, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{Database, Postgres, majors},
    server::Server,
    socket::{Message, Socket},
    token::alice,
    wait::until,
};
use serde_json::json;
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::Client;
use walcast::{
    lsn::Lsn,
    pg::Target,
    shutdown::Tasks,
    source::{
        Feed, Follows, GapReason, HandedOn, Order, SourceState, WindowConfig, Wish, feed, slot, slot_task::Walreceiver,
    },
};

const TOPIC: &str = "realtime:line";
const SOON: Duration = Duration::from_secs(60);
const MIB: i64 = 1 << 20;

/// Uses up a segment of the log, which is 16 MiB.
async fn use_up_a_segment(client: &Client, id: i32) {
    client.execute("insert into docs values ($1, 'x')", &[&id]).await.unwrap();
    client.batch_execute("select pg_switch_wal()").await.unwrap();
}

/// A socket that has asked for changes that it can resume.
async fn resuming(server: &Server) -> Socket {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let config = json!({"postgres_changes": all_of("docs"), "postgres_changes_options": {"resume": true}});
    socket.join(TOPIC, &json!({"config": config})).await;
    socket.expect("the subscription", |m| m.is(TOPIC, "system") && m.payload.has("resumed")).await;
    socket
}

fn wal<'a>(health: &'a Json, name: &str) -> &'a Json {
    health.at("replication").at("wal").at(name)
}

fn counted(health: &Json, name: &str) -> i64 {
    health.at("counters").at(name).as_i64().unwrap()
}

async fn restart_lsn(client: &Client, database: &Database) -> String {
    let sql = "select restart_lsn::text from pg_replication_slots where slot_name = $1";
    client.query_one(sql, &[&database.slot()]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_budget_is_warned_of_at_its_half_and_at_its_end_the_slot_is_made_anew_and_the_gap_is_told() {
    let database = database(Postgres::default(), &items("docs")).await;
    let settings = [
        ("WALCAST_WAL_BUDGET_BYTES", "80000000"),
        ("WALCAST_RESUME_WINDOW_BYTES", "1000000"),
        ("WALCAST_WAL_WATCH_MS", "50"),
        ("METRICS_JWT_SECRET", "metrics"),
    ];
    let server = Server::start(&database, &settings).await;
    wait_for_stream(&server).await;
    let (mut resuming, (mut plain, _)) = (resuming(&server).await, subscriber(&server, &alice(), "docs").await);
    let client = database.connect().await;
    for id in 1..=3 {
        use_up_a_segment(&client, id).await;
        assert_eq!(next(&mut plain).await, is("INSERT", id.into()));
    }
    let health = wait_for_health(&server, |_, health| *wal(health, "pressure") == "high").await;
    assert_eq!(
        (wal(&health, "budget_bytes"), wal(&health, "window_bytes")),
        (&json!(80_000_000).into(), &json!(1_000_000).into())
    );
    assert!(wal(&health, "retained_bytes").as_i64().unwrap() > 40 * 1_000_000, "{health}");
    assert_eq!((counted(&health, "slot_warnings_total"), counted(&health, "slot_sheds_total")), (1, 0));
    let before = restart_lsn(&client, &database).await;
    for id in 4..=6 {
        use_up_a_segment(&client, id).await;
    }
    let health =
        wait_for_health(&server, |status, health| status == 200 && counted(health, "slot_sheds_total") >= 1).await;
    let says_the_gap = |line: &String| line.contains("are lost to clients") && line.contains("budget");
    until(SOON, async || server.log().iter().any(says_the_gap)).await;
    let told =
        resuming.expect("word of the gap", |m| m.is(TOPIC, "system") && *m.payload.at("status") == "error").await;
    assert_eq!(*told.payload.at("resumed"), json!(false), "{}", told.payload);
    assert!(told.payload.at("reason").as_str().unwrap().contains("budget") && told.payload.has("cursor"));
    plain.expect("the end of the channel", |m| m.is(TOPIC, "phx_error")).await;
    assert_ne!(restart_lsn(&client, &database).await, before);
    wait_for_health(&server, |_, health| {
        *wal(health, "pressure") == "calm" && wal(health, "retained_bytes").as_i64().unwrap() < 40 * 1_000_000
    })
    .await;
    // Live goes on in the channel that was told of the gap.
    client.execute("insert into docs values (100)", &[]).await.unwrap();
    let is_last =
        |m: &Message| m.is(TOPIC, "postgres_changes") && *m.payload.at("data").at("record").at("id") == json!(100);
    resuming.expect("what came behind the gap", is_last).await;
    let lines = server.log().iter().filter(|line| line.contains("more than half of the WAL budget")).count();
    assert_eq!(lines, 1, "{health}");
}

/// Nobody takes what the walreceiver has queued, as when the router holds the stream.
#[tokio::test]
async fn the_slot_is_given_up_even_while_the_queue_is_full_and_an_order_holds_for_one_stream_alone() {
    let database = database(Postgres::default(), &items("docs")).await;
    let (feed, mut fed) = feed(1, 1 << 20);
    let (_handed_on, handed_on) = watch::channel(HandedOn::default());
    let (_wish, wish) = watch::channel(Wish::default());
    let (order, orders) = watch::channel(Order::default());
    let (state, mut source) = watch::channel(SourceState::default());
    let tasks = Tasks::new();
    let walreceiver = Walreceiver {
        target: Target::parse(&database.walcast_url()).unwrap(),
        config: slot::Config {
            publication: "supabase_realtime".to_owned(),
            slot: database.slot(),
            temporary: false,
            application: "walcast".to_owned(),
            lookups: false,
            messages: false,
            window: WindowConfig::default(),
            silence_limit: SOON,
        },
        feed,
        handed_on,
        wish,
        order: orders,
        state,
        stop: tasks.stop_token().clone(),
    };
    tasks.spawn("walreceiver", walreceiver.run());
    let number = |state: &SourceState| state.stream.as_ref().map_or(0, |stream| stream.number);
    source.wait_for(|state| number(state) == 1).await.unwrap();
    let client = database.connect().await;
    for id in 1..=3 {
        client.execute("insert into docs values ($1)", &[&id]).await.unwrap();
    }
    let end: String = client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    // The beginning fills the queue, and the first row waits for room.
    order.send_replace(Order { stream: 1, reason: Some(GapReason::Shed) });
    let sql =
        "select count(*) from pg_replication_slots where slot_name = $1 and confirmed_flush_lsn >= $2::text::pg_lsn";
    until(SOON, async || client.query_one(sql, &[&database.slot(), &end]).await.unwrap().get::<_, i64>(0) == 1).await;
    let mut follows = Vec::new();
    while follows.len() < 2 {
        if let Feed::Begin(beginning) = fed.recv().await.unwrap() {
            follows.push(beginning.follows.clone());
        }
    }
    let [Follows::First, Follows::Gap(gap)] = &follows[..] else { panic!("{follows:?}") };
    assert_eq!(gap.reason, GapReason::Shed);
    assert!(gap.new >= end.parse::<Lsn>().unwrap() && gap.old < gap.new, "{gap:?}");
    source.wait_for(|state| number(state) == 2).await.unwrap();
    client.execute("insert into docs values (4)", &[]).await.unwrap();
    let Feed::Fragment(fragment) = fed.recv().await.unwrap() else { panic!("the order of before counted again") };
    assert_eq!(fragment.changes.len(), 1);
    assert!(tasks.stop(SOON).await);
}

/// The walreceiver cannot come back to the slot, and what it queued is held: WAL is set free all the same.
#[tokio::test]
async fn a_slot_over_its_budget_is_dropped_even_when_the_stream_is_cut_off_and_comes_back_with_a_gap() {
    let database = database(Postgres::default(), &items("docs")).await;
    let role = format!("wal_{}", database.slot());
    let made = format!(
        "create role {role} login replication password 'cut'; grant anon, authenticated, service_role to {role}"
    );
    database.execute(&made).await;
    let settings = [
        ("WALCAST_WAL_BUDGET_BYTES", "40000000"),
        ("WALCAST_RESUME_WINDOW_BYTES", "1000000"),
        ("WALCAST_WAL_WATCH_MS", "50"),
    ];
    let server = Server::start_at(&database.url_as(&role, "cut"), &database.slot(), &settings).await;
    wait_for_stream(&server).await;
    let mut resuming = resuming(&server).await;
    let client = database.connect().await;
    let cut = format!(
        "alter role {role} nologin;
         select pg_terminate_backend(pid) from pg_stat_activity
         where usename = '{role}' and (backend_type = 'walsender' or application_name = 'walcast catalogue')"
    );
    client.batch_execute(&cut).await.unwrap();
    wait_for_health(&server, |status, _| status == 503).await;
    for id in 1..=4 {
        use_up_a_segment(&client, id).await;
    }
    let sql = "select count(*) = 0 from pg_replication_slots where slot_name = $1";
    until(SOON, async || client.query_one(sql, &[&database.slot()]).await.unwrap().get(0)).await;
    wait_for_health(&server, |status, health| status == 503 && counted(health, "slot_sheds_total") == 1).await;
    client.batch_execute(&format!("alter role {role} login")).await.unwrap();
    wait_for_stream(&server).await;
    let told = resuming.expect("word of the gap", |m| m.is(TOPIC, "system") && m.payload.has("resumed")).await;
    assert_eq!(*told.payload.at("resumed"), json!(false), "{}", told.payload);
    client.execute("insert into docs values (100)", &[]).await.unwrap();
    assert_eq!(next(&mut resuming).await, is("INSERT", 100), "and nothing of what was lost");
}

/// From 18 on the stream goes on without a word when its publication is dropped, and has nothing of one that is made again.
#[tokio::test]
async fn a_publication_that_is_made_anew_is_streamed_from_a_new_slot_and_the_gap_is_told() {
    for major in majors() {
        let database = database(Postgres::shared(major), &items("docs")).await;
        let server = Server::start(&database, &[("WALCAST_WAL_WATCH_MS", "50")]).await;
        wait_for_stream(&server).await;
        let mut resuming = resuming(&server).await;
        database.execute("insert into docs values (1)").await;
        assert_eq!(next(&mut resuming).await, is("INSERT", 1));
        database.execute("drop publication supabase_realtime").await;
        let health = wait_for_health(&server, |status, _| status == 503).await;
        assert!(problem(&health).contains("create publication"), "{health}");
        database.execute("create publication supabase_realtime for table docs").await;
        let gap = |m: &Message| m.is(TOPIC, "system") && *m.payload.at("resumed") == json!(false);
        let told = resuming.expect("word of the gap", gap).await;
        assert!(told.payload.at("reason").as_str().unwrap().contains("publication was made anew"), "{}", told.payload);
        wait_for_stream(&server).await;
        database.execute("insert into docs values (2)").await;
        let is_next = |m: &Message| m.is(TOPIC, "postgres_changes");
        let change = resuming.expect("the next row", is_next).await;
        assert_eq!(*change.payload.at("data").at("record").at("id"), json!(2));
    }
}

#[tokio::test]
async fn while_only_unpublished_tables_are_written_positions_are_confirmed_within_the_window() {
    const WINDOW: i64 = MIB;
    let database = database(Postgres::default(), &format!("{} create table busy (body text)", items("docs"))).await;
    let server = Server::start(&database, &[("WALCAST_RESUME_WINDOW_BYTES", &WINDOW.to_string())]).await;
    wait_for_stream(&server).await;
    let client = database.connect().await;
    let busy = "insert into busy select repeat('x', 1000) from generate_series(1, 4000)";
    client.batch_execute(busy).await.unwrap();
    let end: String = client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    // Others write into the same log, and a position is remembered only at every 64th of the window.
    let sql = "select pg_wal_lsn_diff($1::text::pg_lsn, confirmed_flush_lsn)::bigint,
                      pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
               from pg_replication_slots where slot_name = $2";
    until(SOON * 2, async || {
        client.execute("insert into busy select repeat('x', 1000) from generate_series(1, 300)", &[]).await.unwrap();
        let row = client.query_one(sql, &[&end, &database.slot()]).await.unwrap();
        assert!(row.get::<_, i64>(1) >= WINDOW / 2, "the window is kept: {}", row.get::<_, i64>(1));
        row.get::<_, i64>(0) <= 0
    })
    .await;
    let health = wait_for_health(&server, |_, health| wal(health, "retained_bytes").as_i64().is_some()).await;
    let replication = health.at("replication");
    let lag = replication.at("lag_bytes").as_i64().unwrap();
    assert!(lag < WINDOW, "what is kept back on purpose is no lag: {health}");
}
