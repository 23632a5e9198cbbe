//! Checks 12, 48, 136, 137 and 315: limits somebody set. Each needs a server of its own. Protocol reference, section 10.

use std::time::Duration;

use serde_json::json;

use super::room::{config, hears, listening, member, say};
use super::{Check, Door};
use crate::support::json::Json;
use crate::support::socket::{Channel, PATIENCE, Socket, Vsn};
use crate::support::wait;
use crate::wire::fixture;
use crate::wire::http::Request;

/// Two users.
pub(super) const USERS: &[Check] =
    &[Check::both(12, "when there are as many users as may be, the next upgrade gets 429", |d| Box::pin(users(d)))];

/// The usual 100 channels.
pub(super) const CHANNELS: &[Check] =
    &[Check::both(48, "the 101st channel of a socket is refused, the others work", |d| Box::pin(channels(d)))];

/// One message a second.
pub(super) const EVENTS: &[Check] =
    &[Check::v2(136, "too many messages close the channel, REST gets 429", |d| Box::pin(events(d)))];

/// One change a second.
pub(super) const CHANGES: &[Check] =
    &[Check::v2(315, "who misses changes over the rate hears it once", |d| Box::pin(changes(d)))];

/// One join a second.
pub(super) const JOINS: &[Check] =
    &[Check::v2(137, "too many joins are refused, and the socket is closed with 1001", |d| Box::pin(joins(d)))];

async fn users(door: Door) {
    let mut before = door.anon().await;
    let (a, _) = member(&door, "realtime:a", &listening()).await;
    let (b, _) = member(&door, "realtime:b", &listening()).await;
    let url = door.server.websocket_url(door.vsn.parameter(), &fixture::token("anon"));
    let refused = Socket::connect(&url, &[]).await.err().expect("two users are all there may be");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(Json::parse(&refused.body).expect("JSON"), json!({"error": "Too many connected users"}));
    let (_, reply) = before.join_raw("realtime:c", &listening()).await;
    let reason = "ConnectionRateLimitReached: Too many connected users";
    assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
    drop((a, b));
    wait::until(PATIENCE, || async { Socket::connect(&url, &[]).await.is_ok() }).await;
    wait::until(PATIENCE, || async { *before_joins(&door).await.at("status") == "ok" }).await;
}

/// The reply to a join on a socket of its own, which is then closed.
async fn before_joins(door: &Door) -> Json {
    let mut socket = door.anon().await;
    let (_, reply) = socket.join_raw("realtime:d", &listening()).await;
    socket.close().await;
    reply
}

async fn channels(door: Door) {
    let mut a = door.anon().await;
    let mut joined: Vec<Channel> = Vec::new();
    for n in 0..100 {
        joined.push(a.join(&format!("realtime:many {n}"), &config(false, true, false)).await.0);
    }
    let (_, reply) = a.join_raw("realtime:one more", &listening()).await;
    let reason = "ChannelRateLimitReached: Too many channels";
    assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
    for channel in [&joined[0], &joined[50], &joined[99]] {
        say(&mut a, channel, "e", &json!({"n": 1})).await;
        hears(&mut a, &channel.topic, "e", &json!({"n": 1})).await;
    }
    let reference = a.push_on(&joined[7], "phx_leave", &json!({})).await;
    a.reply(&joined[7].topic, &reference).await;
    a.join("realtime:one more", &listening()).await;
}

/// Says something again and again until the channel is closed for it.
async fn until_closed(socket: &mut Socket, channel: &Channel) {
    let start = std::time::Instant::now();
    loop {
        for _ in 0..20 {
            say(socket, channel, "e", &json!({})).await;
        }
        socket.heartbeat().await;
        if let Some(system) = socket.take(|m| m.is(&channel.topic, "system")) {
            assert_eq!(*system.payload.at("message"), "Too many messages per second", "{}", system.text);
            assert_eq!(*system.payload.at("status"), "error", "{}", system.text);
            socket.expect("phx_close", |m| m.is(&channel.topic, "phx_close")).await;
            return;
        }
        assert!(start.elapsed() < PATIENCE * 2, "the rate is never over the limit");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn events(door: Door) {
    let (mut old, first) = member(&door.of(Vsn::V1), "realtime:rate 1", &config(false, true, false)).await;
    let (mut new, second) = member(&door.of(Vsn::V2), "realtime:rate 2", &config(false, true, false)).await;
    until_closed(&mut old, &first).await;
    until_closed(&mut new, &second).await;
    let bearer = format!("Bearer {}", fixture::token("anon"));
    let headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({"messages": [{"topic": "rate 1", "event": "e", "payload": {}}]}).to_string();
    let request = Request { method: "POST", target: "/api/broadcast", headers, body: body.as_bytes() };
    let response = door.ask(&request).await;
    assert_eq!(response.status, 429, "{response:?}");
    assert!(response.json().at("message").as_str().is_some(), "{response:?}");
}

async fn changes(door: Door) {
    let mut socket = door.anon().await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "open_notes"}]);
    socket.subscribe("realtime:rate", &bindings).await;
    door.sql("insert into public.open_notes(body) select 'many' from generate_series(1, 200)").await;
    let word = socket.expect("word of it", |message| message.is("realtime:rate", "system")).await;
    let text = "Changes are skipped for now: there are more than max_events_per_second allows";
    let fields = ["status", "message", "extension", "channel"].map(|name| word.payload.at(name).as_str());
    assert_eq!(fields, [Some("error"), Some(text), Some("postgres_changes"), Some("rate")]);
    socket.heartbeat().await;
    assert!(socket.take(|message| message.is("realtime:rate", "system")).is_none(), "once is enough");
}

async fn joins(door: Door) {
    let mut old = door.of(Vsn::V1).anon().await;
    let mut new = door.of(Vsn::V2).anon().await;
    for socket in [&mut old, &mut new] {
        let start = std::time::Instant::now();
        loop {
            let (_, reply) = socket.join_raw("realtime:again", &listening()).await;
            if *reply.at("status") == "error" {
                let reason = "ClientJoinRateLimitReached: Too many joins per second";
                assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
                break;
            }
            assert!(start.elapsed() < PATIENCE * 2, "the rate is never over the limit");
        }
        assert_eq!(socket.closed().await, 1001);
    }
    let url = door.server.websocket_url(door.vsn.parameter(), &fixture::token("anon"));
    let refused = Socket::connect(&url, &[]).await.err().expect("the rate stands for a minute");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(Json::parse(&refused.body).expect("JSON"), json!({"error": "Too many joins per second"}));
}
