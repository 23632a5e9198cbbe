//! Lookup tables against real Postgres: read while others write, kept current through restarts, truncations and
//! publications that come late, and out of service when anything is in doubt.

mod line;
mod renewal;
mod served;
mod writers;

use crate::support::postgres::{
    Database, PASSWORD, Postgres, binaries, connect, default_major, drive, majors, new_directory,
};
use line::{Line, catalog, config, facts, need};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Semaphore;
use tokio_postgres::Client;
use walcast::{
    devdb::{Cluster, ClusterOptions},
    policy::facts::{Carried, TableFacts},
    router::FollowConfig,
};
use writers::{Replay, write};

const MEMBERS: &str = "
    create table members (id int primary key, who bigint, what text);
    alter table members alter column what set storage external;
    create table marks (id bigint primary key);
    grant select on members, marks to walcast;
    create publication supabase_realtime for table marks;
";

async fn database(postgres: &'static Postgres, sql: &str) -> (Database, Client) {
    let database = postgres.database().await;
    database.execute(MEMBERS).await;
    database.execute(sql).await;
    let client = database.connect().await;
    (database, client)
}

const PUBLISHED: &str = "alter publication supabase_realtime add table members;";

/// Follows all of `members`, by `who` and by both other columns.
fn follow(line: &mut Line, facts: &TableFacts) {
    line.follow.set_catalog(&catalog(&[(facts, need(facts, &[&[1], &[1, 2]]))]));
}

/// What the table says, as `Line::rows` does.
async fn rows(client: &Client) -> Vec<Vec<String>> {
    let sql = "select id::text, coalesce(who::text, 'null'), coalesce(what, 'null') from members";
    let rows = client.query(sql, &[]).await.unwrap();
    let mut rows: Vec<Vec<String>> = rows.iter().map(|row| (0..3).map(|column| row.get(column)).collect()).collect();
    rows.sort();
    rows
}

/// Waits until all that was committed has passed; then the index must be the table.
async fn assert_alike(line: &mut Line, client: &Client, facts: &TableFacts, mark: i64) {
    client.execute("insert into marks values ($1)", &[&mark]).await.unwrap();
    line.until(|line| line.has_passed(mark) && line.is_ready()).await;
    assert_eq!(line.rows(facts.oid, &[0, 1, 2]), rows(client).await);
}

#[tokio::test]
async fn a_table_that_is_read_while_others_write_is_right_after_every_transaction() {
    for identity in [
        "",
        "alter table members add unique (id), alter column id set not null; alter table members replica identity using index members_id_key;",
        "alter table members replica identity full;",
    ] {
        let (database, client) = database(Postgres::default(), &format!("{PUBLISHED}{identity}")).await;
        let mut line = Line::of(&database);
        line.streaming().await;
        let facts = facts(&client, "members", Carried::Main, Some(None)).await;
        let (stop, writing) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(4)));
        for seed in 0..4 {
            let writer = write(&database, seed, stop.clone());
            let permit = writing.clone().try_acquire_owned().unwrap();
            drive(async move {
                writer.await;
                drop(permit);
            });
        }
        // Read again and again, each time for another need, while they write.
        let mut replay = Replay::default();
        for load in 0..4 {
            let keys: [&[usize]; 2] = if load % 2 == 0 { [&[1], &[1, 2]] } else { [&[2], &[0]] };
            line.follow.set_catalog(&catalog(&[(&facts, need(&facts, &keys))]));
            assert!(line.follow.is_holding(), "it is read for every need");
            let mut compared = 0;
            line.until(|line| {
                compared += replay.compare(line, facts.oid);
                compared > 8
            })
            .await;
        }
        stop.store(true, Ordering::SeqCst);
        line.until(|_| writing.available_permits() == 4).await;
        assert_alike(&mut line, &client, &facts, 1).await;
        assert!(!rows(&client).await.is_empty());
        line.stop().await;
    }
}

