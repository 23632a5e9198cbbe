//! What limits forbid, and in which words.

use super::speaker::{Speaker, World};
use serde_json::json;
use walcast::{
    doors::phoenix::{V1, V2},
    limits::{ClientPresence, Limits},
    protocol::{Codec, refusal::Disconnect},
    session::Effect,
};

const ROOM: &str = "realtime:room";

fn limited(speaker: &mut Speaker) -> Option<&'static str> {
    std::iter::from_fn(|| speaker.effects.pop_front()).find_map(|effect| match effect {
        Effect::Limited(setting) => Some(setting),
        _ => None,
    })
}

#[test]
fn joins_are_refused_by_limits_in_their_words() {
    let refused = |limits: Limits| {
        let mut ann = World::with(limits).v2(1);
        ann.join("1", ROOM, json!({}));
        ann.refusal()
    };
    let text = refused(Limits { private_only: true, ..Limits::default() });
    assert_eq!(text, "PrivateOnly: This project only allows private channels");
    let text = refused(Limits { suspend: true, ..Limits::default() });
    assert_eq!(text, "RealtimeDisabledForTenant: Realtime disabled for this tenant");
    let text = refused(Limits { max_concurrent_users: Some(0), ..Limits::default() });
    assert_eq!(text, "ConnectionRateLimitReached: Too many connected users");
    let text = refused(Limits { max_channels_per_client: 0, ..Limits::default() });
    assert_eq!(text, "ChannelRateLimitReached: Too many channels");
    let mut ann = World::with(Limits { private_only: true, ..Limits::default() }).v2(1);
    ann.join("1", ROOM, json!({"private": true}));
    ann.question();
}

#[test]
fn nobody_can_have_long_names_and_references_kept_for_him() {
    let huge = "x".repeat(20_000);
    let mut frames = vec![json!(["1", "1", huge, "e", {}]), json!(["1", "1", ROOM, huge, {}])];
    for reference in [json!(huge), json!(vec![json!([]); 1000])] {
        frames.extend([json!([reference, "1", ROOM, "e", {}]), json!(["1", reference, ROOM, "e", {}])]);
    }
    for frame in frames {
        assert!(V2.decode_text(&frame.to_string()).is_err());
        let [join_ref, reference, topic, event, payload] = frame.as_array().unwrap().as_slice() else { panic!("five") };
        let frame = json!({"join_ref": join_ref, "ref": reference, "topic": topic, "event": event, "payload": payload});
        assert!(V1.decode_text(&frame.to_string()).is_err());
    }
    let mut ann = World::new().v2(1);
    ann.join("1", ROOM, json!({"presence": {"key": huge}}));
    assert_eq!(ann.refusal(), "InvalidJoinPayload: `presence.key` is too long");

    // What waits for an answer counts with its names.
    ann.join("2", ROOM, json!({"private": true}));
    let (topic, event) = (ROOM, "e".repeat(10_000));
    let held = (0..2000).take_while(|_| {
        ann.say(json!(["2", "1", topic, event, {}]));
        ann.session.takes_more()
    });
    assert!(held.count() < 150);
}

#[test]
fn a_join_over_the_rate_ends_the_connection_behind_its_refusal() {
    let world = World::with(Limits { max_joins_per_second: Some(0), ..Limits::default() });
    let mut ann = world.v2(1);
    ann.join("1", ROOM, json!({}));
    let then = ann.effects.iter().find_map(|effect| match effect {
        Effect::SendLater { then, .. } => *then,
        _ => None,
    });
    assert_eq!(then, Some(Disconnect::Joins));
    assert_eq!(Disconnect::Joins.code(), 1001);
    assert_eq!(ann.refusal(), "ClientJoinRateLimitReached: Too many joins per second");
}

