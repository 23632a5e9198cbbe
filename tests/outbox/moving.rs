//! From the outbox to the log and back while rows are written: every subscriber gets exactly his changes.

use super::setup::{Log, Told, install};
use crate::{
    line::setup::{PRELUDE, all_of, get, token_of, wait_for_health},
    support::{
        postgres::{Database, Postgres, drive},
        server::Server,
        socket::Socket,
    },
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const TOPIC: &str = "realtime:moving";
const TABLES: &str = "
    create table items (id int primary key, owner text, body int); alter table items replica identity full;
    create table members (who text primary key); alter table members replica identity full;
    alter publication supabase_realtime add table items, members;
    alter table items enable row level security;
    create policy own on items for select using (owner = auth.jwt() ->> 'sub'
      or (owner = 'shared' and exists (select from members m where m.who = auth.jwt() ->> 'sub')));
    insert into members values ('ann');
";

/// What one row went through: operation and body.
type Histories = HashMap<i64, Vec<(String, i64)>>;

struct Subscriber {
    socket: Socket,
    sees: fn(&str) -> bool,
    heard: Histories,
}

impl Subscriber {
    async fn join(server: &Server, claims: serde_json::Value, sees: fn(&str) -> bool) -> Subscriber {
        let mut socket = Socket::open(&server.websocket_url("2.0.0", &token_of(claims))).await;
        socket.subscribe(TOPIC, &all_of("items")).await;
        Subscriber { socket, sees, heard: HashMap::new() }
    }

    /// Takes in everything up to the row with this id, in a task of its own.
    fn listens_until(mut self, last: i64) -> tokio::sync::oneshot::Receiver<Subscriber> {
        let (done, is_done) = tokio::sync::oneshot::channel();
        drive(async move {
            self.hear_until(last).await;
            let _ = done.send(self);
        });
        is_done
    }

    async fn hear_until(&mut self, last: i64) {
        loop {
            let message = self
                .socket
                .expect_within(Duration::from_secs(60), "a change", |message| {
                    message.is(TOPIC, "postgres_changes") || message.is(TOPIC, "phx_error")
                })
                .await;
            if message.is(TOPIC, "phx_error") {
                let said = self.socket.take(|message| message.is(TOPIC, "system"));
                panic!("a gap: {:?}", said.map(|said| said.text));
            }
            let data = message.payload.at("data");
            let kind = data.at("type").as_str().unwrap().to_owned();
            let row = if kind == "DELETE" { data.at("old_record") } else { data.at("record") };
            let (id, body) = (row.at("id").as_i64().unwrap(), row.at("body").as_i64().unwrap());
            self.heard.entry(id).or_default().push((kind, body));
            if id == last {
                return;
            }
        }
    }
}

/// What the log says, row by row, of rows somebody sees.
fn truth(transactions: &[Vec<Told>], sees: fn(&str) -> bool) -> Histories {
    let mut histories = Histories::new();
    for told in transactions.iter().flatten().filter(|told| told.table.contains("items")) {
        let row = told.new.as_ref().or(told.old.as_ref().map(|(_, row)| row)).unwrap();
        let text = |at: usize| row[at].clone().unwrap().unwrap();
        if sees(&text(1)) {
            let history = histories.entry(text(0).parse().unwrap()).or_default();
            history.push((told.operation.to_owned(), text(2).parse().unwrap()));
        }
    }
    histories
}

async fn wait_for_source(server: &Server, source: &str) {
    wait_for_health(server, |status, health| status == 200 && *health.at("replication").at("source") == source).await;
}

/// Waits until what the log has given is taken out of the outbox: from then on it is known exactly.
async fn wait_until_kept(database: &Database) {
    let client = database.connect().await;
    let sql = "update members set who = who returning pg_current_xact_id()::text";
    let now: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let sql = "select not exists (select from walcast.outbox where xid <= $1::text::xid8)";
    let kept = async {
        while !client.query_one(sql, &[&now]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), kept).await.expect("what the log gave is taken out");
}

/// Writes until told to end: rows of its own, and rows that others change, too.
fn write(database: &Database, writer: i64, is_over: Arc<AtomicBool>) -> tokio::sync::oneshot::Receiver<()> {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let url = database.url.clone();
    drive(async move {
        let client = crate::support::postgres::connect(&url).await;
        let mut round = 0;
        while !is_over.load(Ordering::Relaxed) {
            round += 1;
            let (id, shared) = (writer * 1_000_000 + round, round % 5 + 1);
            let owner = ["ann", "bob", "shared"][(round % 3) as usize];
            let sql = format!(
                "begin; insert into items values ({id}, '{owner}', 0); update items set body = body + 1 where id = {shared};
                 {} commit; update items set body = {round} where id = {id}; {}",
                if round % 4 == 0 { "savepoint s; delete from items where id = 3; rollback to s;" } else { "" },
                if round % 2 == 0 { format!("delete from items where id = {id}") } else { String::new() },
            );
            for sql in sql.split_inclusive("commit;") {
                client.batch_execute(sql).await.unwrap();
            }
            // Less than a fragment: the log may break off between two of them, and then there is a gap.
            if round % 50 == 0 {
                let first = writer * 100_000_000 + round * 1000;
                let many = format!("insert into items select {first} + g, 'ann', g from generate_series(1, 400) g");
                client.batch_execute(&many).await.unwrap();
            }
        }
        let _ = done.send(());
    });
    is_done
}

#[tokio::test(flavor = "multi_thread")]
async fn going_from_one_to_the_other_loses_nothing_and_gives_nothing_twice() {
    go(1).await;
}

/// cargo test --test main -- --ignored going_over_and_over
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: the short form is above"]
async fn going_over_and_over_loses_nothing_and_gives_nothing_twice() {
    go(10).await;
}

/// From the log to the outbox and back, so many times.
async fn go(rounds: u32) {
    let postgres = Postgres::default();
    let database = postgres.database().await;
    database.execute(PRELUDE).await;
    database.execute(TABLES).await;
    database.execute("insert into items select g, 'shared', 0 from generate_series(1, 5) g").await;
    install(&database).await;
    let login = format!("mover_{}", database.name);
    let role = format!("create role {login} login replication password 'mover'; grant walcast to {login}");
    database.execute(&role).await;
    // They read only when all is written.
    let patient = [("WALCAST_WRITE_TIMEOUT_MS", "300000"), ("WALCAST_IDLE_TIMEOUT_MS", "300000")];
    let server = Server::start_at(&database.url_as(&login, "mover"), &database.slot(), &patient).await;
    wait_for_source(&server, "wal").await;
    let (ann, bob) = (json!({"role": "authenticated", "sub": "ann"}), json!({"role": "authenticated", "sub": "bob"}));
    let subscribers = [
        Subscriber::join(&server, ann, |owner| owner != "bob").await.listens_until(8),
        Subscriber::join(&server, bob, |owner| owner == "bob").await.listens_until(9),
        Subscriber::join(&server, json!({"role": "service_role"}), |_| true).await.listens_until(9),
    ];
    let log = Log::begin_named(&database, &format!("{}_truth", database.slot())).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (1..=3).map(|writer| write(&database, writer, is_over.clone())).collect();
    for _ in 0..rounds {
        wait_until_kept(&database).await;
        let end_it = format!(
            "alter role {login} noreplication; \
             select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}' and active",
            database.slot()
        );
        database.execute(&end_it).await;
        wait_for_source(&server, "notify").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        database.execute(&format!("alter role {login} replication")).await;
        wait_for_source(&server, "wal").await;
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    // Who joined meanwhile gets what comes, and nothing from before.
    let mut late = Subscriber::join(&server, json!({"role": "service_role"}), |_| true).await;
    database.execute("insert into items values (8, 'ann', 0), (9, 'bob', 0)").await;
    late.hear_until(9).await;
    assert_eq!(late.heard.len(), 2, "{:?}", late.heard);
    let transactions = log.transactions().await;
    for subscriber in subscribers {
        let subscriber = subscriber.await.unwrap_or_else(|_| panic!("{}", server.log().join("\n")));
        let truth = truth(&transactions, subscriber.sees);
        assert!(truth.len() > 20, "enough was written");
        for (id, history) in &truth {
            assert_eq!(subscriber.heard.get(id), Some(history), "row {id}\n{}", server.log().join("\n"));
        }
        assert_eq!(subscriber.heard.len(), truth.len());
    }
    let (_, health) = get(&server, "/health").await;
    assert_eq!(health.at("counters").at("gaps_total").as_i64(), Some(0), "{health}");
    drop(server);
    let drop_role = format!("drop owned by {login}; drop role {login}");
    database.execute(&drop_role).await;
}
