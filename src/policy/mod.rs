//! Who may see which row with which columns. Pure: no I/O, no clock.
//!
//! `catalog` holds what the database says about tables, grants and policies; `binding` reads what a subscriber asks
//! for, and `filter` is the part of it that narrows the rows. Every doubt hides: what is not known to be visible is not
//! visible.

pub mod analyse;
pub mod binding;
pub mod catalog;
pub mod channels;
pub mod class;
mod eval;
pub mod explain;
pub mod expr;
pub mod facts;
pub mod filter;
pub mod follow;
pub mod functions;
mod inspect;
pub mod lookup;
pub mod print;
pub mod program;
pub mod topic;
pub mod value;
