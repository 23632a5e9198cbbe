//! What goes wrong while serving: the database goes and comes, tables and rights change, clients do not read.

use super::setup::{
    all_of, database, get, is, items, next, problem, subscriber, summary, token_of, wait_for_health, wait_for_stream,
};
use crate::support::{
    postgres::{Database, PASSWORD, Postgres, binaries, connect, default_major, lasting_port, new_directory},
    server::Server,
    socket::{PATIENCE, Socket},
    token::{ALICE, alice},
    wait::until,
};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
};
use walcast::devdb::{Cluster, ClusterOptions};

const TOPIC: &str = "realtime:line";
const RIGHTS_LIMIT: Duration = Duration::from_secs(2);

async fn start_cluster(directory: std::path::PathBuf, port: Option<u16>) -> Cluster {
    let mut options = ClusterOptions::new(binaries(default_major()).await, directory);
    options.password = Some(PASSWORD.to_owned());
    options.port = port.or_else(|| Some(lasting_port()));
    Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_restart_of_the_database_costs_a_client_nothing_but_time() {
    let cluster = start_cluster(new_directory(), None).await;
    let (directory, port) = (cluster.directory().to_owned(), cluster.port());
    let client = connect(&cluster.url("postgres")).await;
    let roles = "create role anon; create role authenticated; create role service_role bypassrls; create role walcast;";
    client.batch_execute(&format!("{roles} {} {}", super::setup::PRELUDE, items("docs"))).await.unwrap();
    let server = Server::start_at(&cluster.url("postgres"), "walcast", &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    client.batch_execute("insert into docs values (1)").await.unwrap();
    assert_eq!(next(&mut socket).await, is("INSERT", 1));
    cluster.stop().await.unwrap();
    let health = wait_for_health(&server, |status, _| status == 503).await;
    assert_eq!(*health.at("status"), "degraded");
    let cluster = start_cluster(directory.clone(), Some(port)).await;
    assert_eq!(cluster.port(), port, "somebody took the port");
    connect(&cluster.url("postgres")).await.batch_execute("insert into docs values (2)").await.unwrap();
    assert_eq!(next(&mut socket).await, is("INSERT", 2));
    wait_for_health(&server, |status, health| status == 200 && *health.at("status") == "ok").await;
    assert!(server.stop().await.success());
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

/// A server that is shut down in order waits until whoever reads a slot has confirmed all it sent, and this one is confirmed a
/// window behind.
#[tokio::test]
async fn a_database_that_is_shut_down_in_order_does_not_wait_for_the_window() {
    let mut cluster = start_cluster(new_directory(), None).await;
    let (directory, port) = (cluster.directory().to_owned(), cluster.port());
    let client = connect(&cluster.url("postgres")).await;
    let roles = "create role anon; create role authenticated; create role service_role bypassrls; create role walcast;";
    client.batch_execute(&format!("{roles} {} {}", super::setup::PRELUDE, items("docs"))).await.unwrap();
    let server = Server::start_at(&cluster.url("postgres"), "walcast", &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    client.batch_execute("insert into docs values (1)").await.unwrap();
    assert_eq!(next(&mut socket).await, is("INSERT", 1));
    let row = client.query_one("select current_setting('data_directory') || '/postmaster.pid'", &[]).await.unwrap();
    let pid = std::fs::read_to_string(row.get::<_, &str>(0)).unwrap().lines().next().unwrap().to_owned();
    let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let ended = tokio::time::timeout(Duration::from_secs(20), cluster.ended()).await;
    ended.unwrap_or_else(|_| panic!("it still waits\n{}", server.log().join("\n"))).unwrap();
    let cluster = start_cluster(directory.clone(), Some(port)).await;
    connect(&cluster.url("postgres")).await.batch_execute("insert into docs values (2)").await.unwrap();
    assert_eq!(next(&mut socket).await, is("INSERT", 2));
    drop(server);
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

/// Another cluster in the place of the one before counts its log anew: what was handed on of the old log says nothing
/// about the new one.
#[tokio::test]
async fn another_server_in_the_same_place_is_confirmed_no_position_of_the_one_before() {
    let roles = "create role anon; create role authenticated; create role service_role bypassrls; create role walcast;";
    let tables = format!("{roles} {} {}", super::setup::PRELUDE, items("docs"));
    let cluster = start_cluster(new_directory(), None).await;
    let (directory, port) = (cluster.directory().to_owned(), cluster.port());
    let client = connect(&cluster.url("postgres")).await;
    client.batch_execute(&tables).await.unwrap();
    let server = Server::start_at(&cluster.url("postgres"), "walcast", &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    for id in 1..=5 {
        client.batch_execute("select pg_switch_wal()").await.unwrap();
        client.batch_execute(&format!("insert into docs values ({id})")).await.unwrap();
        assert_eq!(next(&mut socket).await, is("INSERT", id));
    }
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();

    let directory = new_directory();
    let cluster = start_cluster(directory.clone(), Some(port)).await;
    let client = connect(&cluster.url("postgres")).await;
    client.batch_execute(&tables).await.unwrap();
    wait_for_stream(&server).await;
    socket.expect("the end of the old stream", |m| m.is(TOPIC, "phx_error")).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    for id in 1..=3 {
        client.batch_execute(&format!("insert into docs values ({id})")).await.unwrap();
        assert_eq!(next(&mut socket).await, is("INSERT", id));
        let sql = "select confirmed_flush_lsn <= pg_current_wal_lsn(), active_pid from pg_replication_slots";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert!(row.get::<_, bool>(0), "confirmed what is not there yet");
        let kill = "select pg_terminate_backend($1)";
        client.query(kill, &[&row.get::<_, Option<i32>>(1)]).await.unwrap();
    }
    drop(server);
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_killed_walsender_loses_and_repeats_nothing() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    let client = database.connect().await;
    let kill = format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}' and active",
        database.slot()
    );
    let mut id = 0;
    for round in 0..4 {
        for _ in 0..30 {
            let first = id + 1;
            id += 20;
            client
                .batch_execute(&format!(
                    "insert into docs select n, repeat('x', 500) from generate_series({first}, {id}) n"
                ))
                .await
                .unwrap();
        }
        if round < 3 {
            until(PATIENCE, async || !client.query(&kill, &[]).await.unwrap().is_empty()).await;
        }
    }
    for expected in 1..=id {
        assert_eq!(next(&mut socket).await, is("INSERT", expected));
    }
    socket.listen(Duration::from_millis(200)).await;
    assert!(socket.drain().is_empty(), "nothing comes twice");
}

/// Ends the pause of a process, also when the test fails.
struct Paused(i32);

impl Paused {
    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &self.0.to_string()]).status();
        assert!(sent.expect("kill is a program").success());
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").args(["-CONT", &self.0.to_string()]).status();
    }
}

/// `cargo test --test main a_session_of_our_own_that_does_not_end -- --ignored`
#[tokio::test]
#[ignore = "has failed once beside other tests on a busy machine, and the cause is not known"]
async fn a_session_of_our_own_that_does_not_end_is_not_taken_for_another_server() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[("WALCAST_SILENCE_LIMIT_MS", "1000")]).await;
    wait_for_stream(&server).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    let client = database.connect().await;
    let sql = "select active_pid from pg_replication_slots where slot_name = $1";
    let sender = Paused(client.query_one(sql, &[&database.slot()]).await.unwrap().get(0));
    sender.signal("STOP");
    let health = wait_for_health(&server, |_, health| {
        let replication = health.at("replication");
        assert_ne!(*replication.at("state"), "standby", "{health}");
        problem(health).contains("session of ours")
    })
    .await;
    assert_eq!(*health.at("replication").at("state"), "interrupted", "{health}");
    assert!(problem(&health).contains(&sender.0.to_string()), "{health}");
    client.batch_execute("insert into docs values (1)").await.unwrap();
    drop(sender);
    assert_eq!(next(&mut socket).await, is("INSERT", 1));
    wait_for_stream(&server).await;
}

