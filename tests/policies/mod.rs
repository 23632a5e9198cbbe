//! Policies decided in the process, against what Postgres itself shows: the shapes people write (`shapes`), random ones
//! (`oracle`), and every disagreement that was ever found (`cases`).

mod asked;
mod cases;
mod compare;
mod oracle;
mod shapes;
mod state;

/// The functions and the publication of every database here.
const PRELUDE: &str = include_str!("prelude.sql");
