//! Where a loss cannot be helped: the slot or the publication is gone. It is said once, with the positions, and everything
//! before and behind it is exact.

use super::{
    site::Site,
    storm::{Options, PATIENCE, Storm},
    subscriber::Item,
};
use crate::support::wait::until;
use walcast::lsn::Lsn;

/// The gap that was said, by what it is called, with positions that make sense.
fn assert_said(said: &[Vec<Item>], why: &str) {
    for item in said.iter().flatten() {
        let Item::Gap { reason, from: Some(from), to: Some(to) } = item else { panic!("without positions: {item:?}") };
        let position = |text: &str| text.parse::<Lsn>().unwrap_or_else(|_| panic!("a position: {text}"));
        assert!(reason.contains(why) && position(from) <= position(to), "{item:?}");
    }
}

fn is_loss(item: &Item) -> bool {
    matches!(item, Item::Gap { .. } | Item::Refused(_))
}

#[tokio::test]
async fn a_slot_that_is_dropped_while_it_is_read_is_made_anew_and_the_gap_is_told() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    storm.blow().await;
    let before = storm.settle().await;
    storm.site.drop_slot().await;
    storm.until_told("of the gap", 1, is_loss).await;
    let behind = storm.settle().await;
    storm.blow().await;
    assert_said(&storm.assert_gaps(&[(before, behind)]).await, "replication slot was made anew");
    storm.until_well().await;
    storm.end().await;
}

#[tokio::test]
async fn a_slot_that_is_dropped_while_the_server_is_away_is_made_anew_and_no_cursor_of_before_is_served_in_part() {
    let mut storm = Storm::start(Site::shared().await, Options::default()).await;
    storm.blow().await;
    let before = storm.settle().await;
    storm.kill_server();
    storm.site.drop_slot().await;
    storm.start_server().await;
    storm.until_told("that it cannot resume", 1, is_loss).await;
    let behind = storm.settle().await;
    storm.blow().await;
    for item in storm.assert_gaps(&[(before, behind)]).await.concat() {
        assert!(matches!(&item, Item::Refused(reason) if reason.contains("too old")), "{item:?}");
    }
    storm.end().await;
}

#[tokio::test]
async fn a_slot_that_has_lost_its_log_is_made_anew_while_we_run_and_when_we_come_back() {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "2MB"), ("max_wal_size", "32MB")];
    let site = Site::own(&[]).await;
    // Small segments would take another initdb; these are switched as if they were full.
    for (name, value) in settings {
        site.execute(&format!("alter system set {name} = '{value}'")).await;
    }
    site.execute("select pg_reload_conf()").await;
    let lose = async |site: &Site| {
        let admin = site.admin().await;
        let sql =
            "select coalesce(bool_or(wal_status = 'lost'), false) from pg_replication_slots where slot_name = 'storm'";
        until(PATIENCE, async || {
            admin
                .batch_execute("create table if not exists filler (n int); insert into filler values (1)")
                .await
                .unwrap();
            admin.batch_execute("select pg_switch_wal()").await.unwrap();
            admin.batch_execute("checkpoint").await.unwrap();
            admin.query_one(sql, &[]).await.unwrap().get(0)
        })
        .await;
    };
    let mut storm = Storm::start(site, Options::default()).await;
    storm.blow().await;
    let before = storm.settle().await;
    lose(&storm.site).await;
    storm.until_told("of the gap", 1, is_loss).await;
    let first = (before, storm.settle().await);
    storm.blow().await;
    let before = storm.settle().await;
    storm.kill_server();
    lose(&storm.site).await;
    storm.start_server().await;
    storm.until_told("that it cannot resume", 2, is_loss).await;
    let second = (before, storm.settle().await);
    storm.blow().await;
    storm.assert_gaps(&[first, second]).await;
    storm.until_well().await;
    storm.end().await;
}

/// Up to 17 the stream breaks off without its publication. From 18 on it goes on in silence: what is missing is found by
/// looking for it, and so is that another one has come.
#[tokio::test]
async fn a_publication_that_is_dropped_and_made_again_is_a_gap_and_meanwhile_health_names_the_fix() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    storm.blow().await;
    let before = storm.settle().await;
    storm.site.execute("drop publication supabase_realtime").await;
    storm.until_problem(&["publication \"supabase_realtime\" does not exist", "create publication"]).await;
    storm.until_told("that there is nothing to hear", 1, |item| matches!(item, Item::Told { ok: false, .. })).await;
    storm.site.execute("create publication supabase_realtime for table owned, shared, odd, marks").await;
    storm.until_told("of the gap", 1, is_loss).await;
    let behind = storm.settle().await;
    storm.blow().await;
    assert_said(&storm.assert_gaps(&[(before, behind)]).await, "publication was made anew");
    storm.until_well().await;
    storm.end().await;
}

/// Made again before anybody who looks now and then finds it missing. From 18 on the stream goes on with the next one, and
/// nothing of that may come before the word of what is lost.
#[tokio::test]
async fn a_publication_that_is_missing_for_a_moment_is_a_gap_that_begins_where_it_was_missing() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    storm.blow().await;
    let before = storm.settle().await;
    storm.site.execute("drop publication supabase_realtime").await;
    for _ in 0..10 {
        storm.writer.mark().await;
    }
    storm.site.execute("create publication supabase_realtime for table owned, shared, odd, marks").await;
    storm.until_told("of the gap", 1, is_loss).await;
    let behind = storm.settle().await;
    storm.blow().await;
    assert_said(&storm.assert_gaps(&[(before, behind)]).await, "publication was made anew");
    storm.until_well().await;
    storm.end().await;
}
