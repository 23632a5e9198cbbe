//! The memberships of connections in channels, and the bounded queue towards each connection. Decides nothing about
//! who may get what: the router and the sessions do.

pub(crate) mod member;
mod outbox;

pub use member::{Member, MessageForm};
pub use outbox::{Outbox, OutboxReceiver, outbox};
