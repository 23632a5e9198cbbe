//! `SubscriptionIndex`: a change → the bindings it may match. Pure.
//!
//! What a binding is found by is a hash key, so a change costs what it matches and not how many subscribe: the keys of
//! the subscriber's policy where every way to see a row has one, else an equality of the filter, else nothing. Every
//! binding a change matches is a candidate; not every candidate matches. Taking a subscription out costs its own keys.

use super::{
    image::Images,
    judgement::{Judgement, Side},
};
use crate::{
    change::Datum,
    policy::{
        catalog::{ColumnIndex, CompiledPolicy},
        program::{self, Probe},
        value::Value,
    },
    router::subscription::{TableBinding, TableSubscription},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// A policy's keys are not computed beyond this number while fewer are entered under it.
const PROBE_LIMIT: usize = 64;

/// A subscription's place in the router, and the binding's place in its list for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The subscription's key.
    pub(super) subscription: usize,
    /// The binding's index.
    pub(super) binding: usize,
}

/// The entries under one key; mostly there is one.
#[derive(Debug, Default)]
enum Entries {
    #[default]
    None,
    One(Entry),
    Many(BTreeSet<Entry>),
}

/// The entries of one table.
#[derive(Default)]
struct TableEntries {
    /// Bindings that nothing narrows.
    always: Entries,
    /// Bindings by a column and one of the texts they want there.
    equal: HashMap<ColumnIndex, HashMap<Box<[u8]>, Entries>>,
    /// Bindings by the keys of a policy, by its address.
    policies: HashMap<usize, PolicyEntries>,
    /// Subscriptions that hear of rows that enter and leave: they are looked for by the old image, too.
    told_of_moves: usize,
}

/// The bindings that one policy finds.
struct PolicyEntries {
    /// Keeps the address its own.
    policy: Arc<CompiledPolicy>,
    paths: Vec<PathEntries>,
    /// All of them, those included that no path finds.
    all: Entries,
}

#[derive(Default)]
struct PathEntries {
    keyed: HashMap<Value, Entries>,
    everywhere: Entries,
}

/// The bindings of all subscriptions, by what they ask for and may see.
#[derive(Default)]
pub(super) struct SubscriptionIndex {
    tables: HashMap<u32, TableEntries>,
}

/// What a binding is found by.
enum Hook<'a> {
    Nothing,
    Equal(ColumnIndex, Vec<Box<[u8]>>),
    Policy(&'a Arc<CompiledPolicy>, &'a [program::Entry]),
}

impl SubscriptionIndex {
    /// Enters a subscription's bindings for a table.
    pub(super) fn insert(&mut self, subscription: usize, table: &TableSubscription) {
        let entries = self.tables.entry(table.table.oid).or_default();
        entries.told_of_moves += usize::from(table.tells_moves);
        let paths = paths(table);
        for (binding, wanted) in table.bindings.iter().enumerate() {
            let entry = Entry { subscription, binding };
            match hook(table, wanted, &paths) {
                Hook::Nothing => entries.always.insert(entry),
                Hook::Equal(column, values) => {
                    let by_value = entries.equal.entry(column).or_default();
                    for value in values {
                        by_value.entry(value).or_default().insert(entry);
                    }
                }
                Hook::Policy(policy, paths) => {
                    let found = entries.policies.entry(address(policy)).or_insert_with(|| PolicyEntries {
                        policy: policy.clone(),
                        paths: Vec::new(),
                        all: Entries::None,
                    });
                    found.insert(entry, paths);
                }
            }
        }
    }

    /// Takes them out again.
    pub(super) fn remove(&mut self, subscription: usize, table: &TableSubscription) {
        let Some(entries) = self.tables.get_mut(&table.table.oid) else { return };
        entries.told_of_moves = entries.told_of_moves.saturating_sub(usize::from(table.tells_moves));
        let paths = paths(table);
        for (binding, wanted) in table.bindings.iter().enumerate() {
            let entry = Entry { subscription, binding };
            match hook(table, wanted, &paths) {
                Hook::Nothing => entries.always.remove(entry),
                Hook::Equal(column, values) => {
                    let Some(by_value) = entries.equal.get_mut(&column) else { continue };
                    for value in values {
                        remove_from(by_value, &value, entry);
                    }
                    if by_value.is_empty() {
                        entries.equal.remove(&column);
                    }
                }
                Hook::Policy(policy, paths) => {
                    let Some(found) = entries.policies.get_mut(&address(policy)) else { continue };
                    found.remove(entry, paths);
                    if found.all.is_empty() {
                        entries.policies.remove(&address(policy));
                    }
                }
            }
        }
        if entries.always.is_empty() && entries.equal.is_empty() && entries.policies.is_empty() {
            self.tables.remove(&table.table.oid);
        }
    }

    /// Whether anybody subscribes to the table.
    pub(super) fn has(&self, table: u32) -> bool {
        self.tables.contains_key(&table)
    }

