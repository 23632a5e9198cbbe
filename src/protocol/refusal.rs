//! Every text and close code a client can be told when something is refused: one table, written by hand. Nothing here
//! is made from an internal error.

/// The API key is missing at the upgrade.
pub const API_KEY_MISSING: &str = "API key is missing";
/// A key that has expired, at the upgrade (there without the seconds).
pub const TOKEN_EXPIRED: &str = "Token has expired";
/// No more connections are taken.
pub const TOO_MANY_USERS: &str = "Too many connected users";
/// More joins than there may be.
pub const TOO_MANY_JOINS_FOR_UPGRADE: &str = "Too many joins per second";
/// The operator serves nobody for the time being.
pub const SUSPENDED_FOR_UPGRADE: &str = "Realtime was disabled for this tenant";
/// A push on a topic that was not joined, or a join outside `realtime:`.
pub const UNMATCHED_TOPIC: &str = "unmatched topic";
/// A join of `realtime:` with nothing behind it.
pub const TOPIC_NAME_REQUIRED: &str = "TopicNameRequired: You must provide a topic name";
/// One socket holds too many channels.
pub const TOO_MANY_CHANNELS: &str = "ChannelRateLimitReached: Too many channels";
/// `private` that is neither true nor false. It is not guessed: a guess could make a private channel public.
pub const PRIVATE_NOT_BOOLEAN: &str = "InvalidJoinPayload: `private` must be true or false";
/// A key to be present under that is longer than anybody's name.
pub const PRESENCE_KEY_TOO_LONG: &str = "InvalidJoinPayload: `presence.key` is too long";
/// More bindings than one join may have.
pub const TOO_MANY_BINDINGS: &str = "InvalidJoinPayload: too many `postgres_changes` bindings";
/// More regular expressions than the filters of one socket may have.
pub const TOO_MANY_PATTERNS: &str = "InvalidJoinPayload: too many `match` and `imatch` filters on this connection";
/// The subscription is active.
pub const SUBSCRIBED: &str = "Subscribed to PostgreSQL";
/// The server ends; the socket is closed behind it.
pub const DISCONNECT: &str = "Server requested disconnect";
/// The database cannot be asked at the moment; the subscription is tried again.
pub const DATABASE_UNAVAILABLE: &str = "Unable to subscribe to changes: the database cannot be reached, retrying";
/// Another server streams the changes; the subscription is tried again.
pub const STANDBY: &str =
    "Unable to subscribe to changes: this server is a standby for another one that is up, retrying";
/// Changes could not be delivered, so the client's picture has a gap.
pub const CHANGES_SKIPPED: &str =
    "Changes were skipped because this client or its row level security did not keep up. Fetch your data again";

/// More changes are told than the operator allows: they are lost from here on.
pub const CHANGES_OVER_RATE: &str = "Changes are skipped for now: there are more than max_events_per_second allows";
/// They come again.
pub const CHANGES_WERE_OVER_RATE: &str =
    "Changes were skipped until now because there were more than max_events_per_second allows. Fetch your data again";

/// Public channels are not offered.
pub const PRIVATE_ONLY: &str = "PrivateOnly: This project only allows private channels";
/// Nobody is served.
pub const SUSPENDED: &str = "RealtimeDisabledForTenant: Realtime disabled for this tenant";
/// There are as many users as there may be.
pub const TOO_MANY_CONNECTED: &str = "ConnectionRateLimitReached: Too many connected users";
/// Channels are joined faster than they may be.
pub const TOO_MANY_JOINS: &str = "ClientJoinRateLimitReached: Too many joins per second";
/// Messages come faster than they may.
pub const TOO_MANY_MESSAGES: &str = "Too many messages per second";
/// Presence changes faster than it may.
pub const TOO_MANY_PRESENCES: &str = "Too many presence messages per second";
/// One channel's presence changes faster than it may.
pub const CLIENT_PRESENCE_RATE: &str = "Client presence rate limit exceeded";
/// A tracked object over the size limit.
pub const TRACK_TOO_LARGE: &str = "Track message size exceeded";
/// What is tracked must be an object.
pub const TRACK_NOT_AN_OBJECT: &str = "Presence track payload must be a map";
/// There is no room for another tracked object beside those of others.
pub const PRESENCE_FULL: &str = "The presence of this channel is full";
/// The response to a broadcast over the size limit: this word alone, as JSON.
pub const BROADCAST_TOO_LARGE: &str = r#""payload_size_exceeded""#;
/// The response to a broadcast that is to be stored.
pub const NOT_STORED: &str =
    r#"{"error":"This server does not store broadcasts of clients; send it without `persist`"}"#;
/// Nobody could say what a private channel's policies grant.
pub const RIGHTS_UNAVAILABLE: &str = "Realtime was unable to connect to the project database";
/// The same at a join, when the policies took too long.
pub const RIGHTS_CANCELED_AT_JOIN: &str = "QueryCanceled: canceling statement due to statement timeout";
/// The same on a joined channel.
pub const RIGHTS_CANCELED: &str = "Query was cancelled, please try again";
/// Replay is for private channels.
pub const REPLAY_OF_PUBLIC: &str = "UnableToReplayMessages: Replay is not allowed for public channels";
/// Replay of nobody knows what.
pub const REPLAY_PARAMETERS: &str = "UnableToReplayMessages: Replay params are not valid";
/// What is to be replayed cannot be had.
pub const REPLAY_FAILED: &str = "UnableToReplayMessages: Realtime was unable to replay messages";
/// Broadcasts from the database arrive.
pub const REPLICATION_READY: &str = "Replication connection established";
/// They do not, after a minute.
pub const REPLICATION_NOT_READY: &str = "Replication connection was not established in time";

