//! A server of a database without logical decoding, with real clients.

use super::setup::install;
use crate::{
    line::setup::{PRELUDE, get, token_of, wait_for_health},
    support::{
        json::Json,
        postgres::{Database, Postgres, WALCAST_PASSWORD},
        server::Server,
        socket::Socket,
    },
};
use serde_json::{Value, json};

const TABLES: &str = "
    create table items (id int primary key, owner text, body text);
    create table members (item int, who text, primary key (item, who));
    create table notes (id int primary key, item int, body text);
    alter publication supabase_realtime add table items, members, notes;
    alter table items enable row level security;
    create policy own on items for select using (owner = auth.jwt() ->> 'sub');
    alter table notes enable row level security;
    create policy shared on notes for select
      using (exists (select from members m where m.item = notes.item and m.who = auth.jwt() ->> 'sub'));
";

/// A database of a cluster whose log cannot be decoded, with an outbox.
async fn database() -> Database {
    let database = Postgres::without_decoding().database().await;
    database.execute(PRELUDE).await;
    database.execute(TABLES).await;
    install(&database).await;
    database
}

fn token(sub: &str) -> String {
    token_of(json!({"role": "authenticated", "sub": sub}))
}

/// A socket that has subscribed.
struct Reader {
    socket: Socket,
    system: Json,
}

const TOPIC: &str = "realtime:outbox";

impl Reader {
    async fn join(server: &Server, token: &str, tables: &Value, resume: Option<Value>) -> Reader {
        let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
        let mut config = json!({"postgres_changes": tables});
        if let Some(resume) = resume {
            config["postgres_changes_options"] = json!({"resume": resume});
        }
        socket.join(TOPIC, &json!({ "config": config })).await;
        let mut reader = Reader { socket, system: Json::Null };
        // The catalogue may be a little older than the tables.
        while reader.system.at("message").as_str().is_none_or(|said| said.starts_with("Unable to subscribe")) {
            reader.system = reader.says().await;
        }
        assert_eq!(*reader.system.at("message"), "Subscribed to PostgreSQL", "{}", reader.system);
        let promise = reader.says().await;
        assert!(promise.at("message").as_str().unwrap().contains("from triggers"), "{promise}");
        assert_eq!(*promise.at("status"), "ok");
        reader
    }

    async fn says(&mut self) -> Json {
        self.socket.expect("a system message", |message| message.is(TOPIC, "system")).await.payload
    }

    /// The next changes in short, as many as these, and the cursor behind the last.
    async fn expect(&mut self, expected: &[&str]) -> Option<String> {
        let mut cursor = None;
        for expected in expected {
            let change = self.socket.change(TOPIC).await;
            let data = change.at("data");
            let row = if *data.at("type") == "DELETE" { data.at("old_record") } else { data.at("record") };
            let told = format!(
                "{} {} {}",
                data.at("type").as_str().unwrap(),
                data.at("table").as_str().unwrap(),
                row.at("id")
            );
            assert_eq!(told, *expected, "{change}");
            cursor = data.at("cursor").as_str().map(str::to_owned);
        }
        cursor
    }
}

