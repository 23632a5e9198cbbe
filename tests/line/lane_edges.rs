//! Rights at the edges: deletes, rows that change hands, tokens that change, lookups in the same transaction, commits
//! that are not visible yet, policies that fail, and what publications leave out.

use super::setup::{all_of, database, is, items, next, subscriber, summary, token_of, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{PASSWORD, Postgres, binaries, connect, majors, new_directory},
    server::Server,
    skip,
    socket::{PATIENCE, Socket},
    token::{ALICE, BOB, alice, anon, bob, service, user},
    wait::until,
};
use serde_json::json;
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use walcast::devdb::{Cluster, ClusterOptions};

const TOPIC: &str = "realtime:line";

/// A table whose rows belong to users, beside a table for everybody that shows when all before it has been delivered.
fn owned(identity: &str) -> String {
    format!(
        "create table docs (id int primary key, owner_id uuid, secret text, body text);
         alter table docs replica identity {identity};
         alter table docs enable row level security;
         create policy own on docs for select to authenticated using (owner_id = auth.uid());
         alter publication supabase_realtime add table docs;
         create table fence (id int primary key); alter publication supabase_realtime add table fence;"
    )
}

async fn everything(server: &Server, token: &str) -> Socket {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
    socket.subscribe(TOPIC, &json!([{"event": "*", "schema": "public"}])).await;
    socket
}

/// What comes before the fence.
async fn before_fence(socket: &mut Socket) -> Vec<Json> {
    let mut changes = Vec::new();
    loop {
        let change = socket.change(TOPIC).await;
        if *change.at("data").at("table") == "fence" {
            return changes;
        }
        changes.push(change);
    }
}

fn kinds(changes: &[Json]) -> Vec<(String, i64)> {
    changes.iter().map(summary).collect()
}

#[tokio::test]
async fn a_delete_with_the_whole_old_row_is_told_to_those_who_saw_it() {
    let database = database(Postgres::default(), &owned("full")).await;
    let server = Server::start(&database, &[]).await;
    let (mut a, mut b) = (everything(&server, &alice()).await, everything(&server, &bob()).await);
    let sql =
        format!("insert into docs values (1, '{ALICE}', 's', 'b'); delete from docs; insert into fence values (1)");
    database.execute(&sql).await;
    let changes = before_fence(&mut a).await;
    assert_eq!(kinds(&changes), [is("INSERT", 1), is("DELETE", 1)]);
    assert_eq!(*changes[1].at("data").at("old_record").at("secret"), "s");
    assert_eq!(kinds(&before_fence(&mut b).await), []);
}

