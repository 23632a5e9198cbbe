//! A recorded conversation as steps to play: what the client does, what the server said to it, what happened in the
//! database. The files come from the replaced server; their times, and notes about them, play no part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

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
    Sql(String),
    /// The client goes away.
    Close {
        conn: String,
    },
    /// The server goes away.
    Closed {
        conn: String,
        code: u16,
    },
}

/// A conversation in order.
pub struct Recording {
    pub name: String,
    pub steps: Vec<Step>,
}

impl Recording {
    /// Reads `recordings/NAME.v1.jsonl` or `.v2.jsonl`.
    pub fn load(name: &str, vsn: Vsn) -> Self {
        let suffix = if vsn == Vsn::V1 { "v1" } else { "v2" };
        let path = format!("{}/tests/wire/recordings/{name}.{suffix}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut urls: Vec<(String, String)> = Vec::new();
        let steps = text.lines().filter_map(|line| step(line, &mut urls)).collect();
        Self { name: name.to_owned(), steps }
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

fn step(line: &str, urls: &mut Vec<(String, String)>) -> Option<Step> {
    let line: Value = serde_json::from_str(line).expect("a line of a recording is JSON");
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let conn = text("conn");
    Some(match text("dir").as_str() {
        "open" => {
            urls.push((conn.clone(), text("url")));
            Step::Open { conn, url: text("url") }
        }
        "http" => Step::Refusal {
            conn,
            url: text("url"),
            status: line["status"].as_u64().and_then(|status| status.try_into().ok()).expect("a status"),
            content_type: line["headers"]["content-type"].as_str().map(str::to_owned),
            body: text("body"),
        },
        "c2s" if line["opcode"] == "binary" => {
            Step::SendBinary { conn, bytes: STANDARD.decode(text("frame")).expect("bytes are base64") }
        }
        "c2s" => Step::SendText { conn, text: with_tokens(&text("frame")) },
        "s2c" => {
            let url = &urls.iter().rfind(|(known, _)| *known == conn).expect("a frame follows its open").1;
            let vsn = if url.contains("vsn=2.") { Vsn::V2 } else { Vsn::V1 };
            Step::Receive { conn, message: Box::new(Message::parse(&text("frame"), vsn)) }
        }
        "sql" => Step::Sql(text("sql")),
        "close" if line["code"] == 1005 => Step::Close { conn },
        "close" => {
            Step::Closed { conn, code: line["code"].as_u64().and_then(|code| code.try_into().ok()).expect("a code") }
        }
        "note" => return None,
        other => panic!("a recording of these areas has no {other}"),
    })
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
