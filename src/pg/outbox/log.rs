//! What the database says of its log while the outbox is read, and where both meet.

use super::xid;
use crate::lsn::Lsn;
use tokio_postgres::Client;

const HORIZON: &str = include_str!("../../../sql/outbox_horizon.sql");
const OUTLOOK: &str = include_str!("../../../sql/outbox_outlook.sql");

/// Which transactions have ended at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The oldest one that has not: all with lower ids have.
    pub before: u64,
    /// None with this id or a higher one had.
    pub next: u64,
    /// Where the log ended: what had ended is before that.
    pub end: Lsn,
}

/// Which transactions have ended now.
pub async fn horizon(client: &Client) -> Result<Horizon, tokio_postgres::Error> {
    let row = client.query_one(HORIZON, &[]).await?;
    let end: &str = row.try_get(2)?;
    let end = end.parse().unwrap_or(Lsn(u64::MAX));
    Ok(Horizon { before: xid(row.try_get(0)?), next: xid(row.try_get(1)?), end })
}

/// How it stands with the log, as far as can be seen without trying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Whether nothing speaks against logical replication with this slot.
    pub is_possible: bool,
    /// The slot, if there is one.
    pub slot: Option<SlotSeen>,
}

/// A slot as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSeen {
    /// The process that reads it.
    pub reader: Option<i32>,
    /// Up to where its reader has confirmed.
    pub confirmed: Lsn,
    /// Whether nothing can be read from it any more.
    pub is_lost: bool,
}

/// Looks how it stands with the log and this slot.
pub async fn outlook(client: &Client, slot: &str) -> Result<Outlook, tokio_postgres::Error> {
    let row = client.query_one(OUTLOOK, &[&slot]).await?;
    let confirmed: Option<&str> = row.try_get("confirmed")?;
    let seen = SlotSeen {
        reader: row.try_get("reader")?,
        confirmed: confirmed.and_then(|confirmed| confirmed.parse().ok()).unwrap_or(Lsn::ZERO),
        is_lost: row.try_get::<_, Option<bool>>("is_lost")?.unwrap_or_default(),
    };
    Ok(Outlook {
        is_possible: row.try_get::<_, Option<bool>>("is_possible")?.unwrap_or_default(),
        slot: row.try_get::<_, bool>("is_there")?.then_some(seen),
    })
}