#[tokio::test]
async fn a_transaction_whose_commit_passed_but_is_not_visible_yet_is_waited_for() {
    let mut options = ClusterOptions::new(binaries(default_major()).await, new_directory());
    options.password = Some(PASSWORD.to_owned());
    options.settings = vec![("fsync".to_owned(), "off".to_owned())];
    let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let url = cluster.url("postgres");
    let client = connect(&url).await;
    let tables = MEMBERS.replace("grant select on members, marks to walcast;", "");
    client.batch_execute(&format!("{tables} {PUBLISHED}")).await.unwrap();
    let mut line = Line::start(&url, "walcast", config());
    line.streaming().await;
    // Its commit waits for a standby that is not there: it is in the log, and nobody sees it.
    client.batch_execute("alter system set synchronous_standby_names = 'nobody'").await.unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    let writer = connect(&url).await;
    let until_set = async || {
        let row = writer.query_one("select current_setting('synchronous_standby_names')", &[]).await.unwrap();
        row.get::<_, String>(0) == "nobody"
    };
    crate::support::wait::until(crate::support::socket::PATIENCE, until_set).await;
    drive(async move {
        writer
            .batch_execute("begin; insert into members values (1, 1, 'a'); insert into marks values (1); commit")
            .await
            .unwrap();
    });
    line.until(|line| line.has_passed(1)).await;
    assert!(rows(&client).await.is_empty(), "its commit is visible already");
    let facts = facts(&client, "members", Carried::Main, Some(None)).await;
    follow(&mut line, &facts);
    line.until(|line| line.state().0 == "waiting").await;
    assert!(line.state().1.contains("must end"), "{:?}", line.state());
    assert!(!line.follow.is_holding(), "others go on meanwhile");
    client.batch_execute("alter system reset synchronous_standby_names").await.unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    line.until(Line::is_ready).await;
    assert_eq!(line.rows(facts.oid, &[0, 1, 2]), [["1", "1", "a"]]);
    line.stop().await;
    let directory = cluster.directory().to_owned();
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_restart_with_the_slot_behind_the_snapshot_applies_nothing_twice() {
    let (database, client) = database(Postgres::default(), PUBLISHED).await;
    let mut line = Line::of(&database);
    line.streaming().await;
    line.stop().await;
    client
        .batch_execute(
            "insert into members select n, n % 3, 'first' from generate_series(1, 100) n;
             update members set who = 7, what = 'second' where id <= 50; delete from members where id > 90;
             update members set id = id + 1000 where id <= 5",
        )
        .await
        .unwrap();
    let facts = facts(&client, "members", Carried::Main, Some(None)).await;
    let mut line = Line::of(&database);
    follow(&mut line, &facts);
    let mut waited = false;
    line.until(|line| {
        // Not while somebody else's transaction keeps the table from being read.
        waited |= line.state().0 == "waiting";
        line.is_ready()
    })
    .await;
    assert!(waited || line.passed.is_empty(), "the stream is held until the table is read");
    assert_alike(&mut line, &client, &facts, 1).await;
    assert!(
        line.passed.iter().map(|fragment| fragment.changes.len()).sum::<usize>() > 160,
        "they came, and were in it"
    );
    client.batch_execute("truncate members; insert into members values (1, 2, 'after')").await.unwrap();
    assert_alike(&mut line, &client, &facts, 2).await;
    line.stop().await;
}

#[tokio::test]
async fn rows_that_change_without_the_stream_telling_are_read_again() {
    let (database, client) = database(Postgres::default(), PUBLISHED).await;
    let mut line = Line::of(&database);
    line.streaming().await;
    let facts = facts(&client, "members", Carried::Main, Some(None)).await;
    follow(&mut line, &facts);
    client.batch_execute("insert into members values (1, 1, 'a'), (2, 2, 'b')").await.unwrap();
    assert_alike(&mut line, &client, &facts, 1).await;
    // The same columns of the same types: nothing but the file is another.
    client.batch_execute("alter table members alter column who type bigint using who + 10").await.unwrap();
    line.until(|line| line.rows(facts.oid, &[1]) == [["11"], ["12"]]).await;
    // Out of the publication and in again, and what was done between is in no stream.
    client
        .batch_execute(
            "alter publication supabase_realtime drop table members; delete from members where id = 1;
             alter publication supabase_realtime add table members",
        )
        .await
        .unwrap();
    line.until(|line| line.rows(facts.oid, &[1]) == [["12"]]).await;
    assert_alike(&mut line, &client, &facts, 2).await;
    line.stop().await;
}

/// Also while a transaction is open that wrote to it, and to a table of clients, before there was the publication.
#[tokio::test]
async fn a_publication_that_is_made_after_the_slot_is_streamed_from_there_on() {
    for major in majors() {
        let (database, client) = database(Postgres::shared(major), "").await;
        let mut line = Line::of(&database);
        line.may_fail = true;
        line.streaming().await;
        assert_eq!(line.source().stream.and_then(|stream| stream.lookups_since), None);
        let open = database.connect().await;
        open.batch_execute("begin; insert into members values (1, 1, 'open'); insert into marks values (1)")
            .await
            .unwrap();
        client.batch_execute("create publication walcast_lookups for table members").await.unwrap();
        let facts = facts(&client, "members", Carried::Own, Some(None)).await;
        follow(&mut line, &facts);
        line.until(|line| line.state().1.contains("must end")).await;
        for mark in 2..20i64 {
            client.execute("insert into marks values ($1)", &[&mark]).await.unwrap();
        }
        line.until(|line| line.has_passed(19)).await;
        open.batch_execute("insert into members values (2, 1, 'open'); commit").await.unwrap();
        line.until(Line::is_ready).await;
        client.batch_execute("update members set who = 3; insert into members values (3, 3, 'c')").await.unwrap();
        assert_alike(&mut line, &client, &facts, 20).await;
        assert!(line.source().stream.unwrap().lookups_since.is_some());
        assert_eq!(marks(&line), (1..=20).map(|mark| (mark, 1)).collect::<HashMap<i64, usize>>(), "each once");

        // Without it the table is out of service, and what clients subscribe to goes on.
        client.batch_execute("drop publication walcast_lookups").await.unwrap();
        let gone = TableFacts { carried: Carried::No, ..facts.clone() };
        follow(&mut line, &gone);
        assert!(line.state().1.contains("not in the stream"), "{:?}", line.state());
        client.batch_execute("insert into members values (4, 4, 'd'); insert into marks values (21)").await.unwrap();
        line.until(|line| line.has_passed(21)).await;
        client.batch_execute("create publication walcast_lookups for table members").await.unwrap();
        follow(&mut line, &facts);
        assert_alike(&mut line, &client, &facts, 22).await;
        client.batch_execute("delete from members where id = 4").await.unwrap();
        assert_alike(&mut line, &client, &facts, 23).await;
        assert_eq!(marks(&line), (1..=23).map(|mark| (mark, 1)).collect::<HashMap<i64, usize>>(), "each once");
        line.stop().await;
    }
}

/// How often each mark has come.
fn marks(line: &Line) -> HashMap<i64, usize> {
    let mut marks = HashMap::new();
    let changes = line.passed.iter().flat_map(|fragment| &fragment.changes);
    for change in changes.filter(|change| change.relation.name == "marks") {
        if let Some(walcast::change::Datum::Text(text)) = change.new.as_ref().map(|row| &row.0[0]) {
            *marks.entry(std::str::from_utf8(text).unwrap().parse().unwrap()).or_default() += 1;
        }
    }
    marks
}

/// A transaction that wrote to a table of clients before the publication was made, and commits when the stream has it:
/// up to 17 that ends the stream.
#[tokio::test]
async fn a_transaction_older_than_the_publication_does_not_stop_the_stream() {
    for major in majors() {
        let (database, client) = database(Postgres::shared(major), "").await;
        let mut line = Line::of(&database);
        line.may_fail = true;
        line.streaming().await;
        let open = database.connect().await;
        open.batch_execute("begin; insert into marks values (1)").await.unwrap();
        client.batch_execute("create publication walcast_lookups for table members").await.unwrap();
        let facts = facts(&client, "members", Carried::Own, Some(None)).await;
        follow(&mut line, &facts);
        line.until(Line::is_ready).await;
        open.batch_execute("commit").await.unwrap();
        client.batch_execute("insert into members values (1, 1, 'a')").await.unwrap();
        assert_alike(&mut line, &client, &facts, 2).await;
        assert_eq!(marks(&line), HashMap::from([(1, 1), (2, 1)]));
        line.stop().await;
    }
}

#[tokio::test]
async fn publications_that_would_change_what_clients_get_are_not_joined() {
    let (database, client) = database(
        Postgres::default(),
        "create publication walcast_lookups for table members;
         alter publication supabase_realtime add table members where (who > 5);",
    )
    .await;
    let mut line = Line::of(&database);
    line.may_fail = true;
    line.streaming().await;
    let problem = line.source().stream.and_then(|stream| stream.lookups_problem).unwrap();
    assert!(problem.contains("public.members") && problem.contains("filter"), "{problem}");
    let facts = facts(&client, "members", Carried::Own, Some(None)).await;
    follow(&mut line, &facts);
    line.until(|line| line.state().0 == "failed").await;
    assert!(line.state().1.contains("public.members"), "{:?}", line.state());
    line.stop().await;
}

#[tokio::test]
async fn a_table_that_cannot_be_kept_or_read_says_why_and_holds_nobody() {
    let sql = "insert into members select n, n, repeat('x', 100) from generate_series(1, 1000) n;
               create role reader bypassrls; create role blind; grant reader, blind to walcast;
               grant select on members to reader, blind; alter table members enable row level security;
               create policy p on members using (id < 10)";
    let postgres = Postgres::default();
    let roles = "drop owned by reader, blind; drop role reader, blind";
    let (database, client) = database(postgres, &format!("{PUBLISHED}{sql}")).await;
    let state = async |reader: Option<Option<&str>>, config: FollowConfig| {
        let mut line = Line::start(&database.walcast_url(), &database.slot(), config);
        line.may_fail = true;
        let facts = facts(&client, "members", Carried::Main, reader).await;
        follow(&mut line, &facts);
        line.until(|line| ["ready", "failed"].contains(&line.state().0)).await;
        let state = (line.state().0, line.state().1, line.rows(facts.oid, &[0]).len());
        line.stop().await;
        state
    };
    let (phase, why, _) = state(Some(Some("reader")), FollowConfig { limit_bytes: 50_000, ..config() }).await;
    assert!(phase == "failed" && why.contains("raise lookup_bytes (now 50000"), "{phase}: {why}");
    let (phase, why, _) = state(Some(Some("blind")), config()).await;
    assert!(phase == "failed" && why.contains("row-level security"), "{phase}: {why}");
    let (phase, why, _) = state(Some(None), config()).await;
    assert!(phase == "failed" && why.contains("row-level security"), "{phase}: {why}");
    let (phase, why, _) = state(None, config()).await;
    assert!(phase == "failed" && why.contains("no role"), "{phase}: {why}");
    let all = state(Some(Some("reader")), config()).await;
    assert_eq!(all, ("ready", String::new(), 1000));
    client.batch_execute(roles).await.unwrap();
}
