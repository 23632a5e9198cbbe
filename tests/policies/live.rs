//! Rows that enter and leave what a client sees, for those who asked to hear of it, wherever rights are decided; and
//! transactions that change rights and rows together.

use crate::{
    line::setup::{database, get, wait_for_lookup, wait_for_stream},
    support::{
        json::Json,
        postgres::{Database, Postgres},
        server::Server,
        socket::Socket,
        token::{ALICE, BOB, alice, bob},
    },
};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:live";
/// What only Postgres decides, and always grants.
const ASKED: &str = "random() < 2";

/// Tables of which the whole old row is logged: one behind a policy, one without.
async fn docs(policy: &str) -> Database {
    let sql = format!(
        "create table docs (id int primary key, owner_id uuid, state text, body text);
         alter table docs replica identity full; alter table docs enable row level security;
         create policy own on docs for select to authenticated using ({policy});
         create table open_docs (id int primary key, state text, body text);
         alter table open_docs replica identity full;
         create table fence (id int primary key);
         alter publication supabase_realtime add table docs, open_docs, fence;"
    );
    database(Postgres::default(), &sql).await
}

/// Joins with these options, and waits for the subscription.
async fn listener(server: &Server, token: &str, bindings: Value, options: Value) -> Socket {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
    let mut list = bindings.as_array().unwrap().clone();
    list.push(json!({"event": "INSERT", "schema": "public", "table": "fence"}));
    let config = json!({"config": {"postgres_changes": list, "postgres_changes_options": options}});
    socket.join(TOPIC, &config).await;
    let system = socket.expect("the word that it is active", |message| message.is(TOPIC, "system")).await;
    assert_eq!(*system.payload.at("message"), "Subscribed to PostgreSQL");
    socket
}

/// Kind and key of each change before the fence, with the reason where there is one.
async fn before_fence(socket: &mut Socket) -> Vec<(String, i64)> {
    let mut seen = Vec::new();
    loop {
        let change = socket.change(TOPIC).await;
        let data = change.at("data");
        if *data.at("table") == "fence" {
            return seen;
        }
        seen.push(kind(data));
    }
}

fn kind(data: &Json) -> (String, i64) {
    let told = data.at("type").as_str().unwrap();
    let row = if told == "DELETE" { data.at("old_record") } else { data.at("record") };
    let reason = data.keys().contains(&"reason").then(|| data.at("reason").as_str().unwrap());
    match (reason, told) {
        (Some("left"), "DELETE") => assert!(row.keys() == ["id"] && !data.keys().contains(&"record"), "{data}"),
        (Some("entered"), "INSERT") => assert!(!data.keys().contains(&"old_record"), "{data}"),
        (None, _) => {}
        (Some(_), _) => panic!("a reason that does not fit: {data}"),
    }
    (reason.unwrap_or(told).to_owned(), row.at("id").as_i64().expect("a key"))
}

fn is(kind: &str, id: i64) -> (String, i64) {
    (kind.to_owned(), id)
}

const BY_POLICY: &str = "insert into docs values (1, '{a}', 'open', 'x');
    update docs set owner_id = '{b}'; update docs set body = 'y'; update docs set owner_id = '{a}';
    delete from docs; insert into fence values (1)";

#[tokio::test]
async fn a_row_that_changes_hands_leaves_one_and_enters_with_the_other() {
    for policy in ["owner_id = auth.uid()".to_owned(), format!("owner_id = auth.uid() and {ASKED}")] {
        let database = docs(&policy).await;
        let server = Server::start(&database, &[]).await;
        wait_for_stream(&server).await;
        let all = json!([{"event": "*", "schema": "public", "table": "docs"}]);
        let mut first = listener(&server, &alice(), all.clone(), json!({"visibility": true})).await;
        let mut second = listener(&server, &bob(), all.clone(), json!({"visibility": "TRUE", "wait": true})).await;
        let mut plain = listener(&server, &alice(), all, json!({"visibility": "yes"})).await;
        database.execute(&BY_POLICY.replace("{a}", ALICE).replace("{b}", BOB)).await;
        let of_first = [is("INSERT", 1), is("left", 1), is("entered", 1), is("DELETE", 1)];
        assert_eq!(before_fence(&mut first).await, of_first, "{policy}");
        assert_eq!(before_fence(&mut second).await, [is("entered", 1), is("UPDATE", 1), is("left", 1)], "{policy}");
        assert_eq!(before_fence(&mut plain).await, [is("INSERT", 1), is("UPDATE", 1), is("DELETE", 1)], "{policy}");
    }
}

