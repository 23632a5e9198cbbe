//! Every disagreement with Postgres that was ever found, in its smallest form.
