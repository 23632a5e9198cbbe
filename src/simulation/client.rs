//! A client of the play and its connection: real sessions, codecs, tokens and outboxes. What it reads it holds against
//! the ledgers of its joins.

use super::{
    expected::{Asked, Filter},
    ledger::{Ground, Ledger, Mark, Place, Stand},
    server::Server,
    trace,
    world::{Database, GROUPS, TABLES, USERS},
};
use crate::{
    auth::{self, Verifier},
    change::{
        Operation,
        cursor::{Beside, Cursor},
        position::Position,
    },
    claims::Claims,
    doors::phoenix::{V1, V2},
    hub::{Outbox, OutboxReceiver, Rooms, outbox},
    lsn::Lsn,
    policy::binding::Binding,
    protocol::{Codec, Frame, refusal},
    router::{
        CastValues, Subscription, SubscriptionKey,
        fixture::{ROLE, values_of},
    },
    session::{self, Effect, Input, JoinId, Session, Wish},
};
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

const SECRET: &str = "a-secret-of-at-least-thirty-two-characters";
/// Frames of one change, at most: it may have been updated, entered and left for different bindings.
const FRAMES_OF_A_CHANGE: usize = 3;

/// What all connections share.
pub(super) struct Office {
    verifier: Verifier,
    /// Two tokens a user.
    tokens: Vec<[String; 2]>,
    config: Arc<session::Config>,
    pub(super) rooms: Rooms,
    next_line: u64,
    /// Frames and bytes of an outbox.
    room: (usize, usize),
}

impl Office {
    pub(super) fn new(random: &mut StdRng) -> Office {
        let config = auth::Config { jwt_secret: SECRET.into(), ..auth::Config::default() };
        let token = |user: &str, expiry: i64| {
            let claims = json!({"role": ROLE, "sub": user, "exp": expiry});
            auth::jwt::sign(SECRET, claims.as_object().unwrap()).unwrap()
        };
        Office {
            verifier: Verifier::new(&config),
            tokens: USERS.iter().map(|user| [token(user, 10_000), token(user, 20_000)]).collect(),
            config: Arc::new(session::Config { max_bindings: 10, max_patterns: 0, join_error_delay: Duration::ZERO }),
            rooms: Rooms::new([7; 4]),
            next_line: 0,
            room: ([1, 4, 16, 200][random.random_range(0..4)], [500, 5000, 1 << 20][random.random_range(0..3)]),
        }
    }
}

/// Something a connection waits for.
enum Pending {
    Prepare(Box<Wish>),
    Enter(JoinId, Box<Subscription>),
    Send(Frame),
}

/// A connection, the server's side of it and the client's.
pub(super) struct Line {
    session: Session,
    outbox: Outbox,
    receiver: Option<OutboxReceiver>,
    marks: VecDeque<Mark>,
    keys: HashMap<JoinId, SubscriptionKey>,
    early: HashMap<JoinId, Option<Claims>>,
    pending: Vec<Pending>,
    room: (usize, usize),
}

/// A join of a channel.
struct Join {
    /// The step it was sent in, and that of its end.
    from: u64,
    ended: Option<u64>,
    id: Option<JoinId>,
    reference: String,
    user: usize,
    asked: Vec<Asked>,
    visibility: bool,
    resume: Option<Resume>,
    /// What it is owed, once it is entered.
    ledger: Option<Ledger>,
    /// Where it may begin, if it does not come back.
    fresh: (Place, Place),
    /// Where it must begin, and whether it must, if it comes back with a cursor.
    back: Option<(Stand, bool)>,
    is_subscribed: bool,
    /// Whether the client has read `phx_close`.
    is_closed: bool,
    /// Whether it has read that, or `phx_error`.
    is_over: bool,
}

/// What a join asks for of the past.
#[derive(Clone)]
enum Resume {
    Start,
    /// A cursor of this play.
    From(Cursor),
    /// Another text.
    Not(String),
}

/// A cursor, and what was asked for when it was given.
#[derive(Clone)]
struct Held {
    cursor: Cursor,
    asked: Vec<Asked>,
    visibility: bool,
}

/// A topic of a client, and its joins of it that may still be heard of.
struct Channel {
    topic: String,
    joins: Vec<Join>,
    /// The cursor of the last frame that was read, and one of long before.
    last: Option<Held>,
    old: Option<Held>,
}

