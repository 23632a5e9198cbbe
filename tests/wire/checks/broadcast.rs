//! Checks 23 to 29, 44 and 103 to 106: what is said in a room, in both forms. Protocol reference, sections 2.3, 2.4 and 6.

use serde_json::{Value, json};

use super::room::{config, hear, hears, hears_nothing, listening, member, said, say, say_binary};
use super::{Check, Door};
use crate::support::frames::UserPush;
use crate::support::json::Json;
use crate::support::socket::Vsn;

pub(super) const CHECKS: &[Check] = &[
    Check::both(18, "pushes have a null ref", |d| Box::pin(null_refs(d))),
    Check::v2(23, "a binary broadcast of JSON reaches V2 members", |d| Box::pin(binary_json(d, Vsn::V2))),
    Check::v2(24, "a binary broadcast of JSON reaches V1 members as text", |d| Box::pin(binary_json(d, Vsn::V1))),
    Check::v2(25, "bytes reach V2 members as bytes, V1 members not at all", |d| Box::pin(bytes(d))),
    Check::v2(26, "a binary broadcast is acknowledged in text", |d| Box::pin(binary_ack(d))),
    Check::both(28, "a text broadcast reaches the other encoding unchanged", |d| Box::pin(unchanged(d))),
    Check::v2(29, "the only binary frames of the server are of kind 4", |d| Box::pin(kind_4_only(d))),
    Check::v2(44, "a broadcast with a stale or null join_ref is delivered", |d| Box::pin(stale(d))),
    Check::both(103, "others hear a broadcast, the sender only if it wants to", |d| Box::pin(own(d))),
    Check::both(104, "a broadcast is answered only where ack is set, behind the message", |d| Box::pin(ack(d))),
    Check::v2(230, "what only claims to be JSON is not put into a text frame", |d| Box::pin(not_json(d))),
    Check::both(232, "broadcasts of one sender arrive in their order", |d| Box::pin(in_order(d))),
    Check::both(233, "nothing is heard after leaving", |d| Box::pin(left(d))),
    Check::both(234, "a broadcast too long for the binary form is delivered as text", |d| Box::pin(long_names(d))),
];

/// Check 106 needs pushes of several megabytes.
pub(super) const LARGE: &[Check] =
    &[Check::both(106, "a broadcast over the limit is refused with ack, dropped without", |d| Box::pin(too_large(d)))];

async fn null_refs(door: Door) {
    let topic = "realtime:refs";
    let mut payload = config(false, true, false);
    payload["config"]["presence"] = json!({"key": "k", "enabled": true});
    payload["config"]["postgres_changes"] = super::all_of("open_notes");
    let mut socket = door.alice().await;
    let (channel, _) = socket.join(topic, &payload).await;
    let told = |event: &'static str| move |m: &crate::support::socket::Message| m.is(topic, event);
    let mut heard =
        vec![socket.expect("system", told("system")).await, socket.expect("the state", told("presence_state")).await];
    say(&mut socket, &channel, "e", &json!({})).await;
    heard.push(hear(&mut socket, topic).await);
    socket.push_on(&channel, "presence", &json!({"event": "track", "payload": {}})).await;
    heard.push(socket.expect("the diff", told("presence_diff")).await);
    door.sql("insert into public.open_notes(body) values ('refs')").await;
    heard.push(socket.expect("the change", told("postgres_changes")).await);
    for message in heard {
        assert_eq!(message.reference, Json::Null, "{}", message.text);
    }
}

async fn binary_json(door: Door, receiver: Vsn) {
    let topic = "realtime:é";
    let (mut a, sender) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door.of(receiver), topic, &listening()).await;
    say_binary(&mut a, &sender, "e", 1, br#"{"a":1}"#).await;
    hears(&mut b, topic, "e", &json!({"a": 1})).await;
    hears_nothing(&mut a, "the sender did not ask for its own").await;
}

