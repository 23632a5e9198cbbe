//! The memberships of connections in channels, and the bounded queue towards each connection. Decides nothing about
//! who may get what: the router and the sessions do.

mod member;
mod outbox;

pub(crate) use member::system_frame;
pub use member::{Delivery, Generation, Member, MessageForm, OnItsWay};
pub use outbox::{Offer, Outbox, OutboxReceiver, outbox};