const BY_FILTER: &str = "insert into docs values (1, '{a}', 'open', 'x'), (2, '{a}', 'closed', 'x');
    update docs set state = 'closed' where id = 1; update docs set state = 'open' where id = 2;
    update docs set body = 'y'; update docs set state = 'closed', owner_id = '{b}' where id = 2;
    update docs set state = 'open', owner_id = '{a}' where id = 2; insert into fence values (1)";

/// The last filter is one that only Postgres evaluates.
#[tokio::test]
async fn a_row_enters_and_leaves_by_the_filter_too() {
    let database = docs("owner_id = auth.uid()").await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut sockets = Vec::new();
    for filter in ["state=eq.open", "state=neq.closed", "state=imatch.^OPEN$"] {
        let entry = |event| json!([{"event": event, "schema": "public", "table": "docs", "filter": filter}]);
        let mut of_events = Vec::new();
        for event in ["*", "DELETE", "INSERT"] {
            of_events.push(listener(&server, &alice(), entry(event), json!({"visibility": true})).await);
        }
        of_events.push(listener(&server, &alice(), entry("*"), json!({})).await);
        sockets.push((filter, of_events));
    }
    database.execute(&BY_FILTER.replace("{a}", ALICE).replace("{b}", BOB)).await;
    for (filter, of_events) in &mut sockets {
        let [all, deletes, inserts, plain] = &mut of_events[..] else { panic!("four each") };
        let told = [is("INSERT", 1), is("left", 1), is("entered", 2), is("UPDATE", 2), is("left", 2), is("entered", 2)];
        assert_eq!(before_fence(all).await, told, "{filter}");
        assert_eq!(before_fence(deletes).await, [is("left", 1), is("left", 2)], "{filter}");
        assert_eq!(before_fence(inserts).await, [is("INSERT", 1), is("entered", 2), is("entered", 2)], "{filter}");
        let plainly = [is("INSERT", 1), is("UPDATE", 2), is("UPDATE", 2), is("UPDATE", 2)];
        assert_eq!(before_fence(plain).await, plainly, "{filter}");
    }
}

#[tokio::test]
async fn without_row_level_security_the_filter_alone_decides_what_enters_and_leaves() {
    let database = docs("true").await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "open_docs", "filter": "state=eq.open"}]);
    let mut socket = listener(&server, &alice(), bindings, json!({"visibility": true})).await;
    database
        .execute(
            "insert into open_docs values (1, 'open', 'x'); update open_docs set state = 'closed';
             update open_docs set state = 'open'; truncate open_docs;
             alter table open_docs replica identity default;
             insert into open_docs values (2, 'open', 'x'); update open_docs set state = 'closed';
             update open_docs set state = 'open'; insert into fence values (1)",
        )
        .await;
    let known = [is("INSERT", 1), is("left", 1), is("entered", 1)];
    let unknown = [is("INSERT", 2), is("UPDATE", 2)];
    assert_eq!(
        before_fence(&mut socket).await,
        [known.to_vec(), unknown.to_vec()].concat(),
        "no guess without the old row"
    );
}

const ROOMS: &str = "
    create table members (room int, user_id uuid, primary key (room, user_id));
    alter table members replica identity full;
    create table messages (id int primary key, room int, body text);
    alter table messages replica identity full; alter table messages enable row level security;
    create policy own on messages for select to authenticated using (exists (
      select 1 from members m where m.room = messages.room and m.user_id = auth.uid()));
    create table fence (id int primary key);
    alter publication supabase_realtime add table members, messages, fence;";

async fn rooms(extra: &[(&str, &str)]) -> (Database, Server) {
    let database = database(Postgres::default(), ROOMS).await;
    let server = Server::start(&database, extra).await;
    wait_for_stream(&server).await;
    wait_for_lookup(&server, "public.members").await;
    (database, server)
}

fn messages() -> Value {
    json!([{"event": "*", "schema": "public", "table": "messages"}])
}

