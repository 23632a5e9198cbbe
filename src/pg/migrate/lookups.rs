//! Adds to the publication of our own the tables that policies look into, as far as that harms nobody: which tables
//! these are is `policy::follow`'s to say. What is in the way of the others is for `walcast check`.

use super::{MigrateError, Outcome, StepReport, attempt};
use crate::{
    pg::catalog::{self, CatalogError, LOOKUP_PUBLICATION, Scope},
    policy::{
        analyse,
        catalog::Catalog,
        facts::Carried,
        follow::{self, Names},
    },
};
use tokio_postgres::{Client, error::SqlState};

/// The publication clients subscribe to, and the roles of their tokens, whoever migrates.
const PUBLICATION: &str = "supabase_realtime";
const ROLES: &[&str] = &["anon", "authenticated", "service_role"];

/// The step that makes the publication.
pub(super) const STEP: &str = "publication walcast_lookups";

/// Adds what is missing; one report a table. `missing` names the step without which nothing can be added.
pub(super) async fn add(client: &mut Client, missing: Option<&str>) -> Result<Vec<StepReport>, MigrateError> {
    let catalog = read(client).await?;
    let mut reports = Vec::new();
    for Listed { table, sql } in listed(&catalog) {
        let outcome = match (&sql, missing) {
            (None, _) => Outcome::AlreadyThere,
            (Some(_), Some(step)) => Outcome::NeedsAdministrator(format!("it builds on {step}")),
            (Some(sql), None) => added(client, sql).await?,
        };
        reports.push(StepReport {
            name: format!("table {table} in publication {LOOKUP_PUBLICATION}").into(),
            outcome,
            needs: "ownership of the publication and of the table".into(),
            sql: sql.unwrap_or_default().into(),
        });
    }
    Ok(reports)
}

/// With the search path that sessions have, which is not that of a migration: bodies of functions depend on it.
async fn read(client: &mut Client) -> Result<Catalog, MigrateError> {
    client.batch_execute("reset search_path").await.map_err(MigrateError::Ask)?;
    let scope = Scope { publication: PUBLICATION, mentioned: analyse::mentioned, also_claimable: ROLES };
    let catalog = catalog::read(client, scope).await;
    client.batch_execute("set search_path = ''").await.map_err(MigrateError::Ask)?;
    catalog.map_err(|error| match error {
        CatalogError::Query(error) => MigrateError::Ask(error),
        CatalogError::Row(error) => MigrateError::Understand(error),
    })
}

/// A table that is, or should be, in the publication; with the SQL that adds it.
struct Listed {
    table: String,
    sql: Option<String>,
}

fn listed(catalog: &Catalog) -> Vec<Listed> {
    let names = Names { main: PUBLICATION, own: LOOKUP_PUBLICATION, login: "", roles: &catalog.roles };
    let listed = |(oid, need)| {
        let table = catalog.facts.tables.get(&oid)?;
        let obstacle = follow::obstacle(table, &need, catalog.tables.contains_key(&oid), names);
        let sql = match obstacle {
            Some(obstacle) if obstacle.is_only_unlisted => Some(format!("{};\n", obstacle.fix?)),
            _ if table.carried == Carried::Own => None,
            _ => return None,
        };
        Some(Listed { table: follow::quoted(table), sql })
    };
    let mut listed: Vec<Listed> = follow::wanted(catalog).into_iter().filter_map(listed).collect();
    listed.sort_by(|one, other| one.table.cmp(&other.table));
    listed
}

async fn added(client: &mut Client, sql: &str) -> Result<Outcome, MigrateError> {
    match attempt(client, sql).await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => match (error.code(), error.as_db_error()) {
            (Some(&SqlState::INSUFFICIENT_PRIVILEGE), Some(reason)) => {
                Ok(Outcome::NeedsAdministrator(reason.message().to_owned()))
            }
            (Some(&SqlState::READ_ONLY_SQL_TRANSACTION), _) => Err(MigrateError::ReadOnly),
            (Some(&SqlState::DUPLICATE_OBJECT), _) => Ok(Outcome::AlreadyThere),
            _ => Err(MigrateError::Step { step: STEP, source: error }),
        },
    }
}
