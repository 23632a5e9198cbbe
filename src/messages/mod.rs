//! Broadcasts from the database: rows of `realtime.messages`, which come through the same slot as row changes.
//!
//! `rows` reads a row, `publisher` says it in its room when the router comes to it, `upkeep` makes and drops the table's
//! partitions, `stream` sees to it that the slot carries the table, `replay` asks for what a client missed. Who may hear
//! is decided where a channel is joined; here a row's topic and privacy choose the room, and nothing else.

mod publisher;
mod replay;
mod rows;
mod state;
mod stream;
mod upkeep;

pub use publisher::{Postponed, Publisher};
pub use replay::{Replay, ReplayError};
pub use rows::may_be_message_table;
pub use state::MessagesState;
pub use stream::StreamKeeper;
pub use upkeep::{Config, Upkeep};
