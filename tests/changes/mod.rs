//! What clients are told of a row, and which rows they asked for: compared with what Postgres itself says.

mod filters;
mod types;
pub(crate) mod values;