pub(super) struct Client {
    user: usize,
    codec: &'static dyn Codec,
    pub(super) line: Option<Line>,
    channels: Vec<Channel>,
    next_reference: u64,
    /// Whether the last frame it read was not the last one of its change.
    is_amid: bool,
}

/// What is counted, so that a play that shows nothing is seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) joins: usize,
    pub(super) changes: usize,
    pub(super) gaps: usize,
    pub(super) renewals: usize,
    pub(super) resumed: usize,
    pub(super) not_resumed: usize,
    pub(super) recounted: usize,
    pub(super) fresh: usize,
    pub(super) parts: usize,
    pub(super) answers: usize,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        let Counts { joins, changes, gaps, renewals, resumed, not_resumed, recounted, fresh, parts, answers } = other;
        self.joins += joins;
        self.changes += changes;
        self.gaps += gaps;
        self.renewals += renewals;
        self.resumed += resumed;
        self.not_resumed += not_resumed;
        self.recounted += recounted;
        self.fresh += fresh;
        self.parts += parts;
        self.answers += answers;
    }
}

/// Where the play stands.
pub(super) struct Scene<'a> {
    pub(super) step: u64,
    pub(super) random: &'a mut StdRng,
    pub(super) database: &'a Database,
    pub(super) catalogs: &'a [(u64, usize)],
    pub(super) server: &'a mut Server,
    pub(super) office: &'a mut Office,
    pub(super) counts: &'a mut Counts,
    /// The frames of equal messages, as text: one and the same, whoever they are for.
    pub(super) texts: &'a mut HashMap<String, String>,
}

impl Line {
    fn open(codec: &'static dyn Codec, user: usize, office: &mut Office) -> Line {
        let (outbox, receiver) = outbox(office.room.0, office.room.1);
        office.next_line += 1;
        let session = Session::new(session::Parts {
            config: office.config.clone(),
            verifier: office.verifier.clone(),
            codec,
            outbox: outbox.clone(),
            rooms: office.rooms.clone(),
            meters: Arc::default(),
            connection: office.next_line,
            key: office.tokens[user][0].clone(),
            headers: "{}".into(),
        });
        Line {
            session,
            outbox,
            receiver: Some(receiver),
            marks: VecDeque::new(),
            keys: HashMap::new(),
            early: HashMap::new(),
            pending: Vec::new(),
            room: office.room,
        }
    }