async fn bytes(door: Door) {
    let topic = "realtime:bytes";
    let (mut a, sender) = member(&door, topic, &config(false, false, true)).await;
    let (mut b, _) = member(&door, topic, &listening()).await;
    let (mut old, _) = member(&door.of(Vsn::V1), topic, &listening()).await;
    let reference = say_binary(&mut a, &sender, "raw", 0, &[0, 0xff]).await;
    let message = hear(&mut b, topic).await;
    let binary = message.binary.expect("bytes come in a binary frame");
    assert_eq!((binary.event.as_str(), binary.metadata.as_str(), binary.encoding), ("raw", "", 0));
    assert_eq!(binary.payload, [0, 0xff]);
    assert_eq!(*a.reply(topic, &reference).await.at("status"), "ok");
    hears_nothing(&mut old, "a V1 member has no form for bytes").await;
}

async fn binary_ack(door: Door) {
    let topic = "realtime:acked";
    let (mut a, channel) = member(&door, topic, &config(false, false, true)).await;
    let join_ref = channel.join_ref.as_str();
    let push = UserPush { join_ref, reference: "9", topic, event: "e", metadata: "", encoding: 1, payload: b"{}" };
    a.send_binary(&push.bytes()).await;
    let reply = a.expect("the reply", |m| m.is(topic, "phx_reply")).await;
    assert!(reply.binary.is_none(), "{}", reply.text);
    assert_eq!((reply.reference, reply.join_ref), (json!("9").into(), json!(join_ref).into()));
    assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
}

async fn unchanged(door: Door) {
    let topic = "realtime:extra";
    let (mut a, channel) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door.other(), topic, &listening()).await;
    let (mut c, _) = member(&door, topic, &listening()).await;
    for payload in [
        json!({"type": "broadcast", "event": "e", "payload": {"x": [1, null, "é\u{0}\u{2028}"]}, "more": {"a": true}}),
        json!({"anything": 9_007_199_254_740_993_i64}),
        json!({}),
    ] {
        a.push_on(&channel, "broadcast", &payload).await;
        assert_eq!(hear(&mut b, topic).await.payload, payload);
        assert_eq!(hear(&mut c, topic).await.payload, payload);
    }
}

/// Every socket of the tests fails on any other binary frame, so the pushes alone are the check.
async fn kind_4_only(door: Door) {
    let topic = "realtime:kinds";
    let (mut a, channel) = member(&door, topic, &config(false, true, true)).await;
    let (mut b, _) = member(&door, topic, &listening()).await;
    let kind_0 = |data: &[u8]| {
        let fields = [channel.join_ref.as_str(), "k0", topic, "broadcast"];
        let mut frame = vec![0];
        frame.extend(fields.map(|field| u8::try_from(field.len()).expect("short")));
        fields.iter().for_each(|field| frame.extend_from_slice(field.as_bytes()));
        frame.extend_from_slice(data);
        frame
    };
    a.send_binary(&kind_0(&[1, 2, 3])).await;
    a.send_binary(&kind_0(said("k", &json!({})).to_string().as_bytes())).await;
    hears(&mut b, topic, "k", &json!({})).await;
    assert_eq!(*a.reply(topic, "k0").await.at("status"), "ok");
    say_binary(&mut a, &channel, "e", 1, b"{}").await;
    hears(&mut b, topic, "e", &json!({})).await;
    super::room::rest(&mut a).await;
    hears_nothing(&mut b, "bytes that are no JSON, in the binary form of plain Phoenix").await;
}

async fn stale(door: Door) {
    let topic = "realtime:stale";
    let (mut a, _) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door, topic, &listening()).await;
    for join_ref in [json!("long-gone"), Value::Null] {
        a.push(&join_ref, &json!("7"), topic, "broadcast", &said("e", &json!({"by": join_ref}))).await;
        hears(&mut b, topic, "e", &json!({"by": join_ref})).await;
    }
}

async fn own(door: Door) {
    let topic = "realtime:own";
    let (mut a, quiet) = member(&door, topic, &listening()).await;
    let (mut b, loud) = member(&door, topic, &config(false, true, false)).await;
    say(&mut a, &quiet, "e", &json!({"n": 1})).await;
    hears(&mut b, topic, "e", &json!({"n": 1})).await;
    hears_nothing(&mut a, "self is false").await;
    say(&mut b, &loud, "e", &json!({"n": 2})).await;
    hears(&mut b, topic, "e", &json!({"n": 2})).await;
    hears(&mut a, topic, "e", &json!({"n": 2})).await;
}

