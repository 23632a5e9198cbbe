//! Who may keep servers from reading the outbox: other servers, of this version and of older ones, and nobody else.

use super::setup::{PUBLICATION, install};
use crate::{
    line::setup::{PRELUDE, wait_for_health},
    support::{
        json::Json,
        postgres::{Database, Postgres, WALCAST_PASSWORD, connect},
        server::Server,
        wait::until,
    },
};
use std::time::Duration;
use tokio_postgres::Client;
use walcast::pg::{migrate::notify, outbox};

const NOTIFY: (&str, &str) = ("WALCAST_SOURCE", "notify");
/// What servers of older versions take, and nothing else.
const OLD_LOCK: &str = "select pg_advisory_lock(2002873443, 'walcast.outbox'::regclass::oid::int)";

async fn database() -> Database {
    let database = Postgres::default().database().await;
    database.execute(PRELUDE).await;
    database
        .execute("create table items (id int primary key); alter publication supabase_realtime add table items")
        .await;
    install(&database).await;
    database
}

fn is_standby(health: &Json) -> bool {
    *health.at("replication").at("state") == "standby"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_a_right_to_the_outbox_keeps_nobody_from_reading_it() {
    let database = database().await;
    let login = format!("nobody_{}", database.name);
    database.execute(&format!("create role {login} login password 'nobody'")).await;
    let nobody = connect(&database.url_as(&login, "nobody")).await;
    let table: u32 =
        database.connect().await.query_one("select 'walcast.outbox'::regclass::oid", &[]).await.unwrap().get(0);
    nobody.execute("select pg_advisory_lock(2002873443, $1)", &[&table.cast_signed()]).await.unwrap();
    assert!(
        nobody.batch_execute("begin; lock table walcast.outbox_lead in share update exclusive mode").await.is_err()
    );
    nobody.batch_execute("rollback").await.unwrap();
    let server = Server::start(&database, &[NOTIFY]).await;
    wait_for_health(&server, |status, health| status == 200 && !is_standby(health)).await;
    let standby = Server::start(&database, &[NOTIFY]).await;
    wait_for_health(&standby, |_, health| is_standby(health)).await;
    drop(server);
    wait_for_health(&standby, |status, health| status == 200 && !is_standby(health)).await;
    drop((standby, nobody));
    database.execute(&format!("drop role {login}")).await;
}

/// While one version takes the place of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_an_older_version_and_a_new_one_never_both_read() {
    let database = database().await;
    let old = connect(&database.walcast_url()).await;
    let lock = async |client: &Client| client.batch_execute(OLD_LOCK).await.unwrap();
    let old_may = connect(&database.url).await;
    lock(&old_may).await;
    let server = Server::start(&database, &[NOTIFY]).await;
    wait_for_health(&server, |_, health| is_standby(health)).await;
    drop(old_may);
    wait_for_health(&server, |status, health| status == 200 && !is_standby(health)).await;
    let is_taken = "select not pg_try_advisory_lock(2002873443, 'walcast.outbox'::regclass::oid::int)";
    assert!(old.query_one(is_taken, &[]).await.unwrap().get::<_, bool>(0), "the new one has that lock, too");
}

/// Until it is migrated.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_an_older_version_made_is_read_and_brought_up_to_date() {
    let database = database().await;
    let mut client = database.connect().await;
    let as_before = "drop view walcast.outbox_lead; alter table walcast.outbox_state drop column seen";
    client.batch_execute(as_before).await.unwrap();
    let installed = outbox::installed(&client).await.unwrap().unwrap();
    assert!(installed.may_read && !installed.may_lead);
    let server = Server::start(&database, &[NOTIFY]).await;
    wait_for_health(&server, |status, _| status == 200).await;
    client.batch_execute("insert into items values (1)").await.unwrap();
    let has_number = async |client: &Client, count: i64| {
        client.query_one("select count(*) from walcast.outbox_transactions", &[]).await.unwrap().get::<_, i64>(0)
            == count
    };
    until(Duration::from_secs(20), || has_number(&client, 1)).await;
    server.stop().await;
    let report = notify::install(&mut client, PUBLICATION).await.unwrap();
    assert!(report.is_complete(), "{report}");
    let as_walcast = connect(&database.url_as("walcast", WALCAST_PASSWORD)).await;
    assert!(outbox::installed(&as_walcast).await.unwrap().unwrap().may_lead);
    client.batch_execute("insert into items values (2)").await.unwrap();
    let next = outbox::number(&mut client).await.unwrap();
    assert_eq!(next, 3, "the first has its number");
}