    /// Whether the connection is gone, for whatever reason.
    pub(super) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Notes what is new in the outbox.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let Some(receiver) = &self.receiver else { return };
        let (frames, _) = receiver.queued();
        while self.marks.len() < frames {
            self.marks.push_back(Mark { queued: self.marks.len() + 1, ..*mark });
        }
    }

    fn receive(&mut self) -> Option<(Mark, Frame)> {
        let frame = self.receiver.as_mut()?.receive_ready()?;
        Some((self.marks.pop_front().expect("every frame is noted"), frame))
    }

    fn handle(&mut self, input: Input, scene: &mut Scene<'_>, channels: &mut [Channel]) {
        for effect in self.session.handle(input, 0) {
            match effect {
                Effect::SendLater { frame, .. } => self.pending.push(Pending::Send(frame)),
                Effect::Subscribe(wish) => {
                    let join = channels.iter_mut().flat_map(|channel| channel.newest(wish.member.topic())).next();
                    join.expect("it was joined").id = Some(wish.join);
                    self.early.insert(wish.join, None);
                    self.pending.push(Pending::Prepare(wish));
                }
                Effect::ReplaceClaims(join, claims) => match (self.keys.get(&join), self.early.get_mut(&join)) {
                    (Some(&key), _) => self.replace_claims(join, key, claims, scene, channels),
                    (None, Some(early)) => *early = Some(claims),
                    (None, None) => {}
                },
                Effect::Unsubscribe(join) => {
                    self.early.remove(&join);
                    if let Some(key) = self.keys.remove(&join) {
                        scene.server.driven.unsubscribe(key);
                    }
                }
                Effect::Count(..) | Effect::Limited(_) => {}
                Effect::Authorize(_) | Effect::Replay(_) | Effect::AwaitStream(_) => panic!("nobody asked for that"),
            }
        }
    }

    fn replace_claims(
        &mut self,
        join: JoinId,
        key: SubscriptionKey,
        claims: Claims,
        scene: &mut Scene<'_>,
        channels: &mut [Channel],
    ) {
        let sub: Value = serde_json::from_str(&claims.json).unwrap();
        let user = USERS.iter().position(|user| sub["sub"] == *user).unwrap();
        scene.server.driven.replace_claims(key, claims);
        if let Some(ledger) = of_id(channels, join).and_then(|join| join.ledger.as_mut()) {
            ledger.replace_user(scene.step, user);
        }
    }

    /// Goes on with something that takes time; false when there is nothing.
    fn work(&mut self, scene: &mut Scene<'_>, channels: &mut [Channel]) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let at = scene.random.random_range(0..self.pending.len());
        match self.pending.swap_remove(at) {
            Pending::Send(frame) => {
                self.outbox.push(frame);
            }
            Pending::Prepare(wish) if wish.member.is_ended() => {
                self.early.remove(&wish.join);
            }
            Pending::Prepare(wish) => {
                let join = wish.join;
                let start = Position::before(scene.server.era(), scene.database.end);
                let subscription = prepare(*wish, start);
                self.pending.push(Pending::Enter(join, Box::new(subscription)));
            }
            Pending::Enter(join, subscription) => self.enter(join, *subscription, scene, channels),
        }
        true
    }

    fn enter(&mut self, join: JoinId, subscription: Subscription, scene: &mut Scene<'_>, channels: &mut [Channel]) {
        let end = subscription.start.commit_lsn;
        let start = scene.server.head(scene.database, end);
        let ids: Vec<u32> = subscription.bindings.iter().map(|binding| binding.id).collect();
        let key = scene.server.driven.subscribe(subscription).expect("nothing is wrong with it");
        let Some(early) = self.early.remove(&join) else { return scene.server.driven.unsubscribe(key) };
        self.keys.insert(join, key);
        if let Some(entered) = of_id(channels, join) {
            for (asked, id) in entered.asked.iter_mut().zip(ids) {
                asked.id = id;
            }
            let user = (scene.step, entered.user);
            trace(|| format!("  entered at {start:?}, prepared at {end}"));
            entered.fresh = (scene.server.head(scene.database, Lsn::ZERO), start);
            if let Some(Resume::From(cursor)) = &entered.resume {
                let stand = Stand::of(scene.database, cursor);
                entered.back = Some((stand, scene.server.must_resume(cursor, stand.place, end)));
            }
            entered.ledger = Some(Ledger::new(entered.asked.clone(), entered.visibility, user, start));
        }
        if let Some(claims) = early {
            self.replace_claims(join, key, claims, scene, channels);
        }
        self.handle(Input::Subscribed { join, refusal: None }, scene, channels);
    }

    /// The server finds out that the client is gone.
    pub(super) fn end(mut self, server: &mut Server) {
        for join in self.session.end() {
            if let Some(key) = self.keys.remove(&join) {
                server.driven.unsubscribe(key);
            }
        }
    }

    /// What is in the outbox is within its bounds.
    pub(super) fn check_bounds(&self) {
        let Some(receiver) = &self.receiver else { return };
        let (frames, bytes) = receiver.queued();
        assert!(frames <= self.room.0 + 1024 && bytes <= self.room.1 + (8 << 20), "{frames} frames, {bytes} bytes");
    }
}

/// What the database would say of the bindings: texts are canonical as they stand.
fn prepare(wish: Wish, start: Position) -> Subscription {
    let Wish { member, claims, bindings, visibility, resume, held_reply, .. } = wish;
    let mut casts = CastValues::new();
    for Binding { request, .. } in &bindings {
        casts.extend(values_of(request.as_ref().unwrap()));
    }
    let held_reply = held_reply.map(|(reply, _)| reply);
    Subscription { member, claims, bindings, casts: Arc::new(casts), start, resume, visibility, held_reply }
}

fn of_id(channels: &mut [Channel], id: JoinId) -> Option<&mut Join> {
    channels.iter_mut().flat_map(|channel| &mut channel.joins).find(|join| join.id == Some(id))
}

impl Channel {
    /// A cursor to come back with: mostly that of the last frame that was read.
    fn held(&self, random: &mut StdRng) -> Option<Held> {
        if random.random_ratio(1, 8) { self.old.clone() } else { self.last.clone() }
    }

    fn newest(&mut self, topic: &str) -> Option<&mut Join> {
        self.joins.last_mut().filter(|_| self.topic == topic)
    }