fn tables(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"event": "*", "schema": "public", "table": name})).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_without_logical_replication_to_whom_policies_show_them() {
    let database = database().await;
    let server = Server::start(&database, &[]).await;
    let health = wait_for_health(&server, |status, _| status == 200).await;
    assert_eq!(*health.at("replication").at("source"), "notify", "{health}");
    assert!(health.at("replication").at("why_not_wal").as_str().unwrap().contains("wal_level"), "{health}");
    let all = tables(&["items", "notes"]);
    let mut ann = Reader::join(&server, &token("ann"), &all, None).await;
    let mut bob = Reader::join(&server, &token("bob"), &all, None).await;
    let mut service = Reader::join(&server, &token_of(json!({"role": "service_role"})), &all, None).await;
    let shared = "begin; insert into notes values (1, 1, 'x'); insert into members values (1, 'bob'); commit";
    // What a transaction says of the other table counts for its rows, and what is said later for those of now.
    database.execute(shared).await;
    bob.expect(&["INSERT notes 1"]).await;
    for sql in [
        "insert into items values (1, 'ann', 'a'), (2, 'bob', 'b')",
        "begin; insert into items values (3, 'ann', 'gone'); rollback",
        "update items set body = 'c' where id = 1",
        "begin; delete from members; insert into notes values (2, 1, 'x'); commit",
        "insert into items values (4, 'ann', repeat('x', 300000)), (5, 'bob', 'last')",
    ] {
        database.execute(sql).await;
    }
    ann.expect(&["INSERT items 1", "UPDATE items 1", "INSERT items 4"]).await;
    bob.expect(&["INSERT items 2", "INSERT items 5"]).await;
    let every = [
        "INSERT notes 1",
        "INSERT items 1",
        "INSERT items 2",
        "UPDATE items 1",
        "INSERT notes 2",
        "INSERT items 4",
        "INSERT items 5",
    ];
    service.expect(&every).await;
    // Anybody may notify, and it is nobody's change.
    let client = database.connect().await;
    client
        .batch_execute("create role forger login; set role forger; notify walcast, 'INSERT'; reset role")
        .await
        .unwrap();
    for _ in 0..50 {
        client.batch_execute("select pg_notify('walcast', repeat('x', 7000))").await.unwrap();
    }
    client.batch_execute("insert into items values (6, 'bob', 'b')").await.unwrap();
    bob.expect(&["INSERT items 6"]).await;
    // A table that is published later is not captured, and that is said.
    client
        .batch_execute("create table later (id int primary key); alter publication supabase_realtime add table later")
        .await
        .unwrap();
    let said = async {
        loop {
            let mut late = Socket::open(&server.websocket_url("2.0.0", &token("ann"))).await;
            late.join(TOPIC, &json!({"config": {"postgres_changes": tables(&["later"])}})).await;
            late.listen(std::time::Duration::from_millis(300)).await;
            while let Some(message) = late.take(|message| message.is(TOPIC, "system")) {
                if message.text.contains("not captured") {
                    return message.payload;
                }
            }
        }
    };
    let said = tokio::time::timeout(std::time::Duration::from_secs(20), said).await.expect("it is said");
    assert!(said.at("message").as_str().unwrap().contains("public.later are not captured"), "{said}");
    install(&database).await;
    let mut late = Reader::join(&server, &token("ann"), &tables(&["later"]), None).await;
    client.batch_execute("insert into later values (1)").await.unwrap();
    late.expect(&["INSERT later 1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_holds_when_the_server_was_killed_and_another_takes_over() {
    let database = database().await;
    let extra = [("WALCAST_SOURCE", "notify")];
    let server = Server::start(&database, &extra).await;
    let service = token_of(json!({"role": "service_role"}));
    let items = tables(&["items"]);
    let mut reader = Reader::join(&server, &service, &items, Some(json!(true))).await;
    assert_eq!(*reader.system.at("resumed"), Json::Bool(false), "{}", reader.system);
    let client = database.connect().await;
    client.batch_execute("insert into items select g, 'ann', 'x' from generate_series(1, 3) g").await.unwrap();
    let cursor = reader.expect(&["INSERT items 1", "INSERT items 2"]).await.expect("a cursor");
    // Another server waits meanwhile, and takes over within seconds.
    let standby = Server::start(&database, &extra).await;
    wait_for_health(&standby, |_, health| {
        health.at("replication").at("problem").as_str().is_some_and(|problem| problem.contains("another server"))
    })
    .await;
    let (_, health) = get(&standby, "/health").await;
    assert_eq!(*health.at("replication").at("state"), "standby", "{health}");
    assert_eq!(*health.at("replication").at("source"), "notify", "{health}");
    let mut turned_away = Socket::open(&standby.websocket_url("2.0.0", &service)).await;
    turned_away.join(TOPIC, &json!({"config": {"postgres_changes": items}})).await;
    let said = turned_away.expect("a refusal", |message| message.is(TOPIC, "system")).await;
    assert!(said.text.contains("this server is a standby"), "{}", said.text);
    drop(server);
    client.batch_execute("insert into items values (4, 'ann', 'x')").await.unwrap();
    wait_for_health(&standby, |status, _| status == 200).await;
    let mut reader = Reader::join(&standby, &service, &items, Some(json!(cursor))).await;
    assert_eq!(*reader.system.at("resumed"), Json::Bool(true), "{}", reader.system);
    client.batch_execute("insert into items values (5, 'ann', 'x')").await.unwrap();
    let cursor = reader.expect(&["INSERT items 3", "INSERT items 4", "INSERT items 5"]).await.expect("a cursor");
    // What clients were given is pruned when nothing is to be kept, and then nobody can come back to it.
    standby.stop().await;
    let kept = [("WALCAST_SOURCE", "notify"), ("WALCAST_RESUME_WINDOW_MS", "0")];
    client.batch_execute("insert into items values (6, 'ann', 'x')").await.unwrap();
    let server = Server::start(&database, &kept).await;
    let mut reader = Reader::join(&server, &service, &items, Some(json!(cursor))).await;
    assert_eq!(*reader.system.at("resumed"), Json::Bool(true), "{}", reader.system);
    reader.expect(&["INSERT items 6"]).await;
    let is_empty =
        "select not exists (select from walcast.outbox) and not exists (select from walcast.outbox_transactions)";
    let pruned = async {
        while !client.query_one(is_empty, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), pruned).await.expect("it is pruned");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_server_reads_the_outbox_and_nobody_needs_a_right_to_write() {
    let database = Postgres::without_decoding().database().await;
    database.execute(PRELUDE).await;
    database.execute("alter default privileges grant all on tables to anon, authenticated, service_role").await;
    database.execute("alter default privileges grant all on sequences to public").await;
    database.execute(TABLES).await;
    install(&database).await;
    let client = database.connect().await;
    for role in ["anon", "authenticated", "service_role"] {
        client.batch_execute("grant usage on schema walcast to public").await.unwrap();
        for sql in [
            "select from walcast.outbox",
            "select from walcast.outbox_shapes",
            "delete from walcast.outbox",
            "insert into walcast.outbox values ('1', 1, now(), 1, 'I', 1)",
            "select from walcast.outbox_transactions",
            "update walcast.outbox_state set next_number = 1",
            "select nextval('walcast.outbox_ids')",
            "truncate walcast.outbox",
        ] {
            let error = client.batch_execute(&format!("set role {role}; {sql}")).await.unwrap_err();
            assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{role}: {sql}");
        }
        let id = role.len();
        let write = format!("set role {role}; insert into members values ({id}, 'x'); reset role");
        client.batch_execute(&format!("grant all on members to {role}; {write}")).await.unwrap();
    }
    let rows: i64 = client.query_one("select count(*) from walcast.outbox", &[]).await.unwrap().get(0);
    assert_eq!(rows, 3);
    // A cast of the table's owner is not what prints its rows.
    client
        .batch_execute(
            "create function leak(members) returns text language sql as $$ select current_user::text $$;
             create cast (members as text) with function leak(members) as assignment;
             insert into members values (50, 'y')",
        )
        .await
        .unwrap();
    let image: String =
        client.query_one("select new_row from walcast.outbox order by id desc limit 1", &[]).await.unwrap().get(0);
    assert_eq!(image, "(50,y)");
    // A login without rights to the outbox serves nothing, writes go on, and the refusal names what to do.
    client.batch_execute("revoke all on walcast.outbox from walcast").await.unwrap();
    let refusal = Server::refusal(&database.url_as("walcast", WALCAST_PASSWORD), &database.slot()).await;
    assert!(refusal.contains("walcast migrate --notify"), "{refusal}");
    client.batch_execute("insert into members values (51, 'y')").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_is_full_is_emptied_and_the_gap_is_said() {
    let database = database().await;
    let server = Server::start(&database, &[]).await;
    let service = token_of(json!({"role": "service_role"}));
    let mut reader = Reader::join(&server, &service, &tables(&["items"]), Some(json!(true))).await;
    let client = database.connect().await;
    // One that has begun before and goes on behind it is told in no part.
    let open = database.connect().await;
    open.batch_execute("begin; insert into items values (1, 'ann', 'x')").await.unwrap();
    client.batch_execute("update walcast.outbox_state set limit_bytes = 100000").await.unwrap();
    let many = "insert into items select g, 'ann', repeat('x', 1000) from generate_series(1000, 2999) g";
    client.batch_execute(many).await.unwrap();
    let gap = loop {
        let said = reader.says().await;
        if said.has("reason") {
            break said;
        }
    };
    assert!(gap.at("reason").as_str().unwrap().contains("outbox had reached its limit"), "{gap}");
    assert_eq!(*gap.at("resumed"), Json::Bool(false), "{gap}");
    client.batch_execute("update walcast.outbox_state set limit_bytes = 100000000").await.unwrap();
    open.batch_execute("insert into items values (2, 'ann', 'x'); commit").await.unwrap();
    client.batch_execute("insert into items values (3, 'ann', 'x')").await.unwrap();
    let change = reader.socket.expect("a change behind the gap", |message| {
        message.is(TOPIC, "postgres_changes") && message.text.contains("\"id\":3")
    });
    change.await;
    assert!(!reader.socket.unread().any(|message| message.text.contains("\"id\":2,")), "a part of a transaction");
}
