//! `walcast slot status` and `walcast slot drop`, on slots in every state.

use super::{output, stderr, stdout};
use crate::support::{
    postgres::{Database, PASSWORD, Postgres, binaries, connect, default_major, majors, new_directory},
    server::Server,
    wait::until,
};
use serde_json::Value;
use std::time::Duration;
use walcast::devdb::{Cluster, ClusterOptions};

fn slot(url: &str, arguments: &[&str]) -> std::process::Output {
    output(&[&["slot"], arguments].concat(), &[("DATABASE_URL", url)])
}

/// What `status --json` says of a slot; null when it says nothing.
fn status(url: &str, ours: &str, name: &str) -> Value {
    let output = slot(url, &["status", "--json", "--slot", ours]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["slots"].as_array().unwrap().iter().find(|slot| slot["name"] == name).cloned().unwrap_or_default()
}

/// Whether dropping succeeds, and what it says.
fn dropped(url: &str, arguments: &[&str]) -> (bool, String) {
    let output = slot(url, &[&["drop"], arguments].concat());
    assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}", output.status);
    (output.status.success(), stdout(&output) + &stderr(&output))
}

async fn make(database: &Database, name: &str, plugin: &str) {
    database.execute(&format!("select pg_create_logical_replication_slot('{name}', '{plugin}')")).await;
}

#[tokio::test]
async fn every_slot_of_the_database_is_told_with_what_it_means_and_only_one_that_nobody_reads_is_dropped() {
    for major in majors() {
        let database = crate::line::setup::database(Postgres::shared(major), &crate::line::setup::items("docs")).await;
        let (url, ours, orphan) = (database.walcast_url(), database.slot(), format!("{}_old", database.slot()));
        let text = stdout(&slot(&url, &["status", "--slot", &ours]));
        assert!(text.contains("(ours): not there yet"), "{text}");
        assert!(dropped(&url, &["--slot", &ours]).0, "there is none, which is what was wanted");

        make(&database, &orphan, "pgoutput").await;
        make(&database, &format!("{ours}_foreign"), "test_decoding").await;
        database.execute("insert into docs select n, repeat('x', 1000) from generate_series(1, 2000) n").await;
        let server = Server::start(&database, &[]).await;
        until(Duration::from_secs(20), async || status(&url, &ours, &ours)["active"] == true).await;

        let own = status(&url, &ours, &ours);
        assert_eq!((&own["is_ours"], &own["judgement"]["status"]), (&true.into(), &"ok".into()), "{own}");
        assert_eq!(own["reader"]["application"], "walcast", "{own}");
        assert_eq!(own["failover"].is_null(), major < 17, "{own}");
        let old = status(&url, &ours, &orphan);
        assert!(old["retained_bytes"].as_i64().unwrap() > 2_000_000, "{old}");
        assert_eq!((&old["is_ours"], &old["wal_status"]), (&false.into(), &"reserved".into()), "{old}");
        if major < 17 {
            assert_eq!(old["judgement"]["status"], "warning", "{old}");
            assert!(
                old["judgement"]["meaning"].as_str().unwrap().contains(&format!("walcast slot drop --slot {orphan}"))
            );
        } else {
            assert!(old["inactive_since"].is_string(), "{old}");
        }
        assert!(status(&url, &ours, &format!("{ours}_foreign")).is_null(), "it is none of pgoutput");
        let text = stdout(&slot(&url, &["status", "--slot", &ours]));
        assert!(text.contains(&format!("{ours} (ours)")) && text.contains("MiB ("), "{text}");

        let (done, said) = dropped(&url, &["--slot", &ours, "--yes"]);
        assert!(!done && said.contains("\"walcast\"") && said.contains("stop that server first"), "{said}");
        let (done, said) = dropped(&url, &["--slot", &format!("{ours}_foreign"), "--yes"]);
        assert!(!done && said.contains("its output plugin is test_decoding"), "{said}");
        let elsewhere = Postgres::shared(major).database().await;
        let (done, said) = dropped(&elsewhere.walcast_url(), &["--slot", &orphan, "--yes"]);
        assert!(!done && said.contains(&format!("it belongs to database {}", database.name)), "{said}");
        let (done, said) = dropped(&url, &["--slot", &orphan]);
        assert!(!done && said.contains("are lost to clients") && said.contains("--yes"), "{said}");
        assert!(!status(&url, &ours, &orphan).is_null(), "nobody said yes");

        let (done, said) = dropped(&url, &["--slot", &orphan, "--yes"]);
        assert!(done && said.contains("MiB of WAL are set free"), "{said}");
        assert!(status(&url, &ours, &orphan).is_null());
        drop(server);
        until(Duration::from_secs(20), async || status(&url, &ours, &ours)["active"] == false).await;
        let (done, said) = dropped(&url, &["--slot", &ours, "--force"]);
        assert!(done, "{said}");
        let physical = format!("select pg_create_physical_replication_slot('{ours}')");
        database.execute(&physical).await;
        let (done, said) = dropped(&url, &["--slot", &ours, "--yes"]);
        assert!(!done && said.contains("physical"), "{said}");
        assert_eq!(status(&url, &ours, &ours)["is_ours"], false);
        let text = stdout(&slot(&url, &["status", "--slot", &ours]));
        assert!(text.contains("not ours") && !text.contains("(ours)"), "{text}");
        database.execute(&format!("select pg_drop_replication_slot('{ours}')")).await;
    }
}

