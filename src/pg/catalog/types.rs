//! The database's roles and types.

use super::CatalogError;
use crate::change::value::{TypeInfo, TypeKind, TypeRegistry};
use tokio_postgres::Transaction;

const ROLES: &str = include_str!("../../../sql/catalog_roles.sql");
const TYPES: &str = include_str!("../../../sql/catalog_types.sql");

/// Every role, by name.
pub(super) struct Roles(Vec<RoleRow>);

struct RoleRow {
    name: String,
    bypasses_row_security: bool,
    claimable: bool,
}

impl Roles {
    /// Those a token may claim.
    pub(super) fn claimable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|role| role.claimable).map(|role| role.name.as_str())
    }

    /// The same, those that bypass row level security first.
    pub(super) fn claimable_by_reach(&self) -> impl Iterator<Item = &str> {
        let which = |bypasses| move |role: &&RoleRow| role.claimable && role.bypasses_row_security == bypasses;
        self.0.iter().filter(which(true)).chain(self.0.iter().filter(which(false))).map(|role| role.name.as_str())
    }

    /// Those no token may claim.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|role| !role.claimable).map(|role| role.name.as_str())
    }
}

/// Reads the roles; these count as claimable too.
pub(super) async fn roles(transaction: &Transaction<'_>, claimable: &[&str]) -> Result<Roles, CatalogError> {
    let rows = transaction.query(ROLES, &[]).await?;
    let role = |row: &tokio_postgres::Row| RoleRow {
        name: row.get("rolname"),
        bypasses_row_security: row.get("rolbypassrls"),
        claimable: row.get("claimable") || claimable.contains(&row.get("rolname")),
    };
    Ok(Roles(rows.iter().map(role).collect()))
}

pub(super) async fn types(transaction: &Transaction<'_>) -> Result<TypeRegistry, CatalogError> {
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
