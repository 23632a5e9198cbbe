//! `SubscriptionIndex`: a change → the bindings it may match. Pure.
//!
//! A table and, where the filter has one, an equality on a column put a binding under a hash key, so a change costs
//! what it matches and not how many subscribe. Every binding a change matches is a candidate; not every candidate
//! matches.

use crate::{
    change::Datum,
    policy::catalog::ColumnIndex,
    router::subscription::{TableBinding, TableSubscription},
};
use std::collections::HashMap;

/// A subscription's place in the router, and the binding's place in its list for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The subscription's key.
    pub(super) subscription: usize,
    /// The binding's index.
    pub(super) binding: usize,
}

/// The entries of one table.
#[derive(Default)]
struct TableEntries {
    /// Bindings without an equality.
    always: Vec<Entry>,
    /// Bindings by a column and one of the texts they want there.
    equal: HashMap<ColumnIndex, HashMap<Box<[u8]>, Vec<Entry>>>,
}

/// The bindings of all subscriptions, by what they ask for.
#[derive(Default)]
pub(super) struct SubscriptionIndex {
    tables: HashMap<u32, TableEntries>,
}

impl SubscriptionIndex {
    /// Enters a subscription's bindings for a table.
    pub(super) fn insert(&mut self, subscription: usize, table: &TableSubscription) {
        let entries = self.tables.entry(table.table.oid).or_default();
        for (index, binding) in table.bindings.iter().enumerate() {
            let entry = Entry { subscription, binding: index };
            match equality(binding) {
                None => entries.always.push(entry),
                Some((column, values)) => {
                    let by_value = entries.equal.entry(column).or_default();
                    for value in values {
                        by_value.entry(value).or_default().push(entry);
                    }
                }
            }
        }
    }

    /// Takes them out again.
    pub(super) fn remove(&mut self, subscription: usize, table: &TableSubscription) {
        let Some(entries) = self.tables.get_mut(&table.table.oid) else { return };
        let others = |entry: &Entry| entry.subscription != subscription;
        let mut plain = false;
        for binding in &table.bindings {
            let Some((column, values)) = equality(binding) else {
                plain = true;
                continue;
            };
            let Some(by_value) = entries.equal.get_mut(&column) else { continue };
            for value in values {
                if let Some(list) = by_value.get_mut(&value) {
                    list.retain(others);
                    if list.is_empty() {
                        by_value.remove(&value);
                    }
                }
            }
            if by_value.is_empty() {
                entries.equal.remove(&column);
            }
        }
        if plain {
            entries.always.retain(others);
        }
        if entries.always.is_empty() && entries.equal.is_empty() {
            self.tables.remove(&table.table.oid);
        }
    }

    /// Whether anybody subscribes to the table.
    pub(super) fn has(&self, table: u32) -> bool {
        self.tables.contains_key(&table)
    }

    /// The entries a row may match, in the order of subscriptions, each once.
    pub(super) fn candidates<'r>(&self, table: u32, value: impl Fn(ColumnIndex) -> &'r Datum) -> Vec<Entry> {
        let Some(entries) = self.tables.get(&table) else { return Vec::new() };
        let mut found = entries.always.clone();
        for (&column, by_value) in &entries.equal {
            if let Datum::Text(text) = value(column) {
                found.extend(by_value.get(&text[..]).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A binding that becomes an error row is found by every row: the filter is not consulted then.
fn equality(binding: &TableBinding) -> Option<(ColumnIndex, Vec<Box<[u8]>>)> {
    if binding.fault.is_some() { None } else { binding.filter.equality_key() }
}
