//! A recorded conversation as steps to play: what the client does, what the server said to it, what happened in the
//! database. The files come from the replaced server; their times, and notes about them, play no part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::cut::{self, Cut};
use super::fixture;
use crate::support::json::Json;
use crate::support::socket::{Message, Vsn};

/// One thing that happens in a conversation.
#[derive(Debug)]
pub enum Step {
    Open {
        conn: String,
        url: String,
    },
    Refusal {
        conn: String,
        url: String,
        status: u16,
        content_type: Option<String>,
        body: String,
    },
    SendText {
        conn: String,
        text: String,
    },
    SendBinary {
        conn: String,
        bytes: Vec<u8>,
    },
    Receive {
        conn: String,
        message: Box<Message>,
    },
    /// The server said what no client can read.
    ReceiveUnreadable {
        conn: String,
        frame: String,
    },
    Sql(String),
    Http(Box<Exchange>),
    /// The client goes away.
    Close {
        conn: String,
    },
    /// The client's connection is lost, without a word.
    Lose {
        conn: String,
    },
    /// The server goes away.
    Closed {
        conn: String,
        code: u16,
    },
}

/// A request and its answer.
#[derive(Debug)]
pub struct Exchange {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub status: u16,
    pub content_type: Option<String>,
    pub answer: String,
}

/// A conversation in order.
pub struct Recording {
    pub name: String,
    /// `v1` or `v2`.
    pub suffix: &'static str,
    pub steps: Vec<Step>,
}

impl Recording {
    /// Reads `recordings/NAME.v1.jsonl` or `.v2.jsonl`.
    pub fn load(name: &str, vsn: Vsn) -> Self {
        let suffix = if vsn == Vsn::V1 { "v1" } else { "v2" };
        let path = format!("{}/tests/wire/recordings/{name}.{suffix}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut reader = Reader::default();
        let mut steps: Vec<Step> = text.lines().filter_map(|line| reader.step(line)).collect();
        closes_before_what_they_cause(&mut steps);
        if name == "real-client" {
            insert_what_the_client_wrote(&mut steps);
        }
        Self { name: name.to_owned(), suffix, steps }
    }

    /// `(table, id)` of the first row that an INSERT brought, for every table: where the sequences stood then.
    pub fn first_ids(&self) -> Vec<(String, i64)> {
        let mut first: Vec<(String, i64)> = Vec::new();
        for step in &self.steps {
            let Step::Receive { message, .. } = step else { continue };
            let data = change(message);
            let (Some(table), Some(id)) = (data.at("table").as_str(), data.at("record").at("id").as_i64()) else {
                continue;
            };
            if *data.at("type") == "INSERT" && !first.iter().any(|(known, _)| known == table) {
                first.push((table.to_owned(), id));
            }
        }
        first
    }
}

/// The `data` object of a change, in either form; `Null` for other messages.
pub fn change(message: &Message) -> &Json {
    if message.event == "postgres_changes" {
        message.payload.at("data")
    } else if message.payload.has("commit_timestamp") {
        &message.payload
    } else {
        &Json::Null
    }
}

/// Reads lines; what one line means depends on those before it.
#[derive(Default)]
struct Reader {
    urls: Vec<(String, String)>,
    /// Pushes of each connection so far.
    pushes: Vec<String>,
    request: Option<Exchange>,
    /// The connection whose client has lost it.
    lost: Option<String>,
}

impl Reader {
    fn step(&mut self, line: &str) -> Option<Step> {
        let line: Value = serde_json::from_str(line).expect("a line of a recording is JSON");
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| line[key].as_u64().and_then(|number| u16::try_from(number).ok());
        let conn = text("conn");
        Some(match text("dir").as_str() {
            "open" => {
                self.urls.push((conn.clone(), text("url")));
                Step::Open { conn, url: text("url") }
            }
            "http" => Step::Refusal {
                conn,
                url: text("url"),
                status: number("status").expect("a status"),
                content_type: line["headers"]["content-type"].as_str().map(str::to_owned),
                body: text("body"),
            },
            "c2s" => self.push(conn, &line),
            "s2c" => self.receive(conn, &line),
            "sql" => Step::Sql(text("sql")),
            "http-req" => {
                self.request = Some(request(&line));
                return None;
            }
            "http-resp" => {
                let request = self.request.take().expect("an answer follows its request");
                let content_type = line["type"].as_str().map(str::to_owned);
                let status = number("status").expect("a status");
                Step::Http(Box::new(Exchange { status, content_type, answer: text("body"), ..request }))
            }
            "close" if line["code"] == 1005 => Step::Close { conn },
            // Told with the note already.
            "close" if self.lost.as_ref() == Some(&conn) => return None,
            "close" => Step::Closed { conn, code: number("code").expect("a code") },
            "note" => {
                // A lost connection looks alike from both ends, and is recorded late; the note tells whose doing it was.
                let conn = text("note").strip_suffix(" drops the connection")?.to_owned();
                self.lost = Some(conn.clone());
                Step::Lose { conn }
            }
            other => panic!("a recording has no {other}"),
        })
    }