    fn is_joined(&self) -> bool {
        self.joins.last().is_some_and(|join| join.ended.is_none() && !join.is_over)
    }
}

impl Client {
    pub(super) fn new(random: &mut StdRng, number: usize) -> Client {
        let codec: &'static dyn Codec = if random.random() { &V1 } else { &V2 };
        // Some topics are shared.
        let topics = [format!("realtime:room{}", number % 2), format!("realtime:own{number}")];
        Client {
            user: random.random_range(0..USERS.len()),
            codec,
            line: None,
            channels: topics
                .into_iter()
                .map(|topic| Channel { topic, joins: Vec::new(), last: None, old: None })
                .collect(),
            next_reference: 1,
            is_amid: false,
        }
    }

    /// Does something.
    pub(super) fn act(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.line.is_none() {
            self.line = Some(Line::open(self.codec, self.user, scene.office));
            for at in 0..self.channels.len() {
                self.channels[at].joins.clear();
                if scene.random.random_ratio(3, 4) {
                    self.join(at, scene);
                }
            }
            return true;
        }
        let at = scene.random.random_range(0..self.channels.len());
        match scene.random.random_range(0..10) {
            0..2 if self.channels[at].is_joined() => self.leave(at, scene),
            2..5 if self.channels[at].is_joined() => self.replace_token(at, scene),
            5..8 if self.channels[at].is_joined() => return false,
            _ => self.join(at, scene),
        }
        true
    }

    fn push(&mut self, at: usize, event: &str, payload: &Value, scene: &mut Scene<'_>) {
        let Some(line) = &mut self.line else { return };
        let channel = &self.channels[at];
        let join_ref = channel.joins.last().map(|join| join.reference.clone());
        let reference = self.next_reference.to_string();
        self.next_reference += 1;
        let topic = &channel.topic;
        let text = match self.codec.name() {
            "1.0.0" => json!({"topic": topic, "event": event, "payload": payload, "ref": reference,
                              "join_ref": join_ref}),
            _ => json!([join_ref, reference, topic, event, payload]),
        };
        let push = self.codec.decode_text(&text.to_string()).unwrap();
        line.handle(Input::Push(push), scene, &mut self.channels);
    }

    fn join(&mut self, at: usize, scene: &mut Scene<'_>) {
        let random = &mut *scene.random;
        let mut asked = random_bindings(random);
        if random.random_ratio(1, 30) {
            asked.clear();
        }
        let mut visibility = random.random_ratio(1, 2);
        let mut resume = None;
        let held = self.channels[at].held(random);
        match random.random_range(0..20) {
            0..4 => {}
            4 => resume = Some(Resume::Not("nonsense".to_owned())),
            5..18 if held.is_some() => {
                let held = held.expect("it is");
                (asked, visibility) = (held.asked, held.visibility);
                resume = Some(Resume::From(held.cursor));
            }
            18 if held.is_some() => {
                let Cursor { mut epoch, commit_lsn, .. } = held.expect("it is").cursor;
                epoch.timeline += 1000;
                resume = Some(Resume::Not(
                    Cursor { epoch, commit_lsn, ordinal: 0, part: 0, beside: Beside::default() }.to_string(),
                ));
            }
            19 if held.is_some() => {
                let ahead = Cursor { commit_lsn: Lsn(u64::MAX >> 1), ..held.expect("it is").cursor };
                resume = Some(Resume::Not(ahead.to_string()));
            }
            _ => resume = Some(Resume::Start),
        }
        let mut options = json!({"visibility": visibility});
        if random.random_ratio(1, 4) {
            options["wait"] = true.into();
        }
        match &resume {
            None => {}
            Some(Resume::Start) => options["resume"] = true.into(),
            Some(Resume::From(cursor)) => options["resume"] = cursor.to_string().into(),
            Some(Resume::Not(text)) => options["resume"] = text.clone().into(),
        }
        let bindings: Vec<Value> = asked.iter().map(Asked::json).collect();
        let token = &scene.office.tokens[self.user][0];
        let payload = json!({
            "config": {"postgres_changes": bindings, "postgres_changes_options": options},
            "access_token": token,
        });
        let channel = &mut self.channels[at];
        if let Some(before) = channel.joins.last_mut() {
            before.ended.get_or_insert(scene.step);
        }
        channel.joins.push(Join {
            from: scene.step,
            ended: None,
            id: None,
            reference: format!("j{}", self.next_reference),
            user: self.user,
            asked,
            visibility,
            resume,
            ledger: None,
            fresh: Default::default(),
            back: None,
            is_subscribed: false,
            is_closed: false,
            is_over: false,
        });
        scene.counts.joins += 1;
        trace(|| format!("  client {:p} joins with {payload}", &raw const *self));
        self.push(at, "phx_join", &payload, scene);
    }

