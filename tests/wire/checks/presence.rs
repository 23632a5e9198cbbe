//! Checks 119 to 128: who is present. Protocol reference, section 7.

use serde_json::{Value, json};

use super::room::{closes_with, diff, hears_nothing, listening, member, presence, present, state, track};
use super::{Check, Door};
use crate::support::json::Json;
use crate::support::socket::Vsn;

pub(super) const CHECKS: &[Check] = &[
    Check::both(119, "the state follows the join where presence is enabled", |d| Box::pin(state_follows(d))),
    Check::both(120, "whoever tracks is told to both members", |d| Box::pin(tracked(d))),
    Check::both(121, "the same again is no news, a change is one diff", |d| Box::pin(again(d))),
    Check::both(122, "untracking, leaving and a lost socket are told", |d| Box::pin(gone(d))),
    Check::both(123, "an empty key is made by the server, a number becomes text", |d| Box::pin(keys(d))),
    Check::both(124, "two sockets under one key are two metas", |d| Box::pin(two_metas(d))),
    Check::both(125, "what is tracked must be an object", |d| Box::pin(not_an_object(d))),
    Check::both(126, "an unknown event is refused, letter case does not matter", |d| Box::pin(events(d))),
    Check::both(128, "members who did not enable presence hear of it in public rooms", |d| Box::pin(not_enabled(d))),
    Check::both(235, "what a client tracks cannot pass for the server's own fields", |d| Box::pin(own_fields(d))),
    Check::both(236, "a second join of the topic ends the presence of the first", |d| Box::pin(replaced(d))),
];

/// Five presence pushes in 30 seconds.
pub(super) const LIMITED: &[Check] = &[
    Check::both(127, "the sixth push in the window closes the channel", |d| Box::pin(sixth(d))),
    Check::both(231, "a closed channel does not hear of its own end", |d| Box::pin(silent_end(d))),
];

async fn state_follows(door: Door) {
    let topic = format!("realtime:state {:?}", door.vsn);
    let mut a = door.anon().await;
    let (channel, _) = a.join(&topic, &present(&json!("a"))).await;
    assert_eq!(state(&mut a, &channel).await, json!({}), "empty, but told");
    track(&mut a, &channel, &json!({"n": 1})).await;
    let joined = diff(&mut a, &topic).await;
    let mut b = door.other().anon().await;
    let (channel, _) = b.join(&topic, &present(&json!("b"))).await;
    assert_eq!(state(&mut b, &channel).await, *joined.at("joins"), "the state is what the diffs made");
    let (mut c, _) = member(&door, &topic, &listening()).await;
    hears_nothing(&mut c, "presence is not enabled").await;
}

/// The only meta under this key.
fn meta<'a>(of: &'a Json, key: &str) -> &'a Json {
    assert_eq!(of.keys(), [key], "{of}");
    assert_eq!(of.at(key).keys(), ["metas"], "{of}");
    assert_eq!(of.at(key).at("metas").elements().len(), 1, "{of}");
    of.at(key).at("metas").nth(0)
}

fn reference(meta: &Json) -> String {
    let reference = meta.at("phx_ref").as_str().unwrap_or_else(|| panic!("phx_ref is a string: {meta}"));
    assert!(!reference.is_empty());
    reference.to_owned()
}

async fn tracked(door: Door) {
    let topic = format!("realtime:tracked {:?}", door.vsn);
    let (mut a, channel) = member(&door, &topic, &present(&json!("ann"))).await;
    let (mut b, _) = member(&door.other(), &topic, &present(&json!("bob"))).await;
    track(&mut a, &channel, &json!({"user": "ann", "n": {"deep": [1]}})).await;
    let (to_a, to_b) = (diff(&mut a, &topic).await, diff(&mut b, &topic).await);
    assert_eq!(to_a, to_b, "everybody hears the same");
    assert_eq!(*to_a.at("leaves"), json!({}));
    let meta = meta(to_a.at("joins"), "ann");
    assert_eq!(*meta, json!({"user": "ann", "n": {"deep": [1]}, "phx_ref": reference(meta)}));
}

