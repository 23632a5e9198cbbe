//! Why something is left to the database, in plain words, without the policy's name: `mod.rs` adds that.

/// What is not proved to mean here what it means in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

/// A part of a policy, or why not.
pub(super) type Read<T> = Result<T, Refusal>;

/// Refuses.
pub(super) fn refuse<T>(why: impl Into<String>) -> Read<T> {
    Err(Refusal(why.into()))
}
