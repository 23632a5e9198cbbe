//! One client: it joins, reads, does not read, speaks, tracks, refreshes its token, leaves, crashes, and comes back with the
//! cursor it had.

use crate::{
    hearing::{Frame, Hearing},
    support::token,
    world::{Sequence, Table, Truth, uuid},
};
use futures_util::{SinkExt, StreamExt};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Rooms they are in.
const ROOMS: usize = 10;
/// How long a join may take: the machine is shared with all the others.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Away for so long, a client may hear that it has been away too long.
const LONG: Duration = Duration::from_secs(20);

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Everything,
    Filtered(i32),
    Owner(i32),
    Member(i32),
    Asked(i32),
}

impl Kind {
    fn sees(self, (table, _, whose): &Sequence) -> bool {
        match self {
            Kind::Everything => true,
            Kind::Filtered(person) => *table == Table::Open && *whose == person,
            Kind::Owner(person) => *table == Table::Owned && *whose == person,
            Kind::Member(person) => *table == Table::Posted && *whose == person,
            Kind::Asked(person) => *table == Table::Asked && *whose == person,
        }
    }

    fn binding(self) -> Value {
        match self {
            Kind::Everything => json!({"event": "*", "schema": "soak", "table": "*"}),
            Kind::Filtered(person) => {
                json!({"event": "*", "schema": "soak", "table": "open", "filter": format!("person=eq.{person}")})
            }
            Kind::Owner(_) => json!({"event": "*", "schema": "soak", "table": "owned"}),
            Kind::Member(_) => json!({"event": "*", "schema": "soak", "table": "posted"}),
            Kind::Asked(_) => json!({"event": "*", "schema": "soak", "table": "asked"}),
        }
    }

    fn token(self) -> String {
        match self {
            Kind::Everything | Kind::Filtered(_) => token::service(),
            Kind::Owner(person) | Kind::Member(person) | Kind::Asked(person) => token::user(&uuid(person)),
        }
    }
}

/// What everybody does now.
#[derive(Clone)]
pub(crate) enum Phase {
    /// Join, and say when that is done.
    Join,
    Play,
    /// Be there, get what is left, and say when that is all.
    Settle(Arc<Truth>),
    End,
}

/// What all share.
pub(crate) struct Common {
    pub(crate) address: String,
    pub(crate) done: mpsc::Sender<usize>,
}

/// What became of a client.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) events: u64,
    pub(crate) stays: u64,
    pub(crate) resumed: u64,
    pub(crate) too_old: u64,
    pub(crate) gaps: u64,
    pub(crate) pauses: u64,
    pub(crate) refreshed: u64,
    pub(crate) said: u64,
    pub(crate) heard: u64,
    pub(crate) mistakes: Vec<String>,
}

type Socket = WebSocketStream<TcpStream>;

/// How a stay ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Crashed,
    /// It left the channel, and joins again on the same socket.
    Left,
    /// The server ended it.
    Lost,
    /// There is nothing more to do.
    Over,
}

pub(crate) struct Client {
    number: usize,
    kind: Kind,
    /// Whether it comes back with cursors.
    resumes: bool,
    common: Arc<Common>,
    random: StdRng,
    hearing: Hearing,
    report: Report,
    reference: u64,
    join: String,
    said: u64,
    /// When it was last served.
    served: Instant,
    has_reported: bool,
}

impl Client {
    pub(crate) fn new(number: usize, kind: Kind, common: Arc<Common>, seed: u64) -> Client {
        Client {
            number,
            kind,
            resumes: number % 10 != 9,
            common,
            random: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
            hearing: Hearing::new(format!("client {number} ({kind:?})")),
            report: Report::default(),
            reference: 0,
            join: String::new(),
            said: 0,
            served: Instant::now(),
            has_reported: false,
        }
    }

    fn topic(&self) -> String {
        format!("realtime:soak-{}", self.number % ROOMS)
    }

