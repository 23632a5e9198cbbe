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
use postgres_protocol::escape::escape_identifier;
use std::sync::Arc;
use tokio_postgres::{Client, IsolationLevel, SimpleQueryMessage, SimpleQueryRow};

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
    let isolation = IsolationLevel::RepeatableRead;
    let transaction = client.build_transaction().read_only(true).isolation_level(isolation).start().await?;
    transaction.batch_execute("set local row_security = off; set local statement_timeout = '10s'").await?;
    if let Some(reader) = asked.reader {
        transaction.batch_execute(&format!("set local role {}", escape_identifier(reader))).await?;
    }
    let mut rows = Vec::new();
    let mut horizon: Option<i64> = None;
    for moment in asked.moments {
        let Some(column) = asked.table.columns.get(moment.column) else { continue };
        let after = asked.after.saturating_sub(moment.offset);
        let messages = transaction.simple_query(&statement(asked.table, &column.name, after, asked.limit)).await?;
        let found = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let found: Vec<&SimpleQueryRow> = found.collect();
        if found.len() >= asked.limit
            && let Some(last) = found.last()
        {
            let at = at(last);
            // Rows of the same moment may be missing. When all are of one, they are kept: there is no end of them.
            let is_one = found.first().is_some_and(|first| self::at(first) == at);
            let at = at.saturating_add(moment.offset).saturating_add(i64::from(is_one));
            horizon = Some(horizon.map_or(at, |horizon| horizon.min(at)));
        }
        rows.extend(found.into_iter().map(row));
    }
    transaction.rollback().await?;
    Ok(Found { rows, relation: Arc::new(relation(asked.table)), horizon })
}

/// The column's moment, then every column. Moments are passed as microseconds, so that no format matters; the
/// comparison is the column's own, so that an index on it serves. Without a list of parameters values come as their
/// types' output functions print them, which is how the stream has them: a cast to text prints `true` for `t`, and a
/// key that is spelled otherwise is another row's.
fn statement(table: &Table, column: &str, after: i64, limit: usize) -> String {
    const MICROSECONDS: &str = "'2000-01-01 00:00:00+00'::pg_catalog.timestamptz";
    let name = escape_identifier(column);
    let all: Vec<String> = table.columns.iter().map(|column| escape_identifier(&column.name)).collect();
    format!(
        "select (extract(epoch from {name} - {MICROSECONDS}) * 1000000)::pg_catalog.int8, {} from only {}.{} \
         where {name} > {MICROSECONDS} + ({after})::pg_catalog.int8 * interval '1 microsecond' and {name} < 'infinity' \
         order by {name} limit {limit}",
        all.join(", "),
        escape_identifier(&table.schema),
        escape_identifier(&table.name),
    )
}

fn at(row: &SimpleQueryRow) -> i64 {
    row.get(0).and_then(|text| text.parse().ok()).unwrap_or(i64::MAX)
}

fn row(row: &SimpleQueryRow) -> Row {
    let datum = |place: usize| match row.get(place) {
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
