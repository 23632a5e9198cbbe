//! What our role may do is taken away and given back, and its password is another one.

use super::{
    site::{SECRET, Site},
    storm::{Options, PATIENCE, Storm},
    subscriber::Item,
    verdict::{assert_exact, assert_lost_within, expected},
};
use std::{io::Write, path::Path, process::Command};

#[tokio::test]
async fn rights_that_are_taken_from_our_role_and_given_back_cost_nobody_a_change() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    let role = storm.site.role.clone();
    storm.blow().await;
    storm.site.execute(&format!("alter role {role} noreplication")).await;
    storm.site.end_sessions(true).await;
    storm.until_problem(&[&format!("alter role {role} replication")]).await;
    storm.site.execute(&format!("alter role {role} replication")).await;
    storm.blow().await;
    // The tables are not read by us but for what policies look up.
    let tables = "owned, shared, odd, marks, members";
    storm.site.execute(&format!("revoke select on {tables} from {role}")).await;
    storm.blow().await;
    storm.site.execute(&format!("grant select on {tables} to {role}")).await;
    storm.blow().await;
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}

#[tokio::test]
async fn a_membership_that_is_taken_from_our_role_is_told_to_those_it_concerns_and_so_is_its_return() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    let role = storm.site.role.clone();
    storm.blow().await;
    let before = storm.settle().await;
    storm.site.execute(&format!("revoke authenticated from {role}")).await;
    let concerned = || storm.subscribers.iter().filter(|subscriber| subscriber.who.name != "service");
    let all_heard = async |what: &str, fits: fn(&Item) -> bool| {
        for subscriber in concerned() {
            let heard = subscriber.until(PATIENCE, |heard| heard.iter().any(fits)).await;
            assert!(heard, "{} was not told {what}: {}", subscriber.who.name, storm.log());
        }
    };
    all_heard("that it is gone", |item| matches!(item, Item::Told { ok: false, .. })).await;
    storm.site.execute(&format!("grant authenticated to {role}")).await;
    all_heard("that it is back", |item| *item == Item::Inactive).await;
    let behind = storm.settle().await;
    storm.writer.pause().await;
    storm.settle().await;
    let admin = storm.site.admin().await;
    for subscriber in &storm.subscribers {
        let (who, heard, expected) = (&subscriber.who, subscriber.heard(), expected(&admin, &subscriber.who).await);
        if who.name == "service" {
            assert_exact(who, &heard, &expected);
        } else {
            let said = assert_lost_within(who, &heard, &expected, &[(before, behind)]);
            assert!(said.is_empty(), "{said:?}");
        }
    }
    storm.end().await;
}

#[tokio::test]
async fn a_limit_of_connections_is_named_and_when_it_is_lifted_nobody_has_missed_a_change() {
    let storm = Storm::start(Site::shared().await, Options::default()).await;
    let role = storm.site.role.clone();
    storm.blow().await;
    storm.site.execute(&format!("alter role {role} connection limit 0")).await;
    storm.site.end_sessions(false).await;
    storm.until_problem(&["too many connections", "connection limit"]).await;
    storm.site.execute(&format!("alter role {role} connection limit -1")).await;
    storm.blow().await;
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}

/// Writes the file that the server reads its connection string from.
fn write(file: &Path, url: &str) {
    let mut file = std::fs::File::create(file).unwrap();
    writeln!(file, "database_url = \"{url}\"").unwrap();
}

#[tokio::test]
async fn a_password_that_was_changed_is_read_again_by_itself_and_by_signal() {
    let site = Site::shared().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("walcast.toml");
    write(&file, &site.url());
    let extra = vec![("WALCAST_CONFIG", file.display().to_string())];
    // An empty one counts as none: the file has it.
    let storm = Storm::start(site, Options { url: Some(String::new()), extra }).await;
    let role = storm.site.role.clone();
    let url = |password: &str| storm.site.url().replace(&format!(":{SECRET}@"), &format!(":{password}@"));
    storm.blow().await;
    // The password changes first, and the file later.
    storm.site.execute(&format!("alter role {role} password 'second'")).await;
    storm.site.end_sessions(false).await;
    storm.until_problem(&["password", "DATABASE_URL"]).await;
    write(&file, &url("second"));
    storm.blow().await;
    storm.until_well().await;
    // The file changes first, and the server is told.
    write(&file, &url("third"));
    assert!(Command::new("kill").args(["-HUP", &storm.server().pid().to_string()]).status().unwrap().success());
    storm.site.execute(&format!("alter role {role} password 'third'")).await;
    storm.site.end_sessions(false).await;
    storm.blow().await;
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}
