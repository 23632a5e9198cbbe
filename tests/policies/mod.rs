//! Policies: what is read of them, and what they mean, with Postgres as the oracle: the shapes people write (`shapes`),
//! random ones (`oracle`), and every disagreement that was ever found (`cases`).

mod facts;
mod functions;
mod live;
mod rules;
mod version;
