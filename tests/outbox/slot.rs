//! The slot while changes are read from the outbox: nobody reads it, and that is said; it is made anew only when nobody needs
//! it, and whoever would have needed it is told.

use super::setup::install;
use crate::{
    commands::output,
    line::setup::{PRELUDE, token_of, wait_for_health},
    support::{
        json::Json,
        postgres::{Database, Postgres, WALCAST_PASSWORD},
        server::Server,
        socket::Socket,
    },
};
use serde_json::{Value, json};
use std::time::Duration;

const TOPIC: &str = "realtime:slot";

async fn database() -> Database {
    let database = Postgres::default().database().await;
    database.execute(PRELUDE).await;
    database
        .execute("create table items (id int primary key); alter publication supabase_realtime add table items")
        .await;
    install(&database).await;
    database
}

/// A socket that has asked to come back, and what it was told.
async fn join(server: &Server, resume: Value) -> (Socket, Json) {
    let service = token_of(json!({"role": "service_role"}));
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &service)).await;
    let tables = json!([{"event": "*", "schema": "public", "table": "items"}]);
    let config = json!({"postgres_changes": tables, "postgres_changes_options": {"resume": resume}});
    socket.join(TOPIC, &json!({ "config": config })).await;
    let said = socket.expect("what becomes of the join", |message| {
        message.is(TOPIC, "system") && message.text.contains("Subscribed to PostgreSQL")
    });
    let said = said.await.payload;
    (socket, said)
}

/// The keys of the next changes, and the cursor behind the last.
async fn expect(socket: &mut Socket, expected: &[i64]) -> String {
    let mut cursor = String::new();
    for id in expected {
        let change = socket.change(TOPIC).await;
        let data = change.at("data");
        assert_eq!(data.at("record").at("id").as_i64(), Some(*id), "{change}");
        data.at("cursor").as_str().unwrap().clone_into(&mut cursor);
    }
    cursor
}

fn warning(health: &Json) -> Option<&str> {
    health.at("replication").at("wal").at("warning").as_str()
}

