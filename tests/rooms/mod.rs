//! Rooms, and sessions in them, without a server: what members are sent, read as clients read it.

mod client;
mod concurrency;
mod limits;
mod private;
mod public;
mod room;
mod simulation;
mod speaker;
