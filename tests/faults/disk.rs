//! No room on our side.

use super::{
    site::Site,
    storm::{Options, Storm},
    subscriber::Item,
    verdict::{assert_exact, assert_gaps, expected},
};

#[tokio::test]
async fn without_room_for_a_large_transaction_only_those_who_need_it_whole_lose_it_and_hear_so() {
    let directory = tempfile::tempdir().unwrap();
    let room = directory.path().join("room");
    std::fs::create_dir(&room).unwrap();
    let extra = vec![("TMPDIR", room.display().to_string()), ("WALCAST_TRANSACTION_BYTES", "1000".to_owned())];
    let storm = Storm::start(Site::shared().await, Options { url: None, extra }).await;
    storm.blow().await;
    storm.writer.large(25).await;
    let before = storm.settle().await;
    std::fs::remove_dir(&room).unwrap();
    storm.writer.large(25).await;
    storm.until_problem(&["put aside", "room"]).await;
    let behind = storm.settle().await;
    std::fs::create_dir(&room).unwrap();
    storm.until_well().await;
    storm.writer.large(25).await;
    storm.writer.pause().await;
    storm.settle().await;
    let admin = storm.site.admin().await;
    for subscriber in &storm.subscribers {
        let (who, heard) = (&subscriber.who, subscriber.heard());
        let expected = expected(&admin, who).await;
        if who.name == "alice" || who.name == "bob" {
            let said = assert_gaps(who, &heard, &expected, &[(before, behind)]);
            assert!(matches!(said[..], [Item::Gap { .. }]), "{said:?}");
        } else {
            assert_exact(who, &heard, &expected);
        }
    }
    storm.end().await;
}