    fn push(&mut self, conn: String, line: &Value) -> Step {
        self.pushes.push(conn.clone());
        let frame = line["frame"].as_str().expect("a frame");
        if line["opcode"] == "binary" {
            return Step::SendBinary { conn, bytes: STANDARD.decode(frame).expect("bytes are base64") };
        }
        let reference = self.pushes.iter().filter(|by| **by == conn).count();
        Step::SendText { conn, text: with_tokens(&uncut(frame, line, true, reference)) }
    }

    fn receive(&mut self, conn: String, line: &Value) -> Step {
        let frame = line["frame"].as_str().expect("a frame");
        if line["opcode"] == "binary" {
            let message = Message::read_binary(&STANDARD.decode(frame).expect("bytes are base64"));
            return match message {
                Some(message) => Step::Receive { conn, message: Box::new(message) },
                None => Step::ReceiveUnreadable { conn, frame: frame.to_owned() },
            };
        }
        let frame = uncut(frame, line, false, 0);
        if Json::parse(&frame).is_err() {
            return Step::ReceiveUnreadable { conn, frame };
        }
        let url = &self.urls.iter().rfind(|(known, _)| *known == conn).expect("a frame follows its open").1;
        let vsn = if url.contains("vsn=2.") { Vsn::V2 } else { Vsn::V1 };
        Step::Receive { conn, message: Box::new(Message::parse(&frame, vsn)) }
    }
}

/// The whole frame. Its sender numbered its pushes from 1, and the first was the join.
fn uncut(frame: &str, line: &Value, is_push: bool, reference: usize) -> String {
    let bytes = line["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    let cut = bytes.map(|bytes| Cut { bytes, is_push, references: (reference, 1) });
    cut.map_or_else(|| frame.to_owned(), |cut| cut::whole(frame, &cut))
}

fn request(line: &Value) -> Exchange {
    let headers = line["headers"].as_object().into_iter().flatten();
    let headers = headers.map(|(name, value)| (name.clone(), with_tokens(value.as_str().expect("a header"))));
    let mut headers: Vec<_> = headers.collect();
    // The recorded client said so of every body; the recording keeps the headers that differ.
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    let body = line["body"].as_str().map_or_else(|| line["body"].to_string(), str::to_owned);
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    Exchange {
        method: text("method"),
        path: text("path"),
        headers,
        body,
        status: 0,
        content_type: None,
        answer: String::new(),
    }
}

/// A client's close is recorded when the server has answered it; others may have been told of it by then.
fn closes_before_what_they_cause(steps: &mut [Step]) {
    for place in 1..steps.len() {
        let Step::Close { conn: closing } = &steps[place] else { continue };
        let is_news_of_it = |step: &Step| match step {
            Step::Receive { conn, message } => conn != closing && message.event == "presence_diff",
            _ => false,
        };
        let before = steps[..place].iter().rev().take_while(|step| is_news_of_it(step)).count();
        steps[place - before..=place].rotate_right(1);
    }
}

/// The client of this conversation wrote its row by another way than the recorder's.
fn insert_what_the_client_wrote(steps: &mut Vec<Step>) {
    let heard = |step: &Step| matches!(step, Step::Receive { message, .. } if message.event == "postgres_changes");
    let place = steps.iter().position(heard).expect("the client heard of its row");
    let row = format!("insert into public.notes(owner, body) values ('{}', 'from js')", fixture::ALICE);
    steps.insert(place, Step::Sql(row));
}

/// Puts real tokens in the place of `{{jwt:NAME}}`.
pub fn with_tokens(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{jwt:") {
        let (name, after) = after.split_once("}}").expect("a token's name ends");
        out += before;
        out += &fixture::token(name);
        rest = after;
    }
    out + rest
}
