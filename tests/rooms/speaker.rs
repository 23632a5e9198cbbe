//! A client of a session without a socket: what it says, what it is sent, and what the session asks for.

use super::client::Message;
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use walcast::{
    auth::{self, Verifier},
    doors::phoenix::{V1, V2},
    hub::{OutboxReceiver, Rooms, outbox},
    limits::{Limits, Meters},
    policy::topic::{ChannelAccess, Granted, RightsError},
    protocol::{Codec, Push},
    session::{Config, Effect, Input, Parts, Question, Session},
};

/// Keys the sessions know, all of them for `authenticated`.
pub const KEYS: [&str; 3] = ["key-ann", "key-ben", "key-cyd"];
/// May do everything.
pub const ALL: Result<Granted, RightsError> = Ok(Granted { broadcast: true, presence: true });
/// May do nothing.
pub const NOTHING: Result<Granted, RightsError> = Ok(Granted { broadcast: false, presence: false });

/// What the sessions of a test share.
#[derive(Clone)]
pub struct World {
    pub rooms: Rooms,
    pub meters: Arc<Meters>,
}

impl World {
    pub fn new() -> World {
        World::with(Limits::default())
    }

    pub fn with(limits: Limits) -> World {
        World { rooms: Rooms::default(), meters: Arc::new(Meters::new(limits)) }
    }

    pub fn v2(&self, connection: u64) -> Speaker {
        self.speaker(connection, &V2)
    }

    pub fn v1(&self, connection: u64) -> Speaker {
        self.speaker(connection, &V1)
    }

    fn speaker(&self, connection: u64, codec: &'static dyn Codec) -> Speaker {
        let (outbox, receiver) = outbox(1000, 10_000_000);
        let api_keys = KEYS.map(|key| (key.to_owned(), "authenticated".to_owned())).to_vec();
        let session = Session::new(Parts {
            config: Arc::new(Config { max_bindings: 10, max_patterns: 10, join_error_delay: Duration::from_secs(5) }),
            verifier: Verifier::new(&auth::Config { api_keys, ..auth::Config::default() }),
            codec,
            outbox,
            rooms: self.rooms.clone(),
            meters: self.meters.clone(),
            connection,
            key: KEYS[0].to_owned(),
            headers: "{}".into(),
        });
        Speaker { session, receiver, codec, effects: VecDeque::new(), now: 1000 }
    }
}

pub struct Speaker {
    pub session: Session,
    pub receiver: OutboxReceiver,
    codec: &'static dyn Codec,
    pub effects: VecDeque<Effect>,
    pub now: i64,
}

impl Speaker {
    pub fn hear(&mut self, input: Input) {
        let effects = self.session.handle(input, self.now);
        self.effects.extend(effects);
    }

    /// Says something as version 2 writes it.
    pub fn say(&mut self, frame: Value) {
        let push = V2.decode_text(&frame.to_string()).expect("a push");
        self.push(push);
    }

    pub fn push(&mut self, push: Push) {
        self.hear(Input::Push(push));
    }

    /// Joins with a config; references are the `join_ref` itself.
    pub fn join(&mut self, join_ref: &str, topic: &str, config: Value) {
        self.say(json!([join_ref, join_ref, topic, "phx_join", {"config": config}]));
    }

    pub fn broadcast(&mut self, reference: &str, topic: &str, payload: Value) {
        self.say(json!(["1", reference, topic, "broadcast", payload]));
    }

    pub fn track(&mut self, reference: &str, topic: &str, tracked: Value) {
        self.say(
            json!(["1", reference, topic, "presence", {"type": "presence", "event": "track", "payload": tracked}]),
        );
    }

    pub fn token(&mut self, topic: &str, key: &str) {
        self.say(json!(["1", "t", topic, "access_token", {"access_token": key}]));
    }

    /// What it was sent since it last looked.
    pub fn messages(&mut self) -> Vec<Message> {
        let frames = std::iter::from_fn(|| self.receiver.receive_ready());
        frames.map(|frame| Message::read(&frame)).collect()
    }

    /// Events and references of that, `ok` and `error` for replies.
    pub fn summary(&mut self) -> Vec<String> {
        let word = |message: &Message| match message.event.as_str() {
            "phx_reply" => format!("{} {}", message.payload["status"].as_str().unwrap_or("?"), message.reference),
            "broadcast" => format!("broadcast {}", message.payload["payload"]),
            "system" => format!("system {}", message.payload["message"].as_str().unwrap_or("?")),
            event => event.to_owned(),
        };
        self.messages().iter().map(|message| word(message).replace('"', "")).collect()
    }

    /// The question that is asked, and nothing else.
    pub fn question(&mut self) -> Question {
        self.effects.retain(|effect| !matches!(effect, Effect::Count(..)));
        match self.effects.pop_front() {
            Some(Effect::Authorize(question)) => *question,
            _ => panic!("no question"),
        }
    }

    /// Answers the question that is asked.
    pub fn answer(&mut self, access: ChannelAccess, outcome: Result<Granted, RightsError>) {
        let question = self.question();
        assert_eq!(question.access, access);
        self.hear(Input::Authorized { question: question.number, outcome });
    }

    /// The reason of the refusal that is sent later, and nothing else.
    pub fn refusal(&mut self) -> String {
        let later = std::iter::from_fn(|| self.effects.pop_front()).find_map(|effect| match effect {
            Effect::SendLater { frame, delay, .. } => Some((frame, delay)),
            _ => None,
        });
        let (frame, delay) = later.expect("a refusal");
        assert_eq!(delay, Duration::from_secs(5));
        let message = Message::read(&frame);
        let (status, response) = message.reply();
        assert_eq!(status, "error");
        response["reason"].as_str().expect("a reason").to_owned()
    }

    pub fn is_v1(&self) -> bool {
        self.codec.name() == V1.name()
    }
}