#[test]
fn a_socket_is_a_user_from_its_first_channel_to_its_last() {
    let world = World::with(Limits { max_concurrent_users: Some(1), ..Limits::default() });
    let (mut ann, mut ben) = (world.v2(1), world.v2(2));
    ann.join("1", ROOM, json!({}));
    ann.join("2", "realtime:other", json!({}));
    ben.join("1", ROOM, json!({}));
    assert_eq!(ben.refusal(), "ConnectionRateLimitReached: Too many connected users");
    ann.say(json!(["1", "3", ROOM, "phx_leave", {}]));
    assert!(world.meters.is_full_of_users());
    ann.say(json!(["2", "4", "realtime:other", "phx_leave", {}]));
    assert!(!world.meters.is_full_of_users());
    ben.join("2", ROOM, json!({}));
    assert!(world.meters.is_full_of_users());
    drop(ben);
    assert!(!world.meters.is_full_of_users());
    ann.session.end();
    ann.join("5", ROOM, json!({}));
    assert!(world.meters.is_full_of_users(), "it ended once, and was counted once");
}

#[test]
fn a_broadcast_over_the_size_limit_is_dropped_and_said_to_who_wants_an_acknowledgement() {
    let world = World::with(Limits { max_payload_size_in_kb: 1, ..Limits::default() });
    let (mut ann, mut ben) = (world.v2(1), world.v2(2));
    ann.join("1", ROOM, json!({"broadcast": {"ack": true}}));
    ben.join("1", ROOM, json!({}));
    ann.messages();
    ben.messages();
    let sized = |bytes: usize| json!({"p": "x".repeat(bytes - r#"{"p":""}"#.len())});
    ann.broadcast("2", ROOM, sized(1500));
    assert_eq!(ann.summary(), ["ok 2"]);
    ann.effects.clear();
    ann.broadcast("3", ROOM, sized(1501));
    let messages = ann.messages();
    assert_eq!(messages[0].reply(), ("error", &json!("payload_size_exceeded")));
    assert_eq!(limited(&mut ann), Some("max_payload_size_in_kb"));
    assert_eq!(ben.messages().len(), 1);
    ben.broadcast("2", ROOM, sized(1501));
    assert!(ben.messages().is_empty() && ann.messages().is_empty());
    ann.track("4", ROOM, sized(1600));
    assert_eq!(ann.summary(), ["system Track message size exceeded", "phx_close"]);
}

#[test]
fn one_connection_tracks_so_much_in_all_of_its_channels_and_no_more() {
    let mut ann = World::new().v2(1);
    let large = json!({"p": "x".repeat(2_900_000)});
    for (number, answer) in [(1, "ok 2"), (2, "ok 2"), (3, "error 2"), (2, "ok 2")] {
        let topic = format!("realtime:{number}");
        ann.join("1", &topic, json!({}));
        ann.messages();
        ann.track("2", &topic, large.clone());
        assert_eq!(ann.summary()[0], answer, "{topic}");
    }
    // What is not tracked any more counts no more.
    ann.say(json!(["1", "3", "realtime:1", "presence", {"event": "untrack"}]));
    ann.messages();
    ann.track("4", "realtime:3", large);
    assert_eq!(ann.summary()[0], "ok 4");
}

#[test]
fn the_presence_window_slides_and_is_each_channels_own() {
    let client_presence = Some(ClientPresence { max_calls: 5, window_ms: 30_000 });
    let world = World::with(Limits { client_presence, ..Limits::default() });
    let mut ann = world.v2(1);
    ann.join("1", ROOM, json!({}));
    ann.join("1", "realtime:other", json!({}));
    ann.messages();
    for second in 0..20 {
        ann.now = 1000 + second * 6;
        ann.say(json!(["1", "2", ROOM, "presence", {"event": "untrack"}]));
        assert_eq!(ann.summary(), ["ok 2"], "five in any 30 s");
    }
    ann.say(json!(["1", "2", "realtime:other", "presence", {"event": "untrack"}]));
    assert_eq!(ann.summary(), ["ok 2"]);
    ann.say(json!(["1", "3", ROOM, "presence", {"event": "untrack"}]));
    assert_eq!(ann.summary(), ["system Client presence rate limit exceeded", "phx_close"]);
    assert_eq!(limited(&mut ann), Some("max_client_presence_events_per_window"));
    ann.say(json!(["1", "4", "realtime:other", "presence", {}]));
    assert_eq!(ann.summary(), ["ok 4"]);
}

#[test]
fn presence_is_on_for_everybody_when_the_server_says_so() {
    let world = World::with(Limits { presence_enabled: true, ..Limits::default() });
    let mut ann = world.v2(1);
    ann.join("1", ROOM, json!({}));
    assert_eq!(ann.summary(), ["ok 1", "presence_state"]);
}
