//! The published tables and those that policies mention: `sql/catalog_tables.sql`, as `TableFacts`, and what the
//! router wants to know of the published ones.

use super::{CatalogError, LOOKUP_PUBLICATION, types::Roles};
use crate::{
    change::relation::ReplicaIdentity,
    policy::{
        catalog::{Access, Collation, ColumnIndex, Generated, Table, TableColumn},
        facts::{Carried, Policy, TableFacts, TableRights},
    },
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use tokio_postgres::Transaction;

const TABLES: &str = include_str!("../../../sql/catalog_tables.sql");

/// Reads the tables that a publication has and those with these names.
pub(super) async fn rows(
    transaction: &Transaction<'_>,
    publication: &str,
    roles: &[&str],
    names: &[&str],
) -> Result<Vec<TableRow>, CatalogError> {
    let rows = transaction.query(TABLES, &[&publication, &LOOKUP_PUBLICATION, &roles, &names]).await?;
    rows.iter().map(|row| Ok(serde_json::from_value(row.get(0))?)).collect()
}

#[derive(Deserialize)]
pub(super) struct TableRow {
    pub(super) oid: u32,
    pub(super) schema: String,
    name: String,
    replica_identity: String,
    row_security: bool,
    is_ordinary: bool,
    estimated_rows: u64,
    publications: Vec<PublicationRow>,
    streams_generated: bool,
    primary_key: Option<Vec<i16>>,
    identity: Option<Vec<i16>>,
    unique_keys: Vec<Vec<i16>>,
    columns: Option<Vec<ColumnRow>>,
    pub(super) policies: Vec<PolicyRow>,
    access: Vec<AccessRow>,
    login_reads_all: bool,
}

/// How one of the two publications has the table.
#[derive(Deserialize)]
struct PublicationRow {
    is_main: bool,
    /// None before 15, where it is all of them.
    columns: Option<Vec<String>>,
    has_column_list: bool,
    is_filtered: bool,
    has_all_operations: bool,
}

#[derive(Deserialize)]
struct ColumnRow {
    number: i16,
    name: String,
    type_oid: u32,
    type_name: String,
    collation: String,
    collation_oid: u32,
    generated: Option<GeneratedRow>,
}

#[derive(Deserialize)]
struct GeneratedRow {
    expression: String,
    sql_type: String,
    reads: Vec<i16>,
}

#[derive(Deserialize)]
pub(super) struct PolicyRow {
    name: String,
    pub(super) permissive: bool,
    pub(super) using: Option<String>,
    reads: Vec<i16>,
}

#[derive(Deserialize)]
struct AccessRow {
    role: String,
    usage: bool,
    select: Option<Vec<bool>>,
    sees_all: bool,
    policies: Vec<String>,
}

impl PublicationRow {
    fn has(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|names| names.iter().any(|name| name == column))
    }

    /// Whether the table can be followed by what this publication has of it.
    fn is_complete(&self, columns: &[TableColumn]) -> bool {
        self.has_all_operations
            && !self.is_filtered
            && columns.iter().all(|column| column.generated.is_some() || self.has(&column.name))
    }
}

impl AccessRow {
    fn reads_all(&self) -> bool {
        self.usage && self.sees_all && self.select.iter().flatten().all(|&may| may)
    }
}

impl TableRow {
    /// Whether clients can subscribe to it.
    pub(super) fn is_published(&self) -> bool {
        self.main().is_some()
    }

    fn main(&self) -> Option<&PublicationRow> {
        self.publications.iter().find(|publication| publication.is_main)
    }

