//! Several triggers that capture one table: each of its rows is told once.

use super::setup::{PUBLICATION, database, install, outbox_fragments};
use crate::{
    commands::output,
    support::postgres::{Postgres, majors},
};
use tokio_postgres::Client;
use walcast::pg::migrate::notify;

const TABLES: &str = "create table docs (id int primary key);
    create table parts (k int, id int, primary key (k, id)) partition by list (k);
    create table part1 partition of parts for values in (1);
    alter publication supabase_realtime add table docs, parts";

async fn told(client: &mut Client) -> usize {
    outbox_fragments(client, 1).await.iter().map(|fragment| fragment.changes.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_several_triggers_capture_is_told_once() {
    for major in majors() {
        let database = database(Postgres::shared(major), TABLES).await;
        let mut client = database.connect().await;
        // By hand, before and behind ours by name; for one operation; under a condition; where triggers are off for others;
        // and for a part of a table beside the whole.
        client
            .batch_execute(
                "create trigger \"!aaa\" after insert or update or delete on docs
                   for each row execute function walcast.capture();
                 create trigger zzz after insert on docs for each row execute function walcast.capture();
                 create trigger \"!cond\" after insert on docs
                   for each row when (new.id > 0) execute function walcast.capture();
                 create trigger rep after insert or update or delete on docs
                   for each row execute function walcast.capture();
                 alter table docs enable replica trigger rep;
                 create trigger \"!aaa\" after insert or update or delete on part1
                   for each row execute function walcast.capture()",
            )
            .await
            .unwrap();
        let statements = "insert into docs values (1), (2); update docs set id = 3 where id = 1; delete from docs where id = 2;
                          insert into parts values (1, 1); insert into part1 values (1, 2); delete from parts where id = 2";
        client.batch_execute(statements).await.unwrap();
        assert_eq!(told(&mut client).await, 7);
        let as_replica = "begin; set local session_replication_role = replica; insert into docs values (9); commit";
        client.batch_execute(as_replica).await.unwrap();
        assert_eq!(told(&mut client).await, 8);
        // What a copy of a database has: the number is that of the table it was copied from.
        let oid: u32 = client.query_one("select 'docs'::regclass::oid", &[]).await.unwrap().get(0);
        let renamed = format!(
            "drop trigger rep on docs; alter trigger \"!walcast {oid}\" on docs rename to \"!walcast 1\"; \
             insert into docs values (4)"
        );
        client.batch_execute(&renamed).await.unwrap();
        assert_eq!(told(&mut client).await, 9);
        let found = output(&["check", "--json"], &[("DATABASE_URL", &database.url), ("WALCAST_SOURCE", "notify")]);
        let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
        let finding = found.as_array().unwrap().iter().find(|finding| finding["id"] == "notify_triggers");
        assert!(finding.unwrap()["meaning"].as_str().unwrap().contains("captured by 4 triggers"), "{found}");
        let report = notify::install(&mut client, PUBLICATION).await.unwrap();
        assert!(report.is_complete(), "{report}");
        let left = "select string_agg(tgname, ' ' order by tgname) from pg_trigger \
                    where tgrelid in ('docs'::regclass, 'part1'::regclass) and not tgisinternal and tgparentid = 0";
        let left: String = client.query_one(left, &[]).await.unwrap().get(0);
        assert_eq!(left, format!("!walcast {oid}"));
        client.batch_execute("insert into docs values (5); insert into parts values (1, 5)").await.unwrap();
        assert_eq!(told(&mut client).await, 11);
        install(&database).await;
    }
}

/// A trigger that does not always fire does not capture a table.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_with_a_condition_does_not_count() {
    let database = database(Postgres::default(), "create table docs (id int primary key)").await;
    let mut client = database.connect().await;
    client
        .batch_execute(
            "create trigger cond after insert or update or delete on docs for each row when (true)
               execute function walcast.capture();
             alter table docs enable always trigger cond; alter publication supabase_realtime add table docs",
        )
        .await
        .unwrap();
    let listed = walcast::pg::outbox::tables(&client, PUBLICATION, "walcast_messages").await.unwrap();
    assert_eq!(listed.iter().map(|table| (table.is_captured, table.triggers)).collect::<Vec<_>>(), [(false, 1)]);
    install(&database).await;
    let listed = walcast::pg::outbox::tables(&client, PUBLICATION, "walcast_messages").await.unwrap();
    assert_eq!(listed.iter().map(|table| (table.is_captured, table.triggers)).collect::<Vec<_>>(), [(true, 1)]);
    client.batch_execute("insert into docs values (1)").await.unwrap();
    assert_eq!(told(&mut client).await, 1);
}
