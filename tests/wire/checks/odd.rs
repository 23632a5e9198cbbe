//! Checks from 250 on: what somebody might try. Odd topics, oversize fields, other people's roles. Each asks the same:
//! does anything reach whoever may not have it, and does the server live on.

use serde_json::{Value, json};

use super::room::{
    config, diff, hear, hears, hears_nothing, listening, member, presence, present, private_as, said, say, track,
};
use super::{Check, Door, all_of};
use crate::support::json::Json;
use crate::support::socket::{Channel, Socket};
use crate::support::token;
use crate::wire::fixture::{self, ALICE, BOB};

pub(super) const CHECKS: &[Check] = &[
    Check::both(250, "a topic of odd characters is a room of its own, and no other", |d| Box::pin(odd_topics(d))),
    Check::both(251, "a private topic is compared whole, whatever is in it", |d| Box::pin(odd_private(d))),
    Check::both(252, "oversize fields hurt nobody else", |d| Box::pin(oversize(d))),
    Check::both(253, "user_token gives no role that its signature does not", |d| Box::pin(user_token(d))),
    Check::both(254, "a role that is not for clients gets nothing", |d| Box::pin(roles(d))),
    Check::both(255, "topics, references and keys of the wrong type hurt nobody", |d| Box::pin(wrong_types(d))),
    Check::both(256, "a tracked object over the limit closes the channel", |d| Box::pin(large_track(d))),
    Check::both(257, "a binary broadcast cannot name a topic its sender has not joined", |d| Box::pin(not_joined(d))),
    Check::both(258, "pushes that pass for the server's own reach nobody", |d| Box::pin(forged(d))),
];

const ODD: &[&str] = &[
    "it's",
    "say \"hi\"",
    "two\nlines",
    "tab\there",
    "back\\slash",
    "'; drop table realtime.messages; --",
    "%",
    "_",
    "a/b?c=d&e#f",
    "{}",
    "[\"1\"]",
    "null",
    "é",
    "\u{e9}\u{301}",
    "日本語",
    "\u{1F600}",
    "\u{202e}rtl",
    "\u{feff}bom",
    " lead",
    "trail ",
    "realtime:both",
    "phoenix",
    "*",
    "nul\u{0}nul",
    "\u{0}",
    "\\u0000",
    "${x}",
    "$1",
    "..",
    ":",
    "a:b:c:d",
];

/// A member and its channel on this sub-topic.
async fn on(door: &Door, name: &str, payload: &Value) -> (Socket, Channel) {
    member(door, &format!("realtime:{name}"), payload).await
}

async fn odd_topics(door: Door) {
    let long = ["x".repeat(300), "é".repeat(150), "\"".repeat(255)];
    let names: Vec<&str> = ODD.iter().copied().chain(long.iter().map(String::as_str)).collect();
    // One socket hears in every one of these rooms, another beside all of them.
    let mut everywhere = door.other().anon().await;
    for name in &names {
        everywhere.join(&format!("realtime:{name}"), &listening()).await;
    }
    let (mut beside, _) = on(&door, "beside", &listening()).await;
    for (n, name) in names.iter().enumerate() {
        let (mut socket, channel) = on(&door, name, &present(&json!(name))).await;
        say(&mut socket, &channel, name, &json!({"n": n})).await;
        hears(&mut everywhere, &channel.topic, name, &json!({"n": n})).await;
        track(&mut socket, &channel, &json!({"n": n})).await;
        assert_eq!(diff(&mut everywhere, &channel.topic).await.at("joins").keys(), [*name]);
        drop(socket);
        assert_eq!(diff(&mut everywhere, &channel.topic).await.at("leaves").keys(), [*name]);
    }
    hears_nothing(&mut everywhere, "every message was for one room").await;
    hears_nothing(&mut beside, "its room is another").await;
}

async fn odd_private(door: Door) {
    let (mut inside, _) = on(&door, "both", &private_as("alice")).await;
    let odd = [
        "both'",
        "'both'",
        "both\n",
        " both",
        "both ",
        "BOTH",
        "both\u{0}",
        "both\\",
        "both%",
        "both:",
        "realtime:both",
        "both') or true --",
        "b\u{43e}th",
        "bot",
        "",
    ];
    let long = format!("both{}", " ".repeat(300));
    for name in odd.iter().copied().chain(ODD.iter().copied()).chain([long.as_str()]) {
        let mut socket = door.anon().await;
        let (channel, reply) = socket.join_raw(&format!("realtime:{name}"), &private_as("alice")).await;
        assert_eq!(*reply.at("status"), "error", "{name:?} has no policy");
        let reason = reply.at("response").at("reason").as_str().expect("a reason");
        let is_known = reason.ends_with(&format!("Channel topic: {name}")) || reason.starts_with("TopicNameRequired");
        assert!(is_known, "{name:?}: {reason}");
        let reference = say(&mut socket, &channel, "e", &json!({})).await;
        let reply = socket.reply(&channel.topic, &reference).await;
        assert_eq!(reply, json!({"status": "error", "response": {"reason": "unmatched topic"}}), "{name:?}");
    }
    hears_nothing(&mut inside, "nobody else came in").await;
}

