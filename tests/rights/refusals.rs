//! Who gets nothing, and what happens when nobody can say.

use super::stage::{BOTH, NEITHER, Stage, Way, alice, bob, database, user};
use crate::support::wait::until;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use walcast::{
    metrics::Metrics,
    pg::Target,
    policy::topic::{ChannelAccess, RightsError},
    rights::{ChannelRights, Parts},
};

const READ: ChannelAccess = ChannelAccess::Read;
const WRITE: ChannelAccess = ChannelAccess::Write;

#[tokio::test]
async fn a_role_that_nobody_may_claim_gets_nothing_whatever_its_rights() {
    let stage = Stage::new("").await;
    let name = stage.database.name.clone();
    let mut stage = stage;
    stage
        .apply(&format!(
            "create policy everybody on realtime.messages using (true) with check (true);
             create policy looks on realtime.messages using (is_member(topic)) with check (is_member(topic));
             create role \"{name} super\" superuser; grant \"{name} super\" to walcast;
             create role \"{name} other\"; grant all on realtime.messages to \"{name} other\";
             grant usage on schema realtime to \"{name} other\""
        ))
        .await;
    let own = format!("{name} super");
    let other = format!("{name} other");
    for role in ["postgres", "walcast", "none", "NONE", "", "public", "pg_read_all_data", "nobody there", &own, &other]
    {
        for access in [READ, WRITE] {
            assert_eq!(stage.ask(&user(role, json!({}), "room-1"), access).await, Ok(NEITHER), "{role}");
        }
    }
    for role in ["anon", "authenticated", "service_role"] {
        assert_eq!(stage.ask(&user(role, json!({}), "room-1"), READ).await, Ok(BOTH), "{role}");
    }
    stage.assert_no_trace().await;
    stage
        .apply(&format!("drop owned by \"{name} other\"; drop role \"{name} other\"; drop role \"{name} super\""))
        .await;
}

#[tokio::test]
async fn a_topic_that_no_row_could_have_is_nobodys() {
    let mut stage = Stage::new("create policy everybody on realtime.messages using (true)").await;
    for policy in ["true", "is_member('room-1')"] {
        stage.apply(&format!("alter policy everybody on realtime.messages using ({policy})")).await;
        assert_eq!(stage.ask(&alice("room-1"), READ).await, Ok(BOTH));
        assert_eq!(stage.ask(&alice("room-1\0"), READ).await, Ok(NEITHER));
    }
}

#[tokio::test]
async fn policies_grant_nothing_without_privileges() {
    let mut stage = Stage::new("create policy everybody on realtime.messages using (true) with check (true)").await;
    let user = alice("room-1");
    for (sql, read, write) in [
        ("revoke select on realtime.messages from authenticated", NEITHER, BOTH),
        ("revoke insert on realtime.messages from authenticated", NEITHER, NEITHER),
        ("grant select (topic, extension) on realtime.messages to authenticated", NEITHER, NEITHER),
        ("grant insert (topic, extension) on realtime.messages to authenticated", NEITHER, NEITHER),
        ("grant insert (private, id, inserted_at, updated_at) on realtime.messages to authenticated", NEITHER, BOTH),
        (
            "grant select (payload, event, private, id, inserted_at, updated_at, binary_payload) on realtime.messages to authenticated",
            BOTH,
            BOTH,
        ),
        ("revoke usage on schema realtime from authenticated", NEITHER, NEITHER),
        (
            "grant usage on schema realtime to public; alter table realtime.messages disable row level security",
            BOTH,
            BOTH,
        ),
        ("revoke select on realtime.messages from authenticated", NEITHER, BOTH),
        ("alter table realtime.messages add column more text not null", NEITHER, NEITHER),
        ("alter table realtime.messages alter column more set default 'x'", NEITHER, BOTH),
    ] {
        stage.apply(sql).await;
        assert_eq!(
            (stage.ask_way(&user, READ).await, stage.ask_way(&user, WRITE).await),
            ((read, Way::Process), (write, Way::Process)),
            "{sql}"
        );
    }
    // A user who bypasses row level security needs the privileges all the same.
    stage.apply("revoke all on realtime.messages from service_role").await;
    assert_eq!(stage.ask(&super::stage::user("service_role", json!({}), "a"), READ).await, Ok(NEITHER));
}

#[tokio::test]
async fn defaults_of_columns_of_others_count_and_computed_ones_grant_nothing() {
    let mut stage = Stage::new(
        "alter table realtime.messages add column kind text default 'chat', add column size int generated always as (length(topic)) stored;
         create policy kind on realtime.messages for select to authenticated using (kind = 'chat');
         create policy size on realtime.messages for insert to authenticated with check (size > 0)",
    )
    .await;
    let user = alice("room-1");
    assert_eq!(stage.ask_way(&user, READ).await, (BOTH, Way::Database));
    assert_eq!(stage.ask_way(&user, WRITE).await, (NEITHER, Way::Database), "nobody else can compute it");
    stage.apply("alter table realtime.messages alter column kind set default 'talk'").await;
    assert_eq!(stage.ask(&user, READ).await, Ok(NEITHER));
    stage.assert_no_trace().await;
}

