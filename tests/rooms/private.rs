//! Private channels: what is asked, what waits for the answer, and which answers count.

use super::speaker::{ALL, KEYS, NOTHING, Speaker, World};
use serde_json::{Value, json};
use uuid::Uuid;
use walcast::{
    hub::{Publication, RoomName},
    policy::topic::{
        ChannelAccess::{Read, Write},
        Granted, RightsError,
    },
    protocol::{Broadcast, Content, StoredBroadcast, UserBroadcast},
    session::{Effect, Input},
};

const ROOM: &str = "realtime:room:1";
const BROADCAST: Result<Granted, RightsError> = Ok(Granted { broadcast: true, presence: false });
const PRESENCE: Result<Granted, RightsError> = Ok(Granted { broadcast: false, presence: true });
const NO_RIGHT: &str = "You do not have permissions to read from this Channel topic: room:1";

fn config() -> Value {
    json!({"private": true, "broadcast": {"self": true, "ack": true}, "presence": {"enabled": true, "key": "k"}})
}

fn joined(world: &World, connection: u64) -> Speaker {
    let mut speaker = world.v2(connection);
    speaker.join("1", ROOM, config());
    speaker.answer(Read, ALL);
    assert_eq!(speaker.summary(), ["ok 1", "presence_state"]);
    speaker
}

#[test]
fn a_join_is_what_its_rights_to_read_say() {
    let without_presence = || json!({"private": true});
    let unavailable = "Realtime was unable to connect to the project database";
    let cases = [
        (config(), ALL, None),
        (config(), BROADCAST, None),
        (config(), PRESENCE, None),
        (without_presence(), BROADCAST, None),
        (without_presence(), PRESENCE, Some(format!("Unauthorized: {NO_RIGHT}"))),
        (config(), NOTHING, Some(format!("Unauthorized: {NO_RIGHT}"))),
        (config(), Err(RightsError::Unavailable), Some(unavailable.to_owned())),
        (
            config(),
            Err(RightsError::Canceled),
            Some("QueryCanceled: canceling statement due to statement timeout".to_owned()),
        ),
    ];
    for (config, outcome, refused) in cases {
        let world = World::new();
        let mut ann = world.v2(1);
        ann.join("1", ROOM, config);
        assert_eq!(ann.summary(), [""; 0], "nothing is said before the answer");
        assert_eq!(world.rooms.counts().members, 0, "nobody is in the room before the answer");
        let question = ann.question();
        assert_eq!((&*question.user.topic, &*question.user.claims.role), ("room:1", "authenticated"));
        ann.hear(Input::Authorized { question: question.number, outcome: outcome.clone() });
        assert_eq!(world.rooms.counts().members, usize::from(refused.is_none()), "{outcome:?}");
        match refused {
            None => assert_eq!(ann.messages()[0].reply().0, "ok"),
            Some(text) => {
                assert_eq!(ann.refusal(), text);
                assert_eq!(ann.summary(), [""; 0]);
                ann.say(json!(["1", "2", ROOM, "broadcast", {}]));
                assert_eq!(ann.summary(), ["error 2"], "not joined");
            }
        }
    }
}

#[test]
fn what_may_be_read_is_what_is_heard() {
    let world = World::new();
    let (mut ann, mut ben, mut cyd) = (joined(&world, 1), world.v2(2), world.v2(3));
    for (speaker, granted) in [(&mut ben, BROADCAST), (&mut cyd, PRESENCE)] {
        speaker.join("1", ROOM, config());
        speaker.answer(Read, granted);
    }
    assert_eq!(ben.summary(), ["ok 1"]);
    assert_eq!(cyd.summary(), ["ok 1", "presence_state"]);
    ann.broadcast("2", ROOM, json!({"payload": 1}));
    ann.answer(Write, ALL);
    ann.track("3", ROOM, json!({}));
    assert_eq!(ann.summary(), ["broadcast 1", "ok 2", "ok 3", "presence_diff"]);
    assert_eq!(ben.summary(), ["broadcast 1"]);
    assert_eq!(cyd.summary(), ["presence_diff"]);
}