#[tokio::test]
async fn a_delete_of_a_bare_key_is_told_to_all_or_with_strict_deletes_to_nobody() {
    for (mode, told) in [("keys", true), ("strict", false)] {
        let database = database(Postgres::default(), &owned("default")).await;
        let server = Server::start(&database, &[("WALCAST_DELETES", mode)]).await;
        let sql = format!("insert into docs values (1, '{ALICE}', 's', 'b')");
        database.execute(&sql).await;
        let (mut a, mut b) = (everything(&server, &alice()).await, everything(&server, &bob()).await);
        let mut nobody = everything(&server, &anon()).await;
        database.execute("delete from docs; insert into fence values (1)").await;
        for socket in [&mut a, &mut b, &mut nobody] {
            let changes = before_fence(socket).await;
            assert_eq!(kinds(&changes), if told { vec![is("DELETE", 1)] } else { vec![] }, "{mode}");
            for change in changes {
                assert_eq!(change.at("data").at("old_record").keys(), ["id"], "only the key");
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_changes_hands_shows_its_new_owner_nothing_of_before() {
    let database = database(Postgres::default(), &owned("full")).await;
    let server = Server::start(&database, &[]).await;
    let (mut a, mut b) = (everything(&server, &alice()).await, everything(&server, &bob()).await);
    let sql = format!(
        "insert into docs values (1, '{ALICE}', 'hers', 'b');
         update docs set owner_id = '{BOB}', secret = 'his'; insert into fence values (1)"
    );
    database.execute(&sql).await;
    assert_eq!(kinds(&before_fence(&mut a).await), [is("INSERT", 1)]);
    let changes = before_fence(&mut b).await;
    assert_eq!(kinds(&changes), [is("UPDATE", 1)]);
    assert!(!changes[0].to_string().contains("hers") && !changes[0].to_string().contains(ALICE), "{}", changes[0]);
}

#[tokio::test]
async fn a_refreshed_token_switches_rights_at_once() {
    let database = database(Postgres::default(), &owned("default")).await;
    let server = Server::start(&database, &[]).await;
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let (channel, _) = socket.subscribe(TOPIC, &json!([{"event": "*", "schema": "public"}])).await;
    database.execute(&format!("insert into docs values (1, '{ALICE}'), (2, '{BOB}')")).await;
    assert_eq!(next(&mut socket).await, is("INSERT", 1));
    socket.push_on(&channel, "access_token", &json!({"access_token": bob()})).await;
    socket.expect("the word that it took effect", |m| m.is(TOPIC, "system")).await;
    database.execute(&format!("insert into docs values (3, '{ALICE}'), (4, '{BOB}')")).await;
    assert_eq!(next(&mut socket).await, is("INSERT", 4));
}

#[tokio::test]
async fn a_subscription_that_no_longer_needs_the_database_does_not_overtake_itself() {
    let sql = format!(
        "{} create policy slowly on docs for select to authenticated using (pg_sleep(0.3) is not null);",
        owned("default")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let (channel, _) = socket.subscribe(TOPIC, &json!([{"event": "*", "schema": "public"}])).await;
    let client = database.connect().await;
    for id in 1..=3 {
        client.execute("insert into docs (id) values ($1)", &[&id]).await.unwrap();
    }
    socket.push_on(&channel, "access_token", &json!({"access_token": service()})).await;
    for id in 4..=6 {
        client.execute("insert into docs (id) values ($1)", &[&id]).await.unwrap();
    }
    for id in 1..=6 {
        assert_eq!(next(&mut socket).await, is("INSERT", id));
    }
}

#[tokio::test]
async fn a_membership_and_the_row_it_opens_may_come_in_one_transaction() {
    for major in majors() {
        let sql = "create table members (doc int, who uuid);
             create table docs (id int primary key);
             alter table docs enable row level security;
             create policy p on docs for select to authenticated
               using (exists (select from members where doc = docs.id and who = auth.uid()));
             alter publication supabase_realtime add table docs";
        let database = database(Postgres::shared(major), sql).await;
        let server = Server::start(&database, &[]).await;
        let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
        let client = database.connect().await;
        for id in 1..=50 {
            let sql =
                format!("begin; insert into docs values ({id}); insert into members values ({id}, '{ALICE}'); commit");
            client.batch_execute(&sql).await.unwrap();
        }
        for id in 1..=50 {
            assert_eq!(next(&mut socket).await, is("INSERT", id));
        }
    }
}

/// The commit is held back from other sessions by a standby that does not exist; the stream sends it nevertheless.
#[tokio::test]
async fn a_commit_that_arrives_before_it_is_visible_is_waited_for_in_any_epoch() {
    for major in majors() {
        let start = async |directory: std::path::PathBuf| {
            let mut options = ClusterOptions::new(binaries(major).await, directory);
            options.password = Some(PASSWORD.to_owned());
            Cluster::start(options).await.unwrap_or_else(|error| panic!("PostgreSQL {major}: {error}"))
        };
        let cluster = start(new_directory()).await;
        let directory = cluster.directory().to_owned();
        cluster.stop().await.unwrap();
        // The second epoch: transaction ids of 32 bits are no longer enough.
        let has_epoch = reset_epoch(&binaries(major).await.program("pg_resetwal"), major, &directory);
        let cluster = start(directory.clone()).await;
        let client = connect(&cluster.url("postgres")).await;
        let sql = "create role anon; create role authenticated; create role service_role bypassrls;
             create table members (doc int, who uuid); create table docs (id int primary key);
             alter table docs enable row level security;";
        client
            .batch_execute(&format!(
                "{sql} {}",
                super::setup::PRELUDE
                    .replace("alter default privileges in schema public grant select on tables to walcast;", "")
            ))
            .await
            .unwrap();
        let sql = "grant select on members, docs to authenticated;
             create policy p on docs for select to authenticated
               using (exists (select from members where doc = docs.id and who = auth.uid()));
             alter publication supabase_realtime add table docs";
        client.batch_execute(sql).await.unwrap();
        let epoch: i64 =
            client.query_one("select (pg_current_xact_id()::text::bigint) >> 32", &[]).await.unwrap().get(0);
        assert_eq!(epoch, i64::from(has_epoch));
        let server = Server::start_at(&cluster.url("postgres"), "walcast", &[]).await;
        let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
        // An older transaction that goes on keeps the end of the completed ones before the commit.
        let older = connect(&cluster.url("postgres")).await;
        older.batch_execute("begin; create table later ()").await.unwrap();
        for sql in ["alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()"] {
            client.batch_execute(sql).await.unwrap();
        }
        until(PATIENCE, async || {
            let names = connect(&cluster.url("postgres")).await.query_one("show synchronous_standby_names", &[]).await;
            names.unwrap().get::<_, &str>(0) == "nobody"
        })
        .await;
        let writer = connect(&cluster.url("postgres")).await;
        let sql = format!("begin; insert into docs values (1); insert into members values (1, '{ALICE}'); commit");
        let write = async { writer.batch_execute(&sql).await.unwrap() };
        let rest = async {
            socket.listen(Duration::from_millis(700)).await;
            assert!(socket.drain().is_empty(), "nothing is judged before it is visible");
            for sql in ["alter system reset synchronous_standby_names", "select pg_reload_conf()"] {
                client.batch_execute(sql).await.unwrap();
            }
            assert_eq!(next(&mut socket).await, is("INSERT", 1));
        };
        tokio::join!(write, rest);
        older.batch_execute("rollback").await.unwrap();
        server.stop().await;
        cluster.stop().await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
}

/// Whether it could be done: not every distribution has the program.
fn reset_epoch(program: &Path, major: u32, directory: &Path) -> bool {
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_resetwal"));
    let Some(program) = [program, &debian].into_iter().find(|path| path.exists()) else {
        skip("the second epoch of a_commit_that_arrives_before_it_is_visible", "there is no pg_resetwal");
        return false;
    };
    let user = std::fs::metadata(directory).unwrap().uid();
    let mut command = Command::new(program);
    if user != std::fs::metadata("/proc/self").unwrap().uid() {
        command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]).arg(program);
    }
    let output = command.args(["-e", "1", "-D"]).arg(directory.join("data")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

#[tokio::test]
async fn a_policy_on_an_unchanged_long_value_hides_the_row_unless_the_old_image_has_it() {
    for (identity, expected) in [("default", vec![is("INSERT", 1)]), ("full", vec![is("INSERT", 1), is("UPDATE", 1)])] {
        let sql = format!(
            "create table docs (id int primary key, body text, n int); alter table docs alter body set storage external;
             alter table docs replica identity {identity}; alter table docs enable row level security;
             create policy p on docs for select using (body is null or body like 'x%');
             alter publication supabase_realtime add table docs;
             create table fence (id int primary key); alter publication supabase_realtime add table fence"
        );
        let database = database(Postgres::default(), &sql).await;
        let server = Server::start(&database, &[]).await;
        let mut socket = everything(&server, &alice()).await;
        let sql = "insert into docs values (1, repeat('x', 5000)), (2, repeat('y', 5000)); update docs set n = 1;
                   insert into fence values (1)";
        database.execute(sql).await;
        assert_eq!(kinds(&before_fence(&mut socket).await), expected, "{identity}");
    }
}

#[tokio::test]
async fn a_column_the_publication_leaves_out_is_not_null_to_a_policy() {
    let sql = "create table docs (id int primary key, closed text);
         alter table docs enable row level security;
         create policy p on docs for select using (closed is null);
         alter publication supabase_realtime add table docs (id);
         create table fence (id int primary key); alter publication supabase_realtime add table fence";
    let Some(major) = majors().into_iter().find(|&major| major >= 15) else { return };
    let database = database(Postgres::shared(major), sql).await;
    let server = Server::start(&database, &[]).await;
    let mut socket = everything(&server, &alice()).await;
    database.execute("insert into docs values (1, 'yes'); insert into fence values (1)").await;
    assert_eq!(kinds(&before_fence(&mut socket).await), []);
}

#[tokio::test]
async fn a_publications_row_filter_and_column_list_hold() {
    let Some(major) = majors().into_iter().find(|&major| major >= 15) else { return };
    let sql = "create table docs (id int primary key, body text, secret text);
         alter publication supabase_realtime add table docs (id, body) where (id > 10)";
    let database = database(Postgres::shared(major), sql).await;
    let server = Server::start(&database, &[]).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    database.execute("insert into docs values (1, 'a', 's'), (11, 'b', 's')").await;
    let change = socket.change(TOPIC).await;
    assert_eq!(summary(&change), is("INSERT", 11));
    assert_eq!(change.at("data").at("record").keys(), ["body", "id"]);
}

#[tokio::test]
async fn a_failing_policy_costs_its_own_subscriber_only_and_only_the_rows_it_fails_on() {
    let sql = format!(
        "{} drop policy own on docs;
         create policy p on docs for select to authenticated using (10 / (length(body) - (auth.jwt() ->> 'n')::int) is not null);",
        owned("default")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    let with = |n: serde_json::Value| token_of(json!({"role": "authenticated", "sub": ALICE, "n": n}));
    let mut one = everything(&server, &with(json!(1))).await;
    let mut two = everything(&server, &with(json!(2))).await;
    let mut bad = everything(&server, &with(json!("many"))).await;
    // The bad ones first, more of them than are certain to be told apart before the first good one is found.
    let sql =
        "insert into docs select n, null, null, case when n <= 40 then 'a' else 'bb' end from generate_series(1, 60) n;
               insert into fence values (1)";
    database.execute(sql).await;
    let all = |range: std::ops::RangeInclusive<i64>| range.map(|id| is("INSERT", id)).collect::<Vec<_>>();
    assert_eq!(kinds(&before_fence(&mut two).await), all(1..=40));
    assert_eq!(kinds(&before_fence(&mut bad).await), []);
    let told = bad.expect("the word that the policy failed", |m| m.is(TOPIC, "system")).await;
    assert!(told.text.contains("22P02") && !told.text.contains("many"), "{}", told.text);
    assert_eq!(kinds(&before_fence(&mut one).await), all(41..=60));
}

#[tokio::test]
async fn a_policy_that_takes_too_long_holds_others_up_for_a_moment_only() {
    let sql = format!(
        "{} create policy slowly on docs for select to anon using (pg_sleep(30) is not null);",
        owned("default")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[("WALCAST_LANE_STATEMENT_TIMEOUT_MS", "300")]).await;
    let (mut a, mut slow) = (everything(&server, &alice()).await, everything(&server, &anon()).await);
    let client = database.connect().await;
    let started = Instant::now();
    for id in 1..=200 {
        client.execute(&format!("insert into docs values ($1, '{ALICE}')"), &[&id]).await.unwrap();
    }
    client.batch_execute("insert into fence values (1)").await.unwrap();
    assert_eq!(before_fence(&mut a).await.len(), 200);
    // Each of them for the whole time a policy may take, that would be a minute.
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert_eq!(before_fence(&mut slow).await.len(), 0);
}

/// A plan is made anew when the catalogue changes, then under the subscriber's role, which may not name the schema.
#[tokio::test]
async fn a_helper_in_a_private_schema_goes_on_working_when_the_catalogue_changes() {
    let sql = "create schema private; grant usage on schema private to walcast;
         create table members (who uuid);
         create function private.is_member() returns boolean language sql stable security definer set search_path = '' as
           $$ select exists (select from public.members where who = auth.uid()) $$;
         create table docs (id int primary key);
         alter table docs enable row level security;
         create policy p on docs for select to authenticated using (private.is_member());
         alter publication supabase_realtime add table docs;";
    let database = database(Postgres::default(), sql).await;
    let server = Server::start(&database, &[]).await;
    let client = database.connect().await;
    client.batch_execute(&format!("insert into members values ('{ALICE}'), ('{BOB}')")).await.unwrap();
    let mut sockets = Vec::new();
    for number in 0..6 {
        let token = token_of(json!({"role": "authenticated", "sub": ALICE, "n": number}));
        sockets.push(subscriber(&server, &token, "docs").await.0);
    }
    let function = "create or replace function private.is_member() returns boolean language sql stable security definer
         set search_path = '' as $$ select exists (select from public.members where who = auth.uid()) $$; analyze docs";
    for id in 1..=5 {
        client.execute("insert into docs values ($1)", &[&id]).await.unwrap();
        for socket in &mut sockets {
            assert_eq!(next(socket).await, is("INSERT", i64::from(id)));
        }
        client.batch_execute(function).await.unwrap();
        client
            .batch_execute("alter table docs add column if not exists extra int; alter table docs drop column extra")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn roles_that_were_not_granted_to_us_cannot_be_claimed() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    for role in ["none", "walcast", "postgres", "pg_read_all_data", "no_such_role"] {
        let token = token_of(json!({"role": role, "sub": ALICE}));
        let url = server.websocket_url("2.0.0", &token);
        let Ok(mut socket) = Socket::connect(&url, &[]).await else { continue };
        socket.join_raw(TOPIC, &json!({"config": {"postgres_changes": all_of("docs")}})).await;
        database.execute("insert into docs values (1); delete from docs").await;
        let heard = socket.drain_until_quiet(Duration::from_millis(300)).await;
        assert!(!heard.iter().any(|m| m.is(TOPIC, "postgres_changes")), "{role}: {heard:?}");
        assert!(!heard.iter().any(|m| m.text.contains("Subscribed to PostgreSQL")), "{role}: {heard:?}");
    }
}

#[tokio::test]
async fn a_table_that_is_followed_by_another_publication_only_reaches_nobody() {
    let sql = format!(
        "{} create table hidden (id int primary key); create publication other for table hidden",
        items("docs")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut socket = everything(&server, &user(BOB)).await;
    database.execute("insert into hidden values (1); insert into docs values (2)").await;
    let change = socket.change(TOPIC).await;
    assert_eq!(*change.at("data").at("table"), "docs");
}

/// Such a plan is always made under the subscriber's role, because it depends on another table's policies.
#[tokio::test]
async fn a_private_helper_beside_a_lookup_that_has_policies_itself_is_hidden_at_worst() {
    let sql = "create schema private; grant usage on schema private to walcast;
         create table members (who uuid); alter table members enable row level security;
         create policy own on members for select using (who = auth.uid());
         create function private.yes() returns boolean language sql stable security definer set search_path = ''
           as 'select true';
         create table docs (id int primary key); alter table docs enable row level security;
         create policy p on docs for select to authenticated
           using (private.yes() and exists (select from members where who = auth.uid()));
         alter publication supabase_realtime add table docs;
         create table fence (id int primary key); alter publication supabase_realtime add table fence";
    let database = database(Postgres::default(), sql).await;
    let server = Server::start(&database, &[]).await;
    let (mut a, mut b) = (everything(&server, &alice()).await, everything(&server, &bob()).await);
    database
        .execute(&format!(
            "insert into members values ('{ALICE}'); insert into docs values (1); insert into fence values (1)"
        ))
        .await;
    assert_eq!(kinds(&before_fence(&mut b).await), []);
    // The role may not name the schema, so the database refuses; whoever is affected hears of it.
    assert_eq!(kinds(&before_fence(&mut a).await), []);
    a.expect("why", |m| m.is(TOPIC, "system") && m.text.contains("42501")).await;
    database
        .execute(
            "grant usage on schema private to authenticated; insert into docs values (2); insert into fence values (2)",
        )
        .await;
    assert_eq!(kinds(&before_fence(&mut a).await), [is("INSERT", 2)]);
}

/// A statement of its own and the table it needs, in one transaction, many times: the first row of each is not lost.
#[tokio::test]
async fn the_first_row_of_a_table_made_in_the_same_transaction_arrives() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    let mut socket = everything(&server, &alice()).await;
    let client = database.connect().await;
    for id in 1..=30 {
        let sql = format!("begin; {} insert into made_{id} values ({id}); commit", items(&format!("made_{id}")));
        client.batch_execute(&sql).await.unwrap();
        let sql = format!(
            "begin; alter table made_{id} add n int, alter body type int using 0; insert into made_{id} values (0, 1, 2); commit"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    for id in 1..=30 {
        assert_eq!(next(&mut socket).await, is("INSERT", id));
        let change = socket.change(TOPIC).await;
        assert_eq!(*change.at("data").at("record"), json!({"id": 0, "body": 1, "n": 2}));
    }
}
