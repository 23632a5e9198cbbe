//! `jsonb` as Postgres keeps it: keys in its order, the last of equal keys, numbers as `numeric`.

/// A `jsonb` value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Jsonb;
