//! The committed state of a database as the process sees it: catalogue, lookup rows, row images.

use super::asked::Asked;
use crate::support::postgres::Database;
use bytes::Bytes;
use std::sync::Arc;
use tokio_postgres::{Client, SimpleQueryMessage};
use walcast::{
    change::Datum,
    lsn::Lsn,
    pg::catalog::{Scope, read},
    policy::{
        catalog::{Catalog, ColumnIndex, Table},
        lookup::{Layout, Loading, Lookups, Snapshot},
    },
};

/// The publication clients subscribe to.
pub const PUBLICATION: &str = "supabase_realtime";

/// How a walsender's session prints values.
const TEXT_FORMS: &str = "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres';
    set extra_float_digits = 1; set bytea_output = 'hex'";

/// One row as the stream would tell it.
#[derive(Clone, Debug)]
pub struct Image {
    /// What tells it apart, as `Asked::key` does.
    pub key: String,
    /// In the order of the table's columns.
    pub values: Vec<Datum>,
}

/// A table, its question and its rows.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its number among the tables that were asked about.
    pub number: usize,
    pub asked: Asked,
    pub table: Arc<Table>,
    pub images: Vec<Image>,
}

/// Three connections that look at one database.
pub struct Eyes {
    /// As superuser: writes, and asks the oracle.
    pub superuser: Client,
    /// As superuser, with the stream's text forms.
    pub texts: Client,
    /// As the server's own login.
    pub own: Client,
}

impl Eyes {
    /// Connects to a database.
    pub async fn open(database: &Database) -> Eyes {
        let texts = database.connect().await;
        texts.batch_execute(TEXT_FORMS).await.unwrap();
        let own = crate::support::postgres::connect(&database.walcast_url()).await;
        let superuser = database.connect().await;
        // Policies that call each other in a circle fail sooner.
        superuser.batch_execute("set max_stack_depth = '400kB'; set jit = off").await.unwrap();
        Eyes { superuser, texts, own }
    }

    /// The catalogue, as the server reads it.
    pub async fn catalog(&mut self) -> Catalog {
        read(&mut self.own, Scope::of(PUBLICATION)).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// The rows of all tables that compiled policies look into.
    pub async fn lookups(&self, catalog: &Catalog) -> Lookups {
        let mut lookups = Lookups::default();
        for (oid, need) in &catalog.lookups {
            let facts = Arc::clone(&catalog.facts.tables[oid]);
            let (schema, name) = (facts.schema.clone(), facts.name.clone());
            let layout = Layout::new(facts, need.clone(), &catalog.types)
                .unwrap_or_else(|trouble| panic!("{schema}.{name}: {trouble}"));
            let mut loading = Loading::new(layout, self.snapshot().await, lookups.room_without(&[]));
            let columns: Vec<String> =
                loading.layout().names().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
            let sql = format!("select {} from \"{schema}\".\"{name}\"", columns.join(", "));
            let mut is_complete = true;
            for message in self.texts.simple_query(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")) {
                let SimpleQueryMessage::Row(row) = message else { continue };
                let texts = (0..columns.len()).map(|column| row.get(column).map(str::as_bytes));
                is_complete &= loading.add_row(texts).is_ok();
            }
            // Without it, whatever looks into it is left to the database.
            if is_complete {
                lookups.complete(loading);
            }
        }
        lookups
    }

    async fn snapshot(&self) -> Snapshot {
        let snapshot = self.superuser.query_one("select pg_current_snapshot()::text", &[]).await.unwrap();
        let end = self.superuser.query_one("select pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        let end: Lsn = end.get::<_, &str>(0).parse().unwrap();
        Snapshot::parse(snapshot.get(0), end).unwrap()
    }

    /// The rows of those tables that are published.
    pub async fn judged(&self, catalog: &Catalog, asked: &[Asked]) -> Vec<Judged> {
        let mut judged = Vec::new();
        for (number, asked) in asked.iter().enumerate() {
            let (schema, name) = asked.table.split_once('.').unwrap_or(("public", &asked.table));
            let fits = |table: &&Arc<Table>| table.schema == schema && table.name == name;
            let Some(table) = catalog.tables.values().find(fits) else { continue };
            let images = images(&self.texts, asked, table).await;
            judged.push(Judged { number, asked: asked.clone(), table: Arc::clone(table), images });
        }
        judged
    }
}

async fn images(client: &Client, asked: &Asked, table: &Table) -> Vec<Image> {
    let messages = client.simple_query(&format!("select * from {}", asked.table)).await.unwrap();
    let row = |message: &SimpleQueryMessage| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        let values = (0..table.columns.len()).map(|column| match row.get(column) {
            _ if !is_carried(table, column) => Datum::Absent,
            None => Datum::Null,
            Some(text) => Datum::Text(Bytes::copy_from_slice(text.as_bytes())),
        });
        let values: Vec<Datum> = values.collect();
        Some(Image { key: key_of(asked, table, &values), values })
    };
    messages.iter().filter_map(row).collect()
}

fn is_carried(table: &Table, column: ColumnIndex) -> bool {
    table.published.as_ref().is_none_or(|published| published.contains(&column))
}

/// What tells a row apart, as the oracle writes it.
pub fn key_of(asked: &Asked, table: &Table, values: &[Datum]) -> String {
    let text = |name: &str| {
        let (column, _) = table.column(name).unwrap_or_else(|| panic!("{} has no column {name}", asked.table));
        match &values[column] {
            Datum::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?} in the key of {}", asked.table),
        }
    };
    asked.key.split(',').map(text).collect::<Vec<_>>().join("|")
}
