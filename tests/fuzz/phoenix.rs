//! What clients say: frames of both versions, and what a session makes of any push.

use super::{
    harness::{MEMORY, Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};
use walcast::{
    auth::{self, Verifier},
    doors::phoenix::{V1, V2},
    hub::{Rooms, outbox},
    limits::{Limits, Meters},
    policy::topic::{Granted, RightsError},
    protocol::{BadFrame, Codec, Content, Event, Frame, Payload, Push, Reply, StoredBroadcast, UserBroadcast},
    session::{self, Effect, Input, JoinId, Parts, Session},
};

const WORDS: &[&str] = &[
    "\"topic\"",
    "\"event\"",
    "\"payload\"",
    "\"ref\"",
    "\"join_ref\"",
    "\"phx_join\"",
    "\"phx_leave\"",
    "\"heartbeat\"",
    "\"phoenix\"",
    "\"realtime:r\"",
    "\"realtime:\"",
    "\"broadcast\"",
    "\"presence\"",
    "\"track\"",
    "\"untrack\"",
    "\"access_token\"",
    "\"user_token\"",
    "\"config\"",
    "\"private\"",
    "\"ack\"",
    "\"self\"",
    "\"replay\"",
    "\"since\"",
    "\"limit\"",
    "\"enabled\"",
    "\"key\"",
    "\"postgres_changes\"",
    "\"postgres_changes_options\"",
    "\"resume\"",
    "\"wait\"",
    "\"timeout\"",
    "\"visibility\"",
    "\"replication_ready\"",
    "\"schema\"",
    "\"table\"",
    "\"filter\"",
    "\"select\"",
    "\"*\"",
    "\"id=eq.1\"",
    "\"key\"",
    "\"sb_x\"",
    "\"persist\"",
    "\"type\"",
    "\"true\"",
];

/// Texts and bytes.
type Said = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// What clients of the replaced server sent, text and bytes, in the order of each recording.
fn said(version: &str) -> Vec<Said> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/recordings");
    let mut paths: Vec<_> =
        fs::read_dir(directory).expect("the recordings").map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(version));
    paths.sort();
    paths.iter().map(|path| said_in(&fs::read_to_string(path).expect("a text"))).collect()
}

fn said_in(text: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut texts, mut binaries) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let Some(frame) = line["frame"].as_str().filter(|_| line["dir"] == "c2s") else { continue };
        match line["opcode"].as_str() {
            Some("binary") => binaries.push(STANDARD.decode(frame).expect("base64")),
            // Long texts are long for a limit, and of no use here.
            _ => texts.push(frame.replace("{{jwt:", "").chars().take(3000).collect::<String>().into_bytes()),
        }
    }
    (texts, binaries)
}

fn texts(version: &str) -> Vec<Vec<u8>> {
    said(version).into_iter().flat_map(|(texts, _)| texts).collect()
}

#[test]
fn any_frame_of_version_1_is_a_push_or_refused() {
    fuzz(Target {
        name: "v1",
        seeds: texts(".v1.jsonl"),
        words: WORDS,
        memory: MEMORY,
        run: |input| decoded(&V1, input, false),
    });
}

#[test]
fn any_frame_of_version_2_is_a_push_or_refused() {
    fuzz(Target {
        name: "v2",
        seeds: texts(".v2.jsonl"),
        words: WORDS,
        memory: MEMORY,
        run: |input| decoded(&V2, input, false),
    });
}

#[test]
fn any_binary_frame_is_a_push_or_refused() {
    let mut seeds: Vec<Vec<u8>> = said(".v2.jsonl").into_iter().flat_map(|(_, binaries)| binaries).collect();
    seeds.push(b"\x00\x01\x01\x0a\x0812realtime:rphx_join{\"config\":{}}".to_vec());
    seeds.push(b"\x03\x01\x02\x0a\x05\x10\x01112realtime:rcolor{\"persist\":true}{\"a\":1}".to_vec());
    fuzz(Target { name: "binary", seeds, words: WORDS, memory: MEMORY, run: |input| decoded(&V2, input, true) });
}

fn decoded(codec: &dyn Codec, input: &[u8], is_binary: bool) -> Seen {
    let read = match std::str::from_utf8(input) {
        Ok(text) if !is_binary => codec.decode_text(text),
        _ => codec.decode_binary(input),
    };
    match read {
        Ok(push) => {
            written_back(codec, &push);
            said_again(codec, &push);
            let names = (kind(&push.join_ref), kind(&push.reference), kind(&push.topic), event_of(&push.event));
            seen((names, kind(push.payload.json()), std::mem::discriminant(&push.payload)))
        }
        Err(BadFrame(why)) => seen(why),
    }
}

