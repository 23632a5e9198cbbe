//! Tokens from outside: every kind of signature, keys that are published and change, forgeries, and that nobody learns
//! anything by a token that does not hold.

mod forged;
pub mod keys;
mod published;
mod publisher;
mod reload;
mod signatures;
