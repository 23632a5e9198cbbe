//! Another machine takes the database over: a standby that is promoted.

use super::{
    proxy::Proxy,
    site::{Own, Site},
    storm::{Options, PATIENCE, Storm},
    subscriber::Item,
};
use crate::{
    line::setup::{problem, wait_for_health, wait_for_stream},
    support::{
        postgres::{Postgres, connect, majors},
        server::Server,
        skip,
        wait::until,
    },
};
use walcast::pg::{Target, replication::Session};

/// Makes a standby that knows everything of the primary up to now, and follows it.
async fn standby(storm: &mut Storm, settings: &[(&str, &str)]) -> Own {
    let mut standby = storm.site.own_cluster().standby(settings).await;
    storm.site.execute("select pg_create_physical_replication_slot('standby', true)").await;
    standby.start().await;
    standby
}

async fn asks(cluster: &Own, sql: &str) {
    let client = connect(&cluster.url()).await;
    until(PATIENCE, async || {
        client.query_one(sql, &[]).await.is_ok_and(|row| row.get::<_, Option<bool>>(0) == Some(true))
    })
    .await;
}

/// The primary is gone and the standby takes its place and its address.
async fn fail_over(storm: &mut Storm, proxy: &Proxy, standby: Own) {
    storm.site.own_cluster().crash().await;
    proxy.cut();
    connect(&standby.url()).await.execute("select pg_promote()", &[]).await.unwrap();
    storm.site.replace(standby);
    storm.moved();
    proxy.lead_to(storm.site.port());
    proxy.mend();
}

#[tokio::test]
async fn a_standby_without_the_slot_that_is_promoted_is_a_gap_that_is_told() {
    let site = Site::own(&[]).await;
    let proxy = Proxy::start(site.port()).await;
    let url = Some(site.url_at(proxy.port));
    let mut storm = Storm::start(site, Options { url, ..Options::default() }).await;
    storm.blow().await;
    let standby = standby(&mut storm, &[]).await;
    storm.writer.pause().await;
    let before = storm.settle().await;
    let end: String =
        storm.site.admin().await.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    asks(&standby, &format!("select pg_last_wal_replay_lsn() >= '{end}'")).await;
    fail_over(&mut storm, &proxy, standby).await;
    storm.writer.run().await;
    storm.until_told("of the gap", 1, |item| matches!(item, Item::Gap { .. })).await;
    let behind = storm.settle().await;
    storm.blow().await;
    storm.assert_gaps(&[(before, behind)]).await;
    storm.until_well().await;
    storm.end().await;
}

#[tokio::test]
async fn a_standby_with_our_slot_that_is_promoted_costs_nobody_a_change() {
    let Some(major) = majors().into_iter().find(|&major| major >= 17) else {
        return skip("failover with our slot", "PostgreSQL 17 or later is not among WALCAST_TEST_POSTGRES");
    };
    let site = Site::own_of(major, &[]).await;
    let proxy = Proxy::start(site.port()).await;
    let url = Some(site.url_at(proxy.port));
    // A standby can take a slot over once that is behind where its own log begins.
    let extra = vec![("WALCAST_RESUME_WINDOW_MS", "500".to_owned())];
    let mut storm = Storm::start(site, Options { url, extra }).await;
    storm.blow().await;
    let standby = standby(&mut storm, &[("sync_replication_slots", "on"), ("hot_standby_feedback", "on")]).await;
    // What we have, the standby has, too.
    storm.site.execute("alter system set synchronized_standby_slots = 'standby'").await;
    storm.site.execute("select pg_reload_conf()").await;
    asks(&standby, "select bool_and(synced and not temporary) from pg_replication_slots where slot_name = 'storm'")
        .await;
    storm.blow().await;
    fail_over(&mut storm, &proxy, standby).await;
    storm.blow().await;
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}

/// As when an address already leads to the machine that is about to take over.
#[tokio::test]
async fn a_standby_is_not_read_but_waited_for_until_it_is_promoted() {
    let mut site = Site::own(&[]).await;
    let mut standby = site.own_cluster().standby(&[]).await;
    standby.start().await;
    site.replace_running(standby).await;
    let server = Server::start_at(&site.url(), &site.slot, &[]).await;
    let is_said = |health: &_| {
        let said = problem(health);
        said.contains("the database is a standby") && said.contains("DATABASE_URL")
    };
    wait_for_health(&server, |status, health| status == 503 && is_said(health)).await;
    site.admin().await.execute("select pg_promote()", &[]).await.unwrap();
    wait_for_stream(&server).await;
    server.stop().await;
    site.end().await;
}

#[tokio::test]
async fn slots_are_such_as_standbys_may_have_however_they_are_made() {
    let Some(major) = majors().into_iter().find(|&major| major >= 17) else {
        return skip("slots for failover", "PostgreSQL 17 or later is not among WALCAST_TEST_POSTGRES");
    };
    let database = Postgres::shared(major).database().await;
    let names = [database.slot(), format!("{}_exported", database.slot())];
    let mut session = Session::connect(&Target::parse(&database.walcast_url()).unwrap(), "walcast").await.unwrap();
    session.create_slot(&names[0], false).await.unwrap();
    session.create_slot_with_snapshot(&names[1]).await.unwrap();
    let client = database.connect().await;
    let sql = "select array_agg(failover), count(pg_drop_replication_slot(slot_name)) from pg_replication_slots
               where slot_name = any($1::text[])";
    let rows = client.query_one(sql, &[&&names[..]]).await.unwrap();
    assert_eq!(rows.get::<_, Vec<bool>>(0), [true, true]);
}
