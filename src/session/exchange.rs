//! What a session hears of, and what it asks to be done: its side of everything that takes time.

use crate::{
    change::cursor::Resume,
    claims::Claims,
    hub::Member,
    policy::{
        binding::Binding,
        topic::{ChannelAccess, ChannelUser, Granted, RightsError},
    },
    protocol::{Frame, Push, StoredBroadcast, refusal::Disconnect},
};
use std::{sync::Arc, time::Duration};

/// What happened.
pub enum Input {
    /// The client said something.
    Push(Push),
    /// A subscription is active, or cannot be.
    Subscribed {
        /// Which join asked for it.
        join: JoinId,
        /// The reason when it cannot be.
        refusal: Option<String>,
    },
    /// What a private channel allows.
    Authorized {
        /// The question's number.
        question: u64,
        /// The answer.
        outcome: Result<Granted, RightsError>,
    },
    /// What was broadcast before, the oldest first.
    Replayed {
        /// Which join asked for it.
        join: JoinId,
        /// Nothing when it cannot be had.
        outcome: Result<Vec<StoredBroadcast>, ()>,
    },
    /// The stream of the database is up, or was not for so long that nobody waits for it any more.
    Stream {
        /// Which join asked.
        join: JoinId,
        /// Whether it is up.
        is_up: bool,
    },
    /// Time passed, or the keys of tokens have changed: channels whose token is not valid any more are to be closed.
    Clock,
}

/// The server's own number of a join: tells a rejoin of a topic from the join before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinId(pub u64);

/// What is to be done, in this order.
pub enum Effect {
    /// Queue a frame after a while; nothing else waits for it.
    SendLater {
        /// The frame.
        frame: Frame,
        /// The while.
        delay: Duration,
        /// Whether the connection ends behind it.
        then: Option<Disconnect>,
    },
    /// Subscribe to row changes.
    Subscribe(Box<Wish>),
    /// Judge a join's subscription by other claims.
    ReplaceClaims(JoinId, Claims),
    /// Forget a join's subscription; its member has ended already.
    Unsubscribe(JoinId),
    /// Ask what a private channel allows.
    Authorize(Box<Question>),
    /// Ask what was broadcast before.
    Replay(Box<ReplayWish>),
    /// Tell when the stream of the database is up.
    AwaitStream(JoinId),
    /// Count so many.
    Count(Counted, usize),
    /// A limit forbade something: its setting's name.
    Limited(&'static str),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Pushes that cannot be understood.
    Malformed,
    /// Broadcasts said to a room.
    Broadcasts,
    /// Broadcasts put into outboxes, once a member.
    Deliveries,
    /// Broadcasts nobody was told.
    Dropped,
    /// Members that could not be sent a broadcast, because their encoding has no form for it.
    WithoutForm,
}

/// A question about a private channel.
pub struct Question {
    /// Its number: the answer must name it.
    pub number: u64,
    /// Who wants to use which channel.
    pub user: ChannelUser,
    /// For what.
    pub access: ChannelAccess,
}

/// Messages of the past that are asked for.
pub struct ReplayWish {
    /// Which join asks.
    pub join: JoinId,
    /// In whose name, and of which topic.
    pub user: ChannelUser,
    /// Only those behind this, in milliseconds since the epoch.
    pub since: i64,
    /// The newest so many.
    pub limit: u32,
}

/// A subscription that is asked for.
pub struct Wish {
    /// Which join asks.
    pub join: JoinId,
    /// Where changes go.
    pub member: Arc<Member>,
    /// In whose name.
    pub claims: Claims,
    /// What for.
    pub bindings: Vec<Binding>,
    /// Whether it wants to hear of rows that enter and leave what it sees.
    pub visibility: bool,
    /// Whether it wants to be able to come back, and from where it does.
    pub resume: Option<Resume>,
    /// The join's reply, held back until the subscription is active, and how long that may take.
    pub held_reply: Option<(Frame, Duration)>,
}