#[test]
fn the_public_room_of_a_topic_is_another_one() {
    let world = World::new();
    let (mut ann, mut ben) = (joined(&world, 1), world.v2(2));
    ben.join("1", ROOM, json!({"presence": {"enabled": true}}));
    ben.messages();
    ann.broadcast("2", ROOM, json!({"payload": 1}));
    ann.answer(Write, ALL);
    ann.track("3", ROOM, json!({}));
    assert_eq!(ben.summary(), [""; 0]);
    ben.broadcast("2", ROOM, json!({"payload": 2}));
    assert_eq!(ann.summary(), ["broadcast 1", "ok 2", "ok 3", "presence_diff"]);
}

#[test]
fn the_right_to_write_is_asked_at_the_first_word_and_what_is_said_meanwhile_waits_in_its_order() {
    let world = World::new();
    let mut ann = joined(&world, 1);
    for number in 0..3 {
        ann.broadcast("b", ROOM, json!({"payload": number}));
    }
    ann.track("p", ROOM, json!({"a": 1}));
    ann.say(json!([null, "h", "phoenix", "heartbeat", {}]));
    assert_eq!(ann.summary(), ["ok h"], "only this channel waits");
    ann.answer(Write, ALL);
    let expected = ["broadcast 0", "ok b", "broadcast 1", "ok b", "broadcast 2", "ok b", "ok p", "presence_diff"];
    assert_eq!(ann.summary(), expected);
    ann.broadcast("c", ROOM, json!({"payload": 3}));
    assert_eq!(ann.summary(), ["broadcast 3", "ok c"], "it is asked once");
}

#[test]
fn what_may_not_be_written_is_dropped_without_a_word_and_not_tracked() {
    let world = World::new();
    let (mut ann, mut ben) = (joined(&world, 1), joined(&world, 2));
    ann.broadcast("2", ROOM, json!({"payload": 1}));
    ann.answer(Write, NOTHING);
    ann.track("3", ROOM, json!({}));
    ann.say(json!(["1", "4", ROOM, "presence", {"event": "untrack"}]));
    assert_eq!(ann.summary(), ["error 3", "ok 4"]);
    assert_eq!(ben.summary(), [""; 0]);
    // When nobody can say, it is the same, and the next word asks again.
    let mut cyd = joined(&world, 3);
    cyd.broadcast("2", ROOM, json!({"payload": 1}));
    cyd.track("3", ROOM, json!({}));
    cyd.answer(Write, Err(RightsError::Unavailable));
    assert_eq!(cyd.summary(), ["error 3"]);
    cyd.broadcast("4", ROOM, json!({"payload": 2}));
    cyd.answer(Write, ALL);
    assert_eq!(cyd.summary(), ["broadcast 2", "ok 4"]);
    assert_eq!(ben.summary(), ["broadcast 2"]);
}

#[test]
fn pushes_wait_for_the_join_too_and_leaving_or_joining_anew_forgets_them() {
    let world = World::new();
    let (mut ann, mut ben) = (world.v2(1), joined(&world, 2));
    ann.join("1", ROOM, config());
    let first = ann.question();
    ann.broadcast("2", ROOM, json!({"payload": 1}));
    ann.join("5", ROOM, config());
    let second = ann.question();
    ann.broadcast("6", ROOM, json!({"payload": 2}));
    // The answer to the join before counts for nothing, whatever it says.
    ann.hear(Input::Authorized { question: first.number, outcome: ALL });
    assert_eq!((world.rooms.counts().members, ann.effects.len()), (1, 0));
    assert_eq!(ann.summary(), [""; 0]);
    ann.hear(Input::Authorized { question: second.number, outcome: ALL });
    assert_eq!(ann.summary(), ["ok 5", "phx_close", "presence_state"]);
    ann.say(json!(["5", "7", ROOM, "phx_leave", {}]));
    assert_eq!(ann.summary(), ["ok 7", "phx_close"]);
    let write = ann.question();
    ann.hear(Input::Authorized { question: write.number, outcome: ALL });
    assert_eq!((ann.summary(), ben.summary()), (vec![], vec!["broadcast 2".to_owned()]), "said before it left");
    assert_eq!(world.rooms.counts().members, 1);
}