    fn leave(&mut self, at: usize, scene: &mut Scene<'_>) {
        self.push(at, "phx_leave", &json!({}), scene);
        if let Some(join) = self.channels[at].joins.last_mut() {
            join.ended.get_or_insert(scene.step);
        }
    }

    /// Mostly the same user goes on with another token; sometimes another one.
    fn replace_token(&mut self, at: usize, scene: &mut Scene<'_>) {
        let user = match scene.random.random_ratio(1, 4) {
            true => scene.random.random_range(0..USERS.len()),
            false => self.user,
        };
        let token = scene.office.tokens[user][scene.random.random_range(0..2)].clone();
        self.push(at, "access_token", &json!({"access_token": token}), scene);
    }

    /// The connection breaks, and what it had not read is lost. The server finds out later.
    pub(super) fn die(&mut self) -> Option<Line> {
        let mut line = self.line.take()?;
        line.receiver = None;
        self.channels.iter_mut().for_each(|channel| channel.joins.clear());
        Some(line)
    }

    pub(super) fn work(&mut self, scene: &mut Scene<'_>) -> bool {
        let Some(line) = &mut self.line else { return false };
        line.work(scene, &mut self.channels)
    }

    /// Whether it has read a part of the messages about a change.
    pub(super) fn is_amid(&self) -> bool {
        self.is_amid
    }

    /// Reads up to so many frames; how many there were.
    pub(super) fn read(&mut self, limit: usize, scene: &mut Scene<'_>) -> usize {
        for count in 0..limit {
            self.is_amid = false;
            let Some((mark, frame)) = self.line.as_mut().and_then(Line::receive) else { return count };
            self.hear(&mark, &frame, scene);
        }
        limit
    }

    fn hear(&mut self, mark: &Mark, frame: &Frame, scene: &mut Scene<'_>) {
        let Frame::Text(text) = frame else { panic!("nobody sends bytes") };
        trace(|| format!("  client {:p} reads what was queued in {}: {text}", &raw const *self, mark.step));
        let mut message: Value = serde_json::from_str(text).unwrap();
        let (topic, event, mut payload) = match self.codec.name() {
            "1.0.0" => (message["topic"].take(), message["event"].take(), message["payload"].take()),
            _ => (message[2].take(), message[3].take(), message[4].take()),
        };
        let reference = match self.codec.name() {
            "1.0.0" => message["ref"].take(),
            _ => message[0].take(),
        };
        let (topic, event) = (topic.as_str().expect("a topic"), event.as_str().expect("an event"));
        let channel = self.channels.iter_mut().find(|channel| channel.topic == topic).expect("a topic of its own");
        match event {
            "phx_reply" => assert_eq!(payload["status"], "ok", "{text}"),
            "phx_close" | "phx_error" => {
                let is_meant = |join: &&mut Join| reference == join.reference.as_str();
                if let Some(join) = channel.joins.iter_mut().find(is_meant) {
                    assert!(!std::mem::replace(&mut join.is_closed, event == "phx_close"), "it ends twice: {text}");
                    join.is_over = true;
                    join.ended.get_or_insert(mark.step);
                }
            }
            "system" | "postgres_changes" => {
                let is_meant = |join: &&mut Join| join.from <= mark.step;
                let join = channel.joins.iter_mut().rfind(is_meant).expect("it was joined");
                let ground = Ground { database: scene.database, catalogs: scene.catalogs };
                assert!(!join.is_over, "nothing follows the end of a join: {text}");
                assert!(join.ended.is_none_or(|ended| mark.step < ended), "the join had ended: {text}");
                let data = if event == "system" { &mut payload } else { &mut payload["data"] };
                let cursor = data.as_object_mut().and_then(|data| data.remove("cursor"));
                let cursor: Option<Cursor> = cursor.map(|text| text.as_str().unwrap().parse().unwrap());
                assert!(cursor.is_none() || join.resume.is_some(), "who asks for no cursor gets none: {text}");
                let stand = cursor.as_ref().map(|cursor| {
                    assert!(scene.server.has_known(cursor.epoch), "{cursor:?} is of no history");
                    Stand::of(scene.database, cursor)
                });
                if event == "system" {
                    join.hear_system(mark, &payload, stand, scene);
                } else {
                    scene.counts.changes += 1;
                    self.is_amid = stand.is_some_and(|stand| stand.part > 0);
                    scene.counts.parts += usize::from(self.is_amid);
                    assert!(mark.queued <= self.line.as_ref().map_or(0, |line| line.room.0).max(FRAMES_OF_A_CHANGE));
                    assert_eq!(stand.is_some(), join.resume.is_some(), "{text}");
                    check_text(&payload, (self.codec.name(), topic), text, scene.texts);
                    assert!(join.is_subscribed, "nothing comes before the word that it is active: {text}");
                    let ledger = join.ledger.as_mut().expect("it is subscribed");
                    let ids: Vec<u32> = serde_json::from_value(payload["ids"].take()).unwrap();
                    ledger.hear(ground, mark, &payload["data"], ids, stand);
                }
                let held = cursor.map(|cursor| Held { cursor, asked: join.asked.clone(), visibility: join.visibility });
                // What is still read of a join before is of no use to the one after it.
                if held.is_some() && join.from == channel.joins.last().map_or(0, |last| last.from) {
                    if channel.old.is_none() || scene.random.random_ratio(1, 30) {
                        channel.old = held.clone();
                    }
                    channel.last = held;
                }
            }
            "presence_state" | "presence_diff" | "broadcast" => {}
            other => panic!("{other}: {text}"),
        }
    }

