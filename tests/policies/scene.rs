//! A database with a server on it, and clients that hear all of it up to a fence.

use crate::{
    line::setup::{database, get, wait_for_health, wait_for_stream},
    support::{
        json::Json,
        postgres::{Database, Postgres},
        server::Server,
        socket::Socket,
    },
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use tokio_postgres::Client;

const TOPIC: &str = "realtime:stage";

/// A database, a server that streams it, and a connection that writes.
pub struct Stage {
    pub database: Database,
    pub server: Server,
    pub writer: Client,
    fences: AtomicI64,
}

impl Stage {
    /// With these tables, and one without row level security that shows when all before it has been delivered.
    pub async fn open(sql: &str) -> Stage {
        let database = database(Postgres::default(), &fenced(sql)).await;
        Stage::on(database).await
    }

    /// On a database that has the fence already.
    pub async fn on(database: Database) -> Stage {
        let server = Server::start(&database, &[]).await;
        wait_for_stream(&server).await;
        let writer = database.connect().await;
        let fences: i64 = writer.query_one("select count(*) from fence", &[]).await.unwrap().get(0);
        Stage { database, server, writer, fences: AtomicI64::new(fences) }
    }

    /// Runs statements, as one transaction unless they say otherwise.
    #[track_caller]
    pub fn run(&self, sql: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move { self.writer.batch_execute(sql).await.unwrap_or_else(|error| panic!("{caller}: {sql}: {error:?}")) }
    }

    /// Runs each line as its own transaction, without a pause.
    pub async fn each(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.run(line).await;
        }
    }

    /// A client of all tables in `public`.
    pub async fn ear(&self, token: &str) -> Ear {
        self.ear_with(token, json!({})).await
    }

    /// The same with options.
    pub async fn ear_with(&self, token: &str, options: Value) -> Ear {
        let bindings = json!([{"event": "*", "schema": "public"}]);
        let mut socket = Socket::open(&self.server.websocket_url("2.0.0", token)).await;
        let config = json!({"config": {"postgres_changes": bindings, "postgres_changes_options": options}});
        socket.join(TOPIC, &config).await;
        let system = socket.expect("the word that it is active", |message| message.is(TOPIC, "system")).await;
        assert_eq!(*system.payload.at("message"), "Subscribed to PostgreSQL");
        Ear { socket }
    }

    /// Whoever has heard this fence has heard all before it.
    pub async fn fence(&self) -> i64 {
        let fence = self.fences.fetch_add(1, Ordering::Relaxed) + 1;
        self.writer.execute("insert into fence values ($1)", &[&fence]).await.unwrap();
        fence
    }

    /// What a client has heard by now, in short.
    pub async fn heard(&self, ear: &mut Ear) -> Vec<String> {
        let fence = self.fence().await;
        ear.until(fence).await
    }

    /// Runs each line as its own transaction, and waits until the client has heard all of it before the next: a table
    /// that is read anew meanwhile may be read as it is behind rows that are still to come, and they are judged by that.
    pub async fn one_by_one(&self, ear: &mut Ear, lines: &str) -> Vec<String> {
        let mut heard = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.run(line).await;
            heard.extend(self.heard(ear).await);
        }
        heard
    }

    /// Waits until the process decides by the rows of these tables.
    pub async fn followed(&self, tables: &[&str]) {
        wait_for_health(&self.server, |_, health| {
            tables.iter().all(|table| lookup(health, table).is_some_and(|(state, _)| state == "ready"))
        })
        .await;
    }

    /// Nobody but the process has decided anything.
    #[track_caller]
    pub fn assert_compiled(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move { assert_eq!(self.questions().await, 0, "{caller}: the database was asked") }
    }

    /// How many rows the database was asked about.
    pub async fn questions(&self) -> i64 {
        let (_, health) = get(&self.server, "/health").await;
        health.at("counters").at("lane_questions_total").as_i64().unwrap()
    }
}

/// State and reason of a lookup table, as `/health` tells them.
fn lookup(health: &Json, table: &str) -> Option<(String, String)> {
    let lookups = health.at("lookups");
    lookups.has(table).then(|| {
        let table = lookups.at(table);
        let text = |key: &str| table.at(key).as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    })
}

/// These tables and the fence.
pub fn fenced(sql: &str) -> String {
    format!("{sql} create table fence (id bigint primary key); alter publication supabase_realtime add table fence;")
}

/// A client.
pub struct Ear {
    pub socket: Socket,
}

impl Ear {
    /// The changes before a fence.
    pub async fn changes(&mut self, fence: i64) -> Vec<Json> {
        let mut changes = Vec::new();
        loop {
            let change = self.socket.change(TOPIC).await;
            let data = change.at("data");
            if *data.at("table") != "fence" {
                changes.push(data.clone());
            } else if data.at("record").at("id").as_i64() == Some(fence) {
                return changes;
            }
        }
    }

    /// The same in short: `INSERT docs 1`, or `left docs 1`.
    pub async fn until(&mut self, fence: i64) -> Vec<String> {
        self.changes(fence).await.iter().map(short).collect()
    }

    /// The `system` messages heard so far.
    pub fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(system) = self.socket.take(|message| message.is(TOPIC, "system")) {
            told.push(system.payload.at("message").as_str().unwrap().to_owned());
        }
        told
    }
}

/// Kind, table and key of a change.
pub fn short(data: &Json) -> String {
    let told = data.at("type").as_str().unwrap();
    let row = if told == "DELETE" { data.at("old_record") } else { data.at("record") };
    let kind = if data.has("reason") { data.at("reason").as_str().unwrap() } else { told };
    format!("{kind} {} {}", data.at("table").as_str().unwrap(), row.at("id").as_i64().unwrap_or_default())
}