/// Why a client that comes back with a cursor does not get what it missed: what it came with is none.
pub const CURSOR_INVALID: &str = "this is not a cursor of this server";
/// The cursor is of another history.
pub const CURSOR_OTHER_HISTORY: &str =
    "the cursor is of another history: the slot, the publication or the database is another one";
/// What is behind the cursor is not kept any more.
pub const CURSOR_TOO_OLD: &str = "the cursor is too old: what is behind it is not kept any more";
/// The log ends before the cursor.
pub const CURSOR_AHEAD: &str = "the cursor is ahead of the database's log";
/// A binding of the channel did not work for a while.
pub const BINDING_INACTIVE: &str = "a binding was inactive meanwhile";
/// What was behind where the client stood had to make room before it took it in.
pub const BACKLOG_TOO_SHORT: &str = "the client did not keep up, and what it has not taken in is not kept any more";
/// A row that is told late has values under names that are others' now.
pub const COLUMNS_RENAMED: &str = "columns were given the names of others meanwhile";
/// Nobody could say who may see the changes.
pub const CHANGES_UNDECIDED: &str = "nobody could say who may see some changes";

/// Changes come without logical replication: what that cannot promise.
pub const FROM_OUTBOX: &str = "Changes come from triggers, not from the log: commit_timestamp is the time of writing, and \
                               changes of transactions that have nothing to do with each other may come in another order \
                               than they were committed in. Policies that look into other tables are decided by the \
                               database, by those tables as they are now, and it is not told when rights to rows change \
                               because of them";

/// The replication slot is a new one, so changes before it are lost.
pub const STREAM_BEGAN_ANEW: &str = "Changes were skipped because replication began anew. Fetch your data again";
/// The stream does not run for long.
pub const STREAM_INTERRUPTED: &str =
    "Changes are delayed because replication is interrupted. They come when it goes on, or it is said what is lost";
/// It runs again.
pub const STREAM_GOES_ON: &str = "Replication goes on";

/// The reply to a join whose payload is not an object.
pub fn payload_not_an_object(inspected: &str) -> String {
    format!("UnknownErrorOnChannel: expected params to be a :map, got: `{inspected}`")
}

/// Tables of the publication that no trigger captures.
pub fn not_captured(tables: &[String]) -> String {
    format!("Changes of {} are not captured, so none of them come", tables.join(", "))
}

/// A private channel the client may not read.
pub fn unauthorized(sub_topic: &str) -> String {
    format!("Unauthorized: {}", no_permissions(sub_topic))
}

/// The same, once it has joined.
pub fn no_permissions(sub_topic: &str) -> String {
    format!("You do not have permissions to read from this Channel topic: {sub_topic}")
}

/// A private channel of which the client may read less than before.
pub fn no_longer_permitted(sub_topic: &str) -> String {
    format!("You no longer have permission to read from this Channel topic: {sub_topic}")
}

/// A binding that cannot work, as a join error: the client asked to wait for it.
pub fn disabled_for_configuration(reason: &str) -> String {
    format!("RealtimeDisabledForConfiguration: {reason}")
}

/// The subscription did not become active in the time the client gave.
pub fn subscribe_timeout(milliseconds: u128) -> String {
    format!(
        "PostgresChangesSubscribeTimeout: Timed out after {milliseconds}ms waiting for the postgres_changes subscription"
    )
}

/// A policy that failed on a row: which table, and the SQLSTATE, but not the message, which may quote the row.
pub fn policy_failed(schema: &str, table: &str, sqlstate: &str) -> String {
    format!(
        "Row level security of {schema}.{table} failed with SQLSTATE {sqlstate}. Rows it cannot decide are not sent"
    )
}

/// Rights to rows that did not change themselves have changed: said to those who asked to hear of it.
pub fn rights_changed(schema: &str, table: &str) -> String {
    format!("Rights to rows of {schema}.{table} have changed. Fetch it again")
}

/// Why the server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The client was silent for too long.
    Idle,
    /// The client does not read what it is sent.
    Slow,
    /// A frame over the size limit.
    TooLarge,
    /// The client broke the WebSocket protocol.
    Protocol,
    /// Channels are joined faster than they may be.
    Joins,
    /// The server stops.
    Stopping,
    /// What the connection was let in by has changed: a key, or who is served at all.
    Recalled,
}

impl Disconnect {
    /// The close code (RFC 6455, section 7.4). All are below 4000, because some clients do not come back from those.
    pub fn code(self) -> u16 {
        match self {
            Disconnect::Idle => 1000,
            Disconnect::Joins => 1001,
            Disconnect::Protocol => 1002,
            Disconnect::TooLarge => 1009,
            Disconnect::Stopping | Disconnect::Recalled => 1012,
            Disconnect::Slow => 1013,
        }
    }

    /// Whether what was queued before is still of use to the client.
    pub fn lets_finish(self) -> bool {
        matches!(self, Disconnect::Joins | Disconnect::Stopping | Disconnect::Recalled)
    }

    /// The reason sent with it; at most 123 bytes.
    pub fn reason(self) -> &'static str {
        match self {
            Disconnect::Idle | Disconnect::Protocol | Disconnect::Joins => "",
            Disconnect::TooLarge => "frame too large",
            Disconnect::Stopping => "server restarting",
            Disconnect::Slow => "client too slow",
            Disconnect::Recalled => "settings changed",
        }
    }
}
