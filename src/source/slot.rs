//! Making ready to stream: publication first, slot second (a slot older than its publication cannot decode it), and the
//! sentence that names the fix when that is not possible.

use crate::{
    change::assemble::AssembleError,
    lsn::Lsn,
    pg::{
        Target,
        connect::describe,
        replication::{ReplicationError, ReplicationStream, Session},
    },
};
use postgres_protocol::escape::escape_literal;
use std::time::Duration;

/// Which slot of which publication.
#[derive(Clone, Debug)]
pub struct Config {
    /// The publication whose tables are streamed.
    pub publication: String,
    /// The slot's name.
    pub slot: String,
    /// Whether the slot ends with the session.
    pub temporary: bool,
    /// What the session is called in `pg_stat_replication`.
    pub application: String,
}

/// Why the stream does not run.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such publication.
    #[error("publication \"{0}\" does not exist")]
    NoPublication(String),
    /// The slot's name belongs to a slot of another kind.
    #[error("replication slot \"{slot}\" is not ours: {why}")]
    ForeignSlot {
        /// The slot.
        slot: String,
        /// What it is instead.
        why: String,
    },
    /// The slot fell behind `max_slot_wal_keep_size` and its WAL is gone.
    #[error("replication slot \"{0}\" has lost its WAL")]
    LostSlot(String),
    /// The session failed.
    #[error("replication failed")]
    Replication(#[from] ReplicationError),
    /// The stream's messages do not fit together.
    #[error("replication stream is not consistent")]
    Assemble(#[from] AssembleError),
    /// Nothing was heard for too long.
    #[error("the database has not been heard for {0} s")]
    Silent(u64),
}

impl SourceError {
    /// The error with its causes and, when that is known, what to do about it, in one line.
    pub fn with_hint(&self, config: &Config) -> String {
        match self.hint(config) {
            Some(hint) => format!("{}; {hint}", describe(self)),
            None => describe(self),
        }
    }

    /// What to do about it, when that is known for certain. Such an error does not go away by waiting.
    pub fn hint(&self, config: &Config) -> Option<String> {
        let slot = escape_literal(&config.slot);
        let drop_slot = format!("run: select pg_drop_replication_slot({slot}); changes since then are lost to clients");
        match self {
            SourceError::NoPublication(name) => Some(format!(
                "create it with `walcast migrate`, or run: create publication {};",
                postgres_protocol::escape::escape_identifier(name)
            )),
            SourceError::ForeignSlot { .. } => Some("choose another name with --slot (WALCAST_SLOT)".to_owned()),
            SourceError::LostSlot(_) => Some(drop_slot),
            SourceError::Replication(ReplicationError::Authentication(_)) => {
                Some("check user and password in DATABASE_URL".to_owned())
            }
            SourceError::Replication(ReplicationError::NoTls { .. }) => {
                Some("set sslmode=disable or prefer in DATABASE_URL, or enable TLS on the server".to_owned())
            }
            SourceError::Replication(ReplicationError::Server(error)) => match error.code.as_str() {
                "55000" if error.message.contains("wal_level") => {
                    Some("run: alter system set wal_level = 'logical'; and restart Postgres".to_owned())
                }
                "55000" => Some(drop_slot),
                // It exists, or `prepare` had said so: the slot was made before it and decodes an older catalogue.
                "42704" if error.message.contains("publication") => {
                    Some(format!("the slot is older than the publication; {drop_slot}"))
                }
                "42501" => Some("give the role the right: alter role <role> replication;".to_owned()),
                "53400" => Some(
                    "drop a slot that is not used (select * from pg_replication_slots where not active;) or raise \
                     max_replication_slots and restart Postgres"
                        .to_owned(),
                ),
                "28P01" | "28000" => Some("check user, password and pg_hba.conf for DATABASE_URL".to_owned()),
                "3D000" => Some("check the database's name in DATABASE_URL".to_owned()),
                "55006" => Some(format!(
                    "another session reads slot {slot}: stop it, or give this server a slot of its own with --slot \
                     (WALCAST_SLOT)"
                )),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A stream that runs, and what is new about it.
pub struct Started {
    /// The stream.
    pub stream: ReplicationStream,
    /// The server and its timeline: another one counts its log anew.
    pub system: String,
    /// Whether the slot was made just now: nothing before it will come.
    pub slot_is_new: bool,
    /// What the slot has confirmed already: a status update must not fall behind it.
    pub confirmed: Lsn,
    /// Silence for which the server takes a reader for gone; none when it never does.
    pub sender_timeout: Option<Duration>,
}

/// Connects, checks the publication, makes the slot when there is none, and starts streaming from where the slot is.
pub async fn start(target: &Target, config: &Config) -> Result<Started, SourceError> {
    let mut session = Session::connect(target, &config.application).await?;
    let publication = escape_literal(&config.publication);
    let found =
        session.query(&format!("select 1 from pg_catalog.pg_publication where pubname = {publication}")).await?;
    if found.is_empty() {
        return Err(SourceError::NoPublication(config.publication.clone()));
    }
    let timeout = session.query("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'").await?;
    let timeout = timeout.first().and_then(|row| row.first().cloned().flatten());
    let sender_timeout =
        timeout.and_then(|text| text.parse().ok()).filter(|&setting| setting > 0).map(Duration::from_millis);
    let identity = session.query("IDENTIFY_SYSTEM").await?;
    let cell = |index: usize| identity.first().and_then(|row| row.get(index).cloned().flatten()).unwrap_or_default();
    let system = format!("{}/{}", cell(0), cell(1));
    let existing = if config.temporary { None } else { confirmed_position(&mut session, config).await? };
    let confirmed = match existing {
        Some(confirmed) => confirmed,
        None => {
            let start = session.create_slot(&config.slot, config.temporary).await?;
            tracing::info!(slot = config.slot, temporary = config.temporary, lsn = %start, "replication slot created");
            start
        }
    };
    let stream = session.start(&config.slot, &[&config.publication], Lsn::ZERO).await?;
    Ok(Started { stream, system, slot_is_new: existing.is_none(), confirmed, sender_timeout })
}

/// What the slot has confirmed; none when there is no such slot.
async fn confirmed_position(session: &mut Session, config: &Config) -> Result<Option<Lsn>, SourceError> {
    let sql = format!(
        "select plugin, database, database = current_database(), wal_status, confirmed_flush_lsn from pg_catalog.pg_replication_slots \
         where slot_name = {}",
        escape_literal(&config.slot)
    );
    let rows = session.query(&sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let cell = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
    let foreign = |why: String| SourceError::ForeignSlot { slot: config.slot.clone(), why };
    if cell(0) != "pgoutput" {
        return Err(foreign(match cell(0).as_str() {
            "" => "it is a physical slot".to_owned(),
            plugin => format!("its output plugin is {plugin}"),
        }));
    }
    if cell(2) != "t" {
        return Err(foreign(format!("it belongs to database \"{}\"", cell(1))));
    }
    if cell(3) == "lost" {
        return Err(SourceError::LostSlot(config.slot.clone()));
    }
    Ok(Some(cell(4).parse().unwrap_or(Lsn::ZERO)))
}
