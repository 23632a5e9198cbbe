//! Who may read and write private channels: what the server says against what Postgres does when the rows are written.

mod cases;
mod compare;
mod live;
mod refusals;
pub mod stage;
