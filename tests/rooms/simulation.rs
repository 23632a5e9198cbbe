//! A seeded play of everything that can happen to rooms, on one thread, against a model of it: who enters, completes,
//! leaves, is dropped, tracks, speaks, in any order. What members are sent must add up to the truth at every moment.

use super::client::{Message, Present, View, present};
use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;
use walcast::{
    doors::phoenix::{V1, V2},
    hub::{
        Entry, Greeting, Member, MemberId, MessageForm, Outbox, OutboxReceiver, Publication, Reads, RoomName, Rooms,
        outbox,
    },
    protocol::{Broadcast, Codec, Content, Frame, UserBroadcast, refusal::Disconnect},
};

const SEEDS: u64 = 12;
const STEPS: usize = 1500;
const KEYS: [&str; 4] = ["ann", "ben", "ä \"quoted\" key", "7"];

/// What was said to a room: its number, its id where it has one, and whether version 1 has no form for it.
#[derive(Clone, Copy, Debug)]
struct Said {
    number: u64,
    id: Option<Uuid>,
    only_v2: bool,
}

struct Client {
    member: Arc<Member>,
    receiver: Option<OutboxReceiver>,
    outbox: Outbox,
    is_v1: bool,
    key: &'static str,
    reads: Reads,
    wants_presence: bool,
    /// What it was said before its join was complete; none when it is.
    held: Option<Vec<Said>>,
    /// Ids it will not hear once more.
    replayed: HashSet<Uuid>,
    tracked: Option<Map<String, Value>>,
    expected: Vec<u64>,
    heard: Vec<u64>,
    view: View,
    is_greeted: bool,
}

impl Client {
    /// Whether the server can find out that it is gone.
    fn is_gone(&self) -> bool {
        self.outbox.is_closed()
    }

    fn expect(&mut self, said: Said) {
        if !self.reads.broadcast || (self.is_v1 && said.only_v2) {
            return;
        }
        match &mut self.held {
            Some(held) => held.push(said),
            None => self.expect_now(said),
        }
    }

    fn expect_now(&mut self, said: Said) {
        if !said.id.is_some_and(|id| self.replayed.remove(&id)) {
            self.expected.push(said.number);
        }
    }

    /// Reads what it was sent.
    fn read(&mut self, topic: &str) {
        while let Some(frame) = self.receiver.as_mut().and_then(OutboxReceiver::receive_ready) {
            let message = Message::read(&frame);
            assert_eq!(message.topic, topic);
            assert_eq!(
                message.event == "hello",
                !std::mem::replace(&mut self.is_greeted, true),
                "the greeting is first"
            );
            if message.event == "broadcast" {
                let payload = &message.payload["payload"];
                let number = payload["n"].as_u64().or_else(|| {
                    let bytes: Vec<u8> = serde_json::from_value(payload.clone()).ok()?;
                    Some(u64::from_be_bytes(bytes.try_into().ok()?))
                });
                self.heard
                    .push(number.or_else(|| payload.as_str()?.strip_prefix('{')?.parse().ok()).expect("a number"));
            }
            self.view.hear(&message);
        }
    }
}

struct Room {
    name: RoomName,
    clients: BTreeMap<MemberId, Client>,
    /// Committed and not yet published.
    late: Vec<Said>,
    /// Published, with ids.
    past: Vec<Said>,
}

struct Play {
    random: StdRng,
    rooms: Rooms,
    all: Vec<Room>,
    next_member: u64,
    next_number: u64,
    /// Those who have left, who must never hear anything again.
    departed: Vec<OutboxReceiver>,
}