    /// Everything that committed has been served and read.
    pub(super) fn settle(&mut self, scene: &mut Scene<'_>) {
        let ground = Ground { database: scene.database, catalogs: scene.catalogs };
        for join in self.channels.iter_mut().flat_map(|channel| &mut channel.joins) {
            if let Some(ledger) = join.ledger.as_mut().filter(|_| join.ended.is_none()) {
                assert!(join.is_subscribed, "it is entered, and was told so");
                ledger.settle(ground, scene.step);
            }
        }
        for channel in &self.channels {
            let join = channel.joins.last().filter(|join| join.ended.is_none() && !join.asked.is_empty());
            if join.is_some_and(|join| join.resume.is_some() && join.ledger.is_some()) {
                let cursor = channel.last.as_ref().expect("it was given one").cursor;
                let place = Stand::of(scene.database, &cursor).place;
                let is_good = scene.server.must_resume(&cursor, place, scene.database.end);
                assert!(is_good, "{cursor:?} has become too old in silence");
            }
        }
    }
}

impl Join {
    /// Whether it came back within a transaction that is streamed otherwise now.
    fn is_recounted(&self, server: &Server) -> bool {
        matches!(&self.resume, Some(Resume::From(cursor)) if server.counts_otherwise(cursor))
    }

    fn hear_system(&mut self, mark: &Mark, payload: &Value, stand: Option<Stand>, scene: &mut Scene<'_>) {
        let text = payload["message"].as_str().unwrap();
        let is_ok = payload["status"] == "ok";
        let ground = Ground { database: scene.database, catalogs: scene.catalogs };
        let is_resumable = self.resume.is_some();
        let said = payload["resumed"].as_bool();
        let is_recounted = self.is_recounted(scene.server);
        assert!(is_resumable || payload["reason"].is_null(), "{payload}");
        match text {
            refusal::SUBSCRIBED if is_ok => {
                assert_eq!(said.is_some(), is_resumable, "{payload}");
                let ledger = self.ledger.as_mut().expect("it is entered");
                if std::mem::replace(&mut self.is_subscribed, true) {
                    stand.into_iter().for_each(|stand| ledger.stand(ground, mark, stand));
                } else if said == Some(true) {
                    let (back, _) = self.back.expect("it came back with a cursor");
                    assert_eq!(stand, Some(back), "it goes on where it was");
                    ledger.begin_at(back);
                    scene.counts.resumed += 1;
                } else if is_resumable {
                    let must = self.back.is_some_and(|(_, must)| must);
                    scene.counts.recounted += usize::from(is_recounted);
                    assert!(!must, "{payload}: everything behind {:?} is there", self.back);
                    assert_eq!(payload["reason"].is_null(), matches!(self.resume, Some(Resume::Start)), "{payload}");
                    let stand = stand.expect("a cursor");
                    let (first, last) = self.fresh;
                    assert!(
                        (first..=last).contains(&stand.place) && stand.part == 0,
                        "{stand:?}, not {:?}",
                        self.fresh
                    );
                    ledger.begin_at(stand);
                    scene.counts.not_resumed += 1;
                }
            }
            "cursor" if is_ok => {
                scene.counts.fresh += 1;
                assert!(is_resumable && said.is_none() && self.is_subscribed);
                self.ledger.as_mut().expect("it is subscribed").stand(ground, mark, stand.expect("a cursor"));
            }
            refusal::CHANGES_SKIPPED if !is_ok && payload["reason"] == refusal::CURSOR_TOO_OLD => {
                scene.counts.recounted += 1;
                assert!(said == Some(false) && is_recounted, "{payload}");
                self.ledger.as_mut().expect("it is subscribed").miss(ground, stand);
                assert!(stand.is_some_and(|stand| stand.place <= mark.head), "more is lost than was said");
            }
            refusal::CHANGES_SKIPPED if !is_ok => {
                scene.counts.gaps += 1;
                assert_eq!(said, is_resumable.then_some(false), "{payload}");
                let ledger = self.ledger.as_mut().expect("it is subscribed");
                // Who comes back lags where he stood; who is there already, at what was offered to him.
                let offered = match self.back {
                    Some(_) => Some(ledger.next(scene.database)),
                    None => ledger.next_offered(scene.database),
                };
                let kept = (mark.kept_from, mark.fragments);
                let is_kept = offered.is_none_or(|place| scene.server.keeps(place, kept));
                let is_unasked = mark.unasked && !is_resumable;
                assert!(!is_kept || is_unasked, "a gap at {offered:?}, and nothing of it is gone: {mark:?}");
                ledger.miss(ground, stand);
                assert!(stand.is_none_or(|stand| stand.place <= mark.head), "more is lost than was said");
            }
            refusal::STREAM_BEGAN_ANEW if !is_ok => {
                scene.counts.renewals += 1;
                assert_eq!(said, is_resumable.then_some(false), "{payload}");
                self.ledger.as_mut().expect("it is subscribed").miss(ground, stand);
                assert!(stand.is_none_or(|stand| stand.place <= mark.head), "more is lost than was said");
            }
            _ if is_ok && text.starts_with("Rights to rows of public.") => assert!(self.visibility),
            other => panic!("{other}"),
        }
    }
}

