//! What `migrate --notify` makes, leaves to an administrator, and takes away again.

use super::setup::{PUBLICATION, database, install};
use crate::support::postgres::Postgres;
use walcast::pg::migrate::{Outcome, notify};

const TABLES: &str = "create table t (id int primary key); create table other (id int primary key);
    create table filtered (id int primary key); create table quiet (id int primary key);
    alter publication supabase_realtime add table t, other, filtered where (id > 0)";

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_run_again_and_taken_away() {
    let database = database(Postgres::default(), TABLES).await;
    let mut client = database.connect().await;
    let triggers = "select coalesce(string_agg(tgrelid::regclass::text, ' ' order by tgrelid::regclass::text), '') \
                    from pg_trigger where tgname like '!walcast%'";
    let captured =
        async |client: &tokio_postgres::Client| -> String { client.query_one(triggers, &[]).await.unwrap().get(0) };
    assert_eq!(
        captured(&client).await,
        "other t",
        "a filter cannot be applied, and what is not published concerns nobody"
    );
    let again = notify::install(&mut client, PUBLICATION).await.unwrap();
    assert!(again.steps.iter().all(|step| step.outcome == Outcome::AlreadyThere), "{again}");
    client
        .batch_execute("alter publication supabase_realtime drop table other; alter table t disable trigger user")
        .await
        .unwrap();
    let mended = notify::install(&mut client, PUBLICATION).await.unwrap();
    assert!(mended.is_complete(), "{mended}");
    assert_eq!(captured(&client).await, "t", "what is no longer published is no longer captured");
    client
        .batch_execute("begin; set local session_replication_role = replica; insert into t values (1); commit")
        .await
        .unwrap();
    let rows: i64 = client.query_one("select count(*) from walcast.outbox", &[]).await.unwrap().get(0);
    assert_eq!(rows, 1, "the trigger that was off is on again, whatever sessions say");
    let removed = notify::remove(&mut client).await.unwrap();
    assert!(removed.is_complete(), "{removed}");
    assert_eq!(captured(&client).await, "");
    let left = "select count(*) from pg_class where relnamespace = 'walcast'::regnamespace and relname like 'outbox%'";
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    client.batch_execute("insert into t values (2)").await.unwrap();
    install(&database).await;
    assert_eq!(captured(&client).await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_may_not_make_is_printed_and_runs() {
    let database = Postgres::default().database().await;
    database.execute(crate::line::setup::PRELUDE).await;
    database.execute(TABLES).await;
    let login = format!("lesser_{}", database.name);
    let sql =
        format!("create role {login} login password 'lesser'; grant create on database {} to {login}", database.name);
    database.execute(&sql).await;
    let mut lesser = crate::support::postgres::connect(&database.url_as(&login, "lesser")).await;
    let report = notify::install(&mut lesser, PUBLICATION).await.unwrap();
    assert!(!report.is_complete(), "the tables are another's");
    let script = report.administrator_sql().expect("what is left");
    assert!(script.contains("create trigger"), "{script}");
    database.execute(&script).await;
    let report = notify::install(&mut lesser, PUBLICATION).await.unwrap();
    assert!(report.is_complete(), "{report}");
    database.execute("insert into t values (1)").await;
    let client = database.connect().await;
    let rows: i64 = client.query_one("select count(*) from walcast.outbox", &[]).await.unwrap().get(0);
    assert_eq!(rows, 1);
    drop(lesser);
    database.execute(&format!("drop schema walcast cascade; drop owned by {login}; drop role {login}")).await;
}
