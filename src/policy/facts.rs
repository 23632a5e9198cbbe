//! What the catalogue says about everything policies mention: tables they look into, functions they call, schemas,
//! settings. `pg::catalog` reads it, name by name, until nothing new is mentioned; `analyse` resolves names in it.

use super::catalog::{ColumnIndex, TableColumn};
use crate::change::{relation::ReplicaIdentity, value::TypeRegistry};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// A row level security policy that concerns SELECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whether it grants, or restricts what others grant.
    pub permissive: bool,
    /// `USING`, as `pg_get_expr` prints it under an empty search path; without one the policy adds nothing.
    pub using: Option<String>,
}

/// What a role may do with a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRights {
    /// Per column: SELECT, by table or column grant. USAGE on the schema is not part of it.
    pub select: Vec<bool>,
    /// Whether row level security does not hold: off, or the role bypasses it or owns the table without FORCE.
    pub sees_all: bool,
    /// The policies that apply to the role, as indexes into `TableFacts::policies`.
    pub policies: Vec<usize>,
}

/// How changes of a table come along in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carried {
    /// By the publication clients subscribe to: all operations, all rows, every column a lookup may need.
    Main,
    /// By the publication of our own.
    Own,
    /// Not at all, or in a form that cannot be followed.
    No,
}

/// A table, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// `pg_class.oid`.
    pub oid: u32,
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// An ordinary table without parents or children in an inheritance tree: the only kind that can be followed.
    pub is_ordinary: bool,
    /// Its columns in attribute order, dropped ones left out.
    pub columns: Vec<TableColumn>,
    /// Unique keys whose columns are all NOT NULL, not deferrable, not partial and not on expressions.
    pub unique_keys: Vec<Vec<ColumnIndex>>,
    /// How the stream tells its rows apart, and by which columns (the key's, or all with FULL).
    pub replica_identity: ReplicaIdentity,
    /// The columns of the identity; empty when UPDATE and DELETE cannot be followed.
    pub identity: Vec<ColumnIndex>,
    /// How its changes come along.
    pub carried: Carried,
    /// Whether it could be added to a publication of our own without harming its writers.
    pub has_usable_identity: bool,
    /// The role to read all of it as: none for our own login; not set when nobody we may be could.
    pub reader: Option<Option<Arc<str>>>,
    /// `pg_class.reltuples`, 0 when unknown.
    pub estimated_rows: u64,
    /// The policies that concern SELECT, by name.
    pub policies: Vec<Policy>,
    /// By role name, for every role in `Facts::roles`.
    pub rights: HashMap<Arc<str>, TableRights>,
}

/// The language of a function's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `sql`.
    Sql,
    /// `plpgsql`.
    Plpgsql,
    /// Another.
    Other,
}

/// A function outside of `pg_catalog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionFacts {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// The schema's name.
    pub schema: String,
    /// The function's name.
    pub name: String,
    /// The oids of its arguments' types. Functions with OUT, VARIADIC or TABLE arguments are not listed as callable:
    /// `is_plain` is false.
    pub arguments: Vec<u32>,
    /// The arguments' names, empty where there is none.
    pub argument_names: Vec<String>,
    /// How many of the last arguments have defaults.
    pub defaults: usize,
    /// The oid of what it returns.
    pub returns: u32,
    /// Whether it returns a set of that.
    pub returns_set: bool,
    /// An ordinary function with plain IN arguments.
    pub is_plain: bool,
    /// Its language.
    pub language: Language,
    /// `prosrc`: the body as text. Empty when there is `sql_body`.
    pub source: String,
    /// `pg_get_function_sqlbody`: the body of a SQL-standard function, names qualified.
    pub sql_body: Option<String>,
    /// Whether it runs as its owner.
    pub security_definer: bool,
    /// Its owner's name.
    pub owner: Arc<str>,
    /// Whether NULL arguments give NULL without a call.
    pub is_strict: bool,
    /// Whether it is declared IMMUTABLE: Postgres calls it while it plans.
    pub is_immutable: bool,
    /// `SET` clauses, as `name=value`.
    pub settings: Vec<String>,
    /// The roles of `Facts::roles` that may EXECUTE it.
    pub execute: HashSet<Arc<str>>,
}

/// Everything policies mention, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By oid: the published tables and every table with a mentioned name.
    pub tables: HashMap<u32, Arc<TableFacts>>,
    /// Every function outside of `pg_catalog` with a mentioned name.
    pub functions: Vec<Arc<FunctionFacts>>,
    /// The roles rights are known of: those that may be claimed, and owners of SECURITY DEFINER functions.
    pub roles: BTreeSet<Arc<str>>,
    /// The schemas each role has USAGE on.
    pub usage: HashMap<Arc<str>, HashSet<String>>,
    /// `search_path` of a session of our login, split and unquoted.
    pub search_path: Vec<String>,
    /// Whether `TimeZone` of a session of our login is UTC.
    pub is_utc: bool,
    /// Custom settings somebody gave a value for our login, this database or all of them (`ALTER ROLE ... SET`).
    pub custom_settings: BTreeSet<String>,
    /// How texts of the database's default collation compare.
    pub default_collation: Option<super::catalog::Collation>,
    /// Names in `pg_catalog` of functions that not everybody may execute.
    pub restricted_builtins: HashSet<String>,
    /// Those of the mentioned names that functions in `pg_catalog` have. Not set when nobody looked: then no bare name
    /// in a function's body may mean one of ours.
    pub builtin_functions: Option<HashSet<String>>,
    /// Names of operators outside of `pg_catalog` whose arguments are all of types in it: what a bare operator in a
    /// function's body might mean instead.
    pub custom_operators: HashSet<String>,
    /// Casts between types that somebody made, as (from, to).
    pub custom_casts: HashSet<(u32, u32)>,
    /// Whether there are operators outside of `pg_catalog` is of no matter: they are printed qualified, and not known.
    pub types: Arc<TypeRegistry>,
    /// The names that were mentioned: what the version of the catalogue depends on.
    pub names: BTreeSet<String>,
}
