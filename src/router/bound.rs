//! `Bound`: a compiled policy with one subscriber's arguments. Those with equal arguments share one, so what is computed
//! for a change is computed once for all of them. Pure.

use crate::policy::{catalog::CompiledPolicy, program::Arguments};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// Entries of subscribers that are gone are looked for from this many on.
const FIRST_SWEEP: usize = 1024;

/// A compiled policy and the arguments of those it is asked for.
#[derive(Debug)]
pub(super) struct Bound {
    /// The policy.
    pub(super) policy: Arc<CompiledPolicy>,
    /// What it says depends on these, and on the row.
    pub(super) arguments: Arguments,
}

/// Every pair that is in use, so that equal ones are one.
#[derive(Debug)]
pub(super) struct Bounds {
    /// By the policy's address: a pair that is in use keeps its policy, so no other has that address.
    known: HashMap<(usize, Arguments), Weak<Bound>>,
    sweep_at: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { known: HashMap::new(), sweep_at: FIRST_SWEEP }
    }
}

impl Bounds {
    /// The one pair of these.
    pub(super) fn bind(&mut self, policy: &Arc<CompiledPolicy>, arguments: Arguments) -> Arc<Bound> {
        let key = (Arc::as_ptr(policy).addr(), arguments);
        if let Some(bound) = self.known.get(&key).and_then(Weak::upgrade) {
            return bound;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, bound| bound.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(FIRST_SWEEP);
        }
        let bound = Arc::new(Bound { policy: policy.clone(), arguments: key.1.clone() });
        self.known.insert(key, Arc::downgrade(&bound));
        bound
    }
}
