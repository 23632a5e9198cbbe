//! The presence of one room: who is there, and with what; as state, and as the differences that lead from one state to
//! the next (protocol reference, section 7). Pure.

use super::{member::MemberId, outbox::RESERVE_BYTES};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the server adds to a meta. A client's own fields of these names would be taken for it.
const OWN_FIELDS: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// Bytes of a room's presence: whoever joins is told all of it at once, and his outbox has to have room for that beside the
/// rest of his greeting. Beyond this nobody could join any more.
const STATE_BYTES: usize = RESERVE_BYTES / 4 * 3;

/// One tracked object, as clients see it. Kept as text alone: parsed, it can take ten times as much memory.
struct Meta {
    member: MemberId,
    reference: String,
    /// The whole meta as JSON, the fields the server adds first.
    text: String,
    /// Where in it begins what the client tracks.
    tracked: usize,
}

impl Meta {
    fn new(member: MemberId, reference: String, previous: Option<&str>, mut tracked: Map<String, Value>) -> Meta {
        OWN_FIELDS.iter().for_each(|field| drop(tracked.remove(*field)));
        let mut text = format!(r#"{{"phx_ref":{}"#, Value::from(reference.as_str()));
        if let Some(previous) = previous {
            text.push_str(&format!(r#","phx_ref_prev":{}"#, Value::from(previous)));
        }
        let own = text.len();
        let fields = Value::Object(tracked).to_string();
        // Without its opening brace.
        let fields = fields.get(1..).unwrap_or("}");
        text.push_str(if fields == "}" { "" } else { "," });
        text.push_str(fields);
        Meta { member, reference, text, tracked: own }
    }

    /// What the client tracks. Fields are in the order of their names, so equal objects have equal texts.
    fn tracked(&self) -> Option<&str> {
        self.text.get(self.tracked..)
    }
}

/// Who is present.
#[derive(Default)]
pub(super) struct Presence {
    keys: BTreeMap<String, Vec<Meta>>,
    /// Bytes of the metas and their keys.
    bytes: usize,
}

impl Presence {
    /// How many metas there are.
    pub(super) fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Whether an object of so many bytes, its key included, fits in.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= STATE_BYTES
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
            self.bytes += key.len() + meta.text.len();
            metas.push(meta);
            return Some(diff);
        };
        let meta = Meta::new(member, reference, Some(&before.reference), tracked);
        if meta.tracked() == before.tracked() {
            return None;
        }
        let diff = diff(&one(key, &meta), &one(key, before));
        self.bytes = self.bytes.saturating_sub(before.text.len()) + meta.text.len();
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
            let text = metas.remove(place).text;
            self.bytes = self.bytes.saturating_sub(key.len() + text.len());
            leaves.entry(key).or_default().push(text);
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
