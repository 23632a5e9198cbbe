//! What the database says about itself, read by `sql/check_server.sql`, `sql/check_tables.sql` and
//! `sql/catalog_roles.sql`. Judges nothing; `findings` and `preflight` do.

use super::{CheckError, messages::Messages, outbox::Outbox};
use crate::{
    pg::{
        self, Target,
        catalog::{self, CatalogError, LOOKUP_PUBLICATION, Scope},
        connect::ConnectError,
        messages::{self, obstacle},
        outbox,
        slot::Slots,
    },
    policy::catalog::Catalog,
};
use serde::Deserialize;
use std::time::Duration;
use tokio_postgres::{Client, IsolationLevel, error::SqlState};

const SERVER: &str = include_str!("../../sql/check_server.sql");
const TABLES: &str = include_str!("../../sql/check_tables.sql");
const ROLES: &str = include_str!("../../sql/catalog_roles.sql");
const LOOKUPS: &str = include_str!("../../sql/check_lookups.sql");
const MESSAGES: &str = include_str!("../../sql/check_messages.sql");

/// How long reading may take: a lock on a catalogue must not hold us for ever.
const LIMIT: Duration = Duration::from_secs(30);

/// The server, our login, the publication and the slot.
#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) version_number: i32,
    pub(super) wal_level: String,
    pub(super) in_recovery: bool,
    pub(super) max_replication_slots: i64,
    pub(super) max_wal_senders: i64,
    pub(super) max_slot_wal_keep_size: String,
    pub(super) used_slots: i64,
    pub(super) used_senders: i64,
    /// Our login's name, quoted where SQL needs it.
    pub(super) login: String,
    /// The same as it is.
    pub(super) login_name: String,
    pub(super) may_replicate: bool,
    pub(super) is_superuser: bool,
    /// The publication's name, quoted where SQL needs it.
    pub(super) publication_name: String,
    pub(super) publication: Option<Publication>,
    pub(super) slot_literal: String,
    pub(super) slot: Option<Slot>,
    pub(super) existing_roles: Vec<String>,
    pub(super) has_auth_schema: bool,
    pub(super) auth_functions: Vec<String>,
    pub(super) closed_schemas: Vec<ClosedSchema>,
    /// The roles a token may claim.
    #[serde(skip)]
    pub(super) claimable: Vec<String>,
}

/// Which operations a publication publishes.
#[derive(Debug, Deserialize)]
pub(super) struct Publication {
    pub(super) insert: bool,
    pub(super) update: bool,
    pub(super) delete: bool,
}

/// The slot with our name.
#[derive(Debug, Deserialize)]
pub(super) struct Slot {
    pub(super) plugin: Option<String>,
    pub(super) database: Option<String>,
    pub(super) is_here: bool,
    pub(super) active: bool,
}

/// A schema that neither our login nor some of the roles of tokens have USAGE on.
#[derive(Debug, Deserialize)]
pub(super) struct ClosedSchema {
    pub(super) name: String,
    pub(super) quoted: String,
    pub(super) roles: Vec<String>,
}

/// A published table.
#[derive(Debug, Deserialize)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) quoted: String,
    pub(super) quoted_schema: String,
    pub(super) has_primary_key: bool,
    pub(super) identity: String,
    /// It, or those of its partitions, whose rows the stream cannot tell apart.
    pub(super) unidentified: Vec<String>,
    /// Whether the publication's column list has all of the replica identity.
    pub(super) is_key_listed: bool,
    pub(super) row_security: bool,
    pub(super) policies: Vec<Policy>,
    pub(super) readers: Vec<String>,
    pub(super) may_select: bool,
    /// Generated columns the stream leaves out.
    pub(super) omitted: Vec<String>,
    pub(super) has_stored_omitted: bool,
}

/// A policy of a published table.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) for_select: bool,
    pub(super) using: Option<String>,
    /// Which of anon and authenticated it holds for.
    pub(super) roles: Vec<String>,
    pub(super) reads_beyond_key: bool,
}

/// The publication of lookup tables.
#[derive(Debug, Deserialize)]
pub(super) struct LookupPublication {
    pub(super) has_all_operations: bool,
    pub(super) tables: Vec<LookupMember>,
}

/// A table in it.
#[derive(Debug, Deserialize)]
pub(super) struct LookupMember {
    pub(super) name: String,
    pub(super) quoted: String,
    /// Whether it was added by name, and not with a schema or with all tables.
    pub(super) is_listed: bool,
    /// Whether the publication of clients has it too, and less of it.
    pub(super) is_restricted: bool,
    pub(super) has_identity: bool,
}

