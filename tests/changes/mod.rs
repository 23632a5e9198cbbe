//! What clients are told of a row: compared with what Postgres itself says.

mod types;
mod values;
