//! `RouterState`: how the router is doing, for `/health`.

/// How the router is doing.
#[derive(Clone, Debug, Default)]
pub struct RouterState {
    /// Subscriptions entered.
    pub subscriptions: usize,
    /// Those of them that are served from the backlog, because they did not keep up or came back.
    pub behind: usize,
    /// Bytes of the changes kept for them.
    pub backlog_bytes: usize,
    /// Commit time of the last transaction routed, in microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// What it cannot do, and what to do about it.
    pub problem: Option<String>,
    /// The tables policies look into.
    pub lookups: Vec<LookupState>,
}

/// How a table that policies look into is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupState {
    /// Its name.
    pub table: String,
    /// Whether its rows are complete.
    pub phase: LookupPhase,
    /// How many there are.
    pub rows: usize,
    /// About how many bytes they take.
    pub bytes: usize,
    /// Why they are not complete.
    pub why: Option<String>,
}

/// Whether the rows of a table are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupPhase {
    /// They are being read; the stream is held.
    Loading,
    /// They are.
    Ready,
    /// Something must happen before they are read; policies go to the database meanwhile.
    Waiting,
    /// They are not; policies go to the database.
    Failed,
}

impl LookupPhase {
    /// Its name in `/health`.
    pub fn name(self) -> &'static str {
        match self {
            LookupPhase::Loading => "loading",
            LookupPhase::Ready => "ready",
            LookupPhase::Waiting => "waiting",
            LookupPhase::Failed => "failed",
        }
    }
}