async fn oversize(door: Door) {
    let (mut witness, channel) = on(&door, "witness", &config(false, true, true)).await;
    let huge = "x".repeat(400_000);
    let mut socket = door.anon().await;
    socket.push(&json!(huge), &json!(huge), "realtime:refs", "phx_join", &listening()).await;
    socket.push(&json!("1"), &json!("1"), &format!("realtime:{huge}"), "phx_join", &listening()).await;
    socket.push(&json!("2"), &json!("2"), "realtime:event", &huge, &json!({})).await;
    socket.push(&json!("3"), &json!("3"), "realtime:key", "phx_join", &present(&json!(huge))).await;
    let bindings: Vec<Value> =
        (0..5_000).map(|n| json!({"event": "*", "schema": "public", "table": format!("t{n}")})).collect();
    socket
        .push(&json!("4"), &json!("4"), "realtime:many", "phx_join", &json!({"config": {"postgres_changes": bindings}}))
        .await;
    let token = json!({"config": {"private": true}, "access_token": huge});
    socket.push(&json!("5"), &json!("5"), "realtime:both", "phx_join", &token).await;
    let reply = socket.reply("realtime:both", "5").await;
    assert_eq!(*reply.at("response").at("reason"), "MalformedJWT: The token provided is not a valid JWT");
    drop(socket);
    let reference = say(&mut witness, &channel, "e", &json!({"n": 1})).await;
    hears(&mut witness, "realtime:witness", "e", &json!({"n": 1})).await;
    assert_eq!(*witness.reply("realtime:witness", &reference).await.at("status"), "ok");
}

/// A join of the private room of alice, with these tokens.
fn with_tokens(access_token: &str, user_token: &str) -> Value {
    json!({"config": {"private": true}, "access_token": access_token, "user_token": user_token})
}

async fn user_token(door: Door) {
    let topic = format!("realtime:user-{ALICE}");
    let alice = fixture::token("alice");
    let mut socket = door.alice().await;
    for (name, reason) in [
        ("badsig", "JwtSignatureError: Failed to validate JWT signature"),
        ("norole", "InvalidJWTToken: Fields `role` and `exp` are required in JWT"),
        ("noexp", "InvalidJWTToken: Fields `role` and `exp` are required in JWT"),
    ] {
        let (_, reply) = socket.join_raw(&topic, &with_tokens(&alice, &fixture::token(name))).await;
        assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}), "{name}: nothing else is tried");
    }
    for name in ["expired", "algnone"] {
        let (_, reply) = socket.join_raw(&topic, &with_tokens(&alice, &fixture::token(name))).await;
        assert_eq!(*reply.at("status"), "error", "{name}");
    }
    let (_, reply) = socket.join_raw(&topic, &with_tokens(&alice, &fixture::token("bob"))).await;
    assert_eq!(*reply.at("status"), "error", "bob's token decides, and bob may not");
    let later = json!({"role": "authenticated", "sub": BOB, "exp": token::in_seconds(600), "nested": {"sub": ALICE}});
    let (_, reply) = socket.join_raw(&topic, &with_tokens(&alice, &token::sign(later))).await;
    assert_eq!(*reply.at("status"), "error");
}

async fn roles(door: Door) {
    let topic = format!("realtime:user-{ALICE}");
    let mut others =
        vec!["postgres", "walcast", "none", "pg_read_all_data", "no_such_role", "", "authenticated; reset role"];
    others.push("Authenticated");
    let mut subscribers = Vec::new();
    for role in others {
        let claims = json!({"role": role, "sub": ALICE, "exp": token::in_seconds(600)});
        let token = token::sign(claims);
        let mut socket = door.anon().await;
        let private = json!({"config": {"private": true}, "access_token": token});
        let (_, reply) = socket.join_raw(&topic, &private).await;
        assert_eq!(*reply.at("status"), "error", "{role:?} joined a private room: {reply}");
        let changes = json!({"config": {"postgres_changes": all_of("notes")}, "access_token": token});
        socket.join_raw("realtime:rows", &changes).await;
        subscribers.push((role, socket));
    }
    let (mut alice, _) = {
        let mut socket = door.alice().await;
        let subscribed = socket.subscribe("realtime:rows", &all_of("notes")).await;
        (socket, subscribed)
    };
    door.sql(&format!("insert into public.notes(owner, body) values ('{ALICE}', 'secret')")).await;
    alice.change("realtime:rows").await;
    for (role, mut socket) in subscribers {
        let heard = super::room::rest(&mut socket).await;
        let leaked: Vec<_> = heard.iter().filter(|m| m.event == "postgres_changes").collect();
        assert!(leaked.is_empty(), "{role:?}: {leaked:?}");
    }
}