fn event_of(event: &Value) -> Option<&'static str> {
    ["phx_join", "phx_leave", "heartbeat", "broadcast", "presence", "access_token"]
        .into_iter()
        .find(|known| event == known)
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(number) => 2 + u8::from(number.is_f64()),
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    }
}

/// A push that is written as version 2 writes is the same push again.
fn written_back(codec: &dyn Codec, push: &Push) {
    let payload = match &push.payload {
        Payload::Json(value) => value.to_string(),
        Payload::Broadcast(broadcast) => match broadcast.text() {
            Some(text) => text,
            None => return,
        },
        Payload::Stored(_) => return,
    };
    let Push { join_ref, reference, topic, event, .. } = push;
    let text = if codec.name() == V1.name() {
        format!(r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":{reference},"join_ref":{join_ref}}}"#)
    } else {
        format!("[{join_ref},{reference},{topic},{event},{payload}]")
    };
    let again = codec.decode_text(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    // A float may lose its last bit when it is read.
    let names = |push: &Push| [&push.join_ref, &push.reference, &push.topic, &push.event].map(without_floats);
    assert_eq!(names(&again), names(push));
    if let Payload::Json(value) = &push.payload {
        assert_eq!(without_floats(again.payload.json()), without_floats(value));
    }
}

fn without_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::from(0.5),
        Value::Array(items) => items.iter().map(without_floats).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), without_floats(value))).collect(),
        other => other.clone(),
    }
}

/// What answers and broadcasts become is JSON, or bytes of the known form.
fn said_again(codec: &dyn Codec, push: &Push) {
    let Push { join_ref, reference, topic, .. } = push;
    good(&codec.reply(&Reply { join_ref, reference, topic, is_ok: true, response: "{}" }));
    let name = topic.as_str().unwrap_or("realtime:r");
    good(&codec.event(&Event { join_ref, reference, topic: name, event: "system", payload: "{}" }));
    if let Payload::Broadcast(broadcast) | Payload::Stored(broadcast) = &push.payload {
        for codec in [&V1 as &dyn Codec, &V2] {
            codec.broadcast(name, broadcast).iter().for_each(good);
        }
    }
}

