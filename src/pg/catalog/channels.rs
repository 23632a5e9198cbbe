//! The table whose policies say who may use private channels: `sql/catalog_channels.sql`.

use super::CatalogError;
use crate::policy::channels::ChannelTable;
use tokio_postgres::GenericClient;

const CHANNELS: &str = include_str!("../../../sql/catalog_channels.sql");

/// Its name without the schema: what follows of it is watched by this name, whether or not it is there.
pub(super) const NAME: &str = "messages";

/// Reads it, with the rights of these roles; none when there is no such table. In a transaction with an empty search
/// path, so that expressions come out with qualified names.
pub async fn channel_table(client: &impl GenericClient, roles: &[&str]) -> Result<Option<ChannelTable>, CatalogError> {
    let row = client.query_opt(CHANNELS, &[&roles]).await?;
    Ok(row.map(|row| serde_json::from_value(row.get(0))).transpose()?)
}
