//! What the database's catalogue says, as one immutable value: tables, columns, keys, grants, policies, roles, types.
//! `pg::catalog` reads it; the router and the subscriptions look things up in it.

use super::{channels::ChannelPolicies, facts::Facts, lookup::Need, program::Program};
use crate::change::{relation::ReplicaIdentity, value::TypeRegistry};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// The order of a column in its table's column list: an index into `Table::columns`.
pub type ColumnIndex = usize;

/// How texts of a column compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collation {
    /// The type has no collation.
    None,
    /// Bytewise order and equality (`C`, `POSIX`).
    Bytewise,
    /// Bytewise equality, an order only the database knows.
    Deterministic,
    /// Neither order nor equality can be told from the bytes.
    Nondeterministic,
}

/// A generated column: its expression and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The defining expression as SQL over the table's other columns, names unqualified.
    pub expression: String,
    /// The column's type as SQL, with its length or scale: what the expression's value is cut or rounded to.
    pub sql_type: String,
    /// The columns it reads.
    pub reads: Vec<ColumnIndex>,
}

/// One column of a published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// `pg_attribute.attnum`.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub type_oid: u32,
    /// The bare name of its type, as clients see it.
    pub type_name: String,
    /// How its texts compare.
    pub collation: Collation,
    /// `pg_attribute.attcollation`: two that are not the same cannot be compared, 0 for none.
    pub collation_oid: u32,
    /// Set for a generated column.
    pub generated: Option<Generated>,
}

/// What a role may do with a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Per column: may the role SELECT it. All false without USAGE on the schema.
    pub select: Vec<bool>,
    /// Which rows the role sees.
    pub rows: RowRule,
}

/// Who decides about a table's rows for a role. The seam between the deciders: the router asks it, and only it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RowRule {
    /// Row level security is off, or does not hold for this role.
    All,
    /// No permissive policy applies to the role: no row.
    #[default]
    None,
    /// The process decides, as long as the tables it looks into are ready.
    Compiled(Arc<CompiledPolicy>),
    /// Postgres decides on the row image: the database lane.
    Database(Arc<RowPolicy>),
}

impl RowRule {
    /// What the database is asked, where that depends on the row.
    pub fn asked(&self) -> Option<&Arc<RowPolicy>> {
        match self {
            RowRule::All | RowRule::None => None,
            RowRule::Compiled(compiled) => Some(&compiled.fallback),
            RowRule::Database(policy) => Some(policy),
        }
    }
}

/// The policies of a table that apply to one role, as a program, and as the database would be asked.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// What the process computes.
    pub program: Program,
    /// What the database is asked where the process cannot.
    pub fallback: Arc<RowPolicy>,
}

impl PartialEq for CompiledPolicy {
    /// A program is made of what the database would be asked.
    fn eq(&self, other: &CompiledPolicy) -> bool {
        self.fallback == other.fallback
    }
}

impl Eq for CompiledPolicy {}

/// The policies of a table that apply to one role, joined to one expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPolicy {
    /// `((permissive) or ...) and (restrictive) and ...` as SQL.
    pub expression: String,
    /// The table's columns it reads; none when it may read any.
    pub reads: Option<Vec<ColumnIndex>>,
    /// Why the database decides, policy by policy; empty where the process can.
    pub why: Vec<String>,
}

/// Joins policies as Postgres does (PostgreSQL documentation, CREATE POLICY, "Application of Multiple Policies"), both
/// kinds in the order of their names; none when nothing grants. Postgres computes permissive ones in the contrary
/// order: what fails behind one that is true does not count.
pub fn joined(permissive: &[&str], restrictive: &[&str]) -> Option<String> {
    if permissive.is_empty() {
        return None;
    }
    let granted: Vec<&str> = permissive.iter().rev().copied().collect();
    let mut expression = format!("(({}))", granted.join(") or ("));
    for clause in restrictive {
        expression.push_str(&format!(" and ({clause})"));
    }
    Some(expression)
}

/// A published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// Its columns in attribute order, dropped ones left out.
    pub columns: Vec<TableColumn>,
    /// Which of them the stream carries: none for all but generated ones.
    pub published: Option<Vec<ColumnIndex>>,
    /// Which of them clients hear of in `columns`: the streamed ones, and generated ones the stream leaves out.
    pub listed: Vec<ColumnIndex>,
    /// The primary key's columns; empty without one.
    pub primary_key: Vec<ColumnIndex>,
    /// How the stream tells its rows apart.
    pub replica_identity: ReplicaIdentity,
    /// Whether row level security is enabled.
    pub row_security: bool,
    /// What each role that may be claimed can do, by role name.
    pub access: HashMap<Arc<str>, Access>,
}

impl Table {
    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<(ColumnIndex, &TableColumn)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }
}

/// Everything the catalogue says, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// What `sql/catalog_version.sql` said when it was read.
    pub version: String,
    /// Published tables by oid.
    pub tables: HashMap<u32, Arc<Table>>,
    /// Roles a token may claim: those granted to our login, never a superuser, never our login itself.
    pub roles: Vec<Arc<str>>,
    /// Every role's name, to tell "does not exist" from "not granted to us".
    pub other_roles: Vec<String>,
    /// The database's types.
    pub types: Arc<TypeRegistry>,
    /// What policies mention.
    pub facts: Arc<Facts>,
    /// What compiled policies look up, by table.
    pub lookups: BTreeMap<u32, Need>,
    /// Who may use private channels; none without a table `realtime.messages`.
    pub channels: Option<Arc<ChannelPolicies>>,
    /// `realtime.messages` and its partitions: what is inserted there is broadcast.
    pub message_tables: BTreeSet<u32>,
}

impl Catalog {
    /// What a role may do with a table; nothing when either is not known.
    pub fn access<'a>(&'a self, table: &'a Table, role: &str) -> Option<&'a Access> {
        table.access.get(role)
    }

    /// Whether a token may claim this role.
    pub fn is_claimable(&self, role: &str) -> bool {
        self.roles.iter().any(|known| &**known == role)
    }
}
