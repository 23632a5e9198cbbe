//! Tables, columns, publications change in the midst of the stream: it goes on, who is affected is told, nobody sees a
//! column he may not, and everybody else's sequence is exact.

use super::{
    site::Site,
    storm::{Options, PATIENCE, Storm},
    subscriber::{Event, Item, Subscriber, Who},
};
use crate::{line::setup::token_of, support::token::ALICE};
use serde_json::json;

/// A storm, and beside it somebody who watches other tables.
async fn watched(sql: &str, tables: &'static [&'static str]) -> (Storm, Subscriber) {
    let site = Site::shared().await;
    site.execute(sql).await;
    let storm = Storm::start(site, Options::default()).await;
    let token = token_of(json!({"role": "authenticated", "sub": ALICE}));
    let watcher = storm.joined_by(Who { name: "watcher", token, tables, sees: String::new() }).await;
    (storm, watcher)
}

/// Waits for an event of this row, and gives it.
async fn seen(storm: &Storm, watcher: &Subscriber, op: &str, id: i64) -> Event {
    let is = |item: &Item| matches!(item, Item::Event(event) if event.op == op && event.id == id);
    let came = watcher.until(PATIENCE, |heard| heard.iter().any(is)).await;
    let heard = watcher.heard();
    let Some(Item::Event(event)) = heard.iter().find(|item| is(item)).filter(|_| came) else {
        panic!("no {op} of {id}: {heard:?}\n{}", storm.log());
    };
    event.clone()
}

/// Waits until it was told something with this word, since it had heard so much.
async fn told(storm: &Storm, watcher: &Subscriber, since: usize, word: &str) {
    let is = |item: &Item| match item {
        Item::Told { message, .. } => message.contains(word),
        Item::Refused(reason) | Item::Gap { reason, .. } => reason.contains(word),
        Item::Inactive => word == "inactive",
        Item::Event(_) => false,
    };
    let came = watcher.until(PATIENCE, |heard| heard.iter().skip(since).any(is)).await;
    assert!(came, "not told of {word:?}: {:?}\n{}", watcher.heard(), storm.log());
}

/// The ids of the rows that were inserted, in the order in which they came.
fn inserted(watcher: &Subscriber) -> Vec<i64> {
    let event = |item: &Item| match item {
        Item::Event(event) if event.op == "INSERT" => Some(event.id),
        _ => None,
    };
    watcher.heard().iter().filter_map(event).collect()
}

const MOVING: &str = "
    create table moving (id int primary key, n bigint, body text, kind text);
    alter publication supabase_realtime add table moving;
    create schema elsewhere;
    grant usage on schema elsewhere to anon, authenticated, service_role;
";

/// `cargo test --test main columns_that_come_go -- --ignored`
#[tokio::test]
#[ignore = "one run in five beside other tests a reader is told of a gap where nothing is lost, and the cause is not known"]
async fn columns_that_come_go_and_change_reach_who_may_see_them_and_disturb_nobody() {
    let (mut storm, watcher) = watched(MOVING, &["moving"]).await;
    let steps: &[(&str, &[&str])] = &[
        ("insert into moving (id) values (1)", &["body", "id", "kind", "n"]),
        (
            "begin; alter table moving add extra text; insert into moving (id, extra) values (2, 'e'); commit",
            &["body", "extra", "id", "kind", "n"],
        ),
        (
            "begin; insert into moving (id, kind) values (3, 'k'); alter table moving drop kind; commit",
            &["body", "extra", "id", "n"],
        ),
        (
            "alter table moving rename body to text; insert into moving (id, text) values (4, 't')",
            &["extra", "id", "n", "text"],
        ),
        (
            "alter table moving alter n type text; insert into moving (id, n) values (5, '5')",
            &["extra", "id", "n", "text"],
        ),
        (
            "alter table moving alter n type bigint using n::bigint; insert into moving (id, n) values (6, 6)",
            &["extra", "id", "n", "text"],
        ),
        // In the very moment in which a column is taken away, and one is given.
        (
            "begin; revoke select on moving from authenticated; grant select (id, n) on moving to authenticated;
          insert into moving (id, text) values (7, 'secret'); commit",
            &["id", "n"],
        ),
        (
            "begin; alter table moving add secret text; insert into moving (id, secret) values (8, 's'); commit",
            &["id", "n"],
        ),
        (
            "begin; grant select (extra) on moving to authenticated; insert into moving (id, secret) values (9, 's'); commit",
            &["extra", "id", "n"],
        ),
        (
            "alter table moving replica identity full; update moving set n = 10 where id = 9; insert into moving (id) values (10)",
            &["extra", "id", "n"],
        ),
        ("truncate moving; insert into moving (id) values (11)", &["extra", "id", "n"]),
        ("alter table moving replica identity nothing; insert into moving (id) values (12)", &["extra", "id", "n"]),
        ("alter table moving replica identity default; insert into moving (id) values (13)", &["extra", "id", "n"]),
    ];
    for (id, (sql, columns)) in (1..).zip(steps) {
        storm.site.execute(sql).await;
        let event = seen(&storm, &watcher, "INSERT", id).await;
        let is_amid = id == 3 && event.columns == ["body", "extra", "id", "kind", "n"];
        assert!(event.columns == *columns || is_amid, "{sql}: {:?}", event.columns);
    }
    assert_eq!(inserted(&watcher), (1..=13).collect::<Vec<_>>());
    // All of it comes again to a server that begins anew, and nobody hears any of it twice.
    storm.kill_server();
    storm.start_server().await;
    storm.site.execute("insert into moving (id) values (14)").await;
    seen(&storm, &watcher, "INSERT", 14).await;
    assert_eq!(inserted(&watcher), (1..=14).collect::<Vec<_>>());
    storm.assert_exact().await;
    storm.end().await;
}

