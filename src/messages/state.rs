//! `MessagesState`: how broadcasts from the database are doing, for `/health`.

/// How the upkeep of `realtime.messages` is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagesState {
    /// Whether its partitions have been seen to at least once, by this server.
    pub is_kept: bool,
    /// What is wrong with that, and what to do about it.
    pub problem: Option<String>,
}
