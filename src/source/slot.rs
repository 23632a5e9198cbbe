//! Making ready to stream: publication first, slot second (a slot older than its publication cannot decode it), and the
//! sentence that names the fix when that is not possible.

use super::Wish;
use crate::{
    change::assemble::AssembleError,
    lsn::Lsn,
    pg::{
        Target,
        connect::describe,
        lookup::PUBLICATION,
        messages,
        replication::{ReplicationError, ReplicationStream, Session},
    },
};
use postgres_protocol::escape::escape_literal;
use std::time::Duration;

const LOOKUP_PUBLICATION: &str = include_str!("../../sql/lookup_publication.sql");

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
    /// Whether the publication of lookup tables is streamed too, when there is one.
    pub lookups: bool,
    /// Whether the publication of `realtime.messages` is streamed too, when there is one.
    pub messages: bool,
}

/// What is known of the stream before this one.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The server and timeline.
    pub system: String,
    /// Up to where everything has been received whole: none of it is wanted again.
    pub received: Lsn,
    /// What is wished of the next one.
    pub wish: Wish,
    /// The wish with which the publication of lookup tables broke the stream.
    pub refused: Option<Wish>,
    /// The wish with which the publication of messages did.
    pub refused_messages: Option<Wish>,
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

    /// Whether the publication of lookup tables may be what broke the stream: it is missing where a change is older, or
    /// its lists of columns do not go with the other's.
    pub(super) fn may_be_of_lookups(&self) -> bool {
        let SourceError::Replication(ReplicationError::Server(error)) = self else { return false };
        match error.code.as_str() {
            "42704" => error.message.contains(PUBLICATION),
            "0A000" => error.message.contains("column lists") && !self.may_be_of_messages(),
            _ => false,
        }
    }

    /// The same of the publication of messages.
    pub(super) fn may_be_of_messages(&self) -> bool {
        let SourceError::Replication(ReplicationError::Server(error)) = self else { return false };
        match error.code.as_str() {
            "42704" => error.message.contains(messages::PUBLICATION),
            "0A000" => error.message.contains("column lists") && error.message.contains("realtime.messages"),
            _ => false,
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
                "42704"
                    if error.message.contains("publication")
                        && ![PUBLICATION, messages::PUBLICATION].iter().any(|own| error.message.contains(own)) =>
                {
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
    /// Where the stream begins.
    pub from: Lsn,
    /// The slot's `catalog_xmin` before it began.
    pub catalog_xmin: Option<u32>,
    /// The publication of lookup tables, by its oid, or why it is not in the stream.
    pub lookups: Result<u32, String>,
    /// The publication of messages, likewise.
    pub messages: Result<u32, String>,
}

/// Connects, checks the publication, makes the slot when there is none, and starts streaming from where the slot is, or
/// from where everything before has been received. A transaction that came whole must not come again: with other
/// publications its changes count otherwise, and would be taken for others.
pub async fn start(target: &Target, config: &Config, before: &Before) -> Result<Started, SourceError> {
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
    let existing = if config.temporary { None } else { existing_slot(&mut session, config).await? };
    // Looked for before a slot is made: what is found then is older than the slot.
    let mut lookups = lookup_publication(&mut session, config, existing.as_ref()).await?;
    let mut messages = messages_publication(&mut session, config, existing.as_ref()).await?;
    let confirmed = match &existing {
        Some(slot) => slot.confirmed,
        None => {
            let start = session.create_slot(&config.slot, config.temporary).await?;
            tracing::info!(slot = config.slot, temporary = config.temporary, lsn = %start, "replication slot created");
            start
        }
    };
    let slot_is_new = existing.is_none();
    let catalog_xmin = match existing {
        Some(slot) => slot.catalog_xmin,
        None => existing_slot(&mut session, config).await?.and_then(|slot| slot.catalog_xmin),
    };
    let continues = !slot_is_new && system == before.system;
    let from = if continues { confirmed.max(before.received) } else { confirmed };
    if !slot_is_new {
        let is_wished = continues && before.wish.lookups && from >= before.wish.from;
        let refused = before.refused.is_some_and(|refused| before.wish.from <= refused.from);
        lookups = lookups.and_then(|found| found.if_streamable(is_wished, refused));
        let is_wished = continues && before.wish.messages.is_some_and(|wished| from >= wished);
        let refused = before.refused_messages.is_some_and(|refused| before.wish.messages <= refused.messages);
        messages = messages.and_then(|found| found.if_streamable(is_wished, refused));
    }
    let mut publications = vec![config.publication.as_str()];
    publications.extend(lookups.is_ok().then_some(PUBLICATION));
    publications.extend(messages.is_ok().then_some(messages::PUBLICATION));
    let stream = session.start(&config.slot, &publications, from).await?;
    let (lookups, messages) = (lookups.map(|found| found.oid), messages.map(|found| found.oid));
    Ok(Started { stream, system, slot_is_new, confirmed, sender_timeout, from, catalog_xmin, lookups, messages })
}

/// A publication beside the one clients subscribe to.
struct OwnPublication {
    oid: u32,
    /// Whether it is older than all the slot may still have to decode.
    is_older: bool,
}

impl OwnPublication {
    /// It, if a slot that was there already can stream it. Up to 17 the stream ends with an error at a change from
    /// before the publication was made, from 18 on it silently goes without: so it is streamed only from behind that.
    fn if_streamable(self, is_wished: bool, is_refused: bool) -> Result<OwnPublication, String> {
        if is_refused {
            Err("the stream broke off with it, because of a transaction that is older or of lists of columns"
                .to_owned())
        } else if self.is_older || is_wished {
            Ok(self)
        } else {
            Err("the stream began before it was made".to_owned())
        }
    }
}

/// Finds it; else the reason why it cannot be streamed.
async fn lookup_publication(
    session: &mut Session,
    config: &Config,
    slot: Option<&ExistingSlot>,
) -> Result<Result<OwnPublication, String>, SourceError> {
    if !config.lookups {
        return Ok(Err("it is not wanted".to_owned()));
    }
    let catalog_xmin = slot.and_then(|slot| slot.catalog_xmin).map_or("null".to_owned(), |xid| format!("'{xid}'"));
    let sql = LOOKUP_PUBLICATION
        .replace("$1", &escape_literal(PUBLICATION))
        .replace("$2", &escape_literal(&config.publication))
        .replace("$3", &catalog_xmin);
    let rows = session.query(&sql).await?;
    let Some(row) = rows.first() else { return Ok(Err(format!("there is no publication \"{PUBLICATION}\""))) };
    let cell = |index: usize| row.get(index).cloned().flatten();
    if let Some(table) = cell(2) {
        // Streamed together they would give subscribers rows or columns that the one they subscribe to leaves out, or
        // stop the stream.
        return Ok(Err(format!(
            "publication \"{}\" has a filter, a list of columns or operations left out for table {table}, which \"{PUBLICATION}\" has too; \
             drop it from either",
            config.publication
        )));
    }
    let oid = cell(0).and_then(|oid| oid.parse().ok()).unwrap_or_default();
    Ok(Ok(OwnPublication { oid, is_older: cell(1).as_deref() == Some("t") }))
}

/// Finds the publication of messages; else the reason why it cannot be streamed.
async fn messages_publication(
    session: &mut Session,
    config: &Config,
    slot: Option<&ExistingSlot>,
) -> Result<Result<OwnPublication, String>, SourceError> {
    if !config.messages {
        return Ok(Err("it is not wanted".to_owned()));
    }
    let catalog_xmin = slot.and_then(|slot| slot.catalog_xmin);
    let rows = session.query(&messages::publication_statement(&config.publication, catalog_xmin)).await?;
    let Some(row) = rows.first() else {
        return Ok(Err(format!("there is no publication \"{}\"", messages::PUBLICATION)));
    };
    let cell = |index: usize| row.get(index).cloned().flatten();
    if let Some(obstacle) = cell(2) {
        return Ok(Err(obstacle));
    }
    let oid = cell(0).and_then(|oid| oid.parse().ok()).unwrap_or_default();
    Ok(Ok(OwnPublication { oid, is_older: cell(1).as_deref() == Some("t") }))
}

struct ExistingSlot {
    confirmed: Lsn,
    catalog_xmin: Option<u32>,
}

/// The slot; none when there is no such.
async fn existing_slot(session: &mut Session, config: &Config) -> Result<Option<ExistingSlot>, SourceError> {
    let sql = format!(
        "select plugin, database, database = current_database(), wal_status, confirmed_flush_lsn, catalog_xmin \
         from pg_catalog.pg_replication_slots where slot_name = {}",
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
    Ok(Some(ExistingSlot { confirmed: cell(4).parse().unwrap_or(Lsn::ZERO), catalog_xmin: cell(5).parse().ok() }))
}
