//! Replication slots as Postgres describes them, in every supported version, and how one is dropped. Judges nothing:
//! `check::slots` does, and the slot guard of the source.

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, error::SqlState};

const SLOTS: &str = include_str!("../../sql/slots.sql");

/// The slots that were asked for, and what of the server concerns them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The server's version as one number.
    pub version_number: i32,
    /// The database that was asked.
    pub database: String,
    /// Our login's name, quoted where SQL needs it.
    pub login: String,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Where the log ends; on a standby as far as it is replayed.
    pub end_lsn: Option<String>,
    /// WAL is kept and removed in pieces of this size.
    pub segment_bytes: i64,
    /// `max_slot_wal_keep_size`; none when there is no limit.
    pub max_slot_wal_keep_bytes: Option<i64>,
    /// `idle_replication_slot_timeout`, from 18 on; none when there is none.
    pub idle_timeout_seconds: Option<i64>,
    /// The one that was named first, if it is there.
    pub slots: Vec<Slot>,
}

/// One replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its output plugin; a physical slot has none.
    pub plugin: Option<String>,
    /// Its database; a physical slot has none.
    pub database: Option<String>,
    /// Whether that is the database that was asked.
    pub is_here: bool,
    /// Whether it ends with the session that made it.
    pub temporary: bool,
    /// Whether somebody reads it.
    pub active: bool,
    /// From where on WAL is kept for it; none when it is lost.
    pub restart_lsn: Option<String>,
    /// Up to where its reader has confirmed.
    pub confirmed_lsn: Option<String>,
    /// WAL that is kept from `restart_lsn` on.
    pub retained_bytes: Option<i64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// What may still be written before it is in danger; none without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// How many transactions old the oldest rows of the catalogue are that it keeps from being vacuumed.
    pub catalog_xmin_age: Option<i32>,
    /// Whether standbys are to have it, too; from 17 on.
    pub failover: Option<bool>,
    /// Whether it is a standby's copy of the primary's; from 17 on.
    pub synced: Option<bool>,
    /// Why it was invalidated; from 17 on.
    pub invalidation_reason: Option<String>,
    /// Since when nobody has read it; from 17 on.
    pub inactive_since: Option<String>,
    /// How long that is.
    pub inactive_seconds: Option<i64>,
    /// Who reads it.
    pub reader: Option<Reader>,
}

/// The session that reads a slot. Of another role's session a login that is not privileged sees the number alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Its process.
    pub pid: i32,
    /// Its role.
    pub role: Option<String>,
    /// What it calls itself.
    pub application: Option<String>,
    /// Where it comes from; none over a Unix socket.
    pub client: Option<String>,
}

impl Slot {
    /// What it is instead, if it is no slot of pgoutput in this database.
    pub fn foreign(&self) -> Option<String> {
        match self.plugin.as_deref() {
            Some("pgoutput") if self.is_here => None,
            Some("pgoutput") => {
                Some(format!("it belongs to database {}", self.database.as_deref().unwrap_or("(none)")))
            }
            Some(plugin) => Some(format!("its output plugin is {plugin}")),
            None => Some("it is a physical slot".to_owned()),
        }
    }

    /// Whether it is one of ours that nobody reads, and WAL is kept for it.
    pub fn is_idle(&self) -> bool {
        self.foreign().is_none() && !self.active && !self.is_lost() && self.synced != Some(true)
    }

    /// Whether its WAL is gone: nothing can be read from it any more.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

impl std::fmt::Display for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(application) = &self.application {
            write!(f, " (\"{application}\")")?;
        }
        if let Some(role) = &self.role {
            write!(f, " of role \"{role}\"")?;
        }
        if let Some(client) = &self.client {
            write!(f, " from {client}")?;
        }
        Ok(())
    }
}

/// Why slots could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// The statement failed.
    #[error("cannot read the replication slots")]
    Query(#[from] tokio_postgres::Error),
    /// The answer is not what was expected.
    #[error("cannot understand the replication slots")]
    Row(#[from] serde_json::Error),
}

/// The slot of this name, and with `all` every other one of pgoutput in this database.
pub async fn slots(client: &Client, name: &str, all: bool) -> Result<Slots, SlotsError> {
    let row = client.query_one(SLOTS, &[&name, &all]).await?;
    Ok(serde_json::from_value(row.try_get(0)?)?)
}

/// The oid of a publication, if there is one of this name.
pub async fn publication(client: &Client, name: &str) -> Result<Option<u32>, tokio_postgres::Error> {
    let sql = "select oid from pg_catalog.pg_publication where pubname = $1";
    client.query_opt(sql, &[&name]).await?.map(|row| row.try_get(0)).transpose()
}

/// Whether there is a publication of this oid: one that is made anew has another.
pub async fn is_publication(client: &Client, oid: u32) -> Result<bool, tokio_postgres::Error> {
    let sql = "select exists (select from pg_catalog.pg_publication where oid = $1)";
    client.query_one(sql, &[&oid]).await?.try_get(0)
}

/// How dropping a slot went, if it could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is gone.
    Done,
    /// There was none.
    Absent,
    /// Somebody reads it.
    Active,
    /// Our login may not.
    Forbidden,
}

/// Drops a slot that nobody reads.
pub async fn drop_slot(client: &Client, name: &str) -> Result<Dropped, tokio_postgres::Error> {
    match client.execute("select pg_catalog.pg_drop_replication_slot($1::text::name)", &[&name]).await {
        Ok(_) => Ok(Dropped::Done),
        Err(error) => match error.code() {
            Some(&SqlState::UNDEFINED_OBJECT) => Ok(Dropped::Absent),
            Some(&SqlState::OBJECT_IN_USE) => Ok(Dropped::Active),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(Dropped::Forbidden),
            _ => Err(error),
        },
    }
}

/// A size for people.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let magnitude = bytes.unsigned_abs();
    if magnitude < 1024 {
        return format!("{bytes} bytes");
    }
    let mut unit = 0;
    let mut tenths = u128::from(magnitude) * 10 / 1024;
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_size_is_said_in_the_largest_unit_that_it_has_one_of() {
        let said = |bytes| size(bytes);
        assert_eq!([0, 1023, 1024, 1536].map(said), ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB"]);
        assert_eq!([64 << 20, 10 << 30, 3 << 40].map(said), ["64.0 MiB", "10.0 GiB", "3.0 TiB"]);
        assert_eq!([-(3 << 20), i64::MAX].map(said), ["-3.0 MiB", "8388607.9 TiB"]);
    }
}
