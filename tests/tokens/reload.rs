//! Keys that change while clients are connected: what was signed with a key that is gone ends, and nothing else.

use super::{
    keys::{Key, set},
    publisher::Publisher,
};
use crate::{
    line::setup::database,
    support::{
        postgres::{Postgres, new_directory},
        server::Server,
        socket::{Channel, Socket},
        token::{anon, in_seconds},
    },
};
use serde_json::json;
use std::{fs, process::Command, time::Duration};

fn token(key: &Key) -> String {
    key.token(&json!({"role": "authenticated", "exp": in_seconds(3600)}))
}

async fn join(socket: &mut Socket, topic: &str, key: &Key) -> Channel {
    socket.join(topic, &json!({"access_token": token(key), "config": {}})).await.0
}

/// The channel is told why and ends; the other one and the socket stay.
async fn ends_alone(socket: &mut Socket, ended: &Channel, kid: &str, other: &Channel) {
    let told = socket.expect("the reason", |m| m.is(&ended.topic, "system")).await;
    let why = format!(
        "Failed to generate JWT signer for key ID (kid) \"{kid}\", check your JWT secret or JWKS configuration"
    );
    assert_eq!(*told.payload.at("message"), *why, "{}", told.text);
    assert_eq!(*told.payload.at("status"), "error");
    socket.expect("the close", |m| m.is(&ended.topic, "phx_close")).await;
    socket.heartbeat().await;
    assert!(!socket.drain().iter().any(|m| m.is(&other.topic, "phx_close")), "the other channel was closed, too");
}

#[tokio::test]
async fn keys_of_a_file_are_read_again_on_a_hangup() {
    let (kept, removed, added) = (Key::p256("kept"), Key::rsa("removed"), Key::ed25519("added"));
    let directory = new_directory();
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("jwks.json");
    fs::write(&file, set(&[&kept, &removed])).unwrap();
    let database = database(Postgres::default(), "").await;
    let server = Server::start(&database, &[("WALCAST_JWKS_FILE", file.to_str().unwrap())]).await;
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &anon())).await;
    let stays = join(&mut socket, "realtime:kept", &kept).await;
    let ends = join(&mut socket, "realtime:removed", &removed).await;

    // What cannot be read changes nothing.
    fs::write(&file, "sesame").unwrap();
    hang_up(&server);
    wait_for_log(&server, "jwks_file").await;
    socket.heartbeat().await;
    assert!(socket.drain().is_empty());
    assert!(!server.log().join("\n").contains("sesame"));

    fs::write(&file, set(&[&kept, &added])).unwrap();
    hang_up(&server);
    ends_alone(&mut socket, &ends, "removed", &stays).await;
    join(&mut socket, "realtime:added", &added).await;
    let (_, reply) = socket.join_raw("realtime:removed", &json!({"access_token": token(&removed), "config": {}})).await;
    assert_eq!(*reply.at("status"), "error", "{reply}");
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_rotation_at_the_url_lets_new_tokens_in_and_ends_old_ones() {
    let (kept, old, new) = (Key::p384("kept"), Key::rsa("old"), Key::rsa("new"));
    let publisher = Publisher::start(&set(&[&kept, &old]));
    let database = database(Postgres::default(), "").await;
    let server = Server::start(&database, &[("WALCAST_JWKS_URL", &publisher.url())]).await;
    assert_eq!(publisher.asked(), 1, "fetched before it listened");
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &token(&kept))).await;
    let stays = join(&mut socket, "realtime:kept", &kept).await;
    let ends = join(&mut socket, "realtime:old", &old).await;
    publisher.publish(&set(&[&kept, &new]));
    // The server was asked a moment ago and does not ask again before ten seconds are over.
    let start = std::time::Instant::now();
    while Socket::connect(&server.websocket_url("2.0.0", &token(&new)), &[]).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", server.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(publisher.asked(), 2, "however often clients tried");
    ends_alone(&mut socket, &ends, "old", &stays).await;
    let log = server.log().join("\n");
    assert!(log.contains("token keys have changed") && !log.contains("sesame"), "the query of the URL stays inside");
}

#[tokio::test]
async fn a_server_whose_keys_cannot_be_fetched_starts_and_says_so() {
    let key = Key::p256("k");
    let publisher = Publisher::start("no keys");
    let database = database(Postgres::default(), "").await;
    let extra = [("WALCAST_JWKS_URL", publisher.url()), ("JWT_SECRET", String::new())];
    let extra = extra.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Server::start(&database, &extra).await;
    assert!(server.log().join("\n").contains("cannot fetch token keys"));
    for token in [token(&key), anon()] {
        let refused =
            Socket::connect(&server.websocket_url("2.0.0", &token), &[]).await.err().expect("nobody is let in");
        assert_eq!(refused.status, 401);
    }
    publisher.publish(&set(&[&key]));
    let start = std::time::Instant::now();
    while Socket::connect(&server.websocket_url("2.0.0", &token(&key)), &[]).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", server.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn hang_up(server: &Server) {
    assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
}

async fn wait_for_log(server: &Server, text: &str) {
    let start = std::time::Instant::now();
    while !server.log().iter().any(|line| line.contains(text)) {
        assert!(start.elapsed() < Duration::from_secs(15), "no `{text}` in {}", server.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
