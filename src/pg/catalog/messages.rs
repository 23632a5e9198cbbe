//! The tables whose rows are broadcast: `realtime.messages` and its partitions, of which a new one comes every day.

use super::CatalogError;
use std::collections::BTreeSet;
use tokio_postgres::Transaction;

const TABLES: &str = include_str!("../../../sql/messages_tables.sql");

pub(super) async fn tables(transaction: &Transaction<'_>) -> Result<BTreeSet<u32>, CatalogError> {
    let rows = transaction.query(TABLES, &[]).await?;
    Ok(rows.iter().filter_map(|row| u32::try_from(row.get::<_, i64>(0)).ok()).collect())
}