/// A connection, or why there is none and what to do.
pub(crate) async fn connect(target: &Target, application: &str) -> Result<Client, CheckError> {
    target.connect(application).await.map_err(|error| {
        let code = match &error {
            ConnectError::Connect { source, .. } => source.code(),
            _ => None,
        };
        let fix = match code {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                "check user, password and pg_hba.conf for DATABASE_URL"
            }
            Some(&SqlState::INVALID_CATALOG_NAME) => "check the database's name in DATABASE_URL",
            Some(&SqlState::TOO_MANY_CONNECTIONS) => "raise max_connections or close other sessions",
            _ => "check that Postgres runs there and that DATABASE_URL (--database-url) is right",
        };
        CheckError::Connect { error, fix }
    })
}

/// Reads what concerns the server.
pub(super) async fn server(client: &Client, publication: &str, slot: &str) -> Result<Server, CheckError> {
    let read = async {
        let row = client.query_one(SERVER, &[&publication, &slot]).await?;
        let mut server: Server = serde_json::from_value(row.get(0))?;
        let roles = client.query(ROLES, &[]).await?;
        server.claimable = roles.iter().filter(|row| row.get("claimable")).map(|row| row.get("rolname")).collect();
        Ok(server)
    };
    tokio::time::timeout(LIMIT, read).await.map_err(|_| CheckError::Silent)?
}

/// Reads our slot, and every other one of pgoutput in this database.
pub(crate) async fn slots(client: &Client, slot: &str) -> Result<Slots, CheckError> {
    let slots = pg::slot::slots(client, slot, true);
    Ok(tokio::time::timeout(LIMIT, slots).await.map_err(|_| CheckError::Silent)??)
}

/// Reads what concerns the published tables.
pub(super) async fn tables(client: &mut Client, publication: &str) -> Result<Vec<Table>, CheckError> {
    let read = async {
        let transaction =
            client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead).start().await?;
        transaction.batch_execute("set local search_path = ''").await?;
        let rows = transaction.query(TABLES, &[&publication]).await?;
        transaction.rollback().await?;
        rows.iter().map(|row| Ok(serde_json::from_value(row.get(0))?)).collect()
    };
    tokio::time::timeout(LIMIT, read).await.map_err(|_| CheckError::Silent)?
}

/// Reads the catalogue as serving does.
pub(crate) async fn catalog(client: &mut Client, publication: &str) -> Result<Catalog, CheckError> {
    let read = catalog::read(client, Scope::of(publication));
    let catalog = tokio::time::timeout(LIMIT, read).await.map_err(|_| CheckError::Silent)?;
    catalog.map_err(|error| match error {
        CatalogError::Query(error) => CheckError::Query(error),
        CatalogError::Row(error) => CheckError::Row(error),
    })
}

/// Reads the publication of lookup tables, if there is one.
pub(super) async fn lookup_publication(
    client: &Client,
    publication: &str,
) -> Result<Option<LookupPublication>, CheckError> {
    let query = async { client.query_opt(LOOKUPS, &[&publication, &LOOKUP_PUBLICATION]).await };
    let row = tokio::time::timeout(LIMIT, query).await.map_err(|_| CheckError::Silent)??;
    Ok(row.map(|row| serde_json::from_value(row.get(0))).transpose()?)
}

/// Reads what concerns broadcasts from the database, if there is the table for them.
pub(super) async fn messages(client: &Client, publication: &str) -> Result<Option<Messages>, CheckError> {
    let read = async {
        let Some(row) = client.query_opt(MESSAGES, &[]).await? else { return Ok(None) };
        let mut messages: Messages = serde_json::from_value(row.get(0))?;
        messages.obstacle = obstacle(client, publication).await?;
        Ok(Some(messages))
    };
    tokio::time::timeout(LIMIT, read).await.map_err(|_| CheckError::Silent)?
}

/// Reads what concerns the notify fallback.
pub(super) async fn outbox(client: &Client, publication: &str) -> Result<Outbox, CheckError> {
    let read = async {
        let installed = outbox::installed(client).await?;
        if installed.is_none() {
            return Ok(Outbox { installed, tables: Vec::new(), triggers: Vec::new() });
        }
        let tables = outbox::tables(client, publication, messages::PUBLICATION).await?;
        Ok(Outbox { installed, tables, triggers: outbox::triggers(client).await? })
    };
    tokio::time::timeout(LIMIT, read).await.map_err(|_| CheckError::Silent)?
}
