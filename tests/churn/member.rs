//! One member: a client of its own that does what it is ordered to, and writes down what it said, what it heard, and
//! between when and when it was joined.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::departures::{Departures, How};
use super::view::View;
use super::wire::{self, Heard, Said};
use crate::support::socket::Vsn;

/// What a member is to do next.
#[derive(Clone, Debug)]
pub enum Order {
    /// Joins a room, on the socket it has or on a new one; also in the place of the join it has.
    Join {
        room: usize,
        config: JoinConfig,
    },
    Leave,
    /// Says goodbye to the server and is gone.
    Close,
    /// Is gone without a word.
    Crash {
        reset: bool,
    },
    /// Keeps its connection, and neither says nor reads anything any more.
    Freeze,
    Track(u64),
    Untrack,
    Say {
        binary: bool,
    },
}

#[derive(Clone, Debug)]
pub struct JoinConfig {
    pub vsn: Vsn,
    pub key: String,
    pub presence: bool,
    pub acknowledged: bool,
    pub hears_itself: bool,
}

/// How a stay in a room ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Remains,
    /// It asked to leave, and read on until it was told that it had.
    Left,
    /// It was gone and did not read on.
    Gone,
    /// The server told of a problem.
    Problem(String),
}

/// A message that was said in a stay.
#[derive(Clone)]
pub struct Utterance {
    pub sent: Instant,
    reference: u64,
    /// When something that was pushed later had been answered, so that it is in all outboxes.
    pub certain: Option<Instant>,
}

/// A stay in a room, from the reply to the join.
#[derive(Clone)]
pub struct Stay {
    pub id: u64,
    pub room: usize,
    pub config: JoinConfig,
    pub from: Instant,
    pub until: Option<Instant>,
    pub end: End,
    pub said: Vec<Utterance>,
    /// The numbers of what was heard, by the stay of who said it.
    pub heard: BTreeMap<u64, Vec<u64>>,
    pub view: View,
    pub tracked: Option<Value>,
}

/// What a member has written down.
#[derive(Clone, Default)]
pub struct Notes {
    pub stays: Vec<Stay>,
    /// Whether everything it asked has been answered.
    pub is_settled: bool,
    pub mistakes: Vec<String>,
    pub heard_frames: u64,
}

/// What all members share.
pub struct Common {
    pub address: String,
    pub token: String,
    pub heartbeat: Duration,
    pub departures: Departures,
}

type Stream = WebSocketStream<TcpStream>;

enum State {
    Absent,
    Joining { reference: u64, stay: u64, room: usize, config: JoinConfig },
    Joined { join: u64 },
    Leaving { reference: u64 },
}

/// A member's hands and memory.
pub struct Member {
    common: Arc<Common>,
    number: u64,
    stream: Option<(Stream, Vsn)>,
    frozen: Vec<Stream>,
    state: State,
    waiting: VecDeque<Order>,
    last_reference: u64,
    /// What was asked and has not been answered.
    asked: BTreeMap<u64, &'static str>,
    notes: Notes,
}

/// A question to a member, answered when it gets to it.
pub type Question = oneshot::Sender<Notes>;

impl Member {
    pub fn new(common: Arc<Common>, number: u64) -> Self {
        Self {
            common,
            number,
            stream: None,
            frozen: Vec::new(),
            state: State::Absent,
            waiting: VecDeque::new(),
            last_reference: 0,
            asked: BTreeMap::new(),
            notes: Notes::default(),
        }
    }

