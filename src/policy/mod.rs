//! Who may see which row with which columns. Pure: no I/O, no clock.
//!
//! `catalog` holds what the database says about tables, grants and policies; `binding` reads what a subscriber
//! asks for, `filter` is his own filter.
//! Every doubt hides: what is not known to be visible is not visible.

pub mod binding;
pub mod catalog;
pub mod filter;
mod inspect;
