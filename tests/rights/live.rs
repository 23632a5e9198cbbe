//! Rights change while the server runs, and count within the catalogue's poll; and what holds while it cannot be read.

use super::stage::{BOTH, LIMIT, NEITHER, Stage, Way, alice, database};
use crate::{line::setup, support::postgres::Postgres, support::wait::until};
use std::{sync::Arc, time::Duration};
use walcast::{
    metrics::Metrics,
    pg::Target,
    policy::topic::{ChannelAccess, Granted},
    rights::{ChannelRights, Parts},
    router::Refresher,
};

const READ: ChannelAccess = ChannelAccess::Read;
const WRITE: ChannelAccess = ChannelAccess::Write;
/// The catalogue is looked at twice a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn policies_and_grants_count_as_soon_as_they_are_made() {
    let stage = Stage::new("").await;
    let user = alice("room-1");
    let broadcast = Granted { broadcast: true, presence: false };
    for (sql, read, write) in [
        ("create policy a on realtime.messages for select to authenticated using (true)", BOTH, NEITHER),
        (
            "create policy b on realtime.messages for insert to authenticated with check (extension = 'broadcast')",
            BOTH,
            broadcast,
        ),
        ("alter policy b on realtime.messages with check (is_member(topic))", BOTH, BOTH),
        (
            "create or replace function is_member(wanted text) returns boolean language sql as 'select false'",
            BOTH,
            NEITHER,
        ),
        ("alter policy b on realtime.messages with check (part(1) = 'room-1')", BOTH, BOTH),
        ("create or replace function part(n int) returns text language sql as 'select ''nothing'''", BOTH, NEITHER),
        (
            "create policy c on realtime.messages as restrictive for select using (extension = 'broadcast')",
            broadcast,
            NEITHER,
        ),
        ("drop policy b on realtime.messages", broadcast, NEITHER),
        ("drop policy c on realtime.messages", BOTH, NEITHER),
        ("alter table realtime.messages disable row level security", BOTH, BOTH),
        ("revoke insert on realtime.messages from authenticated", BOTH, NEITHER),
        ("revoke usage on schema realtime from authenticated", NEITHER, NEITHER),
        ("grant usage on schema realtime to authenticated", BOTH, NEITHER),
        ("alter table realtime.messages rename to messages_away", NEITHER, NEITHER),
        ("alter table realtime.messages_away rename to messages", BOTH, NEITHER),
    ] {
        stage.admin.batch_execute(sql).await.unwrap();
        until(SOON, async || {
            let answers = (stage.ask(&user, READ).await, stage.ask(&user, WRITE).await);
            answers == (Ok(read), Ok(write))
        })
        .await;
    }
}

#[tokio::test]
async fn without_the_table_there_are_no_private_channels_until_it_is_made() {
    let database = setup::database(Postgres::default(), "").await;
    let stage = Stage::on(database, LIMIT).await;
    for access in [READ, WRITE] {
        assert_eq!(stage.ask_way(&alice("room-1"), access).await, (NEITHER, Way::Process));
    }
    stage.admin.batch_execute(include_str!("schema.sql")).await.unwrap();
    stage.admin.batch_execute("create policy everybody on realtime.messages using (true)").await.unwrap();
    until(SOON, async || stage.ask(&alice("room-1"), READ).await == Ok(BOTH)).await;
}

#[tokio::test]
async fn while_the_catalogue_cannot_be_read_postgres_is_asked_by_the_policies_of_now() {
    let database =
        database("create policy a on realtime.messages for select to authenticated using (topic = 'room-1')").await;
    let target = Target::parse(&database.walcast_url()).unwrap();
    // Nobody looks again: the catalogue grows old.
    let (refresh, _refresher) = Refresher::start(&target, "supabase_realtime").await.unwrap();
    let metrics = Arc::<Metrics>::default();
    let rights = ChannelRights::new(Parts {
        target,
        refresh: refresh.clone(),
        statement_timeout: LIMIT,
        metrics: metrics.clone(),
    })
    .unwrap();
    assert_eq!(rights.ask(&alice("room-1"), READ).await, Ok(BOTH));
    assert_eq!(metrics.rights_asked.get(), 0);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(16)).await;
    tokio::time::resume();
    assert!(!refresh.is_fresh());
    let user = alice("room-1");
    for (sql, granted) in [
        ("select", BOTH),
        ("alter policy a on realtime.messages using (topic = 'room-2')", NEITHER),
        ("alter table realtime.messages disable row level security", BOTH),
        ("revoke select on realtime.messages from authenticated", NEITHER),
        ("drop table realtime.messages", NEITHER),
    ] {
        database.execute(sql).await;
        assert_eq!(rights.ask(&user, READ).await, Ok(granted), "{sql}");
    }
    assert_eq!((metrics.rights_in_process.get(), metrics.rights_asked.get()), (1, 5));
}
