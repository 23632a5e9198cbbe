//! The one integration binary: a list of modules.

mod cluster;
mod demo;
mod migrate;
mod rpc;
