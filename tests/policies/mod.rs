//! Policies: what is read of them, and what they mean, with Postgres as the oracle: the shapes people write (`shapes`),
//! random ones (`oracle`), and every disagreement that was ever found (`cases`).

mod accidents;
mod asked;
mod cases;
mod catalogue;
mod compare;
mod facts;
mod follow;
mod functions;
mod live;
mod oracle;
mod races;
mod refetch;
mod rules;
mod scene;
mod shapes;
mod stage;
mod state;
mod time;
mod version;

/// The functions and the publication of every database here.
const PRELUDE: &str = include_str!("prelude.sql");