async fn again(door: Door) {
    let topic = format!("realtime:again {:?}", door.vsn);
    let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
    let (mut b, _) = member(&door, &topic, &listening()).await;
    track(&mut a, &channel, &json!({"n": 1, "m": 2})).await;
    let first = diff(&mut b, &topic).await;
    let old = meta(first.at("joins"), "k");
    track(&mut a, &channel, &json!({"m": 2, "n": 1})).await;
    hears_nothing(&mut b, "the same object again").await;
    track(&mut a, &channel, &json!({"n": 2})).await;
    let second = diff(&mut b, &topic).await;
    let new = meta(second.at("joins"), "k");
    assert_eq!(*new, json!({"n": 2, "phx_ref": reference(new), "phx_ref_prev": reference(old)}));
    assert_ne!(reference(new), reference(old));
    assert_eq!(meta(second.at("leaves"), "k"), old);
    hears_nothing(&mut b, "one diff for one change").await;
}

async fn gone(door: Door) {
    let topic = format!("realtime:gone {:?}", door.vsn);
    let (mut b, _) = member(&door, &topic, &listening()).await;
    for how in ["untrack", "leave", "close", "loss"] {
        let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
        track(&mut a, &channel, &json!({"how": how})).await;
        let joined = diff(&mut b, &topic).await;
        match how {
            "untrack" => {
                let reply = presence(&mut a, &channel, &json!({"type": "presence", "event": "untrack"})).await;
                assert_eq!(reply, json!({"status": "ok", "response": {}}));
                let reply = presence(&mut a, &channel, &json!({"event": "untrack", "payload": {}})).await;
                assert_eq!(reply, json!({"status": "ok", "response": {}}), "also when nothing is tracked");
            }
            "leave" => drop(a.push_on(&channel, "phx_leave", &json!({})).await),
            "close" => a.close().await,
            _ => drop(a),
        }
        let left = diff(&mut b, &topic).await;
        assert_eq!(*left.at("joins"), json!({}), "{how}");
        assert_eq!(left.at("leaves"), joined.at("joins"), "{how}: what left is what had come");
        hears_nothing(&mut b, how).await;
    }
}

async fn keys(door: Door) {
    let topic = format!("realtime:keys {:?}", door.vsn);
    let (mut b, _) = member(&door, &topic, &listening()).await;
    let mut made = Vec::new();
    for (key, expected) in [
        (json!(""), None),
        (Value::Null, None),
        (json!(42), Some("42")),
        (json!(true), Some("true")),
        (json!("__proto__"), Some("__proto__")),
        (json!("a\"b\n\u{1F600}"), Some("a\"b\n\u{1F600}")),
    ] {
        let (mut a, channel) = member(&door, &topic, &present(&key)).await;
        track(&mut a, &channel, &json!({})).await;
        let joined = diff(&mut b, &topic).await;
        let name = joined.at("joins").keys().first().map(|key| (*key).to_owned()).expect("a key");
        assert!(!name.is_empty() && expected.is_none_or(|expected| expected == name), "{key} became {name:?}");
        made.push(name);
        a.close().await;
        diff(&mut b, &topic).await;
    }
    assert_ne!(made[0], made[1], "keys of the server are unique");
}

async fn two_metas(door: Door) {
    let topic = format!("realtime:two {:?}", door.vsn);
    let (mut a, first) = member(&door, &topic, &present(&json!("k"))).await;
    let (mut b, second) = member(&door.other(), &topic, &present(&json!("k"))).await;
    track(&mut a, &first, &json!({"n": 1})).await;
    track(&mut b, &second, &json!({"n": 2})).await;
    let mut c = door.anon().await;
    let (channel, _) = c.join(&topic, &present(&json!("c"))).await;
    let now = state(&mut c, &channel).await;
    let metas = now.at("k").at("metas").elements();
    let mut tracked: Vec<_> = metas.iter().map(|meta| meta.at("n").as_i64()).collect();
    tracked.sort_unstable();
    assert_eq!(tracked, [Some(1), Some(2)], "{now}");
    assert_ne!(reference(&metas[0]), reference(&metas[1]));
    a.close().await;
    let left = diff(&mut c, &topic).await;
    assert_eq!(*meta(left.at("leaves"), "k").at("n"), json!(1), "a diff names only who left: {left}");
}

