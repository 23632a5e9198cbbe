//! Asks which rows of a table change their visibility next though nobody touches them: those whose timestamps are passed
//! soonest. All of them, whoever may see them: the router judges.

use crate::{
    change::{
        Datum, Row,
        relation::{Column, Relation},
    },
    policy::{catalog::Table, program::Moment},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use postgres_protocol::escape::escape_identifier;
use std::sync::Arc;
use tokio_postgres::{Client, types::ToSql};

/// Which rows are asked for.
#[derive(Clone, Debug)]
pub struct Nearest<'a> {
    /// The table.
    pub table: &'a Table,
    /// The role that may read all of it; none for our own login.
    pub reader: Option<&'a str>,
    /// The columns that count.
    pub moments: &'a [Moment],
    /// Moments after this one, in microseconds since 2000-01-01 UTC.
    pub after: i64,
    /// Rows for each of the columns, at most.
    pub limit: usize,
}

/// The rows that are passed next.
#[derive(Debug)]
pub struct Found {
    /// The rows; some may be there more than once.
    pub rows: Vec<Row>,
    /// What their values are.
    pub relation: Arc<Relation>,
    /// The moment up to which these are all; none when there are no more.
    pub horizon: Option<i64>,
}

/// Reads them, on a connection whose text forms are the stream's.
pub async fn nearest(client: &mut Client, asked: &Nearest<'_>) -> Result<Found, tokio_postgres::Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.batch_execute("set local row_security = off; set local statement_timeout = '10s'").await?;
    if let Some(reader) = asked.reader {
        transaction.batch_execute(&format!("set local role {}", escape_identifier(reader))).await?;
    }
    let limit = i64::try_from(asked.limit).unwrap_or(i64::MAX);
    let mut rows = Vec::new();
    let mut horizon: Option<i64> = None;
    for moment in asked.moments {
        let Some(column) = asked.table.columns.get(moment.column) else { continue };
        let statement = transaction.prepare(&statement(asked.table, &column.name)).await?;
        let after = asked.after.saturating_sub(moment.offset);
        let parameters: [&(dyn ToSql + Sync); 2] = [&after, &limit];
        let found: Vec<tokio_postgres::Row> =
            transaction.query_raw(&statement, parameters).await?.try_collect().await?;
        if found.len() >= asked.limit
            && let Some(last) = found.last()
        {
            let at: i64 = last.get(0);
            // Rows of the same moment may be missing. When all are of one, they are kept: there is no end of them.
            let is_one = found.first().is_some_and(|first| first.get::<_, i64>(0) == at);
            let at = at.saturating_add(moment.offset).saturating_add(i64::from(is_one));
            horizon = Some(horizon.map_or(at, |horizon| horizon.min(at)));
        }
        rows.extend(found.iter().map(row));
    }
    transaction.rollback().await?;
    Ok(Found { rows, relation: Arc::new(relation(asked.table)), horizon })
}

/// The column's moment, then every column as text. Moments are passed as microseconds, so that no format matters; the
/// comparison is the column's own, so that an index on it serves.
fn statement(table: &Table, column: &str) -> String {
    const MICROSECONDS: &str = "'2000-01-01 00:00:00+00'::pg_catalog.timestamptz";
    let name = escape_identifier(column);
    let all = table.columns.iter().map(|column| format!("{}::pg_catalog.text", escape_identifier(&column.name)));
    let all: Vec<String> = all.collect();
    format!(
        "select (extract(epoch from {name} - {MICROSECONDS}) * 1000000)::pg_catalog.int8, {} from {}.{} \
         where {name} > {MICROSECONDS} + $1::pg_catalog.int8 * interval '1 microsecond' and {name} < 'infinity' order by {name} limit $2",
        all.join(", "),
        escape_identifier(&table.schema),
        escape_identifier(&table.name),
    )
}

fn row(row: &tokio_postgres::Row) -> Row {
    let datum = |place: usize| match row.get::<_, Option<&str>>(place) {
        Some(text) => Datum::Text(Bytes::copy_from_slice(text.as_bytes())),
        None => Datum::Null,
    };
    Row((1..row.len()).map(datum).collect())
}

/// The table as the stream would describe it, with every column.
pub fn relation(table: &Table) -> Relation {
    let columns = table.columns.iter().enumerate().map(|(index, column)| Column {
        name: column.name.clone(),
        type_oid: column.type_oid,
        type_modifier: -1,
        is_key: table.primary_key.contains(&index),
    });
    Relation {
        oid: table.oid,
        schema: table.schema.clone(),
        name: table.name.clone(),
        replica_identity: table.replica_identity,
        columns: columns.collect(),
    }
}