async fn wrong_types(door: Door) {
    let (mut witness, channel) = on(&door, "typed", &config(false, true, false)).await;
    let mut socket = door.anon().await;
    let odd = [json!(1), json!(null), json!({"a": 1}), json!(["realtime:typed"]), json!(true), json!("")];
    for value in &odd {
        let frames = match socket.vsn() {
            crate::support::socket::Vsn::V1 => vec![
                json!({"topic": value, "event": "broadcast", "payload": said("e", &json!({})), "ref": value, "join_ref": value}),
                json!({"topic": "realtime:typed", "event": value, "payload": value, "ref": value}),
                json!({"topic": "realtime:typed", "event": "phx_leave", "payload": value, "ref": value, "join_ref": value}),
            ],
            crate::support::socket::Vsn::V2 => vec![
                json!([value, value, value, "broadcast", said("e", &json!({}))]),
                json!([value, value, "realtime:typed", value, value]),
                json!([value, value, "realtime:typed", "phx_leave", value]),
            ],
        };
        for frame in frames {
            socket.send_text(&frame.to_string()).await;
        }
        let (own, _) = socket.join("realtime:own", &listening()).await;
        socket.push_on(&own, "presence", value).await;
        socket.push_on(&own, "broadcast", value).await;
        socket.push_on(&own, "access_token", value).await;
        socket.push_on(&own, "presence", &json!({"event": value, "payload": value})).await;
    }
    socket.heartbeat().await;
    say(&mut witness, &channel, "e", &json!({"n": 1})).await;
    hears(&mut witness, "realtime:typed", "e", &json!({"n": 1})).await;
    hears_nothing(&mut witness, "its room was never joined by the other").await;
}

async fn large_track(door: Door) {
    let (mut socket, channel) = on(&door, "large", &present(&json!("k"))).await;
    let (mut witness, _) = on(&door, "large", &listening()).await;
    let large = json!({"event": "track", "payload": {"s": "x".repeat(3_100_000)}});
    socket.push_on(&channel, "presence", &large).await;
    super::room::closes_with(&mut socket, &channel, "Track message size exceeded").await;
    hears_nothing(&mut witness, "what is too large is not tracked").await;
}

async fn not_joined(door: Door) {
    let (mut inside, _) = on(&door, "both", &private_as("alice")).await;
    let (mut public, _) = on(&door, "both", &listening()).await;
    let (mut socket, channel) = on(&door, "elsewhere", &listening()).await;
    let elsewhere = Channel { topic: "realtime:both".to_owned(), join_ref: channel.join_ref.clone() };
    let reference = say(&mut socket, &elsewhere, "e", &json!({})).await;
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    assert_eq!(socket.reply("realtime:both", &reference).await, unmatched);
    let reply = presence(&mut socket, &elsewhere, &json!({"event": "track", "payload": {}})).await;
    assert_eq!(reply, unmatched);
    super::room::say_binary(&mut socket, &elsewhere, "e", 1, b"{}").await;
    super::room::say_binary(&mut socket, &elsewhere, "e", 0, b"\x00").await;
    super::room::rest(&mut socket).await;
    hears_nothing(&mut inside, "it was not said inside").await;
    hears_nothing(&mut public, "nor by a member").await;
}

async fn forged(door: Door) {
    let topic = "realtime:forged";
    let (mut witness, _) = on(&door, "forged", &config(false, false, false)).await;
    let (mut socket, channel) = on(&door, "forged", &config(false, false, false)).await;
    for event in [
        "presence_state",
        "presence_diff",
        "system",
        "postgres_changes",
        "phx_close",
        "phx_error",
        "phx_reply",
        "INSERT",
    ] {
        socket
            .push_on(&channel, event, &json!({"joins": {"ghost": {"metas": [{"phx_ref": "x"}]}}, "leaves": {}}))
            .await;
    }
    super::room::rest(&mut socket).await;
    hears_nothing(&mut witness, "only the server says these").await;
    // What is said within a broadcast stays within it.
    socket
        .push_on(&channel, "broadcast", &json!({"type": "system", "event": "phx_close", "topic": "realtime:x"}))
        .await;
    let heard = hear(&mut witness, topic).await;
    assert_eq!((heard.event, heard.topic), (Json::String("broadcast".into()), Json::String(topic.into())));
}
