//! Limits, as clients meet them.

use super::{SOON, serving::Serving};
use crate::{
    line::setup::{all_of, database, items},
    support::{
        postgres::{Database, Postgres},
        socket::{Refused, Socket},
        token::{SECRET, anon},
        wait,
    },
};
use serde_json::json;

async fn serve(database: &Database, more: &[(&str, &str)]) -> Serving {
    let (url, slot) = (database.walcast_url(), database.slot());
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("WALCAST_SLOT", &slot),
        ("JWT_SECRET", SECRET),
        ("WALCAST_CONNECT_ERROR_DELAY_MS", "0"),
        ("WALCAST_JOIN_ERROR_DELAY_MS", "0"),
    ];
    Serving::start(&[&environment, more].concat()).await
}

async fn refused(serving: &Serving) -> Refused {
    Socket::connect(&serving.websocket_url(&anon()), &[]).await.err().expect("it is refused")
}

#[tokio::test]
async fn row_changes_over_the_rate_of_events_are_skipped_and_counted() {
    for setting in ["WALCAST_MAX_EVENTS_PER_SECOND", "TENANT_MAX_EVENTS_PER_SECOND"] {
        let database = database(Postgres::default(), &items("items")).await;
        let serving = serve(&database, &[(setting, "1")]).await;
        let mut socket = serving.socket(&anon()).await;
        socket.subscribe("realtime:a", &all_of("items")).await;
        database.execute("insert into items select n, 'x' from generate_series(1, 100) n").await;
        // Whatever is told at all is told before something is skipped.
        let has_skipped = async || serving.ask("GET", "/health", &[]).await.1.contains(r#""max_events_per_second":"#);
        wait::until(SOON, has_skipped).await;
        socket.heartbeat().await;
        let got = socket.drain().iter().filter(|message| message.is("realtime:a", "postgres_changes")).count();
        // Sixty in a minute are one a second; joining and heartbeats may count, too.
        assert!((50..=60).contains(&got), "{got}");
        assert!(has_named(&serving, "max_events_per_second"));
        serving.stop().await;
    }
}

#[tokio::test]
async fn without_a_setting_no_rate_is_limited() {
    let database = database(Postgres::default(), &items("items")).await;
    let serving = serve(&database, &[("TENANT_MAX_EVENTS_PER_SECOND", ""), ("TENANT_MAX_BYTES_PER_SECOND", "1")]).await;
    let mut socket = serving.socket(&anon()).await;
    socket.subscribe("realtime:a", &all_of("items")).await;
    database.execute("insert into items select n, 'x' from generate_series(1, 3000) n").await;
    for _ in 0..3000 {
        socket.change("realtime:a").await;
    }
    assert!(serving.running.stderr.lines().iter().any(|line| line.contains("max_bytes_per_second is accepted")));
    serving.stop().await;
}

#[tokio::test]
async fn a_server_that_is_suspended_lets_nobody_in() {
    let database = database(Postgres::default(), "").await;
    let serving = serve(&database, &[("WALCAST_SUSPEND", "true")]).await;
    let refused = refused(&serving).await;
    let text = r#"{"error":"Realtime was disabled for this tenant"}"#;
    assert_eq!((refused.status, refused.body.as_str()), (403, text));
    assert_eq!(refused.content_type.as_deref(), Some("application/json; charset=utf-8"));
    serving.stop().await;
}

#[tokio::test]
async fn one_socket_more_than_there_may_be_is_refused() {
    for setting in ["WALCAST_MAX_CONNECTIONS", "MAX_CONNECTIONS"] {
        let database = database(Postgres::default(), "").await;
        let serving = serve(&database, &[(setting, "1")]).await;
        let mut first = serving.socket(&anon()).await;
        first.heartbeat().await;
        let refused = refused(&serving).await;
        assert_eq!((refused.status, refused.body.as_str()), (429, r#"{"error":"Too many connected users"}"#));
        serving.stop().await;
    }
}

fn has_named(serving: &Serving, setting: &str) -> bool {
    serving.running.stderr.lines().iter().any(|line| line.contains(&format!("`{setting}` sets it")))
}

#[tokio::test]
async fn users_are_sockets_with_a_channel_and_one_too_many_is_refused_until_another_has_left() {
    for setting in ["WALCAST_MAX_CONCURRENT_USERS", "TENANT_MAX_CONCURRENT_USERS"] {
        let database = database(Postgres::default(), "").await;
        let serving = serve(&database, &[(setting, "1")]).await;
        let mut first = serving.socket(&anon()).await;
        let mut second = serving.socket(&anon()).await;
        second.heartbeat().await;
        first.join("realtime:a", &json!({"config": {}})).await;
        let (_, reply) = second.join_raw("realtime:a", &json!({"config": {}})).await;
        let reason = "ConnectionRateLimitReached: Too many connected users";
        assert_eq!(*reply.at("response").at("reason"), reason, "it was here before there were too many");
        let refused = refused(&serving).await;
        assert_eq!((refused.status, refused.body.as_str()), (429, r#"{"error":"Too many connected users"}"#));
        assert!(has_named(&serving, "max_concurrent_users"));
        first.close().await;
        wait::until(SOON, async || {
            let Ok(mut socket) = Socket::connect(&serving.websocket_url(&anon()), &[]).await else { return false };
            *socket.join_raw("realtime:a", &json!({"config": {}})).await.1.at("status") == "ok"
        })
        .await;
        serving.stop().await;
    }
}

#[tokio::test]
async fn joins_over_the_rate_are_refused_and_so_are_sockets_then() {
    for setting in ["WALCAST_MAX_JOINS_PER_SECOND", "TENANT_MAX_JOINS_PER_SECOND"] {
        let database = database(Postgres::default(), "").await;
        let serving = serve(&database, &[(setting, "1")]).await;
        let mut socket = serving.socket(&anon()).await;
        for number in 0..60 {
            socket.join(&format!("realtime:{number}"), &json!({"config": {}})).await;
        }
        let (_, reply) = socket.join_raw("realtime:more", &json!({"config": {}})).await;
        assert_eq!(*reply.at("response").at("reason"), "ClientJoinRateLimitReached: Too many joins per second");
        assert_eq!(socket.closed().await, 1001);
        let refused = refused(&serving).await;
        assert_eq!((refused.status, refused.body.as_str()), (429, r#"{"error":"Too many joins per second"}"#));
        assert!(has_named(&serving, "max_joins_per_second"));
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_longer_head_is_read_when_it_is_allowed() {
    let database = database(Postgres::default(), "").await;
    let long = "x".repeat(600_000);
    let usual = serve(&database, &[("MAX_HEADER_LENGTH", "10")]).await;
    let (status, _) = usual.ask("GET", "/healthcheck", &[("x-long", &"x".repeat(300_000))]).await;
    assert_eq!(status, 200, "less than usual is not asked for: a longer key would not fit");
    let (status, _) = usual.ask("GET", "/healthcheck", &[("x-long", &long)]).await;
    assert_ne!(status, 200);
    usual.stop().await;
    let wide = serve(&database, &[("MAX_HEADER_LENGTH", "1000000")]).await;
    let (status, _) = wide.ask("GET", "/healthcheck", &[("x-long", &long)]).await;
    assert_eq!(status, 200);
    wide.stop().await;
}