async fn wait_for_source(server: &Server, source: &str) {
    wait_for_health(server, |status, health| status == 200 && *health.at("replication").at("source") == source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_left_behind_is_named_and_with_a_budget_dropped() {
    let database = database().await;
    let (slot, client) = (database.slot(), database.connect().await);
    client.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await.unwrap();
    let extra =
        [("WALCAST_SOURCE", "notify"), ("WALCAST_WAL_WATCH_MS", "100"), ("WALCAST_RESUME_WINDOW_BYTES", "1000000")];
    let server = Server::start(&database, &extra).await;
    let health = wait_for_health(&server, |status, health| status == 200 && warning(health).is_some()).await;
    let said = warning(&health).unwrap();
    for part in [slot.as_str(), "holds back", "of WAL", "walcast slot drop"] {
        assert!(said.contains(part), "{said}");
    }
    let log = server.log();
    assert_eq!(
        log.iter().filter(|line| line.contains("nobody reads replication slot")).count(),
        1,
        "{}",
        log.join("\n")
    );
    let url = database.url_as("walcast", WALCAST_PASSWORD);
    let of_check = |source| {
        let environment = [("DATABASE_URL", url.as_str()), ("WALCAST_SLOT", &slot), ("WALCAST_SOURCE", source)];
        let found: Value = serde_json::from_slice(&output(&["check", "--json"], &environment).stdout).unwrap();
        let finding = found.as_array().unwrap().iter().find(|finding| finding["id"] == "slot").unwrap().clone();
        (finding["status"].as_str().unwrap().to_owned(), finding["meaning"].as_str().unwrap().to_owned())
    };
    let (status, meaning) = of_check("notify");
    assert!(
        status == "warning" && meaning.contains("read from the outbox") && meaning.contains("slot drop"),
        "{meaning}"
    );
    assert_eq!(of_check("auto").0, "ok", "there it is what is read");
    server.stop().await;
    let server = Server::start(&database, &[&extra[..], &[("WALCAST_WAL_BUDGET_BYTES", "20000000")]].concat()).await;
    let (mut socket, _) = join(&server, json!(true)).await;
    client.batch_execute("create table filler (t text)").await.unwrap();
    for _ in 0..3 {
        // Pieces of 16 MiB.
        client.batch_execute("insert into filler values ('x'); select pg_switch_wal()").await.unwrap();
    }
    let health = wait_for_health(&server, |_, health| {
        let wal = health.at("replication").at("wal");
        *wal.at("retained_bytes") == Json::Null && *wal.at("pressure") == "calm"
    })
    .await;
    assert_eq!(warning(&health), None, "{health}");
    let left = client.query("select from pg_replication_slots where slot_name = $1", &[&slot]).await.unwrap();
    assert!(left.is_empty());
    client.batch_execute("insert into items values (1)").await.unwrap();
    expect(&mut socket, &[1]).await;
    assert_eq!(health.at("counters").at("gaps_total").as_i64(), Some(0), "nothing is lost by that: {health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_made_anew_only_when_nobody_needs_it_and_its_cursors_are_refused() {
    let database = database().await;
    let client = database.connect().await;
    let login = format!("over_{}", database.name);
    client
        .batch_execute(&format!("create role {login} login replication password 'over'; grant walcast to {login}"))
        .await
        .unwrap();
    let (url, slot) = (database.url_as(&login, "over"), database.slot());
    let server = Server::start_at(&url, &slot, &[]).await;
    let (mut socket, _) = join(&server, json!(true)).await;
    client.batch_execute("insert into items values (1), (2)").await.unwrap();
    let of_first_slot = expect(&mut socket, &[1]).await;
    // It ends, and the next cannot read the log: what its slot has stays in it.
    drop(server);
    client.batch_execute(&format!("alter role {login} noreplication")).await.unwrap();
    let server = Server::start_at(&url, &slot, &[]).await;
    wait_for_source(&server, "notify").await;
    let standby = Server::start_at(&url, &slot, &[]).await;
    let is_standby = |_, health: &Json| *health.at("replication").at("state") == "standby";
    let health = wait_for_health(&standby, is_standby).await;
    assert_eq!(*health.at("replication").at("source"), "notify", "{health}");
    client.batch_execute("insert into items values (3)").await.unwrap();
    client.batch_execute(&format!("alter role {login} replication")).await.unwrap();
    wait_for_source(&server, "wal").await;
    assert!(server.log().iter().any(|line| line.contains("replication slot dropped")), "{}", server.log().join("\n"));
    let (mut socket, said) = join(&server, json!(of_first_slot)).await;
    assert_eq!(*said.at("resumed"), Json::Bool(false), "what was only in that slot is gone: {said}");
    assert!(said.at("reason").as_str().is_some(), "{said}");
    client.batch_execute("insert into items values (4)").await.unwrap();
    let cursor = expect(&mut socket, &[4]).await;
    // The other one has seen that the log is read now, and goes on with it where this one ends.
    wait_for_health(&standby, |_, health| {
        let problem = health.at("replication").at("problem");
        problem.as_str().is_some_and(|problem| problem.contains("another server reads replication slot"))
    })
    .await;
    drop(server);
    client.batch_execute("insert into items values (5)").await.unwrap();
    wait_for_source(&standby, "wal").await;
    let (mut socket, said) = join(&standby, json!(cursor)).await;
    assert_eq!(*said.at("resumed"), Json::Bool(true), "{said}\n{}", standby.log().join("\n"));
    client.batch_execute("insert into items values (6)").await.unwrap();
    expect(&mut socket, &[5, 6]).await;
    socket.listen(Duration::from_millis(10)).await;
    drop(standby);
    client.batch_execute(&format!("drop owned by {login}; drop role {login}")).await.unwrap();
}
