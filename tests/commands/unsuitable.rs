//! Databases that cannot be served from: one sentence with the fix, and the exit code of a failure.

use super::{output, stderr};
use crate::support::{
    postgres::{Database, Postgres, binaries, connect, default_major, new_directory},
    token::SECRET,
};
use walcast::devdb::{Cluster, ClusterOptions};

/// What a command says when it ends by itself, with exit code 1.
fn refusal(command: &str, url: &str, more: &[(&str, &str)]) -> String {
    let environment = [&[("DATABASE_URL", url), ("JWT_SECRET", SECRET), ("HOST", "127.0.0.1"), ("PORT", "0")], more];
    let output = output(&[command], &environment.concat());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{command}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with("walcast: ")).collect();
    assert_eq!(said.len(), 1, "one sentence: {text}");
    said[0].to_owned()
}

async fn new_role(database: &Database, suffix: &str, options: &str) -> (String, String) {
    let role = format!("{}_{suffix}", database.name);
    database.execute(&format!("create role {role} login password 'x' {options}")).await;
    let url = database.url_as(&role, "x");
    (role, url)
}

#[tokio::test]
async fn a_missing_publication_ends_serve_and_tap_with_the_statement_that_makes_it() {
    let database = Postgres::default().database().await;
    for command in ["serve", "tap"] {
        let text = refusal(command, &database.walcast_url(), &[]);
        assert!(text.contains("publication supabase_realtime does not exist"), "{text}");
        assert!(text.contains("create publication supabase_realtime;"), "{text}");
    }
    let text = refusal("tap", &database.walcast_url(), &[("WALCAST_PUBLICATION", "My \"own\"")]);
    assert!(text.contains(r#"create publication "My ""own""";"#), "{text}");
}

#[tokio::test]
async fn a_missing_right_ends_serve_with_the_statement_that_gives_it() {
    let database = Postgres::default().database().await;
    database.execute("create publication supabase_realtime").await;
    let (role, url) = new_role(&database, "a", "").await;
    for command in ["serve", "tap"] {
        let text = refusal(command, &url, &[]);
        assert!(text.contains(&format!("alter role {role} replication;")), "{text}");
    }
    database.execute(&format!("alter role {role} replication")).await;
    let text = refusal("serve", &url, &[]);
    let grant = format!("grant anon, authenticated, service_role to {role};");
    assert!(text.contains(&grant), "{text}");
    database.execute(&format!("drop role {role}")).await;
}

#[tokio::test]
async fn a_slot_that_is_not_ours_ends_serve() {
    let database = Postgres::default().database().await;
    database.execute("create publication supabase_realtime").await;
    let slot = format!("{}_physical", database.name);
    database.execute(&format!("select pg_create_physical_replication_slot('{slot}')")).await;
    let text = refusal("serve", &database.walcast_url(), &[("WALCAST_SLOT", &slot)]);
    assert!(text.contains("physical") && text.contains("--slot"), "{text}");
    database.execute(&format!("select pg_drop_replication_slot('{slot}')")).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_ends_every_command_with_what_to_look_at() {
    let database = Postgres::default().database().await;
    for command in ["serve", "tap", "check"] {
        let text = refusal(command, "postgres://u:sesame@127.0.0.1:1/d", &[]);
        assert!(text.contains("127.0.0.1:1") && text.contains("DATABASE_URL") && !text.contains("sesame"), "{text}");
        let text = refusal(command, &database.url_as("walcast", "wrong"), &[]);
        assert!(text.contains("check user, password"), "{text}");
        let nowhere = database.walcast_url().replace(&database.name, "nowhere_at_all");
        let text = refusal(command, &nowhere, &[]);
        assert!(text.contains("check the database's name"), "{text}");
        let text = refusal(command, "", &[]);
        assert!(text.contains("postgresql://user"), "{text}");
    }
}

#[tokio::test]
async fn a_cluster_without_logical_decoding_ends_serve_and_tap_and_is_an_error_of_check() {
    let mut options = ClusterOptions::new(binaries(default_major()).await, new_directory());
    options.settings = vec![("wal_level".into(), "replica".into()), ("fsync".into(), "off".into())];
    options.ephemeral = true;
    let cluster = Cluster::start(options).await.unwrap();
    let url = cluster.url("postgres");
    connect(&url).await.batch_execute("create publication supabase_realtime").await.unwrap();
    for command in ["serve", "tap"] {
        let text = refusal(command, &url, &[]);
        assert!(text.contains("wal_level is replica") && text.contains("alter system set wal_level"), "{text}");
    }
    let output = output(&["check"], &[("DATABASE_URL", &url)]);
    let text = super::stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error    wal_level") && text.contains("alter system set wal_level = 'logical';"), "{text}");
    cluster.stop().await.unwrap();
}
