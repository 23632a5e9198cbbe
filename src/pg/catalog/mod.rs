//! Reads the catalogue into `policy::catalog::Catalog`: the statements of `sql/catalog_*.sql` and `sql/facts_*.sql`,
//! and nothing else.
//!
//! Everything is read in one transaction with an empty search path, so that expressions come out with qualified
//! names. When to read again is told by `version`. `mentions` finds out which names count, `tables`, `functions`,
//! `database` and `types` read rows, `rules` makes decisions of them with what `policy` knows.

mod channels;
mod database;
mod functions;
mod mentions;
mod messages;
mod rules;
mod tables;
mod types;

use crate::{
    change::value::TypeRegistry,
    policy::{
        analyse,
        catalog::Catalog,
        channels::{ChannelPolicies, ChannelTable},
        facts::{Facts, FunctionFacts},
        follow::Names,
    },
};
use database::DatabaseRow;
use mentions::Mentions;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tables::TableRow;
use tokio_postgres::{Client, IsolationLevel, Statement, Transaction};
use types::Roles;

const VERSION: &str = include_str!("../../../sql/catalog_version.sql");

pub use super::lookup::PUBLICATION as LOOKUP_PUBLICATION;
pub use channels::channel_table;

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

    /// A text that changes whenever a catalogue may have changed whose policies mention these names
    /// (`Facts::names`).
    pub async fn version(&self, names: &BTreeSet<String>) -> Result<String, CatalogError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let row = self.client.query_one(&self.version, &[&self.publication, &LOOKUP_PUBLICATION, &names]).await?;
        Ok(row.get(0))
    }

    /// The whole catalogue and its version. Settings are those the connection was opened with.
    pub async fn read(&mut self) -> Result<Catalog, CatalogError> {
        read(&mut self.client, Scope::of(&self.publication)).await
    }
}

/// What is read.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The publication clients subscribe to.
    pub publication: &'a str,
    /// Finds the names in a text of SQL: `analyse::mentioned`.
    pub mentioned: fn(&str) -> BTreeSet<String>,
    /// Roles that count as claimable though they are not granted to us.
    pub also_claimable: &'a [&'a str],
}

impl<'a> Scope<'a> {
    /// What serving a publication needs.
    pub fn of(publication: &'a str) -> Scope<'a> {
        Scope { publication, mentioned: analyse::mentioned, also_claimable: &[] }
    }
}

/// Reads the whole catalogue and its version.
pub async fn read(client: &mut Client, scope: Scope<'_>) -> Result<Catalog, CatalogError> {
    let transaction =
        client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let search_path: String = transaction.query_one("select current_setting('search_path')", &[]).await?.get(0);
    transaction.batch_execute("set local search_path = ''").await?;
    let mentions = mentions::closure(&transaction, scope).await?;
    let read = Read::all(&transaction, scope, &mentions).await?;
    // In the session's own search path, as it is asked for later: publications are listed with expressions.
    transaction.execute("select set_config('search_path', $1, true)", &[&search_path]).await?;
    let names: Vec<&str> = mentions.names.iter().map(String::as_str).collect();
    let version = transaction.query_one(VERSION, &[&scope.publication, &LOOKUP_PUBLICATION, &names]).await?.get(0);
    transaction.rollback().await?;
    let settings = database::settings_in_force(client, &mentions.settings).await?;
    let search_path = database::split_search_path(&search_path);
    Ok(read.into_catalog(scope.publication, version, Session { search_path, settings, names: mentions.names }))
}

/// What statements said, before anything is made of it.
struct Read {
    roles: Roles,
    types: Arc<TypeRegistry>,
    /// The roles rights are known of.
    known_roles: BTreeSet<Arc<str>>,
    tables: Vec<TableRow>,
    channels: Option<ChannelTable>,
    functions: Vec<FunctionFacts>,
    usage: HashMap<Arc<str>, HashSet<String>>,
    database: DatabaseRow,
    message_tables: BTreeSet<u32>,
}

/// What was found out by other ways.
struct Session {
    search_path: Vec<String>,
    settings: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Read {
    async fn all(transaction: &Transaction<'_>, scope: Scope<'_>, mentions: &Mentions) -> Result<Read, CatalogError> {
        let roles = types::roles(transaction, scope.also_claimable).await?;
        let known_roles: BTreeSet<Arc<str>> =
            roles.claimable().chain(mentions.owners.iter().map(String::as_str)).map(Arc::from).collect();
        let role_names: Vec<&str> = known_roles.iter().map(|role| &**role).collect();
        let names: Vec<&str> = mentions.names.iter().map(String::as_str).collect();
        let tables = tables::rows(transaction, scope.publication, &role_names, &names).await?;
        let channels = channel_table(transaction, &role_names).await?;
        let functions = functions::functions(transaction, &names, &role_names).await?;
        let schemas = tables.iter().map(|table| table.schema.as_str());
        let schemas = schemas.chain(functions.iter().map(|function| function.schema.as_str())).collect();
        let usage = database::usage(transaction, &role_names, schemas).await?;
        let database = database::database(transaction, &names).await?;
        let types = Arc::new(types::types(transaction).await?);
        let message_tables = messages::tables(transaction).await?;
        Ok(Read { roles, types, known_roles, tables, channels, functions, usage, database, message_tables })
    }

    fn into_catalog(self, publication: &str, version: String, session: Session) -> Catalog {
        let facts = Facts {
            tables: self.tables.iter().map(|row| (row.oid, Arc::new(row.facts(&self.roles)))).collect(),
            functions: self.functions.into_iter().map(Arc::new).collect(),
            roles: self.known_roles,
            usage: self.usage,
            search_path: session.search_path,
            is_utc: self.database.is_utc(),
            default_collation: Some(self.database.default_collation()),
            custom_settings: self.database.custom_settings().chain(session.settings).collect(),
            restricted_builtins: self.database.restricted_builtins,
            builtin_functions: Some(self.database.builtin_functions),
            custom_operators: self.database.custom_operators,
            custom_casts: self.database.custom_casts.into_iter().collect(),
            types: self.types.clone(),
            names: session.names,
        };
        let claimable: Vec<Arc<str>> = self.roles.claimable().map(Arc::from).collect();
        let names =
            Names { main: publication, own: LOOKUP_PUBLICATION, login: &self.database.login, roles: &claimable };
        let published = self.tables.into_iter().filter(TableRow::is_published).collect();
        let channels = self.channels.map(|table| Arc::new(ChannelPolicies::new(&facts, table, &claimable)));
        let rules::Ruled { tables, lookups } = rules::rule(&facts, published, names);
        Catalog {
            version,
            tables,
            roles: claimable,
            other_roles: self.roles.others().map(str::to_owned).collect(),
            types: self.types,
            facts: Arc::new(facts),
            lookups,
            channels,
            message_tables: self.message_tables,
        }
    }
}
