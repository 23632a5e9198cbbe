//! The one integration binary: its modules. `tests/support` is what they share.
#![cfg(test)]

mod architecture;
mod changes;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod churn;
mod clients;
mod commands;
mod demo;
mod devdb;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod faults;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod fuzz;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod http;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod line;
mod measures;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod messages;
mod migrate;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod outbox;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod policies;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod rights;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod rooms;
mod rpc;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod support;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod tokens;
#[expect(unreachable_pub, reason = "in a binary of tests, nothing is reachable from outside")]
mod wire;
