//! Reads the catalogue into `policy::catalog::Catalog`: the statements of `sql/catalog_*.sql` and nothing else.
//!
//! Everything is read in one transaction with an empty search path, so that expressions come out with qualified
//! names. When to read again is told by `version`.

use crate::{
    change::{
        relation::ReplicaIdentity,
        value::{TypeInfo, TypeKind, TypeRegistry},
    },
    policy::catalog::{Access, Catalog, Collation, ColumnIndex, Generated, RowPolicy, RowRule, Table, TableColumn},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};
use tokio_postgres::{Client, IsolationLevel, Statement, Transaction};

const VERSION: &str = include_str!("../../sql/catalog_version.sql");
const TABLES: &str = include_str!("../../sql/catalog_tables.sql");
const ROLES: &str = include_str!("../../sql/catalog_roles.sql");
const TYPES: &str = include_str!("../../sql/catalog_types.sql");

/// Why the catalogue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A statement failed.
    #[error("cannot read the catalogue")]
    Query(#[from] tokio_postgres::Error),
    /// A row of the catalogue is not what was expected.
    #[error("cannot understand the catalogue")]
    Row(#[from] serde_json::Error),
}

/// A connection to the catalogue, with the question that is asked all the time analysed once.
pub struct CatalogReader {
    client: Client,
    version: Statement,
    publication: String,
}

impl CatalogReader {
    /// One that reads what concerns a publication.
    pub async fn new(client: Client, publication: &str) -> Result<CatalogReader, CatalogError> {
        let version = client.prepare(VERSION).await?;
        Ok(CatalogReader { client, version, publication: publication.to_owned() })
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// A text that changes whenever the catalogue may have changed.
    pub async fn version(&self) -> Result<String, CatalogError> {
        Ok(self.client.query_one(&self.version, &[&self.publication]).await?.get(0))
    }

    /// The whole catalogue and its version.
    pub async fn read(&mut self) -> Result<Catalog, CatalogError> {
        read(&mut self.client, &self.publication).await
    }
}

/// Reads the whole catalogue and its version.
pub async fn read(client: &mut Client, publication: &str) -> Result<Catalog, CatalogError> {
    let transaction =
        client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead).start().await?;
    transaction.batch_execute("set local search_path = ''").await?;
    // First the version: what changes while the rest is read shows as another version next time.
    let version = transaction.query_one(VERSION, &[&publication]).await?.get(0);
    let roles = roles(&transaction).await?;
    let types = types(&transaction).await?;
    let claimable: Vec<&str> = roles.iter().filter(|role| role.claimable).map(|role| role.name.as_str()).collect();
    let bypassing: HashSet<&str> =
        roles.iter().filter(|role| role.bypasses_row_security).map(|role| role.name.as_str()).collect();
    let mut tables = HashMap::new();
    for row in transaction.query(TABLES, &[&publication, &claimable]).await? {
        let table: TableRow = serde_json::from_value(row.get(0))?;
        tables.insert(table.oid, Arc::new(table.into_table(&bypassing)));
    }
    transaction.rollback().await?;
    Ok(Catalog {
        version,
        tables,
        roles: claimable.iter().map(|&name| name.into()).collect(),
        other_roles: roles.iter().filter(|role| !role.claimable).map(|role| role.name.clone()).collect(),
        types: Arc::new(types),
        facts: Arc::default(),
        lookups: BTreeMap::new(),
    })
}

struct RoleRow {
    name: String,
    bypasses_row_security: bool,
    claimable: bool,
}

async fn roles(transaction: &Transaction<'_>) -> Result<Vec<RoleRow>, CatalogError> {
    let rows = transaction.query(ROLES, &[]).await?;
    let role = |row: &tokio_postgres::Row| RoleRow {
        name: row.get("rolname"),
        bypasses_row_security: row.get("rolbypassrls"),
        claimable: row.get("claimable"),
    };
    Ok(rows.iter().map(role).collect())
}

async fn types(transaction: &Transaction<'_>) -> Result<TypeRegistry, CatalogError> {
    let mut types = Vec::new();
    for row in transaction.query(TYPES, &[]).await? {
        let oid = |column: &str| u32::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        let kind = match row.get::<_, &str>("typtype") {
            "d" => TypeKind::Domain { base: oid("typbasetype") },
            "e" => TypeKind::Enum,
            "r" | "m" => TypeKind::Range,
            "c" => {
                let fields: Option<serde_json::Value> = row.get("fields");
                TypeKind::Composite { fields: fields.map(serde_json::from_value).transpose()?.unwrap_or_default() }
            }
            _ if oid("element") != 0 => TypeKind::Array {
                element: oid("element"),
                delimiter: row.get::<_, &str>("delimiter").bytes().next().unwrap_or(b','),
            },
            _ => TypeKind::Base,
        };
        types.push(TypeInfo { oid: oid("oid"), name: row.get("typname"), sql_name: row.get("sql_name"), kind });
    }
    Ok(TypeRegistry::new(types))
}

#[derive(Deserialize)]
struct TableRow {
    oid: u32,
    schema: String,
    name: String,
    replica_identity: String,
    row_security: bool,
    force_row_security: bool,
    published: Option<Vec<String>>,
    has_column_list: bool,
    streams_generated: bool,
    primary_key: Option<Vec<i16>>,
    columns: Option<Vec<ColumnRow>>,
    policies: Vec<PolicyRow>,
    access: Vec<AccessRow>,
}

#[derive(Deserialize)]
struct ColumnRow {
    number: i16,
    name: String,
    type_oid: u32,
    type_name: String,
    collation: String,
    generated: Option<GeneratedRow>,
}

#[derive(Deserialize)]
struct GeneratedRow {
    expression: String,
    sql_type: String,
    reads: Vec<i16>,
}

#[derive(Deserialize)]
struct PolicyRow {
    name: String,
    permissive: bool,
    using: Option<String>,
    reads: Vec<i16>,
}

#[derive(Deserialize)]
struct AccessRow {
    role: String,
    owner: bool,
    select: Option<Vec<bool>>,
    policies: Vec<String>,
}

impl TableRow {
    fn into_table(self, bypassing: &HashSet<&str>) -> Table {
        let column_rows = self.columns.unwrap_or_default();
        let numbers: HashMap<i16, ColumnIndex> =
            column_rows.iter().enumerate().map(|(index, column)| (column.number, index)).collect();
        let indexes = |list: &[i16]| -> Option<Vec<ColumnIndex>> {
            list.iter().map(|number| numbers.get(number).copied()).collect()
        };
        let access = self.access.iter().map(|row| {
            let rows = if !self.row_security
                || bypassing.contains(row.role.as_str())
                || (row.owner && !self.force_row_security)
            {
                RowRule::All
            } else {
                row_rule(self.policies.iter().filter(|policy| row.policies.contains(&policy.name)), indexes)
            };
            let select = row.select.clone().unwrap_or_default();
            (Arc::from(row.role.as_str()), Access { select, rows })
        });
        let access = access.collect();
        let columns = column_rows.iter().map(|column| TableColumn {
            number: column.number,
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_name: column.type_name.clone(),
            collation: match column.collation.as_str() {
                "none" => Collation::None,
                "bytewise" => Collation::Bytewise,
                "deterministic" => Collation::Deterministic,
                _ => Collation::Nondeterministic,
            },
            generated: column.generated.as_ref().map(|generated| Generated {
                expression: generated.expression.clone(),
                sql_type: generated.sql_type.clone(),
                reads: indexes(&generated.reads).unwrap_or_default(),
            }),
        });
        let columns: Vec<TableColumn> = columns.collect();
        let in_view = |column: &TableColumn| self.published.as_ref().is_none_or(|names| names.contains(&column.name));
        let streamed = |column: &TableColumn| {
            in_view(column) && (column.generated.is_none() || (self.streams_generated && self.published.is_some()))
        };
        let listed = |column: &TableColumn| in_view(column) || (column.generated.is_some() && !self.has_column_list);
        let indexes_of = |wanted: &dyn Fn(&TableColumn) -> bool| -> Vec<ColumnIndex> {
            (0..columns.len()).filter(|&index| wanted(&columns[index])).collect()
        };
        let published = Some(indexes_of(&streamed));
        let listed = indexes_of(&listed);
        Table {
            oid: self.oid,
            schema: self.schema,
            name: self.name,
            published,
            listed,
            primary_key: self.primary_key.as_deref().and_then(indexes).unwrap_or_default(),
            replica_identity: match self.replica_identity.as_str() {
                "f" => ReplicaIdentity::Full,
                "i" => ReplicaIdentity::Index,
                "n" => ReplicaIdentity::Nothing,
                _ => ReplicaIdentity::Default,
            },
            row_security: self.row_security,
            columns,
            access,
        }
    }
}

/// Joins the policies of a role as Postgres does (PostgreSQL documentation, CREATE POLICY, "Application of Multiple
/// Policies"). A policy without a USING expression, such as `for all with check (...)`, adds nothing.
fn row_rule<'a>(
    policies: impl Iterator<Item = &'a PolicyRow>,
    indexes: impl Fn(&[i16]) -> Option<Vec<ColumnIndex>>,
) -> RowRule {
    let mut permissive = Vec::new();
    let mut restrictive = Vec::new();
    let mut reads = Some(HashSet::new());
    for policy in policies {
        let Some(using) = &policy.using else { continue };
        (if policy.permissive { &mut permissive } else { &mut restrictive }).push(using.as_str());
        // A whole-row reference leaves no trace in pg_depend but prints as `table.*`; a negative number is a system
        // column. Either way nobody can say which columns count.
        let known = if using.contains(".*") { None } else { indexes(&policy.reads) };
        match (&mut reads, known) {
            (Some(all), Some(known)) => all.extend(known),
            (reads, _) => *reads = None,
        }
    }
    if permissive.is_empty() {
        return RowRule::None;
    }
    if restrictive.is_empty() && permissive.contains(&"true") {
        return RowRule::All;
    }
    let mut expression = format!("(({}))", permissive.join(") or ("));
    for clause in restrictive {
        expression.push_str(&format!(" and ({clause})"));
    }
    let reads = reads.map(|set| {
        let mut list: Vec<ColumnIndex> = set.into_iter().collect();
        list.sort_unstable();
        list
    });
    RowRule::Database(Arc::new(RowPolicy { expression, reads, why: Vec::new() }))
}
