//! The policies people write (62 shapes from public projects and guides): who decides each, and that it is decided as
//! Postgres decides.

mod catalogue;
mod run;
mod subjects;