async fn ack(door: Door) {
    let topic = "realtime:ack";
    let (mut a, channel) = member(&door, topic, &config(false, true, true)).await;
    let (mut b, silent) = member(&door, topic, &listening()).await;
    for n in 0..3 {
        let reference = say(&mut a, &channel, "e", &json!({"n": n})).await;
        let first = a.expect("an answer", |m| m.topic == topic).await;
        assert_eq!(first.event, json!("broadcast"), "the message comes before its acknowledgement: {}", first.text);
        let reply = a.expect("the reply", |m| m.is(topic, "phx_reply")).await;
        assert_eq!(
            (reply.reference, reply.payload),
            (json!(reference).into(), json!({"status": "ok", "response": {}}).into())
        );
        hears(&mut b, topic, "e", &json!({"n": n})).await;
    }
    say(&mut b, &silent, "e", &json!({})).await;
    hears_nothing(&mut b, "ack is false").await;
}

async fn not_json(door: Door) {
    let topic = "realtime:claims";
    let (mut a, channel) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door, topic, &listening()).await;
    let (mut old, _) = member(&door.of(Vsn::V1), topic, &listening()).await;
    let deep = "[".repeat(50_000);
    for broken in [&b"{nope"[..], b"", b"1,2", b"\"a\",\"type\":\"x\"", b"\xff", b"{}}", deep.as_bytes()] {
        say_binary(&mut a, &channel, "e", 1, broken).await;
        let binary = hear(&mut b, topic).await.binary.expect("as it came");
        assert_eq!(binary.payload, broken);
    }
    say_binary(&mut a, &channel, "e", 1, b"{\"ok\":1}").await;
    hears(&mut old, topic, "e", &json!({"ok": 1})).await;
    hears_nothing(&mut old, "no text frame can carry these").await;
}

async fn in_order(door: Door) {
    let topic = "realtime:order";
    let (mut a, channel) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door, topic, &listening()).await;
    let (mut c, _) = member(&door.other(), topic, &listening()).await;
    for n in 0..200 {
        say(&mut a, &channel, "e", &json!({"n": n})).await;
    }
    for n in 0..200 {
        hears(&mut b, topic, "e", &json!({"n": n})).await;
        hears(&mut c, topic, "e", &json!({"n": n})).await;
    }
}

async fn left(door: Door) {
    let topic = "realtime:leaving";
    let (mut a, channel) = member(&door, topic, &config(false, false, true)).await;
    let (mut b, leaving) = member(&door, topic, &listening()).await;
    let reference = b.push_on(&leaving, "phx_leave", &json!({})).await;
    b.reply(topic, &reference).await;
    b.expect("phx_close", |m| m.is(topic, "phx_close")).await;
    let reference = say(&mut a, &channel, "e", &json!({})).await;
    a.reply(topic, &reference).await;
    hears_nothing(&mut b, "it has left").await;
}

async fn long_names(door: Door) {
    let topic = format!("realtime:{}", "t".repeat(300));
    let event = "é".repeat(200);
    let (mut a, channel) = member(&door, &topic, &listening()).await;
    let (mut b, _) = member(&door.of(Vsn::V1), &topic, &listening()).await;
    let (mut c, _) = member(&door.of(Vsn::V2), &topic, &listening()).await;
    say(&mut a, &channel, &event, &json!({"n": 1})).await;
    hears(&mut b, &topic, &event, &json!({"n": 1})).await;
    hears(&mut c, &topic, &event, &json!({"n": 1})).await;
}

async fn too_large(door: Door) {
    let topic = "realtime:large";
    let (mut a, channel) = member(&door, topic, &config(false, false, true)).await;
    let (mut silent, unasked) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door, topic, &listening()).await;
    let large = json!({"s": "x".repeat(3_001_000)});
    let reference = say(&mut a, &channel, "big", &large).await;
    let reply = a.reply(topic, &reference).await;
    assert_eq!(reply, json!({"status": "error", "response": "payload_size_exceeded"}));
    say(&mut silent, &unasked, "big", &large).await;
    hears_nothing(&mut silent, "it asked for no answer").await;
    say(&mut a, &channel, "small", &json!({"s": "x"})).await;
    hears(&mut b, topic, "small", &json!({"s": "x"})).await;
    hears_nothing(&mut b, "the large ones were dropped").await;
}
