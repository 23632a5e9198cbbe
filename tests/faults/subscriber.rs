//! A client that comes back: one channel, its last cursor, and everything it was told, in order.

use super::storm::PATIENCE;
use crate::support::{
    json::Json,
    postgres::drive,
    server::websocket_url_at,
    socket::{Heard, Message, Socket},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub const TOPIC: &str = "realtime:storm";
const RETRY: Duration = Duration::from_millis(50);
/// Below the silence after which a client is closed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a subscriber was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Event(Event),
    /// Changes are lost to everybody: why, and between which positions.
    Gap {
        reason: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// It came back with a cursor and could not go on there.
    Refused(String),
    /// A binding did not work for a while.
    Inactive,
    /// Any other word of the system about changes.
    Told {
        ok: bool,
        message: String,
    },
}

/// A change, as the ledger names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub table: String,
    pub op: String,
    pub id: i64,
    /// The row's number; none for a DELETE, of which only the key is told.
    pub n: Option<i64>,
    /// The columns that came.
    pub columns: Vec<String>,
}

/// Who subscribes to what.
#[derive(Clone)]
pub struct Who {
    pub name: &'static str,
    pub token: String,
    pub tables: &'static [&'static str],
    /// Which lines of the ledger are of rows that he may see.
    pub sees: String,
}

/// A subscriber's ear.
pub struct Subscriber {
    pub who: Who,
    heard: Arc<Mutex<Vec<Item>>>,
    changed: watch::Receiver<usize>,
    joins: watch::Receiver<usize>,
}

struct Task {
    who: Who,
    server: watch::Receiver<Option<String>>,
    heard: Arc<Mutex<Vec<Item>>>,
    tell: watch::Sender<usize>,
    joins: watch::Sender<usize>,
    cursor: Option<String>,
}

impl Subscriber {
    /// One that joins wherever the server is.
    pub fn start(who: Who, server: watch::Receiver<Option<String>>) -> Subscriber {
        let heard = Arc::<Mutex<Vec<Item>>>::default();
        let (tell, changed) = watch::channel(0);
        let (joins, joined) = watch::channel(0);
        drive(Task { who: who.clone(), server, heard: heard.clone(), tell, joins, cursor: None }.run());
        Subscriber { who, heard, changed, joins: joined }
    }

    /// What it was told so far.
    pub fn heard(&self) -> Vec<Item> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it is so.
    pub async fn until(&self, limit: Duration, mut is_so: impl FnMut(&[Item]) -> bool) -> bool {
        let mut changed = self.changed.clone();
        let wait = changed.wait_for(|_| is_so(&self.heard.lock().unwrap()));
        tokio::time::timeout(limit, wait).await.is_ok_and(|done| done.is_ok())
    }

    /// Waits until it is subscribed for the first time.
    pub async fn joined(&self) {
        let mut joins = self.joins.clone();
        let wait = joins.wait_for(|&count| count > 0);
        tokio::time::timeout(PATIENCE, wait).await.expect("it joins").unwrap();
    }
}

impl Task {
    async fn run(mut self) {
        loop {
            let server = match self.server.wait_for(Option::is_some).await {
                Ok(server) => server.clone().expect("waited for some"),
                Err(_) => return,
            };
            let url = websocket_url_at(&server, "2.0.0", &self.who.token);
            if let Ok(Ok(mut socket)) = Socket::try_connect(&url, &[]).await {
                self.listen(&mut socket).await;
            }
            if self.server.has_changed().is_err() {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Until the socket or the channel ends.
    async fn listen(&mut self, socket: &mut Socket) {
        let bindings: Vec<Value> = self.who.tables.iter().map(|name| binding(name)).collect();
        let resume = self.cursor.clone().map_or(json!(true), Value::from);
        let config = json!({"postgres_changes": bindings, "postgres_changes_options": {"resume": resume}});
        let reference = json!("1");
        socket.push(&reference, &reference, TOPIC, "phx_join", &json!({ "config": config })).await;
        let mut is_subscribed = false;
        loop {
            match socket.read(Instant::now() + HEARTBEAT).await {
                Heard::Message(message) => match self.take(&message, &mut is_subscribed) {
                    true => {}
                    false => return,
                },
                Heard::Binary(bytes) => panic!("a binary frame: {bytes:?}"),
                Heard::Closed(_) => return,
                Heard::Silence => {
                    socket.push(&Value::Null, &json!("hb"), "phoenix", "heartbeat", &json!({})).await;
                }
            }
        }
    }

    /// Whether the channel goes on.
    fn take(&mut self, message: &Message, is_subscribed: &mut bool) -> bool {
        let payload = &message.payload;
        let text = |json: &Json| json.as_str().map(str::to_owned);
        if message.is(TOPIC, "phx_reply") {
            return *payload.at("status") == "ok";
        }
        if message.is(TOPIC, "phx_error") || message.is(TOPIC, "phx_close") {
            return false;
        }
        if message.is(TOPIC, "postgres_changes") {
            let data = payload.at("data");
            self.cursor = Some(text(data.at("cursor")).unwrap_or_else(|| panic!("no cursor: {message:?}")));
            self.note(Item::Event(event(data)));
            return true;
        }
        if !message.is(TOPIC, "system") || *payload.at("extension") != "postgres_changes" {
            return true;
        }
        let cursor = payload.has("cursor").then(|| text(payload.at("cursor"))).flatten();
        let came_with_cursor = self.cursor.is_some();
        let is_resumed = payload.has("resumed").then(|| *payload.at("resumed") == Json::Bool(true));
        let reason =
            || if payload.has("reason") { text(payload.at("reason")).unwrap_or_default() } else { String::new() };
        let position = |name: &str| payload.has("gap").then(|| text(payload.at("gap").at(name))).flatten();
        let (ok, said) = (*payload.at("status") == "ok", text(payload.at("message")).unwrap_or_default());
        match is_resumed {
            Some(true) => {}
            Some(false) if reason().contains("inactive") => self.note(Item::Inactive),
            Some(false) if !ok => self.note(Item::Gap { reason: reason(), from: position("from"), to: position("to") }),
            Some(false) if came_with_cursor => self.note(Item::Refused(reason())),
            Some(false) => {}
            None if said == "cursor" => {}
            None => self.note(Item::Told { ok, message: said.clone() }),
        }
        self.cursor = cursor.or(self.cursor.take());
        if ok && said == "Subscribed to PostgreSQL" && !*is_subscribed {
            *is_subscribed = true;
            self.joins.send_modify(|count| *count += 1);
        }
        true
    }

    fn note(&self, item: Item) {
        let count = {
            let mut heard = self.heard.lock().unwrap();
            heard.push(item);
            heard.len()
        };
        self.tell.send_replace(count);
    }
}

/// All events of a table, of schema `public` unless its name says otherwise.
fn binding(name: &str) -> Value {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    json!({"event": "*", "schema": schema, "table": table})
}

fn event(data: &Json) -> Event {
    let text = |key: &str| data.at(key).as_str().expect("a text").to_owned();
    let op = text("type");
    let row = data.at(if op == "DELETE" { "old_record" } else { "record" });
    let columns = row.keys().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let number = |key: &str| row.has(key).then(|| row.at(key).as_i64()).flatten();
    let id = number("id").unwrap_or_else(|| panic!("a key in {data}"));
    let n = if op == "DELETE" { None } else { number("n") };
    Event { table: text("table"), op, id, n, columns }
}