async fn not_an_object(door: Door) {
    let (mut a, channel) = member(&door, "realtime:no object", &present(&json!("k"))).await;
    for payload in [json!("x"), json!([1]), json!(1)] {
        let reply = presence(&mut a, &channel, &json!({"event": "track", "payload": payload})).await;
        let reason = "Presence track payload must be a map";
        assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}), "{payload}");
    }
}

async fn events(door: Door) {
    let topic = format!("realtime:events {:?}", door.vsn);
    let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
    let reply = presence(&mut a, &channel, &json!({"type": "presence", "event": "dance"})).await;
    assert_eq!(reply, json!({"status": "error", "response": {}}));
    let reply = presence(&mut a, &channel, &json!({"event": "TRACK", "payload": {"n": 1}})).await;
    assert_eq!(reply, json!({"status": "ok", "response": {}}));
    assert_eq!(*meta(diff(&mut a, &topic).await.at("joins"), "k").at("n"), json!(1));
    let reply = presence(&mut a, &channel, &json!({})).await;
    assert_eq!(reply, json!({"status": "ok", "response": {}}), "no event: nothing is done");
}

async fn not_enabled(door: Door) {
    let topic = format!("realtime:not enabled {:?}", door.vsn);
    let (mut b, _) = member(&door, &topic, &listening()).await;
    let (mut legacy, _) = member(&door.of(Vsn::V1), &topic, &json!({})).await;
    let (mut a, channel) = member(&door, &topic, &listening()).await;
    track(&mut a, &channel, &json!({"n": 1})).await;
    for socket in [&mut a, &mut b, &mut legacy] {
        assert_eq!(diff(socket, &topic).await.at("joins").keys().len(), 1);
        assert!(socket.take(|m| m.event == "presence_state").is_none(), "nobody asked for the state");
    }
}

async fn own_fields(door: Door) {
    let topic = format!("realtime:forged {:?}", door.vsn);
    let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
    track(&mut a, &channel, &json!({"phx_ref": "forged", "phx_ref_prev": 5, "n": 1})).await;
    let joined = diff(&mut a, &topic).await;
    let meta = meta(joined.at("joins"), "k");
    assert_ne!(reference(meta), "forged");
    assert!(!meta.has("phx_ref_prev"), "{meta}");
}

async fn replaced(door: Door) {
    let topic = format!("realtime:replaced {:?}", door.vsn);
    let (mut b, _) = member(&door, &topic, &listening()).await;
    let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
    assert_eq!(state(&mut a, &channel).await, json!({}));
    track(&mut a, &channel, &json!({"n": 1})).await;
    let joined = diff(&mut b, &topic).await;
    let (second, _) = a.join(&topic, &present(&json!("k"))).await;
    assert_eq!(diff(&mut b, &topic).await.at("leaves"), joined.at("joins"));
    assert_eq!(state(&mut a, &second).await, json!({}), "the new join does not find its own ghost");
    track(&mut a, &second, &json!({"n": 2})).await;
    let meta_now = diff(&mut b, &topic).await;
    assert_eq!(*meta(meta_now.at("joins"), "k").at("n"), json!(2));
}

async fn sixth(door: Door) {
    let topic = format!("realtime:sixth {:?}", door.vsn);
    let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
    let (mut b, other) = member(&door, &topic, &present(&json!("b"))).await;
    for n in 0..5 {
        track(&mut a, &channel, &json!({"n": n})).await;
    }
    a.push_on(&channel, "presence", &json!({"event": "track", "payload": {"n": 5}})).await;
    closes_with(&mut a, &channel, "Client presence rate limit exceeded").await;
    track(&mut b, &other, &json!({"n": "others are untouched"})).await;
    a.join(&topic, &present(&json!("k"))).await;
}

async fn silent_end(door: Door) {
    let topic = format!("realtime:end {:?}", door.vsn);
    let (mut a, channel) = member(&door, &topic, &present(&json!("k"))).await;
    let (mut b, _) = member(&door, &topic, &listening()).await;
    for n in 0..6 {
        a.push_on(&channel, "presence", &json!({"event": "track", "payload": {"n": n}})).await;
    }
    a.expect("phx_close", |m| m.is(&topic, "phx_close")).await;
    a.drain();
    while diff(&mut b, &topic).await.at("joins").keys() == ["k"] {}
    hears_nothing(&mut a, "its channel has ended").await;
}
