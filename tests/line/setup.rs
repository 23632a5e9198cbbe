//! What the tests of the line share: a database with the `auth` functions, a publication, tokens with any claims, and
//! sockets that collect changes.

use crate::support::{
    json::Json,
    postgres::{Database, Postgres},
    server::Server,
    socket::{Channel, Socket},
    token::{in_seconds, sign},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The functions policies use, the publication, and the rights of the server's own role.
pub const PRELUDE: &str = r"
alter default privileges in schema public grant select on tables to walcast;
alter default privileges in schema public grant select on tables to anon, authenticated, service_role;
create schema auth;
grant usage on schema auth to anon, authenticated, service_role;
create function auth.jwt() returns jsonb language sql stable as
  $$ select coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb, '{}'::jsonb) $$;
create function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
create function auth.role() returns text language sql stable as $$ select auth.jwt() ->> 'role' $$;
create function auth.email() returns text language sql stable as $$ select auth.jwt() ->> 'email' $$;
create publication supabase_realtime;
";

/// A new database with the prelude and these tables.
pub async fn database(postgres: &'static Postgres, sql: &str) -> Database {
    let database = postgres.database().await;
    database.execute(PRELUDE).await;
    database.execute(sql).await;
    database
}

/// A table with a text beside its key, published.
pub fn items(name: &str) -> String {
    format!(
        "create table {name} (id int primary key, body text); alter publication supabase_realtime add table {name};"
    )
}

/// A token with these claims and an expiry.
pub fn token_of(mut claims: Value) -> String {
    claims["exp"] = in_seconds(3600).into();
    sign(claims)
}

/// All events of a table.
pub fn all_of(table: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table}])
}

/// A socket that has subscribed to all of a table.
pub async fn subscriber(server: &Server, token: &str, table: &str) -> (Socket, Channel) {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
    let (channel, _) = socket.subscribe("realtime:line", &all_of(table)).await;
    (socket, channel)
}

/// The next change's type and its key, of the new row or the old.
pub async fn next(socket: &mut Socket) -> (String, i64) {
    let change = socket.change("realtime:line").await;
    summary(&change)
}

/// A change's type and key.
pub fn summary(change: &Json) -> (String, i64) {
    let data = change.at("data");
    let kind = data.at("type").as_str().expect("a type").to_owned();
    let row = if kind == "DELETE" { data.at("old_record") } else { data.at("record") };
    (kind, row.at("id").as_i64().unwrap_or_else(|| panic!("a key in {change}")))
}

/// A change as `("INSERT", 1)`.
pub fn is(kind: &str, id: i64) -> (String, i64) {
    (kind.to_owned(), id)
}

/// Status and body of a GET.
pub async fn get(server: &Server, path: &str) -> (u16, Json) {
    get_at(server.address(), path).await
}

/// The same of whoever listens there.
pub async fn get_at(address: &str, path: &str) -> (u16, Json) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, Json::parse(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// Waits until `/health` says this of the stream.
pub async fn wait_for_health(server: &Server, fits: impl Fn(u16, &Json) -> bool) -> Json {
    let start = std::time::Instant::now();
    loop {
        let (status, health) = get(server, "/health").await;
        if fits(status, &health) {
            return health;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "last: {status} {health}\n{}", server.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the stream runs.
pub async fn wait_for_stream(server: &Server) {
    wait_for_health(server, |status, _| status == 200).await;
}

/// Waits until the process decides by the rows of a table that policies look into. Until then the database is asked.
pub async fn wait_for_lookup(server: &Server, table: &str) {
    wait_for_health(server, |_, health| {
        let lookups = health.at("lookups");
        lookups.has(table) && *lookups.at(table).at("state") == "ready"
    })
    .await;
}

/// The stream's problem, as `/health` tells it.
pub fn problem(health: &Json) -> &str {
    health.at("replication").at("problem").as_str().unwrap_or_default()
}