    /// The entries a change may match, in the order of subscriptions, each once. A bare key is for all whom a policy
    /// would have to find, because it cannot be judged.
    pub(super) fn candidates<'a>(
        &'a self,
        table: u32,
        images: &Images<'_>,
        judgement: &mut Judgement<'a>,
        is_public_key: bool,
    ) -> Vec<Entry> {
        let Some(entries) = self.tables.get(&table) else { return Vec::new() };
        let was = images.was.filter(|_| entries.told_of_moves > 0);
        let mut found = Vec::new();
        entries.always.add_to(&mut found);
        for (&column, by_value) in &entries.equal {
            for image in [Some(images.is), was].into_iter().flatten() {
                if let Datum::Text(text) = image.get(column)
                    && let Some(equal) = by_value.get(&text[..])
                {
                    equal.add_to(&mut found);
                }
            }
        }
        for policy in entries.policies.values() {
            if is_public_key {
                policy.all.add_to(&mut found);
                continue;
            }
            policy.find(judgement, Side::Is, &mut found);
            if was.is_some() {
                policy.find(judgement, Side::Was, &mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl PolicyEntries {
    fn insert(&mut self, entry: Entry, paths: &[program::Entry]) {
        self.all.insert(entry);
        if self.paths.len() < paths.len() {
            self.paths.resize_with(paths.len(), PathEntries::default);
        }
        for (path, entered) in self.paths.iter_mut().zip(paths) {
            match entered {
                program::Entry::Nowhere => {}
                program::Entry::Everywhere => path.everywhere.insert(entry),
                program::Entry::Keys(keys) => {
                    for key in keys {
                        path.keyed.entry(key.clone()).or_default().insert(entry);
                    }
                }
            }
        }
    }

    fn remove(&mut self, entry: Entry, paths: &[program::Entry]) {
        self.all.remove(entry);
        for (path, entered) in self.paths.iter_mut().zip(paths) {
            match entered {
                program::Entry::Nowhere => {}
                program::Entry::Everywhere => path.everywhere.remove(entry),
                program::Entry::Keys(keys) => {
                    for key in keys {
                        remove_from(&mut path.keyed, key, entry);
                    }
                }
            }
        }
    }

    fn find<'a>(&'a self, judgement: &mut Judgement<'a>, side: Side, found: &mut Vec<Entry>) {
        // More keys than there are entries cost more than to judge every entry.
        let limit = self.all.len().max(PROBE_LIMIT);
        let Some(probes) = judgement.probe(&self.policy, side, limit) else { return };
        for (number, path) in self.paths.iter().enumerate() {
            match probes.get(number) {
                Some(Probe::Nobody) => {}
                Some(Probe::Keys(keys)) => {
                    path.everywhere.add_to(found);
                    keys.iter().filter_map(|key| path.keyed.get(key)).for_each(|entries| entries.add_to(found));
                }
                // A path the probe says nothing of may be anybody's.
                Some(Probe::Everybody) | None => {
                    path.everywhere.add_to(found);
                    path.keyed.values().for_each(|entries| entries.add_to(found));
                }
            }
        }
    }
}

impl Entries {
    fn insert(&mut self, entry: Entry) {
        match self {
            Entries::None => *self = Entries::One(entry),
            Entries::One(one) if *one == entry => {}
            Entries::One(one) => *self = Entries::Many(BTreeSet::from([*one, entry])),
            Entries::Many(many) => {
                many.insert(entry);
            }
        }
    }

    fn remove(&mut self, entry: Entry) {
        match self {
            Entries::One(one) if *one == entry => *self = Entries::None,
            Entries::None | Entries::One(_) => {}
            Entries::Many(many) => {
                many.remove(&entry);
                if many.is_empty() {
                    *self = Entries::None;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Entries::None)
    }

    fn len(&self) -> usize {
        match self {
            Entries::None => 0,
            Entries::One(_) => 1,
            Entries::Many(many) => many.len(),
        }
    }

    fn add_to(&self, found: &mut Vec<Entry>) {
        match self {
            Entries::None => {}
            Entries::One(one) => found.push(*one),
            Entries::Many(many) => found.extend(many),
        }
    }
}

fn remove_from<K, Q>(by_key: &mut HashMap<K, Entries>, key: &Q, entry: Entry)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(entries) = by_key.get_mut(key) {
        entries.remove(entry);
        if entries.is_empty() {
            by_key.remove(key);
        }
    }
}

fn address(policy: &Arc<CompiledPolicy>) -> usize {
    Arc::as_ptr(policy).addr()
}

/// Where the subscriber's policy enters him.
fn paths(table: &TableSubscription) -> Vec<program::Entry> {
    table.bound.as_ref().map(|bound| bound.policy.program.enter(&bound.arguments)).unwrap_or_default()
}

fn hook<'a>(table: &'a TableSubscription, binding: &TableBinding, paths: &'a [program::Entry]) -> Hook<'a> {
    // A binding that becomes an error row is found by every row: the filter is not consulted then.
    let equality = if binding.fault.is_some() { None } else { binding.filter.equality_key() };
    let is_keyed = !paths.contains(&program::Entry::Everywhere);
    match (&table.bound, equality) {
        (Some(bound), _) if is_keyed => Hook::Policy(&bound.policy, paths),
        (_, Some((column, values))) => Hook::Equal(column, values),
        (Some(bound), None) => Hook::Policy(&bound.policy, paths),
        (None, None) => Hook::Nothing,
    }
}

#[cfg(test)]
mod tests;
