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
        let keys = self.keys.iter();
        entries(&mut text, keys.map(|(key, metas)| (key.as_str(), metas.iter().map(|meta| meta.text.as_str()))));
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
            let diff = diff(&one(key, &meta), &Entries::new());
            metas.push(meta);
            return Some(diff);
        };
        let meta = Meta::new(member, reference, Some(&before.reference), tracked);
        if meta.tracked == before.tracked {
            return None;
        }
        let diff = diff(&one(key, &meta), &one(key, before));
        *before = meta;
        Some(diff)
    }

    /// Members are gone, or track nothing any more. The payload of the one `presence_diff` that says so; none when they
    /// tracked nothing.
    pub(super) fn untrack<'a>(&mut self, members: impl Iterator<Item = (MemberId, &'a str)>) -> Option<String> {
        let mut leaves = Entries::new();
        for (member, key) in members {
            let Some(metas) = self.keys.get_mut(key) else { continue };
            let Some(place) = metas.iter().position(|meta| meta.member == member) else { continue };
            leaves.entry(key).or_default().push(metas.remove(place).text);
            if metas.is_empty() {
                self.keys.remove(key);
            }
        }
        (!leaves.is_empty()).then(|| diff(&Entries::new(), &leaves))
    }
}

/// Metas by their keys, as texts.
type Entries<'a> = BTreeMap<&'a str, Vec<String>>;

fn one<'a>(key: &'a str, meta: &Meta) -> Entries<'a> {
    Entries::from([(key, vec![meta.text.clone()])])
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

/// The keys with their metas, one behind the other.
fn entries<'a>(text: &mut String, keys: impl Iterator<Item = (&'a str, impl Iterator<Item = &'a str>)>) {
    for (place, (key, metas)) in keys.enumerate() {
        if place > 0 {
            text.push(',');
        }
        entry(text, key, metas);
    }
}

fn diff(joins: &Entries<'_>, leaves: &Entries<'_>) -> String {
    let mut text = String::from(r#"{"joins":{"#);
    entries(&mut text, joins.iter().map(|(key, metas)| (*key, metas.iter().map(String::as_str))));
    text.push_str(r#"},"leaves":{"#);
    entries(&mut text, leaves.iter().map(|(key, metas)| (*key, metas.iter().map(String::as_str))));
    text.push_str("}}");
    text
}