#[tokio::test]
async fn a_quiet_publication_does_not_hold_the_log_of_a_busy_database() {
    let database = database(Postgres::default(), &format!("{} create table busy (n int)", items("docs"))).await;
    let server = Server::start(&database, &[("WALCAST_RESUME_WINDOW_MS", "500")]).await;
    wait_for_stream(&server).await;
    let client = database.connect().await;
    client.batch_execute("insert into busy select generate_series(1, 10000)").await.unwrap();
    let end: String = client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let sql = "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = $2";
    until(PATIENCE, async || {
        client.execute("insert into busy values (1)", &[]).await.unwrap();
        client.query_one(sql, &[&end, &database.slot()]).await.unwrap().get(0)
    })
    .await;
}

#[tokio::test]
async fn a_stop_says_so_and_a_start_takes_the_same_slot_and_tells_nothing_of_what_was_between() {
    let database = database(Postgres::default(), &items("docs")).await;
    let slots = async || {
        let sql = "select count(*) from pg_replication_slots where database = current_database()";
        database.connect().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let server = Server::start(&database, &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    wait_for_stream(&server).await;
    let (status, code) = tokio::join!(server.stop(), socket.closed());
    assert_eq!((status.code(), code), (Some(0), 1012));
    assert_eq!(slots().await, 1);
    database.execute("insert into docs values (1)").await;
    let server = Server::start(&database, &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    database.execute("insert into docs values (2)").await;
    assert_eq!(next(&mut socket).await, is("INSERT", 2));
    assert_eq!(slots().await, 1);
}

/// Waits for a `system` message that is an error, and returns its text.
async fn error_told(socket: &mut Socket) -> String {
    let fits = |m: &crate::support::socket::Message| m.is(TOPIC, "system") && *m.payload.at("status") == "error";
    socket.expect("an error", fits).await.payload.at("message").as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_table_without_a_key_is_told_as_an_error_and_the_others_go_on() {
    let sql = format!(
        "{} create table keyless (n int); alter publication supabase_realtime add table keyless;",
        items("docs")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    socket.subscribe(TOPIC, &json!([{"event": "*", "schema": "public"}])).await;
    database.execute("insert into keyless values (1); insert into docs values (1)").await;
    let change = socket.change(TOPIC).await;
    assert_eq!(*change.at("data").at("errors").nth(0), "Error 400: Bad Request, no primary key");
    assert_eq!(next(&mut socket).await, is("INSERT", 1));
}

#[tokio::test]
async fn the_stream_goes_on_over_every_change_of_a_table_and_who_is_affected_is_told() {
    let sql = format!("{} {} alter table docs add kind text, add n int;", items("docs"), items("other"));
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let (mut plain, _) = subscriber(&server, &alice(), "docs").await;
    let (mut other, _) = subscriber(&server, &alice(), "other").await;
    let filtered = async |filter: &str| {
        let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
        let binding = json!([{"event": "*", "schema": "public", "table": "docs", "filter": filter}]);
        socket.subscribe(TOPIC, &binding).await;
        socket
    };
    let (mut by_kind, mut by_n) = (filtered("kind=eq.a").await, filtered("n=gt.1").await);
    let client = database.connect().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    let next_record = async |socket: &mut Socket| socket.change(TOPIC).await.at("data").at("record").clone();

    // In one transaction with the first row that has it.
    run(
        "begin; alter table docs add extra text; insert into docs (id, extra, kind, n) values (1, 'e', 'a', 2); commit",
    )
    .await;
    assert_eq!(next_record(&mut plain).await, json!({"id": 1, "body": null, "kind": "a", "n": 2, "extra": "e"}));
    assert_eq!((next(&mut by_kind).await, next(&mut by_n).await), (is("INSERT", 1), is("INSERT", 1)));

    run("alter table docs drop column kind; insert into docs (id, n) values (2, 5)").await;
    assert!(error_told(&mut by_kind).await.contains("invalid column for filter kind"));
    assert_eq!(next_record(&mut plain).await, json!({"id": 2, "body": null, "n": 5, "extra": null}));
    assert_eq!(next(&mut by_n).await, is("INSERT", 2));

    run("alter table docs alter n type text; insert into docs (id, n) values (3, '7')").await;
    assert!(error_told(&mut by_n).await.contains("subscribe again"));
    assert_eq!(next_record(&mut plain).await, json!({"id": 3, "body": null, "n": "7", "extra": null}));

    run("alter table docs rename column extra to more; insert into docs (id, more) values (4, 'm')").await;
    assert_eq!(next_record(&mut plain).await, json!({"id": 4, "body": null, "n": null, "more": "m"}));

    run("alter table docs rename to papers; insert into papers (id) values (5)").await;
    assert!(error_told(&mut plain).await.contains("Realtime is enabled"));
    run("alter table papers rename to docs").await;
    plain.expect("the word that it works again", |m| m.is(TOPIC, "system") && *m.payload.at("status") == "ok").await;
    run("insert into docs (id) values (6)").await;
    assert_eq!(next(&mut plain).await, is("INSERT", 6));

    run("begin; insert into docs (id) values (7); drop table docs; commit; insert into other values (1)").await;
    assert!(error_told(&mut plain).await.contains("Realtime is enabled"));
    assert_eq!(next(&mut other).await, is("INSERT", 1));
    wait_for_stream(&server).await;
}

#[tokio::test]
async fn a_new_column_shows_only_with_a_grant() {
    let sql = format!(
        "{} revoke select on docs from authenticated; grant select (id, body) on docs to authenticated",
        items("docs")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    database.execute("alter table docs add secret text; insert into docs values (1, 'b', 's')").await;
    assert_eq!(socket.change(TOPIC).await.at("data").at("record").keys(), ["body", "id"]);
    database.execute("grant select (secret) on docs to authenticated").await;
    tokio::time::sleep(RIGHTS_LIMIT).await;
    database.execute("insert into docs values (2, 'b', 's')").await;
    assert_eq!(socket.change(TOPIC).await.at("data").at("record").keys(), ["body", "id", "secret"]);
}

#[tokio::test]
async fn grants_policies_and_the_row_security_flag_work_within_two_seconds() {
    let database = database(Postgres::default(), &format!("{} {}", items("docs"), items("fence"))).await;
    let server = Server::start(&database, &[]).await;
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    socket.subscribe(TOPIC, &json!([{"event": "*", "schema": "public"}])).await;
    let steps = [
        ("alter table docs enable row level security", false),
        ("create policy p on docs for select using (id > 0)", true),
        ("alter policy p on docs using (id < 0)", false),
        ("alter table docs disable row level security", true),
        ("revoke select on docs from authenticated", false),
        ("grant select on docs to authenticated", true),
        ("revoke usage on schema public from public, authenticated", false),
        ("grant usage on schema public to public", true),
    ];
    for (id, (sql, visible)) in (1..).zip(steps) {
        database.execute(sql).await;
        tokio::time::sleep(RIGHTS_LIMIT).await;
        database.execute(&format!("insert into docs values ({id}); insert into fence values ({id})")).await;
        if sql.starts_with("revoke usage") {
            continue;
        }
        let mut seen = Vec::new();
        loop {
            let change = socket.change(TOPIC).await;
            if *change.at("data").at("table") == "fence" {
                break;
            }
            seen.push(summary(&change));
        }
        assert_eq!(seen, if visible { vec![is("INSERT", id)] } else { vec![] }, "{sql}");
    }
    // A table made and published after the start.
    database.execute(&items("late")).await;
    tokio::time::sleep(RIGHTS_LIMIT).await;
    database.execute("insert into late values (77)").await;
    assert_eq!(next(&mut socket).await, is("INSERT", 77));
}

#[tokio::test]
async fn a_publication_that_is_missing_is_named_with_the_fix_and_one_made_again_gets_a_new_slot() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    let (mut old, _) = subscriber(&server, &alice(), "docs").await;
    database
        .execute("insert into docs values (1); drop publication supabase_realtime; insert into docs values (2)")
        .await;
    let health = wait_for_health(&server, |_, health| problem(health).contains("create publication")).await;
    assert!(problem(&health).contains("publication \"supabase_realtime\" does not exist"), "{health}");
    database.execute("insert into docs values (3); create publication supabase_realtime for table docs; insert into docs values (4)").await;
    // From 18 on the stream goes on without a publication and says nothing; there it is found by looking for it.
    old.expect("the gap", |m| m.is(TOPIC, "system") && m.text.contains("Changes were skipped")).await;
    old.expect("the end of the join", |m| m.is(TOPIC, "phx_error")).await;
    wait_for_stream(&server).await;
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    socket.join(TOPIC, &json!({"config": {"postgres_changes": all_of("docs")}})).await;
    // The catalogue may be read only now.
    let is_active = |m: &crate::support::socket::Message| m.is(TOPIC, "system") && m.text.contains("Subscribed to");
    socket.expect("an active subscription", is_active).await;
    database.execute("insert into docs values (5)").await;
    assert_eq!(next(&mut socket).await, is("INSERT", 5));
}

#[tokio::test]
async fn two_servers_on_one_slot_do_not_disturb_each_other() {
    let database = database(Postgres::default(), &items("docs")).await;
    let first = Server::start(&database, &[]).await;
    wait_for_stream(&first).await;
    let (mut socket, _) = subscriber(&first, &alice(), "docs").await;
    let second = Server::start(&database, &[]).await;
    let health =
        wait_for_health(&second, |_, health| problem(health).contains("another server reads replication slot")).await;
    assert_eq!(*health.at("status"), "degraded");
    for id in 1..=5 {
        database.execute(&format!("insert into docs values ({id})")).await;
        assert_eq!(next(&mut socket).await, is("INSERT", id));
    }
    let (status, _) = get(&first, "/health").await;
    assert_eq!(status, 200);
    first.stop().await;
    // The second takes over.
    wait_for_stream(&second).await;
}

/// A client that joined and reads no more, with as small a buffer as the system grants.
async fn deaf(server: &Server, table: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address().parse().unwrap()).await.unwrap();
    let url = server.websocket_url("1.0.0", &alice());
    let path = &url[url.find("/realtime").unwrap()..];
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let join = json!({"topic": TOPIC, "event": "phx_join", "ref": "1", "join_ref": "1",
                      "payload": {"config": {"postgres_changes": all_of(table)}}})
    .to_string();
    let mut bytes = head.into_bytes();
    // A masked text frame with a mask of zeros.
    bytes.extend([0x81, 0x80 | 126]);
    bytes.extend(u16::try_from(join.len()).unwrap().to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(join.as_bytes());
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("Subscribed to PostgreSQL") {
        assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
    }
    stream
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_costs_the_others_nothing() {
    let database = database(Postgres::default(), &items("docs")).await;
    let limits = [("WALCAST_OUTBOX_BYTES", "1000000"), ("WALCAST_WRITE_TIMEOUT_MS", "1000")];
    let server = Server::start(&database, &limits).await;
    let mut deaf = deaf(&server, "docs").await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    let client = database.connect().await;
    for id in 1..=100 {
        client.execute("insert into docs values ($1, repeat('x', 100000))", &[&id]).await.unwrap();
        assert_eq!(next(&mut socket).await, is("INSERT", i64::from(id)));
    }
    until(PATIENCE, async || *get(&server, "/health").await.1.at("connections") == json!(1)).await;
    let (_, health) = get(&server, "/health").await;
    assert_eq!(*health.at("counters").at("slow_clients_total"), json!(1), "{health}");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, deaf.read_to_end(&mut rest)).await.expect("it was closed");
}

async fn large_transaction(database: &Database, rows: i64) {
    let sql = format!("insert into docs select n, 'row ' || n from generate_series(1, {rows}) n");
    database.execute(&sql).await;
}

#[tokio::test]
async fn a_transaction_of_twenty_thousand_rows_reaches_a_client_that_reads_whole_and_in_order() {
    const ROWS: i64 = 20_000;
    for with_policies in [false, true] {
        let policy = "alter table docs enable row level security; create policy p on docs for select using (id > 0);";
        let sql = format!("{} {}", items("docs"), if with_policies { policy } else { "" });
        let database = database(Postgres::default(), &sql).await;
        let server = Server::start(&database, &[]).await;
        let _deaf = deaf(&server, "docs").await;
        let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
        let write = large_transaction(&database, ROWS);
        let read = async {
            for id in 1..=ROWS {
                let fits = |m: &crate::support::socket::Message| m.is(TOPIC, "postgres_changes");
                let message = socket.expect_within(PATIENCE, "a row", fits).await;
                assert_eq!(message.payload.at("data").at("record").at("id").as_i64(), Some(id));
            }
        };
        tokio::join!(write, read);
        // The stream is not behind, and others can join.
        let (mut late, _) =
            subscriber(&server, &token_of(json!({"role": "authenticated", "sub": ALICE})), "docs").await;
        database.execute("insert into docs values (0), (30000)").await;
        let expected = if with_policies { 30_000 } else { 0 };
        assert_eq!(next(&mut late).await, is("INSERT", expected));
    }
}

#[tokio::test]
async fn what_waiting_does_not_cure_is_named_with_its_fix() {
    let database = database(Postgres::default(), &items("docs")).await;
    let slot = database.slot();
    // The server that starts refuses; one that runs says so in its health and goes on when it is cured.
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let expect = async |url: &str, sql: &str, words: [&str; 2]| {
        database.execute(sql).await;
        let outcome = Server::refusal(url, &slot).await;
        assert!(words.iter().all(|word| outcome.contains(word)), "{outcome}");
    };
    assert!(server.stop().await.success());
    database.execute(&format!("select pg_drop_replication_slot('{slot}')")).await;
    let url = database.walcast_url();
    let physical = format!("select pg_create_physical_replication_slot('{slot}')");
    expect(&url, &physical, ["is not ours: it is a physical slot", "--slot"]).await;
    let free = format!("select pg_drop_replication_slot('{slot}')");
    let unnamed = "drop publication supabase_realtime";
    expect(&url, &format!("{free}; {unnamed}"), ["does not exist", "create publication"]).await;
    let role = "create publication supabase_realtime for table docs;
        do $$ begin
          perform pg_advisory_xact_lock(4711);
          if not exists (select from pg_roles where rolname = 'line_reader') then
            create role line_reader login password 'reader'; grant anon, authenticated to line_reader;
          end if;
        end $$";
    let reader = database.url_as("line_reader", "reader");
    expect(&reader, role, ["may not replicate", "alter role line_reader replication"]).await;
}

#[tokio::test]
async fn without_a_catalogue_to_go_by_changes_are_held_and_come_when_it_can_be_read_again() {
    let database = database(Postgres::default(), &items("docs")).await;
    let role = format!("line_held_{}", database.slot());
    let made = format!(
        "create role {role} login replication password 'held'; grant anon, authenticated, service_role to {role}"
    );
    database.execute(&made).await;
    let server = Server::start_at(&database.url_as(&role, "held"), &database.slot(), &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    database.execute("insert into docs values (1)").await;
    assert_eq!(next(&mut socket).await, is("INSERT", 1));
    let cut = format!(
        "alter role {role} connection limit 0;
         select pg_terminate_backend(pid) from pg_stat_activity
         where usename = '{role}' and application_name = 'walcast catalogue'"
    );
    database.execute(&cut).await;
    let held = |status: u16, health: &crate::support::json::Json| {
        status == 503 && problem(health).contains("the catalogue cannot be read")
    };
    wait_for_health(&server, held).await;
    database.execute("insert into docs values (2); insert into docs values (3)").await;
    let early = socket.drain_until_quiet(Duration::from_millis(500)).await;
    assert!(early.iter().all(|message| !message.is(TOPIC, "postgres_changes")), "a change was judged by old rights");
    database.execute(&format!("alter role {role} connection limit -1")).await;
    assert_eq!(next(&mut socket).await, is("INSERT", 2));
    assert_eq!(next(&mut socket).await, is("INSERT", 3));
    wait_for_stream(&server).await;
    assert!(server.stop().await.success());
}
