//! Policies: what is read of them, and what they mean, with Postgres as the oracle.

mod live;
