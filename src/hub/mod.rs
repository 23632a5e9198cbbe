//! The memberships of connections in channels, the rooms in which they hear each other, and the bounded queue towards each
//! connection. Decides nothing about who may get what: the router and the sessions do.

mod member;
mod outbox;
mod presence;
mod room;
mod rooms;

pub(crate) use member::system_frame;
pub use member::{Delivery, Generation, Member, MemberId, MessageForm, OnItsWay, Standing};
pub use outbox::{Offer, Outbox, OutboxReceiver, outbox};
pub use room::{Entry, Greeting, Publication, Published, Reads};
pub use rooms::{RoomCounts, RoomName, Rooms};