#[test]
fn leaving_while_the_join_is_asked_about_ends_it() {
    let world = World::new();
    let mut ann = world.v2(1);
    ann.join("1", ROOM, config());
    let question = ann.question();
    ann.say(json!(["1", "2", ROOM, "phx_leave", {}]));
    ann.hear(Input::Authorized { question: question.number, outcome: ALL });
    assert_eq!(ann.summary(), ["ok 2", "phx_close"]);
    assert_eq!(world.rooms.counts().rooms, 0);
}

#[test]
fn a_new_token_is_asked_about_and_what_is_lost_closes_the_channel() {
    let cases = [
        (ALL, NOTHING, Some(NO_RIGHT)),
        (ALL, BROADCAST, Some("You no longer have permission to read from this Channel topic: room:1")),
        (ALL, PRESENCE, Some("You no longer have permission to read from this Channel topic: room:1")),
        (ALL, Err(RightsError::Unavailable), Some("Realtime was unable to connect to the project database")),
        (ALL, Err(RightsError::Canceled), Some("Query was cancelled, please try again")),
        (ALL, ALL, None),
        (BROADCAST, ALL, None),
    ];
    for (before, after, closed) in cases {
        let world = World::new();
        let mut ann = world.v2(1);
        ann.join("1", ROOM, config());
        ann.answer(Read, before.clone());
        ann.messages();
        ann.token(ROOM, KEYS[1]);
        assert_eq!(ann.summary(), [""; 0]);
        ann.answer(Read, after);
        let expected = match closed {
            Some(text) => vec![format!("system {text}"), "phx_close".to_owned()],
            // Who may see others only now has no state yet.
            None if before == BROADCAST => vec!["presence_state".to_owned()],
            None => vec![],
        };
        assert_eq!(ann.summary(), expected);
        assert_eq!(world.rooms.counts().members, usize::from(closed.is_none()));
    }
}

#[test]
fn every_push_is_judged_by_the_token_it_came_under() {
    let world = World::new();
    let (mut ann, mut ben) = (joined(&world, 1), joined(&world, 2));
    ann.broadcast("2", ROOM, json!({"payload": "under the first"}));
    ann.token(ROOM, KEYS[1]);
    ann.broadcast("3", ROOM, json!({"payload": "under the second"}));
    ann.token(ROOM, KEYS[2]);
    ann.answer(Write, ALL);
    assert_eq!(ben.summary(), ["broadcast under the first"]);
    let refresh = ann.question();
    assert_eq!(refresh.access, Read);
    ann.hear(Input::Authorized { question: refresh.number, outcome: ALL });
    // Rights to write are those of the token, so they are asked again.
    ann.answer(Write, NOTHING);
    assert_eq!(ben.summary(), [""; 0]);
    ann.answer(Read, ALL);
    ann.broadcast("4", ROOM, json!({"payload": "under the third"}));
    ann.answer(Write, ALL);
    assert_eq!(ben.summary(), ["broadcast under the third"]);
    // An answer that comes twice, or late, is nobody's.
    ann.hear(Input::Authorized { question: refresh.number, outcome: NOTHING });
    assert_eq!(world.rooms.counts().members, 2);
}

#[test]
fn a_client_that_says_too_much_before_the_answer_is_read_no_further_and_loses_nothing() {
    let world = World::new();
    let (mut ann, mut ben) = (joined(&world, 1), joined(&world, 2));
    let mut said = 0;
    while ann.session.takes_more() {
        ann.broadcast("2", ROOM, json!({"payload": said, "x": "x".repeat(1000)}));
        said += 1;
    }
    assert!((500..1100).contains(&said), "{said}");
    ann.answer(Write, ALL);
    assert!(ann.session.takes_more());
    let expected: Vec<_> = (0..said).map(|number| format!("broadcast {number}")).collect();
    assert_eq!(ben.summary(), expected);
    // What a channel that ends had held is not counted on.
    ann.token(ROOM, KEYS[1]);
    while ann.session.takes_more() {
        ann.broadcast("2", ROOM, json!({"x": "x".repeat(1000)}));
    }
    ann.say(json!(["1", "3", ROOM, "phx_leave", {}]));
    assert!(ann.session.takes_more());
}

