//! `Shared`: what equal subscriptions have in common, each once: policies with their arguments, and lists of columns.
//! Those with equal arguments share one `Bound`, so what is computed for a change is computed once for all of them; and
//! what is shared by many is near at hand when a change comes. Pure.

use super::{bound::Bound, subscription::ColumnSet};
use crate::policy::{catalog::CompiledPolicy, program::Arguments};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
};

/// Entries of what nobody uses any more are looked for from this many on.
const FIRST_SWEEP: usize = 1024;

/// What the subscriptions of one router share.
#[derive(Default)]
pub(super) struct Shared {
    /// By the policy's address: a pair that is in use keeps its policy, so no other has that address.
    bounds: InUse<(usize, Arguments), Bound>,
    column_sets: InUse<ColumnSet, ColumnSet>,
}

impl Shared {
    /// The one pair of these.
    pub(super) fn bind(&mut self, policy: &Arc<CompiledPolicy>, arguments: Arguments) -> Arc<Bound> {
        let key = (Arc::as_ptr(policy).addr(), arguments);
        self.bounds.get(key, |(_, arguments)| Bound { policy: policy.clone(), arguments: arguments.clone() })
    }

    /// The one list that equals this.
    pub(super) fn columns(&mut self, columns: ColumnSet) -> Arc<ColumnSet> {
        self.column_sets.get(columns, ColumnSet::clone)
    }
}

/// Values by key, as long as somebody uses them.
struct InUse<K, V> {
    known: HashMap<K, Weak<V>>,
    sweep_at: usize,
}

impl<K, V> Default for InUse<K, V> {
    fn default() -> InUse<K, V> {
        InUse { known: HashMap::new(), sweep_at: FIRST_SWEEP }
    }
}

impl<K: Eq + Hash, V> InUse<K, V> {
    fn get(&mut self, key: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
        if let Some(value) = self.known.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(FIRST_SWEEP);
        }
        let value = Arc::new(make(&key));
        self.known.insert(key, Arc::downgrade(&value));
        value
    }
}