/// Whether nobody had to be asked.
async fn is_compiled(server: &Server) -> bool {
    let (_, health) = get(server, "/health").await;
    health.at("counters").at("lane_questions_total").as_i64() == Some(0)
}

/// The messages stand before the memberships, and the transaction is large: it is gathered, in memory or in a file.
#[tokio::test]
async fn rows_are_judged_by_all_their_transaction_says_however_large_it_is() {
    for bytes in ["33554432", "1000"] {
        // Nobody may fall behind: who does is served by the rights of now, which are others behind the last transaction.
        let room = ("WALCAST_OUTBOX_BYTES", "64000000");
        let (database, server) = rooms(&[("WALCAST_TRANSACTION_BYTES", bytes), room]).await;
        let mut first = listener(&server, &alice(), messages(), json!({})).await;
        let mut second = listener(&server, &bob(), messages(), json!({})).await;
        let sql = format!(
            "begin; insert into messages select n, 1, repeat('x', 100) from generate_series(1, 3000) n;
             insert into members values (1, '{ALICE}'); commit;
             begin; update messages set room = 2 where id <= 2000; delete from members; commit;
             begin; delete from messages where id = 3; insert into members values (2, '{BOB}'); commit;
             insert into fence values (1)"
        );
        database.connect().await.batch_execute(&sql).await.unwrap();
        let told = before_fence(&mut first).await;
        assert_eq!(told.len(), 3000, "what she could see when each transaction was over");
        assert!(told.iter().zip(1..).all(|(message, id)| *message == is("INSERT", id)), "in order");
        assert_eq!(before_fence(&mut second).await, [is("DELETE", 3)]);
        assert!(is_compiled(&server).await);
    }
}

#[tokio::test]
async fn who_opted_in_hears_that_a_lookup_changed_rights() {
    let (database, server) = rooms(&[]).await;
    let mut opted = listener(&server, &alice(), messages(), json!({"visibility": true})).await;
    let mut plain = listener(&server, &alice(), messages(), json!({})).await;
    let changed = "Rights to rows of public.messages have changed. Fetch it again";
    for sql in [
        &format!("insert into members values (1, '{ALICE}'), (2, '{ALICE}')"),
        "insert into messages values (1, 1, 'x'); update messages set room = 3",
        "delete from members where room = 2",
        "insert into fence values (1)",
    ] {
        database.execute(sql).await;
    }
    assert_eq!(before_fence(&mut opted).await, [is("INSERT", 1), is("left", 1)]);
    assert_eq!(before_fence(&mut plain).await, [is("INSERT", 1)]);
    let told = |socket: &mut Socket| -> Vec<String> {
        let systems = socket.drain().into_iter().filter(|message| message.is(TOPIC, "system"));
        systems.map(|message| message.payload.at("message").as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(told(&mut opted), [changed; 2], "once for each transaction");
    assert_eq!(told(&mut plain), [""; 0]);
    assert!(is_compiled(&server).await);
}

const BY_MEMBER: &str = "create policy own on docs for select to authenticated
    using (exists (select from members m where m.person = auth.uid() and m.active))";

#[tokio::test]
async fn a_lookup_table_rewritten_with_the_policy_is_asked_about_before_anything_is_judged() {
    let database = docs("false").await;
    database
        .execute(&format!(
            "create table members (person uuid primary key, active bool); grant select on members to authenticated, walcast;
             alter publication supabase_realtime add table members; insert into members values ('{ALICE}', true);
             drop policy own on docs; {BY_MEMBER}"
        ))
        .await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let all = json!([{"event": "*", "schema": "public", "table": "docs"}]);
    let mut first = listener(&server, &alice(), all, json!({})).await;
    database
        .execute(&format!("insert into docs values (1, '{ALICE}', 'open', 'x'); insert into fence values (1)"))
        .await;
    assert_eq!(before_fence(&mut first).await, [is("INSERT", 1)]);
    // A rewrite is not in the stream: only its policy makes itself known.
    database
        .execute(&format!(
            "begin; drop policy own on docs; alter table members alter column active type bool using false; {BY_MEMBER}; commit;
             insert into docs values (2, '{ALICE}', 'open', 'secret'); insert into fence values (2)"
        ))
        .await;
    assert_eq!(before_fence(&mut first).await, []);
}
