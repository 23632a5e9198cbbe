//! `POST /api/broadcast/{topic}/events/{event}`: section 6.3 row by row, and checks 111 and 112.

use super::client::{Request, Stage, assert_silent, next_binary, next_text};
use crate::support::token::{anon, in_seconds, sign};
use serde_json::json;

const PATH: &str = "/api/broadcast/room-1/events/hi";

#[tokio::test]
async fn check_112_json_and_octets_reach_members_in_the_form_of_their_version() {
    let stage = Stage::new().await;
    let (mut first, mut second) = (stage.member("1.0.0", "room-1").await, stage.member("2.0.0", "room-1").await);
    let send = |kind: &'static str, body: &'static [u8]| {
        let request = Request::new("POST", PATH).bearer(&anon()).header("content-type", kind).body(body);
        request.send(&stage.server)
    };
    assert_eq!(send("application/json", br#"{"a": 1.0}"#).await.outcome(), (202, ""));
    let text = first.expect("a broadcast", |message| message.event == "broadcast").await.text;
    assert!(text.contains(r#"{"event":"hi","payload":{"a": 1.0},"type":"broadcast"}"#), "{text}");
    let frame =
        |encoding: u8, payload: &[u8]| ("realtime:room-1".to_owned(), "hi".to_owned(), encoding, payload.to_vec());
    assert_eq!(next_binary(&mut second).await, frame(1, br#"{"a": 1.0}"#));

    assert_eq!(send("application/octet-stream", b"\x00\xff").await.outcome(), (202, ""));
    assert_eq!(next_binary(&mut second).await, frame(0, b"\x00\xff"));
    assert_silent(&mut first).await;

    let refused = r#"{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}"#;
    assert_eq!(send("text/plain", b"x").await.outcome(), (415, refused));
    assert_eq!(send("application/json", b"{nope").await.outcome(), (400, "Bad Request"));
    assert_eq!(send("application/json", b"[1]").await.status, 202);
    assert_eq!(*next_text(&mut first).await.at("payload"), json!({"_json": [1]}));
    assert_eq!(send("application/json", b"").await.status, 202);
    assert_eq!(*next_text(&mut first).await.at("payload"), json!({}));
}

#[tokio::test]
async fn names_are_percent_decoded_and_too_long_ones_go_as_text() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "a/b é?").await;
    let path = "/realtime/v1/api/broadcast/a%2Fb%20%C3%A9%3F/events/e%22v?apikey=x";
    let answer = Request::new("POST", path).bearer(&anon()).json(&json!({"n": 1})).send(&stage.server).await;
    assert_eq!(answer.outcome(), (202, ""));
    let expected = ("realtime:a/b é?".to_owned(), "e\"v".to_owned(), 1, br#"{"n":1}"#.to_vec());
    assert_eq!(next_binary(&mut member).await, expected);

    let event = "e".repeat(300);
    let path = format!("/api/broadcast/a%2Fb%20%C3%A9%3F/events/{event}");
    let answer = Request::new("POST", &path).bearer(&anon()).json(&json!({"n": 2})).send(&stage.server).await;
    assert_eq!(answer.status, 202);
    assert_eq!(*next_text(&mut member).await.at("event"), event.as_str());

    let broken = "/api/broadcast/%FF/events/e";
    let answer = Request::new("POST", broken).bearer(&anon()).json(&json!({})).send(&stage.server).await;
    assert_eq!(answer.outcome(), (400, "Bad Request"));
}

#[tokio::test]
async fn tokens_sizes_and_wishes_that_cannot_be_met_are_refused() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "room-1").await;
    let server = &stage.server;
    let unauthorized = (401, r#"{"message":"Unauthorized"}"#);
    assert_eq!(Request::new("POST", PATH).json(&json!({})).send(server).await.outcome(), unauthorized);
    let expired = sign(json!({"role": "anon", "exp": in_seconds(-5)}));
    let late = Request::new("POST", PATH).bearer(&expired).json(&json!({}));
    assert_eq!(late.send(server).await.outcome(), unauthorized);

    for kind in ["application/octet-stream", "application/json"] {
        let body = format!("\"{}\"", "a".repeat(3_000_500)).into_bytes();
        let large = Request::new("POST", PATH).bearer(&anon()).header("content-type", kind).body(body);
        let expected = r#"{"errors":{"payload":["Payload size exceeds tenant limit"]}}"#;
        assert_eq!(large.send(server).await.outcome(), (422, expected));
    }
    for (query, expected) in [
        ("private=maybe", r#"{"errors":{"private":["is invalid"]}}"#),
        ("persist=true", r#"{"message":"Only private broadcasts can be persisted"}"#),
        ("persist[ttl]=60", r#"{"message":"Only private broadcasts can be persisted"}"#),
        ("private=true&persist=true", r#"{"message":"Persistence of broadcasts is not offered by this server"}"#),
    ] {
        let path = format!("{PATH}?{query}");
        let answer = Request::new("POST", &path).bearer(&anon()).json(&json!({})).send(server).await;
        assert_eq!(answer.outcome(), (422, expected), "{query}");
    }
    assert_silent(&mut member).await;
    let path = format!("{PATH}?private=false&vsn=2.0.0");
    assert_eq!(Request::new("POST", &path).bearer(&anon()).json(&json!({})).send(server).await.status, 202);
    next_binary(&mut member).await;
}
