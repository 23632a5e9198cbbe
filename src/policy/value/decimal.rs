//! `numeric`: exact decimal numbers with a scale that is kept for printing and does not count in comparisons.

/// A decimal number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal;