#[test]
fn whatever_happens_every_view_is_the_truth_and_every_message_arrives_once_and_in_order() {
    for seed in 0..SEEDS {
        let play = std::panic::catch_unwind(|| Play::new(seed).run());
        if let Err(panic) = play {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

impl Play {
    fn new(seed: u64) -> Play {
        let names = [("realtime:a", false), ("realtime:a", true), ("realtime:b:c d", false)];
        let room = |(topic, is_private): (&str, bool)| Room {
            name: RoomName { topic: topic.into(), is_private },
            clients: BTreeMap::new(),
            late: Vec::new(),
            past: Vec::new(),
        };
        Play {
            random: StdRng::seed_from_u64(seed),
            rooms: Rooms::new([7; 4]),
            all: names.into_iter().map(room).collect(),
            next_member: 0,
            next_number: 1,
            departed: Vec::new(),
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            let room = self.random.random_range(0..self.all.len());
            self.step(room);
            if self.random.random_ratio(1, 40) {
                self.check(room);
            }
        }
        for room in 0..self.all.len() {
            self.check(room);
            let gone: Vec<_> = self.all[room].clients.iter().filter(|(_, client)| client.is_gone()).collect();
            let gone: Vec<_> = gone.into_iter().map(|(id, _)| *id).collect();
            gone.into_iter().for_each(|id| self.leave(room, id));
            self.check(room);
            let all: Vec<_> = self.all[room].clients.keys().copied().collect();
            all.into_iter().for_each(|id| self.leave(room, id));
        }
        for mut receiver in self.departed.drain(..) {
            assert_eq!(receiver.receive_ready(), None, "nothing follows the end of a membership");
        }
        let counts = self.rooms.counts();
        assert_eq!((counts.rooms, counts.members, counts.present), (0, 0, 0));
    }

    fn step(&mut self, room: usize) {
        let member = self.pick(room);
        match (self.random.random_range(0..100), member) {
            (0..14, _) | (_, None) => self.enter(room),
            (14..22, Some(id)) => self.complete(room, id),
            (22..29, Some(id)) => self.leave(room, id),
            (29..33, Some(id)) => self.drop_outbox(room, id),
            (33..50, Some(id)) => self.track(room, id),
            (50..56, Some(id)) => self.untrack(room, id),
            (56..60, Some(id)) => self.set_reads(room, id),
            (60..66, Some(_)) => self.commit(room),
            (66..72, Some(_)) => self.publish_late(room),
            (72..90, Some(id)) => self.say(room, Some(id)),
            (90..94, Some(_)) => self.say(room, None),
            (_, Some(id)) => {
                let topic = self.all[room].name.topic.clone();
                self.client(room, id).read(&topic);
            }
        }
    }

    fn pick(&mut self, room: usize) -> Option<MemberId> {
        let ids: Vec<_> = self.all[room].clients.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.random.random_range(0..ids.len())])
    }

    fn client(&mut self, room: usize, id: MemberId) -> &mut Client {
        self.all[room].clients.get_mut(&id).expect("it was picked")
    }

    fn enter(&mut self, room: usize) {
        let name = self.all[room].name.clone();
        let id = MemberId { connection: self.random.random_range(0..5), join: self.next_member };
        self.next_member += 1;
        // Some queues are so short that never reading closes them before the play is over.
        let (outbox, receiver) = outbox(if self.random.random_ratio(1, 4) { 1 } else { 4096 }, 1 << 20);
        let is_v1 = self.random.random();
        let codec: &'static dyn Codec = if is_v1 { &V1 } else { &V2 };
        let member = Member::new(id, name.topic.clone(), Value::from("1"), codec, MessageForm::Modern, outbox.clone());
        let key = KEYS[self.random.random_range(0..KEYS.len())];
        let reads = if name.is_private { self.random_reads() } else { Reads::ALL };
        let (is_complete, wants_presence): (bool, bool) = (self.random.random(), self.random.random_ratio(4, 5));
        let greeting = is_complete.then(|| Greeting {
            frames: vec![hello(codec, &name.topic)],
            with_presence: wants_presence,
            ..Greeting::default()
        });
        self.rooms.enter(&name, Entry { member: member.clone(), reads, key: key.to_owned(), greeting });
        let client = Client {
            member,
            receiver: Some(receiver),
            outbox,
            is_v1,
            key,
            reads,
            wants_presence,
            held: (!is_complete).then(Vec::new),
            replayed: HashSet::new(),
            tracked: None,
            expected: Vec::new(),
            heard: Vec::new(),
            view: View::default(),
            is_greeted: false,
        };
        self.all[room].clients.insert(id, client);
    }

    fn random_reads(&mut self) -> Reads {
        Reads { broadcast: self.random.random_ratio(4, 5), presence: self.random.random_ratio(4, 5) }
    }

    fn complete(&mut self, room: usize, id: MemberId) {
        let name = self.all[room].name.clone();
        if self.client(room, id).held.is_none() {
            return;
        }
        // Replayed: some of what was committed, published already or not.
        let known: Vec<Said> = self.all[room].past.iter().chain(&self.all[room].late).copied().collect();
        let replayed: Vec<Said> = known.into_iter().rev().take(self.random.random_range(0..4)).collect();
        let replayed: Vec<Said> = replayed.into_iter().rev().collect();
        let client = self.client(room, id);
        let codec = client.member.codec();
        let frame = |said: &Said| codec.broadcast(&name.topic, &Broadcast::Text(text(said.number)));
        let greeting = Greeting {
            frames: vec![hello(codec, &name.topic)],
            with_presence: client.wants_presence,
            replayed: replayed.iter().filter_map(frame).collect(),
            heard: replayed.iter().filter_map(|said| said.id).collect(),
        };
        client.expected.extend(replayed.iter().map(|said| said.number));
        client.replayed.extend(replayed.iter().filter_map(|said| said.id));
        let held = client.held.take().unwrap_or_default();
        held.into_iter().for_each(|said| client.expect_now(said));
        self.rooms.complete(&name, id, greeting);
    }

    fn leave(&mut self, room: usize, id: MemberId) {
        let room = &mut self.all[room];
        let mut client = room.clients.remove(&id).expect("it was picked");
        client.member.end();
        self.rooms.leave(&room.name, id);
        client.read(&room.name.topic);
        if !client.is_gone() {
            assert_eq!(client.heard, client.expected, "{id:?} heard everything until it left");
        }
        self.departed.extend(client.receiver);
    }

    /// The connection ends, and the server finds out by itself.
    fn drop_outbox(&mut self, room: usize, id: MemberId) {
        let is_slow = self.random.random();
        let client = self.client(room, id);
        if is_slow {
            client.outbox.close(Disconnect::Slow);
        } else {
            client.receiver = None;
        }
    }

    fn track(&mut self, room: usize, id: MemberId) {
        let name = self.all[room].name.clone();
        let value = self.random.random_range(0..3);
        let mut tracked = Map::from_iter([("v".to_owned(), json!({"n": value}))]);
        let said = tracked.clone();
        if self.random.random_ratio(1, 4) {
            // Not the client's to say.
            tracked.insert("phx_ref".to_owned(), json!("forged"));
            tracked.insert("phx_ref_prev".to_owned(), json!(5));
        }
        if self.rooms.track(&name, id, tracked) {
            self.client(room, id).tracked = Some(said);
        } else {
            assert!(self.client(room, id).is_gone(), "only who is gone is no member");
        }
    }

    fn untrack(&mut self, room: usize, id: MemberId) {
        self.rooms.untrack(&self.all[room].name, id);
        self.client(room, id).tracked = None;
    }

    fn set_reads(&mut self, room: usize, id: MemberId) {
        let name = self.all[room].name.clone();
        if !name.is_private {
            return;
        }
        let reads = self.random_reads();
        let client = self.client(room, id);
        client.read(&name.topic);
        client.reads = reads;
        if !reads.presence {
            client.view = View::default();
        }
        if !reads.broadcast
            && let Some(held) = &mut client.held
        {
            held.clear();
        }
        self.rooms.set_reads(&name, id, reads);
    }

    fn new_said(&mut self, has_id: bool) -> Said {
        let number = self.next_number;
        self.next_number += 1;
        Said { number, id: has_id.then(|| Uuid::from_u128(u128::from(number))), only_v2: false }
    }

    fn commit(&mut self, room: usize) {
        let said = self.new_said(true);
        self.all[room].late.push(said);
    }

    fn publish_late(&mut self, room: usize) {
        if self.all[room].late.is_empty() {
            return;
        }
        let said = self.all[room].late.remove(0);
        self.all[room].past.push(said);
        self.publish(room, said, &Broadcast::Text(text(said.number)), None);
    }

    fn say(&mut self, room: usize, sender: Option<MemberId>) {
        let mut said = self.new_said(false);
        let number = said.number;
        let user = |content| Broadcast::User(UserBroadcast { event: "e".to_owned(), content, meta: None });
        let broadcast = match self.random.random_range(0..4) {
            0 => Broadcast::Text(text(number)),
            1 => user(Content::Json(format!(r#"{{"n": {number}}}"#).into())),
            2 => user(Content::Binary(Bytes::copy_from_slice(&number.to_be_bytes()))),
            // What only claims to be JSON.
            _ => user(Content::Json(format!("{{{number}").into())),
        };
        said.only_v2 = broadcast.text().is_none();
        let except = sender.filter(|_| self.random.random());
        self.publish(room, said, &broadcast, except);
    }

    fn publish(&mut self, room: usize, said: Said, broadcast: &Broadcast, except: Option<MemberId>) {
        let published = self.rooms.publish(&self.all[room].name, &Publication { broadcast, id: said.id, except });
        let (mut there, mut gone) = (0, 0);
        for (_, client) in self.all[room].clients.iter_mut().filter(|(id, _)| Some(**id) != except) {
            let hears = usize::from(client.reads.broadcast);
            if client.is_gone() {
                gone += hears
            } else {
                there += hears
            }
            client.expect(said);
        }
        // Who is gone counts until somebody finds out.
        let counted = published.delivered + published.without_form;
        assert!((there..=there + gone).contains(&counted), "everybody who may hear it, and nobody else");
    }

    /// Everybody's view is the same as that of one who comes now, and that is the truth.
    fn check(&mut self, room: usize) {
        let room = &mut self.all[room];
        let (outbox, mut receiver) = outbox(16, 1 << 20);
        let id = MemberId { connection: 99, join: self.next_member };
        self.next_member += 1;
        let member = Member::new(id, room.name.topic.clone(), Value::Null, &V2, MessageForm::Modern, outbox);
        let greeting = Some(Greeting { with_presence: true, ..Greeting::default() });
        self.rooms.enter(&room.name, Entry { member, reads: Reads::ALL, key: String::new(), greeting });
        let state = Message::read(&receiver.receive_ready().expect("a state"));
        assert_eq!(state.event, "presence_state");
        let state = present(&state.payload);
        self.rooms.leave(&room.name, id);

        let gone = room.clients.values().filter(|client| client.is_gone()).filter_map(tracked_by);
        let mut gone: Vec<_> = gone.collect();
        let mut live: Vec<_> =
            room.clients.values().filter(|client| !client.is_gone()).filter_map(tracked_by).collect();
        let mut shown = without_references(&state);
        shown.sort_by_key(|shown| format!("{shown:?}"));
        for entry in shown {
            let place = live.iter().position(|live| *live == entry).map(|place| live.swap_remove(place));
            let place = place.or_else(|| gone.iter().position(|gone| *gone == entry).map(|at| gone.swap_remove(at)));
            assert!(place.is_some(), "{entry:?} is shown and nobody tracks it");
        }
        assert!(live.is_empty(), "{live:?} are not shown");

        for (id, client) in room.clients.iter_mut().filter(|(_, client)| !client.is_gone()) {
            client.read(&room.name.topic);
            assert_eq!(client.heard, client.expected, "{id:?} heard everything once and in order");
            let sees = client.held.is_none() && client.wants_presence && client.reads.presence;
            assert_eq!(client.view.present.as_ref(), sees.then_some(&state), "what {id:?} sees");
        }
    }
}

fn tracked_by(client: &Client) -> Option<(String, Map<String, Value>)> {
    Some((client.key.to_owned(), client.tracked.clone()?))
}

fn without_references(state: &Present) -> Vec<(String, Map<String, Value>)> {
    let metas = state.iter().flat_map(|(key, metas)| metas.values().map(move |meta| (key.clone(), meta.clone())));
    let metas = metas.map(|(key, mut meta)| {
        meta.remove("phx_ref");
        meta.remove("phx_ref_prev");
        (key, meta)
    });
    metas.collect()
}

/// The payload of a text broadcast.
fn text(number: u64) -> Box<str> {
    format!(r#"{{"event":"e","payload":{{"n":{number}}}}}"#).into()
}

/// Something first, so that a missing greeting shows.
fn hello(codec: &dyn Codec, topic: &str) -> Frame {
    let (join_ref, reference) = (&Value::Null, &Value::Null);
    codec.event(&walcast::protocol::Event { join_ref, reference, topic, event: "hello", payload: "{}" })
}
