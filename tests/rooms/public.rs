//! Public channels: joins, broadcasts, presence, and every way in which a membership ends.

use super::speaker::{KEYS, Speaker, World};
use serde_json::{Value, json};
use walcast::{
    doors::phoenix::V2,
    protocol::{Codec, StoredBroadcast},
    session::{Counted, Effect, Input, JoinId},
};

const ROOM: &str = "realtime:room";

fn joined(world: &World, connection: u64, config: Value) -> Speaker {
    let mut speaker = world.v2(connection);
    speaker.join("1", ROOM, config);
    assert_eq!(speaker.messages()[0].reply().0, "ok");
    speaker
}

fn everything() -> Value {
    json!({"broadcast": {"self": true, "ack": true}, "presence": {"enabled": true, "key": "k"}})
}

#[test]
fn a_broadcast_goes_to_the_others_and_to_oneself_only_when_asked_with_the_acknowledgement_behind_it() {
    let world = World::new();
    let (mut ann, mut ben) = (joined(&world, 1, json!({})), joined(&world, 2, everything()));
    let mut cyd = world.v1(3);
    cyd.join("1", ROOM, json!({}));
    cyd.messages();
    ben.messages();
    ann.broadcast("2", ROOM, json!({"event": "e", "payload": 1}));
    assert_eq!(ann.summary(), [""; 0]);
    assert_eq!(ben.summary(), ["broadcast 1"]);
    assert_eq!(cyd.summary(), ["broadcast 1"]);
    ben.broadcast("3", ROOM, json!({"event": "e", "payload": 2}));
    assert_eq!(ben.summary(), ["broadcast 2", "ok 3"]);
    assert_eq!(ann.summary(), ["broadcast 2"]);
    // A stale or missing join_ref, and a topic that was not joined.
    ben.say(json!(["gone", "4", ROOM, "broadcast", {"payload": 3}]));
    ben.say(json!([null, null, ROOM, "broadcast", {"payload": 4}]));
    ben.say(json!(["1", "5", "realtime:other", "broadcast", {"payload": 5}]));
    assert_eq!(ben.summary(), ["broadcast 3", "ok 4", "broadcast 4", "ok null", "error 5"]);
    assert_eq!(ann.summary(), ["broadcast 3", "broadcast 4"]);
}

#[test]
fn a_broadcast_that_is_no_object_or_to_be_stored_is_not_sent() {
    let world = World::new();
    let (mut ann, mut ben) = (joined(&world, 1, everything()), joined(&world, 2, json!({})));
    ann.messages();
    ann.say(json!(["1", "2", ROOM, "broadcast", "text"]));
    assert!(matches!(ann.effects.pop_front(), Some(Effect::Count(Counted::Malformed, 1))));
    let mut frame = vec![3, 1, 1, 13, 1, 16, 1];
    frame.extend_from_slice(b"13realtime:roome{\"persist\":true}{}");
    let push = V2.decode_binary(&frame).unwrap();
    ann.push(push.clone());
    let messages = ann.messages();
    assert_eq!(messages[0].reply().0, "error");
    assert!(messages[0].reply().1["error"].is_string());
    assert_eq!(ben.summary(), [""; 0]);
    // Who wants no acknowledgement is not told, so the message goes its way.
    ben.push(push);
    assert_eq!(ann.summary(), ["broadcast {}"]);
}

#[test]
fn a_join_is_greeted_with_its_reply_the_close_of_the_one_before_and_the_state() {
    let world = World::new();
    let mut ann = joined(&world, 1, everything());
    assert_eq!(ann.summary(), [""; 0], "the state was read with the reply");
    ann.track("2", ROOM, json!({"a": 1}));
    assert_eq!(ann.summary(), ["ok 2", "presence_diff"]);
    let mut ben = world.v2(2);
    ben.join("1", ROOM, everything());
    let state = &ben.messages()[1];
    assert_eq!((state.event.as_str(), &state.join_ref), ("presence_state", &json!("1")));
    assert_eq!(state.payload["k"]["metas"][0]["a"], 1);
    // The rejoin takes the presence with it, and the new one stays.
    ann.join("7", ROOM, everything());
    let messages = ann.messages();
    let events: Vec<_> = messages.iter().map(|message| (message.event.as_str(), &message.reference)).collect();
    assert_eq!(events, [("phx_reply", &json!("7")), ("phx_close", &json!("1")), ("presence_state", &Value::Null)]);
    assert_eq!(messages[2].payload, json!({}));
    ann.track("8", ROOM, json!({"a": 2}));
    assert_eq!(ann.summary(), ["ok 8", "presence_diff"]);
    let leaves_and_joins: Vec<_> = ben.messages().into_iter().map(|message| message.payload).collect();
    assert_eq!(leaves_and_joins[0]["leaves"]["k"]["metas"][0]["a"], 1);
    assert_eq!(leaves_and_joins[1]["joins"]["k"]["metas"][0]["a"], 2);
    assert_eq!(world.rooms.counts().members, 2);
}

