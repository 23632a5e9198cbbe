//! What a client makes of what it hears: whether numbers follow each other, and where it would come back to.

use crate::world::{Sequence, Table, Truth};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// Mistakes that are told of one client.
const TOLD_MISTAKES: usize = 3;

/// A frame of version 1.0.0.
#[derive(Deserialize)]
pub(crate) struct Frame {
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) payload: Value,
    #[serde(rename = "ref")]
    pub(crate) reference: Option<String>,
}

/// What a client has heard of row changes and words.
#[derive(Default)]
pub(crate) struct Hearing {
    name: String,
    /// The last number of each sequence.
    last: HashMap<Sequence, u64>,
    /// Whether a sequence it has heard nothing of has not begun.
    knows_beginnings: bool,
    /// The last word of each speaker and stay.
    words: HashMap<(u64, u64), u64>,
    pub(crate) cursor: Option<String>,
    pub(crate) events: u64,
    pub(crate) heard: u64,
    pub(crate) mistakes: Vec<String>,
}

impl Hearing {
    pub(crate) fn new(name: String) -> Hearing {
        Hearing { name, knows_beginnings: true, ..Hearing::default() }
    }

    /// It begins anew: what came meanwhile is lost to it, and it knows.
    pub(crate) fn forget(&mut self) {
        self.last.clear();
        self.knows_beginnings = false;
    }

    /// A new stay in the room: words of before are not its own.
    pub(crate) fn enter(&mut self) {
        self.words.clear();
    }

    pub(crate) fn mistake(&mut self, text: &str) {
        if self.mistakes.len() < TOLD_MISTAKES {
            self.mistakes.push(format!("{}: {text}", self.name));
        }
    }

    pub(crate) fn change(&mut self, payload: &Value) {
        let data = &payload["data"];
        self.events += 1;
        if let Some(cursor) = data["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
        if !data["errors"].is_null() {
            return self.mistake(&format!("an error: {}", data["errors"]));
        }
        // Its row was told when it came.
        if data["type"] == "DELETE" {
            return;
        }
        let record = &data["record"];
        let table = data["table"].as_str().and_then(Table::of);
        let worker = record["worker"].as_u64().and_then(|worker| usize::try_from(worker).ok());
        let person = record["person"].as_i64().and_then(|person| i32::try_from(person).ok());
        let (Some(table), Some(worker), Some(person), Some(number)) = (table, worker, person, record["n"].as_u64())
        else {
            return self.mistake("a change that is none of the world's");
        };
        let sequence = (table, worker, person);
        let before = self.last.insert(sequence, number).or(self.knows_beginnings.then_some(0));
        if before.is_some_and(|before| number != before + 1) {
            self.mistake(&format!("{sequence:?}: {number} behind {}", before.unwrap_or_default()));
        }
    }

    pub(crate) fn word(&mut self, payload: &Value) {
        let word = &payload["payload"];
        let (Some(who), Some(stay), Some(number)) = (word["who"].as_u64(), word["stay"].as_u64(), word["k"].as_u64())
        else {
            return self.mistake("a word of nobody");
        };
        self.heard += 1;
        let before = self.words.insert((who, stay), number);
        if before.is_some_and(|before| number != before + 1) {
            self.mistake(&format!("word {number} of {who} behind {}", before.unwrap_or_default()));
        }
    }

    /// Whether it has everything of the sequences it sees, as far as it can know.
    pub(crate) fn is_complete(&self, truth: &Truth, sees: impl Fn(&Sequence) -> bool) -> bool {
        truth.iter().filter(|(sequence, _)| sees(sequence)).all(|(sequence, number)| match self.last.get(sequence) {
            Some(last) => last == number,
            None => !self.knows_beginnings,
        })
    }
}