#[tokio::test]
async fn tables_that_move_go_and_come_are_told_to_their_subscribers_and_disturb_nobody() {
    let (storm, watcher) = watched(MOVING, &["moving"]).await;
    let gone = "Realtime is enabled";
    let steps = [
        (
            "alter table moving rename to moved; insert into moved (id) values (101)",
            "alter table moved rename to moving",
        ),
        (
            "alter table moving set schema elsewhere; insert into elsewhere.moving (id) values (102)",
            "alter table elsewhere.moving set schema public",
        ),
        (
            "alter publication supabase_realtime drop table moving; insert into moving (id) values (103)",
            "alter publication supabase_realtime add table moving",
        ),
        (
            "drop table moving",
            "create table moving (id int primary key, other text); alter publication supabase_realtime add table moving",
        ),
    ];
    for (id, (away, back)) in (1..).zip(steps) {
        let since = watcher.heard().len();
        storm.site.execute(away).await;
        told(&storm, &watcher, since, gone).await;
        let since = watcher.heard().len();
        storm.site.execute(back).await;
        told(&storm, &watcher, since, "inactive").await;
        storm.site.execute(&format!("insert into moving (id) values ({id})")).await;
        seen(&storm, &watcher, "INSERT", id).await;
    }
    // At once, so that nobody could be told in between.
    storm
        .site
        .execute(
            "begin; drop table moving; create table moving (id int primary key, third text);
         alter publication supabase_realtime add table moving; insert into moving values (5, 'x'); commit",
        )
        .await;
    assert_eq!(seen(&storm, &watcher, "INSERT", 5).await.columns, ["id", "third"]);
    // What was written under another name is of the same table: it may come when the stream is late.
    let mut inserted = inserted(&watcher);
    inserted.retain(|id| *id < 100);
    assert_eq!(inserted, [1, 2, 3, 4, 5]);
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}

#[tokio::test]
async fn a_schema_that_is_dropped_and_restored_is_told_again_and_disturbs_nobody() {
    let schema = "
        create schema app; grant usage on schema app to anon, authenticated, service_role;
        alter default privileges in schema app grant select on tables to anon, authenticated, service_role;
        create table app.things (id int primary key, n bigint);
        alter publication supabase_realtime add table app.things;";
    let (storm, watcher) = watched(schema, &["app.things"]).await;
    storm.site.execute("insert into app.things values (1, 1)").await;
    seen(&storm, &watcher, "INSERT", 1).await;
    for round in 1..=2 {
        let since = watcher.heard().len();
        storm.site.execute("drop schema app cascade").await;
        told(&storm, &watcher, since, "Realtime is enabled").await;
        // A dump is restored: the rows first, the publication at the end.
        let since = watcher.heard().len();
        let restored = schema.replace(
            "alter publication",
            "insert into app.things select g, g from generate_series(1, 50) g; alter publication",
        );
        storm.site.execute(&format!("begin; {restored} commit")).await;
        told(&storm, &watcher, since, "inactive").await;
        storm.site.execute(&format!("insert into app.things values ({}, 1)", 100 + round)).await;
        seen(&storm, &watcher, "INSERT", 100 + round).await;
    }
    storm.assert_exact().await;
    storm.end().await;
}

#[tokio::test]
async fn partitions_are_told_by_their_own_names_or_by_that_of_the_root_as_the_publication_says() {
    let parts = "
        create table parts (id int primary key, n bigint) partition by range (id);
        create table low partition of parts for values from (0) to (100);
        create table high partition of parts for values from (100) to (200);
        alter publication supabase_realtime add table parts;";
    let (storm, watcher) = watched(parts, &["parts", "low"]).await;
    let table = async |id: i64| {
        storm.site.execute(&format!("insert into parts values ({id}, {id})")).await;
        seen(&storm, &watcher, "INSERT", id).await.table
    };
    assert_eq!(table(1).await, "low");
    let since = watcher.heard().len();
    storm.site.execute("alter publication supabase_realtime set (publish_via_partition_root = true)").await;
    told(&storm, &watcher, since, "Realtime is enabled").await;
    assert_eq!((table(2).await, table(102).await), ("parts".to_owned(), "parts".to_owned()));
    storm.site.execute("alter table parts detach partition high").await;
    storm.site.execute("create table higher partition of parts for values from (200) to (300)").await;
    assert_eq!(table(202).await, "parts");
    let since = watcher.heard().len();
    storm.site.execute("alter publication supabase_realtime set (publish_via_partition_root = false)").await;
    told(&storm, &watcher, since, "inactive").await;
    assert_eq!(table(3).await, "low");
    assert_eq!(inserted(&watcher), [1, 2, 102, 202, 3]);
    storm.assert_exact().await;
    storm.end().await;
}
