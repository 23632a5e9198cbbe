//! The line from the slot to the socket, against real Postgres: what the stream says, how the session is opened, what
//! goes wrong on the way, and who may see what.

mod decoding;
mod faults;
mod flips;
mod lane;
mod lane_edges;
mod large;
mod pressure;
mod resume;
mod schema;
mod session;
pub mod setup;
mod slow;
mod standby;
mod wal;
