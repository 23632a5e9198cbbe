//! Rows that time alone shows or hides, for those who asked to hear of it.

use crate::{
    line::setup::{database, wait_for_stream},
    support::{
        json::Json,
        postgres::{Database, Postgres},
        server::Server,
        socket::Socket,
        token::{alice, bob},
    },
};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:time";

/// Posts that are shown from one moment to another, but for those of others that are private.
async fn posts() -> Database {
    let sql = "create table posts (id int primary key, owner_id uuid, publish_at timestamptz, expires_at timestamptz, \
                                   body text);
               create table fence (id int primary key);
               alter table posts enable row level security;
               create policy shown on posts for select to authenticated
                 using (publish_at <= now() and (expires_at is null or expires_at > now())
                        and (owner_id is null or owner_id = auth.uid()));
               alter publication supabase_realtime add table posts, fence;";
    database(Postgres::default(), sql).await
}

async fn listener(server: &Server, token: &str, options: Value) -> Socket {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
    let tables = ["posts", "fence"].map(|table| json!({"event": "*", "schema": "public", "table": table}));
    let config = json!({"config": {"postgres_changes": tables, "postgres_changes_options": options}});
    socket.join(TOPIC, &config).await;
    let system = socket.expect("the word that it is active", |message| message.is(TOPIC, "system")).await;
    assert_eq!(*system.payload.at("message"), "Subscribed to PostgreSQL");
    socket
}

/// Kind and key of the next change.
async fn next(socket: &mut Socket) -> (String, i64) {
    let change = socket.change(TOPIC).await;
    let data: &Json = change.at("data");
    if *data.at("table") == "fence" {
        return ("fence".to_owned(), 0);
    }
    let told = data.at("type").as_str().unwrap().to_owned();
    let row = if told == "DELETE" { data.at("old_record") } else { data.at("record") };
    let kind = if data.keys().contains(&"reason") { data.at("reason").as_str().unwrap().to_owned() } else { told };
    if kind == "left" {
        assert_eq!(row.keys(), ["id"], "a row that is gone is named by its key alone");
    }
    (kind, row.at("id").as_i64().unwrap())
}

#[tokio::test]
async fn a_row_enters_and_leaves_when_its_moment_comes() {
    let database = posts().await;
    // It was there before anybody listened: the database is asked for it.
    database.execute("insert into posts values (1, null, now() + interval '4 s', null, 'early')").await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut watching = listener(&server, &alice(), json!({"visibility": true})).await;
    let mut other = listener(&server, &bob(), json!({"visibility": true})).await;
    let mut plain = listener(&server, &alice(), json!({})).await;
    let owner = crate::support::token::ALICE;
    database
        .execute(&format!(
            "insert into posts values (2, '{owner}', now() + interval '5 s', now() + interval '6 s', 'mine');
             insert into posts values (3, null, now() + interval '5 s', null, 'withdrawn');
             delete from posts where id = 3"
        ))
        .await;
    let is = |kind: &str, id| (kind.to_owned(), id);
    let deleted = next(&mut watching).await;
    assert_eq!(deleted, is("DELETE", 3), "a bare key is for everybody");
    assert_eq!(next(&mut watching).await, is("entered", 1));
    assert_eq!(next(&mut watching).await, is("entered", 2));
    assert_eq!(next(&mut watching).await, is("left", 2));
    assert_eq!([next(&mut other).await, next(&mut other).await], [is("DELETE", 3), is("entered", 1)]);
    database.execute("insert into fence values (1)").await;
    assert_eq!([next(&mut plain).await, next(&mut plain).await], [is("DELETE", 3), is("fence", 0)], "nothing new");
    assert_eq!(next(&mut other).await, is("fence", 0), "what is not his does not enter");
    assert_eq!(next(&mut watching).await, is("fence", 0));
}

/// What the database is asked for is spelled as in the stream: else a value would read otherwise, and a key would be
/// another row's, so that one that is gone would be told of.
#[tokio::test]
async fn rows_the_database_is_asked_for_are_those_of_the_stream() {
    let sql = "create table posts (id int, code char(8), publish_at timestamptz, shown bool, primary key (id, code));
               create table fence (id int primary key);
               alter table posts enable row level security;
               create policy shown on posts for select to authenticated using (shown and publish_at <= now());
               alter publication supabase_realtime add table posts, fence;
               insert into posts select id, 'a', now() + interval '4 s', true from generate_series(1, 2) id;";
    let database = database(Postgres::default(), sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut watching = listener(&server, &alice(), json!({"visibility": true})).await;
    database.execute("insert into fence values (1)").await;
    assert_eq!(next(&mut watching).await.0, "fence");
    database.execute("delete from posts where id = 1").await;
    assert_eq!(next(&mut watching).await, ("DELETE".to_owned(), 1));
    let change = watching.change(TOPIC).await;
    let (data, row) = (change.at("data"), change.at("data").at("record"));
    assert_eq!((data.at("reason").as_str(), row.at("id").as_i64()), (Some("entered"), Some(2)), "and not the first");
    assert!(*row.at("code") == "a       " && *row.at("shown") == Json::Bool(true), "{row}");
}

/// A row whose end the stream would tell by another key, or not at all, is nobody's to hear of.
#[tokio::test]
async fn a_row_that_the_stream_does_not_tell_by_its_key_does_not_enter_when_it_is_gone() {
    let sql = "create table posts (id int primary key, code int not null unique, publish_at timestamptz);
               alter table posts replica identity using index posts_code_key;
               create table fence (id int primary key, at timestamptz);
               alter table posts enable row level security; alter table fence enable row level security;
               create policy shown on posts for select to authenticated using (publish_at <= now());
               create policy shown on fence for select to authenticated using (at <= now());
               alter publication supabase_realtime add table posts, fence;
               insert into posts values (1, 1, now() + interval '3 s'), (2, 2, now() + interval '3 s');
               insert into fence values (1, now() + interval '4 s');";
    let database = database(Postgres::default(), sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut watching = listener(&server, &alice(), json!({"visibility": true})).await;
    database.execute("insert into fence values (2, now())").await;
    assert_eq!(next(&mut watching).await.0, "fence");
    database.execute("delete from posts where id = 1").await;
    let deleted = watching.change(TOPIC).await;
    assert!(*deleted.at("data").at("type") == "DELETE");
    assert_eq!(next(&mut watching).await.0, "fence", "nothing of a row that is gone");
}
