//! The presence of one room: who is there, and with what; as state, and as the differences that lead from one state to
//! the next (protocol reference, section 7). Pure.

use super::member::MemberId;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the server adds to a meta. A client's own fields of these names would be taken for it.
const OWN_FIELDS: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// One tracked object, as clients see it.
struct Meta {
    member: MemberId,
    reference: String,
    /// What the client tracks, without the fields the server adds.
    tracked: Map<String, Value>,
    /// The whole meta as JSON text.
    text: String,
}

impl Meta {
    fn new(member: MemberId, reference: String, previous: Option<&str>, mut tracked: Map<String, Value>) -> Meta {
        OWN_FIELDS.iter().for_each(|field| drop(tracked.remove(*field)));
        let mut whole = tracked.clone();
        whole.insert("phx_ref".to_owned(), Value::from(reference.as_str()));
        if let Some(previous) = previous {
            whole.insert("phx_ref_prev".to_owned(), Value::from(previous));
        }
        Meta { member, reference, tracked, text: Value::Object(whole).to_string() }
    }
}

/// Who is present.
#[derive(Default)]
pub(super) struct Presence {
    keys: BTreeMap<String, Vec<Meta>>,
}

impl Presence {
    /// How many metas there are.
    pub(super) fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// The payload of `presence_state`.
    pub(super) fn state(&self) -> String {
        let mut text = String::from("{");
        for (key, metas) in &self.keys {
            if text.len() > 1 {
                text.push(',');
            }
            entry(&mut text, key, metas.iter().map(|meta| meta.text.as_str()));
        }
        text.push('}');
        text
    }

    /// A member tracks an object under its key, in place of what it tracked before. The payload of the `presence_diff`
    /// this makes; none when nothing has changed. `reference` is the new meta's name.
    pub(super) fn track(
        &mut self,
        member: MemberId,
        key: &str,
        tracked: Map<String, Value>,
        reference: String,
    ) -> Option<String> {
        let metas = self.keys.entry(key.to_owned()).or_default();
        let before = metas.iter_mut().find(|meta| meta.member == member);
        let Some(before) = before else {
            let meta = Meta::new(member, reference, None, tracked);
            let diff = diff(key, Some(&meta.text), None);
            metas.push(meta);
            return Some(diff);
        };
        let meta = Meta::new(member, reference, Some(&before.reference), tracked);
        if meta.tracked == before.tracked {
            return None;
        }
        let diff = diff(key, Some(&meta.text), Some(&before.text));
        *before = meta;
        Some(diff)
    }

    /// A member is gone, or tracks nothing any more. The payload of the `presence_diff`; none when it tracked nothing.
    pub(super) fn untrack(&mut self, member: MemberId, key: &str) -> Option<String> {
        let metas = self.keys.get_mut(key)?;
        let place = metas.iter().position(|meta| meta.member == member)?;
        let meta = metas.remove(place);
        if metas.is_empty() {
            self.keys.remove(key);
        }
        Some(diff(key, None, Some(&meta.text)))
    }
}

/// `"key":{"metas":[...]}`.
fn entry<'a>(text: &mut String, key: &str, metas: impl Iterator<Item = &'a str>) {
    text.push_str(&Value::from(key).to_string());
    text.push_str(r#":{"metas":["#);
    for (place, meta) in metas.enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(meta);
    }
    text.push_str("]}");
}

fn diff(key: &str, join: Option<&str>, leave: Option<&str>) -> String {
    let mut text = String::from(r#"{"joins":{"#);
    if let Some(meta) = join {
        entry(&mut text, key, std::iter::once(meta));
    }
    text.push_str(r#"},"leaves":{"#);
    if let Some(meta) = leave {
        entry(&mut text, key, std::iter::once(meta));
    }
    text.push_str("}}");
    text
}