/// A frame that a client can read.
pub fn good(frame: &Frame) {
    match frame {
        Frame::Text(text) => {
            serde_json::from_str::<IgnoredAny>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
        Frame::Binary(bytes) => {
            let [4, topic, event, meta, 0 | 1, rest @ ..] = &bytes[..] else { panic!("kind 4: {bytes:?}") };
            let length = usize::from(*topic) + usize::from(*event) + usize::from(*meta);
            let names = rest.get(..length).expect("whole names");
            assert!(std::str::from_utf8(names).is_ok());
        }
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let api_keys = ["sb_x", "key"].map(|key| (key.to_owned(), "authenticated".to_owned())).to_vec();
    Verifier::new(&auth::Config { api_keys, ..auth::Config::default() })
});

#[test]
fn a_session_answers_any_pushes_with_frames_that_clients_can_read() {
    let mut seeds = Vec::new();
    for (version, codec) in [(".v1.jsonl", 1_u8), (".v2.jsonl", 2)] {
        for (texts, binaries) in said(version) {
            let frames: Vec<Vec<u8>> = texts.iter().chain(&binaries).map(|frame| with_keys(frame)).collect();
            seeds.extend(frames.chunks(8).map(|frames| joined([vec![codec]].iter().chain(frames))));
        }
    }
    fuzz(Target { name: "session", seeds, words: WORDS, memory: (8 << 20, 400), run: session });
}

/// The tokens of recordings are not known here; a key is.
fn with_keys(frame: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(frame) else { return frame.to_vec() };
    let words = text.split_inclusive(['"', '}']);
    words
        .map(|word| if word.starts_with("ey") || word.contains("}}") { "key\"" } else { word })
        .collect::<String>()
        .into()
}

/// The first record says which version and what else happens; every other is a frame.
fn session(input: &[u8]) -> Seen {
    let records = records(input);
    let (choice, frames) = records.split_first().expect("at least one");
    let choice = choice.first().copied().unwrap_or_default();
    let codec: &'static dyn Codec = if choice & 3 == 1 { &V1 } else { &V2 };
    let rooms = Rooms::default();
    let meters = Arc::new(Meters::new(Limits::default()));
    let (outbox, mut receiver) = outbox(200, 1 << 20);
    let mut session = Session::new(Parts {
        config: Arc::new(session::Config {
            max_bindings: 20,
            max_patterns: 3,
            join_error_delay: Duration::from_secs(5),
        }),
        verifier: VERIFIER.clone(),
        codec,
        outbox,
        rooms: rooms.clone(),
        meters: meters.clone(),
        connection: 1,
        key: "key".to_owned(),
        headers: "{}".into(),
    });
    let (mut shapes, mut now) = (Vec::new(), 1000);
    for (number, frame) in frames.iter().take(60).enumerate() {
        let read = match std::str::from_utf8(frame) {
            Ok(text) => codec.decode_text(text),
            Err(_) => codec.decode_binary(frame),
        };
        let Ok(push) = read else { continue };
        now += i64::from(choice >> 4) * 10;
        let mut open = session.handle(Input::Push(push), now);
        // What was asked for happens in another order than it was asked for, as it does.
        for answer in 0..40 {
            let Some(effect) = open.pop() else { break };
            shapes.push(effect_of(&effect));
            if let Some(input) = answered(effect, choice ^ u8::try_from(number + answer).unwrap_or(0)) {
                open.extend(session.handle(input, now));
            }
        }
        shapes.extend(std::iter::from_fn(|| receiver.receive_ready()).map(|frame| frame_of(&frame)));
    }
    session.handle(Input::Clock, now + 1_000_000).into_iter().for_each(|effect| {
        effect_of(&effect);
    });
    session.announce_stop().iter().for_each(good);
    drop(session);
    std::iter::from_fn(|| receiver.receive_ready()).for_each(|frame| good(&frame));
    assert_eq!((rooms.counts().members, rooms.counts().present, meters.users()), (0, 0, 0), "nobody is left behind");
    shapes.sort_unstable();
    shapes.dedup();
    seen(shapes)
}

fn frame_of(frame: &Frame) -> Seen {
    good(frame);
    match frame {
        Frame::Text(text) => {
            // Events and the words of answers, without what a client made up.
            let known = [
                "phx_reply",
                "phx_close",
                "phx_error",
                "system",
                "presence_state",
                "presence_diff",
                "broadcast",
                "\"ok\"",
                "\"error\"",
                "reason",
            ];
            let reason =
                text.split("\"reason\":\"").nth(1).map(|rest| shape(&rest.chars().take(40).collect::<String>()));
            seen((known.map(|word| text.contains(word)), reason))
        }
        Frame::Binary(bytes) => seen((bytes[0], bytes[4])),
    }
}

fn effect_of(effect: &Effect) -> Seen {
    match effect {
        Effect::SendLater { frame, then, .. } => seen((1, frame_of(frame), then.is_some())),
        Effect::Subscribe(wish) => {
            let refused = wish.bindings.iter().filter_map(|binding| binding.request.as_ref().err());
            let refused: Vec<Seen> = refused.map(|text| shape(text)).collect();
            seen((2, refused, wish.visibility, wish.held_reply.is_some()))
        }
        Effect::ReplaceClaims(..) => 3,
        Effect::Unsubscribe(_) => 4,
        Effect::Authorize(question) => seen((5, format!("{:?}", question.access))),
        Effect::Replay(_) => 6,
        Effect::AwaitStream(_) => 7,
        Effect::Count(what, _) => seen((8, format!("{what:?}"))),
        Effect::Limited(setting) => seen((9, setting)),
    }
}

/// What comes back of what was asked for.
fn answered(effect: Effect, choice: u8) -> Option<Input> {
    Some(match effect {
        Effect::Subscribe(wish) => {
            Input::Subscribed { join: wish.join, refusal: (choice & 7 == 0).then(|| "no \"such\" table".to_owned()) }
        }
        Effect::Authorize(question) => {
            let outcome = match choice % 6 {
                0 => Err(RightsError::Unavailable),
                1 => Err(RightsError::Canceled),
                _ => Ok(Granted { broadcast: choice & 8 == 0, presence: choice & 16 == 0 }),
            };
            Input::Authorized { question: question.number, outcome }
        }
        Effect::Replay(wish) => {
            let content =
                if choice & 1 == 0 { Content::Json("{\"a\":1}".into()) } else { Content::Binary("\0".into()) };
            let message = UserBroadcast { event: "e\"".to_owned(), content, meta: None };
            let outcome =
                if choice & 2 == 0 { Ok(vec![StoredBroadcast { id: uuid::Uuid::nil(), message }]) } else { Err(()) };
            Input::Replayed { join: wish.join, outcome }
        }
        Effect::AwaitStream(join) => {
            Input::Stream { join: JoinId(join.0 ^ u64::from(choice & 1)), is_up: choice & 2 == 0 }
        }
        _ => return None,
    })
}
