//! `Bound`: a compiled policy with one subscriber's arguments. Pure.

use crate::policy::{catalog::CompiledPolicy, program::Arguments};
use std::sync::Arc;

/// A compiled policy and the arguments of those it is asked for.
#[derive(Debug)]
pub(super) struct Bound {
    /// The policy.
    pub(super) policy: Arc<CompiledPolicy>,
    /// What it says depends on these, and on the row.
    pub(super) arguments: Arguments,
}
