//! What a member knows of the others in its room, kept as clients keep it: a state, and the differences after it. What
//! clients forgive is a mistake here: nobody may leave who is not known, and nobody come who is.

use std::collections::BTreeMap;

use serde_json::Value;

/// What each key has, by reference, without the fields the server adds.
pub type Known = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Clone, Default)]
pub struct View {
    /// None before the state has come.
    known: Option<Known>,
    mistakes: Vec<String>,
}

/// Who went by a difference, as what they had tracked.
pub type Gone = Vec<Value>;

impl View {
    pub fn state(&mut self, payload: &Value) {
        if self.known.is_some() {
            self.mistakes.push(format!("a second state: {payload}"));
        }
        let mut known = Known::new();
        for (key, reference, tracked) in metas(payload) {
            known.entry(key).or_default().insert(reference, tracked);
        }
        self.known = Some(known);
    }

    pub fn diff(&mut self, payload: &Value) -> Gone {
        let (joins, leaves) = (metas(&payload["joins"]), metas(&payload["leaves"]));
        let mut gone: Gone = leaves.iter().map(|(_, _, tracked)| tracked.clone()).collect();
        gone.retain(|left| !joins.iter().any(|(_, _, joined)| joined["stay"] == left["stay"]));
        let Some(known) = &mut self.known else {
            self.mistakes.push(format!("a difference before the state: {payload}"));
            return gone;
        };
        for (key, reference, tracked) in joins {
            if known.entry(key.clone()).or_default().insert(reference, tracked).is_some() {
                self.mistakes.push(format!("came twice: {payload}"));
            }
        }
        for (key, reference, tracked) in leaves {
            let metas = known.entry(key.clone()).or_default();
            if metas.remove(&reference) != Some(tracked) {
                self.mistakes.push(format!("went without being there: {payload}"));
            }
            if metas.is_empty() {
                known.remove(&key);
            }
        }
        gone
    }

    /// What is known; none before the state has come.
    pub fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }
}

/// Key, reference and tracked object of each meta.
fn metas(payload: &Value) -> Vec<(String, String, Value)> {
    let mut metas = Vec::new();
    for (key, entry) in payload.as_object().expect("presences by key") {
        for meta in entry["metas"].as_array().expect("a list of metas") {
            let mut tracked = meta.clone();
            let fields = tracked.as_object_mut().expect("a meta is an object");
            let reference = fields.remove("phx_ref").expect("every meta has a reference");
            fields.remove("phx_ref_prev");
            metas.push((key.clone(), reference.as_str().expect("references are texts").to_owned(), tracked));
        }
    }
    metas
}