    /// Lives until nobody has orders any more.
    pub async fn live(mut self, mut orders: mpsc::Receiver<Order>, mut questions: mpsc::Receiver<Question>) {
        let mut heartbeat = tokio::time::interval(self.common.heartbeat);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.take(order).await,
                    None => return,
                },
                Some(question) = questions.recv() => self.answer(question),
                message = next(&mut self.stream) => self.frame(message).await,
                _ = heartbeat.tick() => {
                    self.push("phoenix", "heartbeat", json!({}), true).await;
                }
            }
        }
    }

    fn answer(&mut self, question: Question) {
        self.notes.is_settled = self.waiting.is_empty()
            && matches!(self.state, State::Absent | State::Joined { .. })
            // A heartbeat is always under way.
            && self.asked.values().all(|event| *event == "heartbeat");
        let _ = question.send(self.notes.clone());
    }

    /// Does it, or keeps it until a join or leave under way has been answered. Going never waits.
    async fn take(&mut self, order: Order) {
        let goes = matches!(order, Order::Close | Order::Crash { .. } | Order::Freeze);
        if !goes && matches!(self.state, State::Joining { .. } | State::Leaving { .. }) {
            return self.waiting.push_back(order);
        }
        self.obey(order).await;
    }

    async fn obey(&mut self, order: Order) {
        let room = self.stay().map(|stay| stay.room);
        match (order, room) {
            (Order::Join { room, config }, _) => self.join(room, config).await,
            (Order::Leave, Some(room)) => {
                self.end_stay(End::Left);
                let reference = self.push(&topic(room), "phx_leave", json!({}), true).await;
                self.state = State::Leaving { reference };
            }
            (Order::Close, _) => {
                self.depart(How::Closed);
                if let Some((mut stream, _)) = self.stream.take() {
                    let _ = stream.close(None).await;
                }
            }
            (Order::Crash { reset }, _) => {
                self.depart(How::Crashed);
                if let Some((stream, _)) = self.stream.take()
                    && reset
                {
                    stream.get_ref().set_zero_linger().expect("a socket can be told to reset");
                }
            }
            (Order::Freeze, _) => {
                self.depart(How::Frozen);
                self.frozen.extend(self.stream.take().map(|(stream, _)| stream));
            }
            (Order::Track(value), Some(room)) => {
                let stay = self.stay_mut().expect("it has a room");
                let tracked = json!({"stay": stay.id, "value": value});
                stay.tracked = Some(tracked.clone());
                let payload = json!({"type": "presence", "event": "track", "payload": tracked});
                self.push(&topic(room), "presence", payload, true).await;
            }
            (Order::Untrack, Some(room)) => {
                self.stay_mut().expect("it has a room").tracked = None;
                let payload = json!({"type": "presence", "event": "untrack"});
                self.push(&topic(room), "presence", payload, true).await;
            }
            (Order::Say { binary }, Some(room)) => self.say(room, binary).await,
            (Order::Leave | Order::Track(_) | Order::Untrack | Order::Say { .. }, None) => {}
        }
    }

    async fn join(&mut self, room: usize, config: JoinConfig) {
        let mut config = config;
        match &self.stream {
            // The encoding is the socket's.
            Some((_, vsn)) => config.vsn = *vsn,
            None => match self.connect(config.vsn).await {
                Some(stream) => self.stream = Some((stream, config.vsn)),
                None => return self.notes.mistakes.push(format!("member {} cannot connect", self.number)),
            },
        }
        if self.stay().is_some_and(|stay| stay.room != room) {
            // One channel at a time: leave first.
            self.waiting.push_front(Order::Join { room, config });
            let room = self.stay().map_or(0, |stay| stay.room);
            self.end_stay(End::Left);
            let reference = self.push(&topic(room), "phx_leave", json!({}), true).await;
            self.state = State::Leaving { reference };
            return;
        }
        self.end_stay(End::Left);
        let payload = json!({"config": {
            "broadcast": {"ack": config.acknowledged, "self": config.hears_itself},
            "presence": {"key": config.key, "enabled": config.presence},
        }});
        let stay = self.number * 100_000 + self.last_reference + 1;
        let reference = self.push(&topic(room), "phx_join", payload, true).await;
        self.state = State::Joining { reference, stay, room, config };
    }

    async fn connect(&self, vsn: Vsn) -> Option<Stream> {
        let Common { address, token, .. } = &*self.common;
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={token}&vsn={}", vsn.parameter());
        tokio_tungstenite::client_async(url, stream).await.ok().map(|(stream, _)| stream)
    }

    async fn say(&mut self, room: usize, binary: bool) {
        let stay = self.stay_mut().expect("it has a room");
        let number = stay.said.len() as u64 + 1;
        let (id, acknowledged) = (stay.id, stay.config.acknowledged);
        stay.said.push(Utterance { sent: Instant::now(), reference: 0, certain: None });
        let payload = json!({"type": "broadcast", "event": "word", "payload": {"stay": id, "number": number}});
        let event = if binary { "broadcast as kind 3" } else { "broadcast" };
        let reference = self.push(&topic(room), event, payload, acknowledged).await;
        if let Some(last) = self.stay_mut().and_then(|stay| stay.said.last_mut()) {
            last.reference = reference;
        }
    }

    /// Sends something; its reference.
    async fn push(&mut self, topic: &str, event: &'static str, payload: Value, is_answered: bool) -> u64 {
        let reference = self.last_reference + 1;
        let Some((stream, vsn)) = &mut self.stream else { return reference };
        self.last_reference = reference;
        if is_answered {
            self.asked.insert(reference, event);
        }
        let join = match &self.state {
            State::Joined { join } if event != "phx_join" => *join,
            _ => reference,
        };
        let binary = event == "broadcast as kind 3";
        let said = Said { reference, join, topic, event: if binary { "broadcast" } else { event }, payload };
        let message = if binary && *vsn == Vsn::V2 { said.binary() } else { said.text(*vsn) };
        // A connection that has ended is found out by reading.
        let _ = stream.send(message).await;
        reference
    }

    async fn frame(&mut self, message: Option<Message>) {
        let Some(message) = message else {
            return self.problem("the connection ended");
        };
        if let Message::Close(frame) = &message {
            return self.problem(&format!("closed by the server: {frame:?}"));
        }
        let vsn = self.stream.as_ref().map_or(Vsn::V2, |(_, vsn)| *vsn);
        let Some(heard) = wire::read(&message, vsn) else { return };
        self.notes.heard_frames += 1;
        match heard.event.as_str() {
            "phx_reply" => self.reply(heard).await,
            "phx_close" => {
                let is_current = matches!(&self.state, State::Joined { join } if Some(*join) == heard.reference);
                if is_current {
                    self.problem("the channel was closed");
                }
            }
            "phx_error" => self.problem("the channel failed"),
            "system" => self.problem(&heard.payload.to_string()),
            "broadcast" | "presence_state" | "presence_diff" => self.hear(&heard),
            other => self.notes.mistakes.push(format!("an event {other}")),
        }
    }

    async fn reply(&mut self, heard: Heard) {
        let Some(reference) = heard.reference else { return self.notes.mistakes.push("a reply to nothing".to_owned()) };
        let Some(event) = self.asked.remove(&reference) else {
            return self.notes.mistakes.push(format!("a reply that was not asked for: {}", heard.payload));
        };
        if heard.payload["status"] != "ok" {
            return self.problem(&format!("{event} was refused: {}", heard.payload));
        }
        let now = Instant::now();
        for said in self.notes.stays.iter_mut().rev().take(2).flat_map(|stay| stay.said.iter_mut().rev()) {
            if said.certain.is_some() {
                break;
            }
            if said.reference <= reference {
                said.certain = Some(now);
            }
        }
        match &self.state {
            State::Joining { reference: join, stay, room, config } if *join == reference => {
                let stay = Stay {
                    id: *stay,
                    room: *room,
                    config: config.clone(),
                    from: now,
                    until: None,
                    end: End::Remains,
                    said: Vec::new(),
                    heard: BTreeMap::new(),
                    view: View::default(),
                    tracked: None,
                };
                self.notes.stays.push(stay);
                self.state = State::Joined { join: reference };
            }
            State::Leaving { reference: leave } if *leave == reference => self.state = State::Absent,
            _ => {}
        }
        while !matches!(self.state, State::Joining { .. } | State::Leaving { .. })
            && let Some(order) = self.waiting.pop_front()
        {
            self.obey(order).await;
        }
    }

    /// A message or a presence. While a join takes the place of another, it is still the other's.
    fn hear(&mut self, heard: &Heard) {
        let expected = match (&self.state, self.notes.stays.last_mut()) {
            (State::Joined { .. } | State::Joining { .. } | State::Leaving { .. }, Some(stay))
                if topic(stay.room) == heard.topic =>
            {
                Some(stay)
            }
            _ => None,
        };
        let Some(stay) = expected else {
            return self.notes.mistakes.push(format!("{} in {} without a join", heard.event, heard.topic));
        };
        match heard.event.as_str() {
            "broadcast" => {
                let word = &heard.payload["payload"];
                match (word["stay"].as_u64(), word["number"].as_u64()) {
                    (Some(id), Some(number)) => stay.heard.entry(id).or_default().push(number),
                    _ => self.notes.mistakes.push(format!("a word of nobody: {}", heard.payload)),
                }
            }
            "presence_state" if stay.config.presence => stay.view.state(&heard.payload),
            "presence_state" => self.notes.mistakes.push("a state that was not asked for".to_owned()),
            _ if stay.config.presence => {
                for gone in stay.view.diff(&heard.payload) {
                    self.common.departures.noticed(&gone);
                }
            }
            _ => {}
        }
    }

    /// The stay that has not ended.
    fn stay(&self) -> Option<&Stay> {
        self.notes.stays.last().filter(|stay| stay.end == End::Remains)
    }

    fn stay_mut(&mut self) -> Option<&mut Stay> {
        self.notes.stays.last_mut().filter(|stay| stay.end == End::Remains)
    }

    fn end_stay(&mut self, end: End) {
        if let Some(stay) = self.stay_mut() {
            stay.until = Some(Instant::now());
            stay.end = end;
        }
    }

    /// It will read no more of this connection.
    fn depart(&mut self, how: How) {
        if let Some(stay) = self.stay()
            && stay.tracked.is_some()
        {
            self.common.departures.departs(stay.id, how);
        }
        self.forget(End::Gone);
    }

    fn forget(&mut self, end: End) {
        // What it has left, it did not hear out.
        if let (State::Leaving { .. } | State::Joining { .. }, Some(stay)) = (&self.state, self.notes.stays.last_mut())
            && stay.end == End::Left
        {
            stay.end = End::Gone;
        }
        self.end_stay(end);
        // What has not been answered may be lost with the connection, and no later answer is about it.
        let stays = self.notes.stays.iter_mut().rev().take(2);
        for said in stays.flat_map(|stay| stay.said.iter_mut()).filter(|said| said.certain.is_none()) {
            said.reference = u64::MAX;
        }
        self.state = State::Absent;
        self.asked.clear();
        self.waiting.clear();
    }

    fn problem(&mut self, what: &str) {
        if self.stay().is_none() {
            self.notes.mistakes.push(format!("without a stay: {what}"));
        }
        self.forget(End::Problem(what.to_owned()));
        self.stream = None;
    }
}

pub fn topic(room: usize) -> String {
    format!("realtime:room-{room}")
}

/// The next frame; never, without a connection.
async fn next(stream: &mut Option<(Stream, Vsn)>) -> Option<Message> {
    match stream {
        Some((stream, _)) => stream.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}