#[test]
fn presence_pushes_are_answered_as_the_table_says() {
    let world = World::new();
    let mut ann = joined(&world, 1, json!({"presence": {"key": 42}}));
    let mut ask = |payload: Value| {
        ann.say(json!(["1", "2", ROOM, "presence", payload]));
        let messages = ann.messages();
        let (status, response) = messages[0].reply();
        (format!("{status} {response}"), messages.get(1).map(|message| message.payload.clone()))
    };
    assert_eq!(ask(json!({})), ("ok {}".to_owned(), None));
    assert_eq!(ask(json!({"event": "dance"})), ("error {}".to_owned(), None));
    assert_eq!(ask(json!({"event": 5})), ("error {}".to_owned(), None));
    assert_eq!(ask(json!({"event": "UNTRACK"})), ("ok {}".to_owned(), None));
    let reason = r#"error {"reason":"Presence track payload must be a map"}"#;
    assert_eq!(ask(json!({"event": "track", "payload": "x"})), (reason.to_owned(), None));
    let (reply, diff) = ask(json!({"event": "TRACK", "payload": {"a": 1}}));
    let first = &diff.unwrap()["joins"]["42"]["metas"][0]["phx_ref"].clone();
    assert_eq!(reply, "ok {}");
    assert_eq!(ask(json!({"event": "track", "payload": {"a": 1}})), ("ok {}".to_owned(), None));
    let diff = ask(json!({"event": "track"})).1.unwrap();
    assert_eq!(diff["joins"]["42"]["metas"][0]["phx_ref_prev"], *first);
    assert_eq!(diff["leaves"]["42"]["metas"][0]["phx_ref"], *first);
    let diff = ask(json!({"event": "Untrack", "payload": {}})).1.unwrap();
    assert_eq!((&diff["joins"], diff["leaves"]["42"]["metas"].as_array().unwrap().len()), (&json!({}), 1));
}

#[test]
fn no_ghost_stays_however_a_membership_ends() {
    let world = World::new();
    let mut ben = joined(&world, 99, everything());
    ben.messages();
    let endings: [fn(Speaker); 5] = [
        |mut speaker| {
            speaker.say(json!(["1", "9", ROOM, "phx_leave", {}]));
            assert_eq!(speaker.summary(), ["ok 9", "phx_close"]);
            speaker.session.end();
        },
        |mut speaker| {
            speaker.token(ROOM, "no key");
            assert_eq!(speaker.summary().pop().as_deref(), Some("phx_close"));
        },
        |mut speaker| {
            speaker.session.end();
        },
        drop,
        |speaker| {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _speaker = speaker;
                std::panic::resume_unwind(Box::new("the connection's task"));
            }));
            assert!(panicked.is_err());
        },
    ];
    for (number, end) in endings.into_iter().enumerate() {
        let mut ann = joined(&world, number as u64, everything());
        ann.track("2", ROOM, json!({}));
        ann.messages();
        ben.messages();
        end(ann);
        let diff = ben.messages().pop().expect("a difference");
        assert_eq!(diff.payload["leaves"]["k"]["metas"].as_array().map(Vec::len), Some(1), "ending {number}");
        assert_eq!((world.rooms.counts().members, world.rooms.counts().present), (1, 0), "ending {number}");
    }
}

#[test]
fn a_join_that_waits_for_its_subscription_hears_the_room_only_behind_its_reply() {
    let world = World::new();
    let mut ann = world.v2(1);
    let config = json!({
        "presence": {"enabled": true},
        "postgres_changes": [{"event": "*", "schema": "public", "table": "t"}],
        "postgres_changes_options": {"wait": true}
    });
    ann.join("1", ROOM, config);
    let Some(Effect::Subscribe(wish)) = ann.effects.pop_front() else { panic!("no subscription") };
    let mut ben = joined(&world, 2, json!({}));
    ben.broadcast("2", ROOM, json!({"payload": 1}));
    ben.track("3", ROOM, json!({}));
    assert_eq!(ann.summary(), [""; 0]);
    // What the router does.
    wish.member.deliver(wish.held_reply.unwrap().0);
    ann.hear(Input::Subscribed { join: wish.join, refusal: None });
    assert_eq!(ann.summary(), ["ok 1", "presence_state", "broadcast 1"]);
    ann.hear(Input::Subscribed { join: wish.join, refusal: None });
    assert_eq!(ann.summary(), [""; 0], "once is enough");
}

#[test]
fn replay_is_not_for_public_channels() {
    let world = World::new();
    let mut ann = world.v2(1);
    ann.join("1", ROOM, json!({"broadcast": {"replay": null}}));
    assert_eq!(ann.refusal(), "UnableToReplayMessages: Replay is not allowed for public channels");
    ann.hear(Input::Replayed { join: JoinId(0), outcome: Ok(Vec::<StoredBroadcast>::new()) });
    assert_eq!(ann.summary(), [""; 0]);
    assert_eq!(world.rooms.counts().rooms, 0);
}

#[test]
fn the_stream_is_told_of_when_it_is_up_and_the_channel_closed_when_it_is_not() {
    let world = World::new();
    let mut ann = joined(&world, 1, json!({"broadcast": {"replication_ready": true}}));
    let Some(Effect::AwaitStream(join)) = ann.effects.pop_front() else { panic!("nobody waits for the stream") };
    ann.hear(Input::Stream { join, is_up: true });
    assert_eq!(ann.summary(), ["system Replication connection established"]);
    ann.hear(Input::Stream { join, is_up: false });
    assert_eq!(ann.summary(), ["system Replication connection was not established in time", "phx_close"]);
    ann.hear(Input::Stream { join, is_up: true });
    assert_eq!(ann.summary(), [""; 0]);
}

#[test]
fn version_1_is_not_told_of_the_close_of_a_join_that_was_replaced() {
    let world = World::new();
    let mut ann = world.v1(1);
    assert!(ann.is_v1());
    ann.join("1", ROOM, json!({}));
    ann.join("2", ROOM, json!({}));
    assert_eq!(ann.summary(), ["ok 1", "ok 2"]);
    assert_eq!(world.rooms.counts().members, 1);
}

#[test]
fn a_token_of_a_public_channel_is_only_verified() {
    let world = World::new();
    let mut ann = joined(&world, 1, json!({}));
    ann.token(ROOM, KEYS[1]);
    assert!(ann.effects.is_empty());
    assert_eq!(ann.summary(), [""; 0]);
}
