//! Sessions that end while an era of the outbox begins, and databases that forget: nothing comes twice, and no gap is kept
//! to oneself.

use super::setup::install;
use crate::{
    faults::site::Site,
    line::setup::{PRELUDE, token_of, wait_for_health},
    support::{
        json::Json,
        postgres::{Database, Postgres},
        server::Server,
        socket::Socket,
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::Client;
use walcast::pg::migrate::notify;

const TOPIC: &str = "realtime:unfinished";
const PATIENCE: Duration = Duration::from_secs(30);
const NOTIFY: (&str, &str) = ("WALCAST_SOURCE", "notify");

/// Somebody who asks to come back, and what he is told at first.
async fn join(server: &Server, tables: &[&str], resume: Value) -> (Socket, Json) {
    let service = token_of(json!({"role": "service_role"}));
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &service)).await;
    let tables: Value = tables.iter().map(|name| json!({"event": "*", "schema": "public", "table": name})).collect();
    let config = json!({"postgres_changes": tables, "postgres_changes_options": {"resume": resume}});
    socket.join(TOPIC, &json!({ "config": config })).await;
    let said = socket.expect("what becomes of the join", |message| {
        message.is(TOPIC, "system") && message.text.contains("Subscribed to PostgreSQL")
    });
    let said = said.await.payload;
    (socket, said)
}

/// The keys of the next changes, and the cursor behind the last.
async fn expect(socket: &mut Socket, expected: impl IntoIterator<Item = i64>) -> String {
    let mut cursor = String::new();
    for id in expected {
        let change = socket.change(TOPIC).await;
        let data = change.at("data");
        assert_eq!(data.at("record").at("id").as_i64(), Some(id), "{change}");
        data.at("cursor").as_str().unwrap().clone_into(&mut cursor);
    }
    cursor
}

/// What is said of a gap.
async fn gap(socket: &mut Socket) -> Json {
    let said = socket.expect("a gap", |message| message.is(TOPIC, "system") && message.payload.has("reason"));
    said.await.payload
}

fn gaps_heard(socket: &Socket) -> usize {
    socket.unread().filter(|message| message.is(TOPIC, "system") && message.payload.has("reason")).count()
}

async fn database() -> Database {
    let database = Postgres::default().database().await;
    database.execute(PRELUDE).await;
    let tables = "create table items (id int primary key); create table docs (id int primary key);
        alter publication supabase_realtime add table items, docs";
    database.execute(tables).await;
    install(&database).await;
    database
}