/// Makes the slot, and has it lose its WAL.
async fn lose(client: &tokio_postgres::Client) {
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    run("select pg_create_logical_replication_slot('walcast', 'pgoutput')").await;
    for _ in 0..4 {
        run("insert into t values (1)").await;
        run("select pg_switch_wal()").await;
    }
    run("checkpoint").await;
}

#[tokio::test]
async fn a_slot_that_has_lost_its_wal_is_dropped_without_a_question_and_a_role_without_the_right_is_told_the_grant() {
    let mut options = ClusterOptions::new(binaries(default_major()).await, new_directory());
    let settings = [("max_slot_wal_keep_size", "16MB"), ("min_wal_size", "32MB"), ("fsync", "off")];
    options.settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    options.password = Some(PASSWORD.to_owned());
    options.ephemeral = true;
    let cluster = Cluster::start(options).await.unwrap();
    let url = cluster.url("postgres");
    let client = connect(&url).await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    run("create table t (id int); create role plain login password 'plain'").await;
    let plain = url.replace(&format!("postgres:{PASSWORD}@"), "plain:plain@");
    assert_ne!(plain, url);
    lose(&client).await;
    let (done, said) = dropped(&plain, &["--yes"]);
    assert!(!done && said.contains("alter role plain replication;"), "{said}");
    let lost = status(&url, "walcast", "walcast");
    assert_eq!((&lost["wal_status"], &lost["judgement"]["status"]), (&"lost".into(), &"error".into()), "{lost}");
    let (done, said) = dropped(&url, &[]);
    assert!(done && said.contains("clients lose nothing more"), "{said}");
    assert!(status(&url, "walcast", "walcast").is_null());

    // A server that starts on one makes it anew by itself.
    let roles = "create role anon; create role authenticated; create role service_role bypassrls; create role walcast;";
    run(&format!("{roles} {}", crate::line::setup::PRELUDE)).await;
    lose(&client).await;
    assert_eq!(status(&url, "walcast", "walcast")["wal_status"], "lost");
    let server = Server::start_at(&url, "walcast", &[]).await;
    crate::line::setup::wait_for_stream(&server).await;
    assert_eq!(status(&url, "walcast", "walcast")["wal_status"], "reserved");
    drop(server);
    cluster.stop().await.unwrap();
}