/// Equal messages are equal byte by byte, whoever they are for, but for the cursor.
fn check_text(payload: &Value, (codec, topic): (&str, &str), text: &str, texts: &mut HashMap<String, String>) {
    let plain = match text.split_once(r#","cursor":""#) {
        Some((before, after)) => format!("{before}{}", after.split_once('"').expect("its end").1),
        None => text.to_owned(),
    };
    let known = texts.entry(format!("{codec} {topic} {payload}")).or_insert_with(|| plain.clone());
    assert_eq!(*known, plain);
}

/// Bindings of a join: often of one table, so that one change concerns several.
fn random_bindings(random: &mut StdRng) -> Vec<Asked> {
    let table = random.random_range(0..TABLES.len());
    let is_of_one = random.random_ratio(2, 3);
    let mut all: Vec<Asked> = Vec::new();
    for _ in 0..random.random_range(1..5) {
        let table = if is_of_one { table } else { random.random_range(0..TABLES.len()) };
        let next = random_binding(random, table);
        // Equal ones would share a number.
        if !all.iter().any(|other| other.json() == next.json()) {
            all.push(next);
        }
    }
    all
}

fn random_binding(random: &mut StdRng, table: usize) -> Asked {
    let table = random.random_ratio(2, 3).then_some(table);
    let operation = match random.random_range(0..12) {
        0 => Some(Operation::Insert),
        1 => Some(Operation::Update),
        2 => Some(Operation::Delete),
        _ => None,
    };
    let filter = match random.random_range(0..8) {
        0..2 => Some(Filter { column: "state", value: GROUPS[random.random_range(0..GROUPS.len())].to_owned() }),
        2 => Some(Filter { column: "owner", value: USERS[random.random_range(0..USERS.len())].to_owned() }),
        3 => Some(Filter { column: "id", value: random.random_range(1..10).to_string() }),
        _ => None,
    };
    Asked { table, operation, filter, id: 0 }
}
