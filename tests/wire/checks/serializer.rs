//! Checks 15 to 29 as far as they need no broadcast: the two encodings and what does not fit them. Protocol reference,
//! section 2.

use serde_json::{Value, json};

use super::{Check, Door, In, all_of, fence};
use crate::support::json::Json;

pub(super) const CHECKS: &[Check] = &[
    Check { number: 15, says: "a V2 heartbeat is answered", encodings: In::V2, run: |d| Box::pin(heartbeat_v2(d)) },
    Check { number: 16, says: "a V1 heartbeat may have a null ref", encodings: In::V1, run: |d| Box::pin(null_ref(d)) },
    Check {
        number: 17,
        says: "V1 frames have exactly topic, event, payload, ref, and pushes a null ref (18)",
        encodings: In::V1,
        run: |door| Box::pin(refs_of_pushes(door)),
    },
    Check {
        number: 19,
        says: "V2: system carries the channel's join_ref or null, changes carry null",
        encodings: In::V2,
        run: |door| Box::pin(refs_of_pushes(door)),
    },
    Check {
        number: 20,
        says: "malformed frames are passed over",
        encodings: In::Both,
        run: |d| Box::pin(malformed(d)),
    },
    Check { number: 21, says: "a sixth element is ignored", encodings: In::V2, run: |door| Box::pin(sixth(door)) },
    Check { number: 22, says: "a V1 message may lack join_ref", encodings: In::V1, run: |d| Box::pin(no_join_ref(d)) },
    Check { number: 27, says: "broken binary frames are dropped", encodings: In::Both, run: |d| Box::pin(binary(d)) },
    Check {
        number: 213,
        says: "refs keep their JSON type, numbers included",
        encodings: In::Both,
        run: |door| Box::pin(number_ref(door)),
    },
];

async fn heartbeat_v2(door: Door) {
    let mut socket = door.anon().await;
    socket.send_text(r#"[null,"7","phoenix","heartbeat",{}]"#).await;
    let reply = socket.expect("the reply", |m| m.event == "phx_reply").await;
    let text = Json::parse(&reply.text).expect("a frame is JSON");
    assert_eq!(text, json!([null, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
}

async fn null_ref(door: Door) {
    let mut socket = door.anon().await;
    socket.send_text(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#).await;
    let reply = socket.expect("the reply", |m| m.event == "phx_reply").await;
    let text = Json::parse(&reply.text).expect("a frame is JSON");
    let payload = json!({"status": "ok", "response": {}});
    assert_eq!(text, json!({"topic": "phoenix", "event": "phx_reply", "payload": payload, "ref": null}));
}

async fn refs_of_pushes(door: Door) {
    let mut socket = door.alice().await;
    let (channel, response) =
        socket.join("realtime:refs", &json!({"config": {"postgres_changes": all_of("open_notes")}})).await;
    assert_eq!(response.at("postgres_changes").elements().len(), 1);
    let system = socket.expect("the system message", |m| m.event == "system").await;
    assert_eq!(system.reference, Json::Null, "{}", system.text);
    assert!(system.join_ref == Json::Null || system.join_ref == *channel.join_ref, "{}", system.text);
    door.sql("insert into public.open_notes(body) values ('refs')").await;
    let change = socket.expect("the change", |m| m.event == "postgres_changes").await;
    assert_eq!((change.reference, change.join_ref), (Json::Null, Json::Null), "{}", change.text);
}

async fn malformed(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:stays", &all_of("open_notes")).await;
    let deep = "[".repeat(100_000);
    for frame in ["{", "", "[]", "[1,2]", "\"x\"", "{\"topic\":\"phoenix\"}", "null", "\u{0}", "[[[[[", deep.as_str()] {
        socket.send_text(frame).await;
        socket.heartbeat().await;
    }
    let others = fence(&door, &mut socket, "realtime:stays").await;
    assert!(others.is_empty(), "malformed frames were answered: {others:?}");
}

async fn sixth(door: Door) {
    let mut socket = door.anon().await;
    socket.send_text(r#"[null,"7","phoenix","heartbeat",{},{"more":1}]"#).await;
    assert_eq!(*socket.reply("phoenix", "7").await.at("status"), "ok");
}

async fn no_join_ref(door: Door) {
    let mut socket = door.anon().await;
    let frame = r#"{"topic":"realtime:n","event":"phx_join","payload":{"config":{}},"ref":"9"}"#;
    socket.send_text(frame).await;
    assert_eq!(*socket.reply("realtime:n", "9").await.at("status"), "ok");
}

async fn binary(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:bin", &all_of("open_notes")).await;
    let whole = [b"\x03\x01\x01\x0a\x02\x00\x01".as_slice(), b"15realtime:rhi{\"a\":1}"].concat();
    for end in 0..whole.len() - 9 {
        socket.send_binary(&whole[..end]).await;
    }
    for frame in
        [&[0xff, 1, 2, 3][..], &[3, 255, 255, 255, 255, 255, 1], &[3, 1, 1, 2, 1, 0, 1, b'1', b'1', 0xff, 0xfe, b'e']]
    {
        socket.send_binary(frame).await;
        socket.heartbeat().await;
    }
    let others = fence(&door, &mut socket, "realtime:bin").await;
    assert!(others.is_empty(), "broken frames were answered: {others:?}");
}

async fn number_ref(door: Door) {
    let mut socket = door.anon().await;
    socket.push(&Value::Null, &json!(7), "phoenix", "heartbeat", &json!({})).await;
    let reply = socket.expect("the reply", |m| m.event == "phx_reply").await;
    assert_eq!(reply.reference, json!(7), "{}", reply.text);
}
