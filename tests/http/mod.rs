//! Plain HTTP seen from outside: broadcasts, health, metrics and the admin API of a running server, each table of the
//! protocol reference's sections 6.2, 6.3 and 12 row by row.

mod batch;
mod client;
mod health;
mod metrics;
mod private;
mod rates;
mod single;
mod tenants;
