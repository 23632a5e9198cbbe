//! Who may see which row with which columns. Pure: no I/O, no clock.
//!
//! `catalog` holds what the database says about tables, grants and policies; `filter` is the subscriber's own filter.
//! Every doubt hides: what is not known to be visible is not visible.

pub mod catalog;