#[test]
fn missed_messages_come_behind_the_state_and_none_twice() {
    let world = World::new();
    let mut ann = world.v2(1);
    let mut config = config();
    config["broadcast"]["replay"] = json!({"since": 1000, "limit": 2});
    ann.join("1", ROOM, config.clone());
    ann.answer(Read, ALL);
    let Some(Effect::Replay(wish)) = ann.effects.pop_front() else { panic!("no replay") };
    assert_eq!((wish.since, wish.limit, &*wish.user.topic), (1000, 2, "room:1"));
    ann.broadcast("2", ROOM, json!({"payload": "own"}));
    let stored = |number: u128, content| StoredBroadcast {
        id: Uuid::from_u128(number),
        message: UserBroadcast { event: "e".to_owned(), content, meta: None },
    };
    let name = RoomName { topic: ROOM.into(), is_private: true };
    let publish = |stored: &StoredBroadcast| {
        let broadcast = Broadcast::User(stored.message.clone());
        world.rooms.publish(&name, &Publication { broadcast: &broadcast, id: Some(stored.id), except: None });
    };
    let (first, bytes) = (stored(1, Content::Json("1".into())), stored(2, Content::Binary("ab".into())));
    let live = stored(3, Content::Json("3".into()));
    publish(&first);
    publish(&live);
    assert_eq!(ann.summary(), [""; 0]);
    ann.hear(Input::Replayed { join: wish.join, outcome: Ok(vec![first, bytes.clone()]) });
    publish(&bytes);
    let messages = ann.messages();
    let meta = |number: u128| json!({"replayed": true, "id": Uuid::from_u128(number).to_string()});
    assert_eq!(messages[0].reply().0, "ok");
    assert_eq!(messages[1].event, "presence_state");
    assert_eq!((&messages[2].join_ref, &messages[2].payload["meta"]), (&json!("1"), &meta(1)));
    assert_eq!((&messages[3].payload["payload"], &messages[3].payload["meta"]), (&json!([97, 98]), &meta(2)));
    assert_eq!(messages[4].payload["payload"], 3);
    assert_eq!(messages.len(), 5, "the live copies of the first two do not come");
    ann.answer(Write, ALL);
    assert_eq!(ann.summary(), ["broadcast own", "ok 2"]);

    // Version 1 has no form for bytes; who may not hear has missed nothing; what fails is a refused join.
    let mut ben = world.v1(2);
    ben.join("1", ROOM, config.clone());
    ben.answer(Read, ALL);
    let Some(Effect::Replay(wish)) = ben.effects.pop_front() else { panic!("no replay") };
    ben.hear(Input::Replayed { join: wish.join, outcome: Ok(vec![bytes]) });
    assert_eq!(ben.summary(), ["ok 1", "presence_state"]);
    let mut cyd = world.v2(3);
    cyd.join("1", ROOM, config.clone());
    cyd.answer(Read, PRESENCE);
    assert_eq!(cyd.summary(), ["ok 1", "presence_state"]);
    cyd.join("2", ROOM, config.clone());
    cyd.answer(Read, ALL);
    let Some(Effect::Replay(wish)) = cyd.effects.pop_front() else { panic!("no replay") };
    cyd.hear(Input::Replayed { join: wish.join, outcome: Err(()) });
    assert_eq!(cyd.refusal(), "UnableToReplayMessages: Realtime was unable to replay messages");
    config["broadcast"]["replay"] = json!({"since": "yesterday"});
    cyd.join("3", ROOM, config);
    cyd.answer(Read, ALL);
    assert_eq!(cyd.refusal(), "UnableToReplayMessages: Replay params are not valid");
    assert_eq!(world.rooms.counts().members, 2);
}
