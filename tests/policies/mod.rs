//! Policies decided in the process: compared with what Postgres itself says.

mod functions;