/// Waits until the server's session waits for a lock; its process.
async fn blocked(client: &Client, but: i32) -> i32 {
    let sql = "select pid from pg_stat_activity where datname = current_database() \
               and application_name = 'walcast outbox' and wait_event_type = 'Lock' and pid <> $1";
    let blocked = async {
        loop {
            if let Some(row) = client.query_opt(sql, &[&but]).await.unwrap() {
                return row.get(0);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, blocked).await.expect("it waits")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_before_it_reads_costs_nobody_a_change_and_gives_none_twice() {
    let database = database().await;
    let server = Server::start(&database, &[NOTIFY]).await;
    let (mut socket, _) = join(&server, &["items"], json!(true)).await;
    let client = database.connect().await;
    client.batch_execute("insert into items values (1), (2)").await.unwrap();
    client.batch_execute("insert into items values (3)").await.unwrap();
    expect(&mut socket, 1..=3).await;
    // It looks at what is published before it reads.
    let locker = database.connect().await;
    let lock = "begin; lock table pg_catalog.pg_publication_rel in access exclusive mode";
    locker.batch_execute(lock).await.unwrap();
    let mut ended = 0;
    for _ in 0..3 {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where datname = current_database() and application_name = 'walcast outbox'";
        client.query(end, &[]).await.unwrap();
        ended = blocked(&client, ended).await;
    }
    client.batch_execute("insert into items values (4)").await.unwrap();
    locker.batch_execute("rollback").await.unwrap();
    client.batch_execute("insert into items values (5)").await.unwrap();
    expect(&mut socket, [4, 5]).await;
    assert_eq!(gaps_heard(&socket), 0, "{}", server.log().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_although_the_session_that_was_to_tell_it_ended_before() {
    let database = database().await;
    let server = Server::start(&database, &[NOTIFY]).await;
    let (mut socket, _) = join(&server, &["items", "docs"], json!(true)).await;
    let client = database.connect().await;
    client.batch_execute("insert into items values (1)").await.unwrap();
    expect(&mut socket, [1]).await;
    let (broken, next, locker) = (database.connect().await, database.connect().await, database.connect().await);
    // A row that nobody can read, and it gets its number while somebody keeps us from what is published; ...
    let cannot_be_read = "begin; insert into docs values (1);
        update walcast.outbox set new_row = '(' where xid = pg_current_xact_id()";
    broken.batch_execute(cannot_be_read).await.unwrap();
    next.batch_execute("begin; insert into items values (2)").await.unwrap();
    locker.batch_execute("begin; lock table pg_catalog.pg_publication_rel in access exclusive mode").await.unwrap();
    broken.batch_execute("commit").await.unwrap();
    blocked(&client, 0).await;
    // ... and from then on no number can be given.
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
        create trigger refuse before insert on walcast.outbox_transactions for each row execute function refuse()";
    client.batch_execute(refuse).await.unwrap();
    next.batch_execute("commit").await.unwrap();
    locker.batch_execute("rollback").await.unwrap();
    let problem = |health: &Json| health.at("replication").at("problem").as_str().unwrap_or_default().to_owned();
    wait_for_health(&server, |_, health| problem(health).contains("not now")).await;
    client.batch_execute("drop trigger refuse on walcast.outbox_transactions").await.unwrap();
    let said = gap(&mut socket).await;
    assert_eq!(*said.at("resumed"), Json::Bool(false), "{said}");
    client.batch_execute("insert into items values (3)").await.unwrap();
    expect(&mut socket, [3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_were_told_survives_a_crash_however_lazily_it_was_committed() {
    let settings = [("synchronous_commit", "off"), ("wal_writer_delay", "10s")];
    let mut site = Site::own(&settings).await;
    let report = notify::install(&mut site.admin().await, super::setup::PUBLICATION).await.unwrap();
    assert!(report.is_complete(), "{report}");
    site.execute(&format!("grant walcast to {}", site.role)).await;
    let server = Server::start_at(&site.url(), &site.slot, &[NOTIFY]).await;
    let (mut socket, _) = join(&server, &["marks"], json!(true)).await;
    let client = site.admin().await;
    for id in 1..=20 {
        client.batch_execute(&format!("insert into marks values ({id}, 0)")).await.unwrap();
    }
    expect(&mut socket, 1..=20).await;
    site.own_cluster().crash().await;
    site.own_cluster().start().await;
    let client = site.admin().await;
    let left: i64 = client.query_one("select count(*) from marks", &[]).await.unwrap().get(0);
    assert_eq!(left, 20, "clients were told of all");
    for id in 21..=23 {
        client.batch_execute(&format!("insert into marks values ({id}, 0)")).await.unwrap();
    }
    expect(&mut socket, 21..=23).await;
    assert_eq!(gaps_heard(&socket), 0, "{}", server.log().join("\n"));
    drop((server, client));
    site.end().await;
}

/// As when somebody puts a copy of its files from before in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_is_another_history_and_its_cursors_stay_refused() {
    let database = database().await;
    let server = Server::start(&database, &[NOTIFY]).await;
    let (mut socket, _) = join(&server, &["items"], json!(true)).await;
    let client = database.connect().await;
    for id in 1..=5 {
        client.batch_execute(&format!("insert into items values ({id})")).await.unwrap();
    }
    let cursor = expect(&mut socket, 1..=5).await;
    let revert = "begin; update walcast.outbox_state set next_number = next_number - 3;
        delete from walcast.outbox o using walcast.outbox_transactions t, walcast.outbox_state s
          where t.xid = o.xid and t.number >= s.next_number;
        delete from walcast.outbox_transactions t using walcast.outbox_state s where t.number >= s.next_number; commit";
    client.batch_execute(revert).await.unwrap();
    let said = gap(&mut socket).await;
    assert_eq!(*said.at("resumed"), Json::Bool(false), "{said}");
    for id in 6..=12 {
        client.batch_execute(&format!("insert into items values ({id})")).await.unwrap();
    }
    expect(&mut socket, 6..=12).await;
    let (_, said) = join(&server, &["items"], json!(cursor)).await;
    assert_eq!(*said.at("resumed"), Json::Bool(false), "{said}");
}