    /// The columns with these attribute numbers; none when a number is not a column's.
    fn indexes(&self, numbers: &[i16]) -> Option<Vec<ColumnIndex>> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let index = |number: &i16| columns.iter().position(|column| column.number == *number);
        numbers.iter().map(index).collect()
    }

    /// The columns a policy reads; none when nobody can say which. A whole-row reference leaves no trace in pg_depend
    /// but prints as `table.*`; a negative number is a system column.
    pub(super) fn reads(&self, policy: &PolicyRow) -> Option<Vec<ColumnIndex>> {
        let is_whole = policy.using.as_ref().is_some_and(|using| using.contains(".*"));
        if is_whole { None } else { self.indexes(&policy.reads) }
    }

    fn table_columns(&self) -> Vec<TableColumn> {
        let columns = self.columns.as_deref().unwrap_or_default().iter().map(|column| TableColumn {
            number: column.number,
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_name: column.type_name.clone(),
            collation_oid: column.collation_oid,
            collation: match column.collation.as_str() {
                "none" => Collation::None,
                "bytewise" => Collation::Bytewise,
                "deterministic" => Collation::Deterministic,
                _ => Collation::Nondeterministic,
            },
            generated: column.generated.as_ref().map(|generated| Generated {
                expression: generated.expression.clone(),
                sql_type: generated.sql_type.clone(),
                reads: self.indexes(&generated.reads).unwrap_or_default(),
            }),
        });
        columns.collect()
    }

    fn identity(&self) -> ReplicaIdentity {
        match self.replica_identity.as_str() {
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            "n" => ReplicaIdentity::Nothing,
            _ => ReplicaIdentity::Default,
        }
    }

    /// What policies have to know of it.
    pub(super) fn facts(&self, roles: &Roles) -> TableFacts {
        let columns = self.table_columns();
        let identity = self.identity.as_deref().and_then(|numbers| self.indexes(numbers)).unwrap_or_default();
        TableFacts {
            oid: self.oid,
            schema: self.schema.clone(),
            name: self.name.clone(),
            is_ordinary: self.is_ordinary,
            unique_keys: self.unique_keys.iter().filter_map(|key| self.indexes(key)).collect(),
            replica_identity: self.identity(),
            has_usable_identity: !identity.is_empty(),
            identity,
            carried: self.carried(&columns),
            reader: self.reader(roles),
            estimated_rows: self.estimated_rows,
            policies: self.policies.iter().map(PolicyRow::facts).collect(),
            rights: self.access.iter().map(|row| (Arc::from(row.role.as_str()), self.rights(row))).collect(),
            columns,
        }
    }

    fn rights(&self, row: &AccessRow) -> TableRights {
        let applies = |policy: &PolicyRow| row.policies.contains(&policy.name);
        let policies = self.policies.iter().enumerate().filter(|(_, policy)| applies(policy));
        TableRights {
            select: row.select.clone().unwrap_or_default(),
            sees_all: row.sees_all,
            policies: policies.map(|(index, _)| index).collect(),
        }
    }

    fn carried(&self, columns: &[TableColumn]) -> Carried {
        let own = self.publications.iter().find(|publication| !publication.is_main);
        match (self.main(), own) {
            // Two lists of columns of one table stop the stream, even where they come to the same.
            (Some(main), Some(own)) if main.has_column_list != own.has_column_list => Carried::No,
            (Some(main), _) if main.is_complete(columns) => Carried::Main,
            (None, Some(own)) if own.is_complete(columns) => Carried::Own,
            _ => Carried::No,
        }
    }

    fn reader(&self, roles: &Roles) -> Option<Option<Arc<str>>> {
        if self.login_reads_all {
            return Some(None);
        }
        let row = |role: &str| self.access.iter().find(|row| row.role == role);
        let reader = roles.claimable_by_reach().find(|role| row(role).is_some_and(AccessRow::reads_all))?;
        Some(Some(reader.into()))
    }

    /// What each role that may be claimed can do, but for the rows.
    pub(super) fn access(&self, roles: &[Arc<str>]) -> HashMap<Arc<str>, Access> {
        let mut access = HashMap::new();
        for role in roles {
            let Some(row) = self.access.iter().find(|row| *row.role == **role) else { continue };
            let select = row.select.iter().flatten().map(|&may| may && row.usage).collect();
            access.insert(role.clone(), Access { select, ..Access::default() });
        }
        access
    }

    /// Whether the publication of clients has a column in view.
    fn shows(&self, column: &TableColumn) -> bool {
        self.main().is_none_or(|main| main.has(&column.name))
    }

    /// Whether the stream carries the values of a column.
    pub(super) fn streams(&self, column: &TableColumn) -> bool {
        let has_view = self.main().is_some_and(|main| main.columns.is_some());
        self.shows(column) && (column.generated.is_none() || (self.streams_generated && has_view))
    }

    /// As it is published, with these rights.
    pub(super) fn into_table(self, columns: Vec<TableColumn>, access: HashMap<Arc<str>, Access>) -> Table {
        let has_list = self.main().is_some_and(|main| main.has_column_list);
        let streamed = |column: &TableColumn| self.streams(column);
        let listed = |column: &TableColumn| self.shows(column) || (column.generated.is_some() && !has_list);
        let indexes_of = |wanted: &dyn Fn(&TableColumn) -> bool| -> Vec<ColumnIndex> {
            columns.iter().enumerate().filter(|(_, column)| wanted(column)).map(|(index, _)| index).collect()
        };
        Table {
            oid: self.oid,
            published: Some(indexes_of(&streamed)),
            listed: indexes_of(&listed),
            primary_key: self.primary_key.as_deref().and_then(|key| self.indexes(key)).unwrap_or_default(),
            replica_identity: self.identity(),
            row_security: self.row_security,
            schema: self.schema,
            name: self.name,
            columns,
            access,
        }
    }
}

impl PolicyRow {
    fn facts(&self) -> Policy {
        Policy { name: self.name.clone(), permissive: self.permissive, using: self.using.clone() }
    }
}