#[tokio::test]
async fn a_function_that_nobody_of_us_may_name_grants_nothing() {
    let mut stage = Stage::new(
        "create policy guests on realtime.messages using (private.is_guest(topic)); revoke usage on schema private from walcast",
    )
    .await;
    assert_eq!(stage.ask_way(&bob("room-1"), READ).await, (NEITHER, Way::Database));
    assert_eq!(stage.metrics.rights_failed.get(), 1);
    // Either of the two is enough.
    stage.apply("grant usage on schema private to authenticated").await;
    assert_eq!(stage.ask(&bob("room-1"), READ).await, Ok(BOTH));
}

#[tokio::test]
async fn a_function_that_writes_leaves_nothing_and_grants_nothing() {
    let stage = Stage::new("create policy noted on realtime.messages using (noted())").await;
    let members = async || stage.admin.query_one("select count(*) from members", &[]).await.unwrap().get::<_, i64>(0);
    let before = members().await;
    assert_eq!(stage.ask_way(&alice("room-9"), READ).await, (NEITHER, Way::Database));
    assert_eq!(members().await, before);
    stage.assert_no_trace().await;
}

#[tokio::test]
async fn an_extension_whose_policy_raises_does_not_take_the_other_one() {
    let stage = Stage::new("create policy pick on realtime.messages using (pick(extension))").await;
    for access in [READ, WRITE] {
        let (granted, way) = stage.ask_way(&alice("room-1"), access).await;
        assert_eq!((granted.broadcast, granted.presence, way), (true, false, Way::Database));
    }
    assert_eq!(stage.metrics.rights_failed.get(), 2);
    stage.assert_no_trace().await;
}

#[tokio::test]
async fn a_policy_that_takes_too_long_is_an_error_and_leaves_no_transaction() {
    let stage = Stage::on(
        database(
            "create policy slow on realtime.messages to authenticated using (pg_sleep(30) is not null);
             create policy looks on realtime.messages to anon using (is_member(topic))",
        )
        .await,
        Duration::from_millis(300),
    )
    .await;
    for access in [READ, WRITE] {
        assert_eq!(stage.ask(&alice("room-1"), access).await, Err(RightsError::Canceled));
    }
    assert_eq!(stage.metrics.rights_failed.get(), 2);
    // Whoever asks may go away in the middle: nothing of it stays on a connection that others get.
    for _ in 0..8 {
        let (somebody, asking) = (alice("room-1"), Duration::from_millis(60));
        let _ = tokio::time::timeout(asking, stage.ask(&somebody, READ)).await;
    }
    let anybody = user("anon", json!({"sub": super::stage::BOB}), "room-1");
    assert_eq!(stage.ask(&anybody, READ).await, Ok(BOTH));
    until(Duration::from_secs(10), async || {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name = 'walcast rights' and xact_start is not null";
        stage.admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    stage.assert_no_trace().await;
}

#[tokio::test]
async fn a_database_that_is_gone_is_an_error_where_it_must_be_asked() {
    let stage = Stage::new(
        "create policy looks on realtime.messages for select to authenticated using (is_member(topic));
         create policy speaks on realtime.messages for insert to authenticated with check (realtime.topic() = 'room-1')",
    )
    .await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("postgres://walcast:x@{}/x", listener.local_addr().unwrap());
    for url in ["postgres://walcast:x@127.0.0.1:1/x", &silent] {
        let parts = Parts {
            target: Target::parse(url).unwrap(),
            refresh: stage.refresh.clone(),
            statement_timeout: Duration::from_millis(200),
            metrics: Arc::<Metrics>::default(),
        };
        let rights = ChannelRights::new(parts).unwrap();
        let (began, user) = (std::time::Instant::now(), alice("room-1"));
        assert_eq!(rights.ask(&user, READ).await, Err(RightsError::Unavailable), "{url}");
        assert!(began.elapsed() < Duration::from_secs(9), "a client gives up after ten seconds");
        assert_eq!(rights.ask(&user, WRITE).await, Ok(BOTH), "what the process knows it says");
    }
}

#[tokio::test]
async fn a_connection_that_was_cut_is_replaced() {
    let stage = Stage::new("create policy looks on realtime.messages using (is_member(topic))").await;
    assert_eq!(stage.ask(&alice("room-1"), READ).await, Ok(BOTH));
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
               where datname = current_database() and application_name = 'walcast rights'";
    assert_eq!(stage.admin.query_one(cut, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(stage.ask(&alice("room-1"), READ).await, Ok(BOTH));
}