    /// Lives until everything is over.
    pub(crate) async fn live(mut self, mut phase: watch::Receiver<Phase>) -> Report {
        let mut socket = None;
        loop {
            if matches!(*phase.borrow(), Phase::End) || phase.has_changed().is_err() {
                break;
            }
            let mut connected = match socket.take() {
                Some(socket) => socket,
                None => match self.connect().await {
                    Ok(socket) => socket,
                    Err(why) => {
                        self.hearing.mistake(&why);
                        sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                },
            };
            let end = match timeout(JOIN_LIMIT, self.join(&mut connected)).await {
                Ok(Ok(())) => self.stay(&mut connected, &mut phase).await,
                Ok(Err(why)) => {
                    self.hearing.mistake(&why);
                    End::Lost
                }
                Err(_) => {
                    self.hearing.mistake("a join that was not answered");
                    End::Lost
                }
            };
            match end {
                End::Left => socket = Some(connected),
                End::Closed | End::Over => {
                    let _ = timeout(Duration::from_secs(5), connected.close(None)).await;
                }
                End::Crashed => {
                    let _ = connected.get_ref().set_zero_linger();
                }
                End::Lost => {}
            }
            if matches!(*phase.borrow(), Phase::Play) {
                let away = match self.random.random_range(0..100) {
                    0..2 => Duration::from_secs(self.random.random_range(30..90)),
                    _ => Duration::from_millis(self.random.random_range(0..3000)),
                };
                // Whoever is away is called when it is time to settle.
                let _ = timeout(away, phase.wait_for(|phase| !matches!(phase, Phase::Play))).await;
            }
        }
        self.report.events = self.hearing.events;
        self.report.heard = self.hearing.heard;
        self.report.mistakes = self.hearing.mistakes;
        self.report
    }

    async fn connect(&self) -> Result<Socket, String> {
        let address = &self.common.address;
        let failed = |error: &dyn std::fmt::Display| format!("cannot connect: {error}");
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={}&vsn=1.0.0", token::anon());
        let connecting = timeout(JOIN_LIMIT, client_async(url, stream)).await.map_err(|error| failed(&error))?;
        connecting.map(|(socket, _)| socket).map_err(|error| failed(&error))
    }

    async fn push(&mut self, socket: &mut Socket, topic: &str, event: &str, payload: Value) {
        self.reference += 1;
        let join = if topic == "phoenix" { Value::Null } else { self.join.as_str().into() };
        let frame = json!({"topic": topic, "event": event, "payload": payload,
                           "ref": self.reference.to_string(), "join_ref": join});
        // A socket that has ended is found out by reading.
        let _ = socket.send(Message::text(frame.to_string())).await;
    }

    /// Joins, with the cursor if there is one, until the subscription is active.
    async fn join(&mut self, socket: &mut Socket) -> Result<(), String> {
        let topic = self.topic();
        let away = self.served.elapsed();
        let mut config = json!({"postgres_changes": [self.kind.binding()],
            "broadcast": {"self": false, "ack": false},
            "presence": {"key": format!("client-{}", self.number), "enabled": true}});
        let cursor = self.hearing.cursor.clone().filter(|_| self.resumes);
        if self.resumes {
            let wish = cursor.clone().map_or(json!(true), Value::from);
            config["postgres_changes_options"] = json!({ "resume": wish });
        }
        self.join = (self.reference + 1).to_string();
        let payload = json!({"config": config, "access_token": self.kind.token()});
        self.push(socket, &topic, "phx_join", payload).await;
        self.report.stays += 1;
        self.hearing.enter();
        loop {
            let Some(frame) = next(socket).await else { return Err("the socket ended amid a join".to_owned()) };
            match frame.event.as_str() {
                "phx_reply" if frame.reference.as_ref() == Some(&self.join) && frame.payload["status"] != "ok" => {
                    return Err(format!("a join was refused: {}", frame.payload));
                }
                "system" if frame.payload["message"] == "Subscribed to PostgreSQL" => {
                    let has_resumed = frame.payload["resumed"] == true;
                    match (&cursor, has_resumed) {
                        (Some(_), true) => self.report.resumed += 1,
                        (Some(_), false) => {
                            self.report.too_old += 1;
                            if away < LONG {
                                self.hearing.mistake(&format!("not resumed after {away:?}: {}", frame.payload));
                            }
                            self.hearing.forget();
                        }
                        // Nothing was written before the first join of all.
                        (None, _) if self.report.stays > 1 => self.hearing.forget(),
                        (None, _) => {}
                    }
                    self.hearing.cursor = frame.payload["cursor"].as_str().map(str::to_owned).or(cursor);
                    self.served = Instant::now();
                    return Ok(());
                }
                // What is left of the channel it has left on this socket.
                _ if frame.topic == topic
                    && matches!(
                        frame.event.as_str(),
                        "phx_reply" | "phx_close" | "presence_state" | "presence_diff" | "broadcast"
                    ) => {}
                _ if frame.topic == "phoenix" => {}
                other => return Err(format!("{other} amid a join: {}", frame.payload)),
            }
        }
    }

    async fn stay(&mut self, socket: &mut Socket, phase: &mut watch::Receiver<Phase>) -> End {
        let stay = self.report.stays;
        self.said = 0;
        let leave_at = Instant::now() + Duration::from_millis(self.random.random_range(2000..40_000));
        let mut heartbeat_at = Instant::now() + HEARTBEAT;
        let mut act_at = Instant::now() + self.pause();
        let mut goes_on = phase.clone();
        loop {
            let now = phase.borrow_and_update().clone();
            let is_playing = matches!(now, Phase::Play);
            match &now {
                Phase::End => return End::Over,
                Phase::Join => self.tell_done().await,
                Phase::Play => self.has_reported = false,
                Phase::Settle(truth) => {
                    let kind = self.kind;
                    if self.hearing.is_complete(truth, |sequence| kind.sees(sequence)) {
                        self.tell_done().await;
                    }
                }
            }
            tokio::select! {
                frame = next(socket) => {
                    let Some(frame) = frame else { return self.lost() };
                    if let Some(end) = self.hear(&frame) {
                        return end;
                    }
                    self.served = Instant::now();
                }
                changed = goes_on.changed() => if changed.is_err() { return End::Over },
                () = sleep_until(heartbeat_at) => {
                    heartbeat_at += HEARTBEAT;
                    self.push(socket, "phoenix", "heartbeat", json!({})).await;
                }
                () = sleep_until(act_at), if is_playing => {
                    act_at = Instant::now() + self.pause();
                    self.act(socket, stay).await;
                }
                () = sleep_until(leave_at), if is_playing => return self.leave(socket).await,
            }
        }
    }

    async fn tell_done(&mut self) {
        if !std::mem::replace(&mut self.has_reported, true) {
            let _ = self.common.done.send(self.number).await;
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(500..4000))
    }

    async fn act(&mut self, socket: &mut Socket, stay: u64) {
        let topic = self.topic();
        match self.random.random_range(0..100) {
            0..60 => {
                self.said += 1;
                self.report.said += 1;
                let word = json!({"who": self.number, "stay": stay, "k": self.said});
                let payload = json!({"type": "broadcast", "event": "word", "payload": word});
                self.push(socket, &topic, "broadcast", payload).await;
            }
            60..75 => {
                let value = json!({"value": self.random.random_range(0..1000)});
                let payload = json!({"type": "presence", "event": "track", "payload": value});
                self.push(socket, &topic, "presence", payload).await;
            }
            75..80 => {
                let payload = json!({"type": "presence", "event": "untrack"});
                self.push(socket, &topic, "presence", payload).await;
            }
            80..92 => {
                self.report.refreshed += 1;
                let payload = json!({"access_token": self.kind.token()});
                self.push(socket, &topic, "access_token", payload).await;
            }
            _ => {
                self.report.pauses += 1;
                sleep(Duration::from_millis(self.random.random_range(300..5000))).await;
            }
        }
    }

    async fn leave(&mut self, socket: &mut Socket) -> End {
        match self.random.random_range(0..3) {
            0 => End::Closed,
            1 => End::Crashed,
            _ => {
                let topic = self.topic();
                self.push(socket, &topic, "phx_leave", json!({})).await;
                let reference = self.reference.to_string();
                // What comes before the reply was sent before: the cursor is behind it.
                let left = async {
                    while let Some(frame) = next(socket).await {
                        if frame.event == "phx_reply" && frame.reference.as_ref() == Some(&reference) {
                            return true;
                        }
                        if self.hear(&frame).is_some() {
                            return false;
                        }
                    }
                    false
                };
                if timeout(JOIN_LIMIT, left).await.unwrap_or(false) { End::Left } else { self.lost() }
            }
        }
    }

    /// The server ended it. Whoever did not read for seconds is told why, if it reads again.
    fn lost(&mut self) -> End {
        self.report.gaps += 1;
        if !self.resumes {
            self.hearing.forget();
        }
        End::Lost
    }

    fn hear(&mut self, frame: &Frame) -> Option<End> {
        match frame.event.as_str() {
            "postgres_changes" => self.hearing.change(&frame.payload),
            "broadcast" => self.hearing.word(&frame.payload),
            "system" => return self.system(&frame.payload),
            "phx_error" => return Some(self.lost()),
            "phx_reply" if frame.payload["status"] != "ok" => {
                self.hearing.mistake(&format!("a push was refused: {}", frame.payload));
            }
            "phx_close" if frame.reference.as_ref() == Some(&self.join) => return Some(End::Left),
            _ => {}
        }
        None
    }

    fn system(&mut self, payload: &Value) -> Option<End> {
        let cursor = payload["cursor"].as_str().map(str::to_owned);
        if payload["status"] == "ok" {
            self.hearing.cursor = cursor.or(self.hearing.cursor.take());
            return None;
        }
        if payload["resumed"] == false {
            self.report.gaps += 1;
            self.hearing.forget();
            self.hearing.cursor = cursor;
        } else if self.resumes {
            self.hearing.mistake(&format!("{payload}"));
        }
        None
    }
}

/// The next frame; none when the socket has ended.
async fn next(socket: &mut Socket) -> Option<Frame> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}
