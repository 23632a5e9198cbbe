//! What ends and comes again: the server, the database, a session between them.

use super::{
    site::Site,
    storm::{Options, Storm},
    subscriber::Item,
};
use std::time::Instant;

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_costs_nobody_a_change() {
    let mut storm = Storm::start(Site::shared().await, Options::default()).await;
    for _ in 0..3 {
        storm.blow().await;
        storm.kill_server();
        storm.start_server().await;
    }
    storm.blow().await;
    storm.assert_exact().await;
    storm.end().await;
}

#[tokio::test]
async fn a_database_that_restarts_or_crashes_costs_nobody_a_change() {
    let extra = vec![("WALCAST_INTERRUPTION_NOTICE_MS", "300".to_owned())];
    let mut storm = Storm::start(Site::own(&[]).await, Options { url: None, extra }).await;
    storm.blow().await;
    storm.site.own_cluster().stop().await;
    // It waits for nobody, though less than all has been confirmed.
    let log = std::fs::read_to_string(storm.site.own_cluster().log()).unwrap();
    assert!(log.contains("received fast shutdown request") && !log.contains("immediate shutdown"), "{log}");
    storm.until_problem(&["check that Postgres runs"]).await;
    let is_word = |wanted: bool| move |item: &Item| matches!(item, Item::Told { ok, .. } if *ok == wanted);
    storm.until_told("that replication is interrupted", 1, is_word(false)).await;
    storm.site.own_cluster().start().await;
    storm.until_told("that it goes on", 1, is_word(true)).await;
    storm.blow().await;
    storm.site.own_cluster().crash().await;
    storm.site.own_cluster().start().await;
    storm.blow().await;
    // Both at once, as when a machine goes.
    storm.kill_server();
    storm.site.own_cluster().crash().await;
    storm.site.own_cluster().start().await;
    storm.start_server().await;
    storm.blow().await;
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}

#[tokio::test]
async fn sessions_that_an_administrator_ends_cost_nobody_a_change() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    for only_senders in [true, false, true] {
        storm.blow().await;
        storm.site.end_sessions(only_senders).await;
    }
    storm.blow().await;
    storm.assert_exact().await;
    storm.end().await;
}

/// See the head of `faults/mod.rs`.
#[tokio::test]
#[ignore = "takes many minutes"]
async fn a_hundred_kills_and_twenty_crashes_cost_nobody_a_change() {
    let count =
        |name: &str, default: usize| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (kills, crashes) = (count("WALCAST_STORM_KILLS", 100), count("WALCAST_STORM_CRASHES", 20));
    let mut storm = Storm::start(Site::own(&[]).await, Options::default()).await;
    let start = Instant::now();
    for turn in 0..kills.max(crashes) {
        storm.blow().await;
        // Evenly among the kills.
        let crashes_now = turn * crashes / kills.max(1) != (turn + 1) * crashes / kills.max(1) || kills == 0;
        if crashes_now {
            storm.site.own_cluster().crash().await;
            storm.site.own_cluster().start().await;
        }
        if turn < kills {
            storm.kill_server();
            storm.start_server().await;
        }
    }
    storm.blow().await;
    storm.assert_exact().await;
    let events: usize = storm.subscribers.iter().map(|subscriber| subscriber.heard().len()).sum();
    #[expect(clippy::print_stdout, reason = "the long run tells its figures")]
    {
        println!("{kills} kills, {crashes} crashes: {events} events, each once, in {:?}", start.elapsed());
    }
    storm.end().await;
}
