//! The same statements told by the log and by the outbox.

use super::setup::{Log, assert_same, database, install, outbox_fragments, outbox_transactions};
use crate::support::postgres::{Postgres, default_major, majors};

/// Runs each of these in a transaction of its own, unless it has its own, and compares what both have told.
async fn compare(major: u32, tables: &str, statements: &[&str]) {
    let database = database(Postgres::shared(major), tables).await;
    let mut client = database.connect().await;
    let log = Log::begin(&database).await;
    for sql in statements {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    let (log, outbox) = (log.transactions().await, outbox_transactions(&mut client, 1).await);
    assert!(!log.is_empty());
    assert_same(&log, &outbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_identity_tells_the_same_of_the_row_before() {
    for major in majors() {
        compare(
            major,
            "create table plain (id int primary key, a text, b text);
             create table whole (id int primary key, a text, b text); alter table whole replica identity full;
             create table by_index (a text, id int not null, b text not null);
             create unique index by_two on by_index (b, id); alter table by_index replica identity using index by_two;
             create table none (id int primary key, a text); alter table none replica identity nothing;
             create publication inserts for table none with (publish = 'insert');
             alter publication supabase_realtime add table plain, whole, by_index",
            &[
                "insert into plain values (1, 'a', 'b'), (2, null, '')",
                "update plain set a = 'c'",
                "update plain set id = 3 where id = 1",
                "update plain set id = id",
                "delete from plain",
                "insert into whole values (1, 'a', null)",
                "update whole set b = 'c'; delete from whole",
                "insert into by_index values ('a', 1, 'b')",
                "update by_index set a = 'x'; update by_index set b = 'y'; delete from by_index",
                "begin; insert into plain values (7, 'x', 'y'); savepoint s; insert into plain values (8, 'x', 'y'); \
                 rollback to s; insert into plain values (9, 'x', 'y') on conflict do nothing; \
                 insert into plain values (9, 'z', 'y') on conflict (id) do update set a = excluded.a; commit",
                "begin; insert into plain values (10); rollback",
                "begin; insert into whole values (2, repeat('x', 100000), 'y'); update whole set b = 'z'; commit",
            ],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_named_as_the_publication_names_them() {
    let tables = "create table k (k int, id int, v text, primary key (k, id)) partition by list (k);
         create table k1 (v text, gone int, id int not null, k int not null); alter table k1 drop column gone;
         alter table k attach partition k1 for values in (1);
         create table k2 partition of k for values in (2) partition by list (id);
         create table k2a partition of k2 for values in (1, 2);
         alter publication supabase_realtime add table k;";
    let statements = [
        "insert into k values (1, 1, 'a'), (2, 1, 'b')",
        "update k set v = 'c'",
        "update k set k = 2, id = 2 where k = 1",
        "insert into k1 values ('direct', 5, 1)",
        "create table k3 partition of k for values in (3)",
        "insert into k values (3, 1, 'late')",
        "delete from k",
        "create table k4 (k int not null, id int not null, v text, primary key (k, id)); insert into k4 values (4, 1, 'x'); \
         alter table k attach partition k4 for values in (4)",
        "update k set v = 'attached'",
    ];
    for major in majors() {
        compare(major, tables, &statements).await;
        let via_root = format!("{tables} alter publication supabase_realtime set (publish_via_partition_root = true)");
        compare(major, &via_root, &statements).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_before_its_rows_are_read_is_told_as_it_was() {
    for major in majors() {
        compare(
            major,
            "create table t (id int primary key, a text, b int); alter publication supabase_realtime add table t",
            &[
                "insert into t values (1, 'a', 1)",
                "alter table t rename column a to c",
                "insert into t values (2, 'a', 1)",
                "alter table t drop column b",
                "insert into t values (3, 'a')",
                "alter table t add column d varchar(9) default 'x'",
                "insert into t values (4, 'a')",
                "alter table t alter column c type jsonb using to_jsonb(c)",
                "update t set d = 'y'",
                "alter table t replica identity full",
                "update t set d = 'z'",
                "begin; insert into t values (5); alter table t add column e int; insert into t values (6, '{}', 'd', 1); \
                 alter table t rename column e to f; insert into t values (7, '{}', 'd', 1); commit",
                "create schema other; alter table t set schema other",
                "insert into other.t values (8)",
                "alter table other.t rename to u",
                "delete from other.u",
            ],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_triggers_and_foreign_keys_write_comes_behind_the_row_that_made_them() {
    compare(
        default_major(),
        "create table parent (id int primary key, v int);
         create table child (id int primary key, p int references parent on delete cascade on update cascade);
         alter publication supabase_realtime add table parent, child;
         create function bump() returns trigger language plpgsql as $$ begin
           update parent set v = v + 100 where id = new.id + 1 and v < 100; return null; end $$;
         create trigger a_bump after insert on parent for each row execute function bump()",
        &[
            "insert into parent values (1, 1)",
            "insert into child values (1, 1), (2, 1)",
            "update parent set id = 9 where id = 1",
            "delete from parent",
        ],
    )
    .await;
    // Of several rows the log has all before what their triggers wrote: each row's own order is what counts.
    let database = database(
        Postgres::default(),
        "create table t (id int primary key, v int); alter publication supabase_realtime add table t;
         create function bump() returns trigger language plpgsql as $$ begin
           update t set v = v + 1 where id > new.id and v < 5; return null; end $$;
         create trigger a_bump after insert or update on t for each row execute function bump()",
    )
    .await;
    let mut client = database.connect().await;
    client.batch_execute("insert into t select g, 0 from generate_series(1, 4) g; update t set v = 0").await.unwrap();
    let mut last = std::collections::HashMap::new();
    for change in outbox_transactions(&mut client, 1).await.into_iter().flatten() {
        let row = change.new.unwrap();
        if change.operation == "INSERT" {
            assert!(!last.contains_key(&row[0]), "an INSERT behind an UPDATE of the same row");
        }
        last.insert(row[0].clone(), row[1].clone());
    }
    for row in client.query("select id::text, v::text from t", &[]).await.unwrap() {
        let (id, v): (String, String) = (row.get(0), row.get(1));
        assert_eq!(last[&Some(Some(id))], Some(Some(v)), "the last that is told is what the row is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publication_leaves_out_is_left_out() {
    let major = default_major();
    compare(
        major,
        "create table t (id int primary key, a text, secret text, g text generated always as (a || '!') stored);
         create table quiet (id int primary key); create table unseen (id int primary key);
         alter publication supabase_realtime set (publish = 'insert, delete');
         alter publication supabase_realtime add table t (id, a), quiet",
        &[
            "insert into t values (1, 'a', 's')",
            "update t set a = 'b'",
            "insert into unseen values (1)",
            "begin; set local session_replication_role = replica; insert into t values (2); commit",
            "delete from t",
        ],
    )
    .await;
    // A table that is dropped from the publication is told no longer, one that is added is captured when asked for.
    let database = database(
        Postgres::shared(major),
        "create table t (id int primary key); create table later (id int primary key);
         alter publication supabase_realtime add table t",
    )
    .await;
    let mut client = database.connect().await;
    client.batch_execute("insert into t values (1); insert into later values (1)").await.unwrap();
    client.batch_execute("alter publication supabase_realtime set table later").await.unwrap();
    assert!(outbox_transactions(&mut client, 1).await.is_empty());
    install(&database).await;
    client.batch_execute("insert into t values (2); insert into later values (2)").await.unwrap();
    let told = outbox_transactions(&mut client, 1).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0][0].table.contains("later"));
    // Rows a filter would leave out are nobody's.
    client.batch_execute("alter publication supabase_realtime set table later where (id > 100)").await.unwrap();
    assert!(outbox_transactions(&mut client, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_read_in_pieces_and_told_whole() {
    let database = database(
        Postgres::default(),
        "create table t (id int primary key, body text); alter publication supabase_realtime add table t",
    )
    .await;
    let mut client = database.connect().await;
    let sql = "insert into t values (0, 'small'); \
               insert into t select g, repeat('x', case when g % 500 = 0 then 700000 else 10 end) \
               from generate_series(1, 2000) g; update t set body = 'y' where id = 0";
    for sql in sql.split(';') {
        client.batch_execute(sql).await.unwrap();
    }
    let fragments = outbox_fragments(&mut client, 1).await;
    let large: Vec<_> = fragments.iter().filter(|fragment| fragment.commit_lsn.0 == 2).collect();
    assert!(large.len() >= 4, "{}", large.len());
    for fragment in &large {
        assert!(fragment.changes.len() <= 512);
    }
    let ordinals: Vec<u64> = large.iter().flat_map(|fragment| &fragment.changes).map(|change| change.ordinal).collect();
    assert_eq!(ordinals, (0..2000).collect::<Vec<u64>>());
    let ends: Vec<bool> = large.iter().map(|fragment| fragment.end_lsn.is_some()).collect();
    assert_eq!(ends.iter().position(|end| *end), Some(large.len() - 1), "only the last piece is the end");
    assert_eq!(fragments.last().unwrap().commit_lsn.0, 3);
}
