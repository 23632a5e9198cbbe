//! Making ready to stream: publication first, slot second (a slot older than its publication cannot decode it), and the
//! sentence that names the fix when that is not possible.

use super::{
    GapReason, WindowConfig, Wish,
    holder::{self, Sender},
    making::{GivenUp, Maker, Open},
};
use crate::{
    change::{
        assemble::AssembleError,
        cursor::{Beside, Epoch},
    },
    lsn::Lsn,
    pg::{
        Target,
        connect::{self, describe},
        literals::with_values,
        lookup::PUBLICATION,
        messages,
        replication::{ReplicationError, ReplicationStream, Session},
    },
};
use postgres_protocol::escape::escape_literal;
use rand::Rng;
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
    /// How far the slot is confirmed behind what was handed on.
    pub window: WindowConfig,
    /// After so long without a word from the server the connection counts as dead.
    pub silence_limit: Duration,
}

/// What is known of the stream before this one.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Whether there was one.
    pub is_any: bool,
    /// Its history.
    pub epoch: Epoch,
    /// What tells that from others of the same name: the database went back, and its log has gone on otherwise since.
    pub fork: Fork,
    /// Up to where everything has been received whole: none of it is wanted again.
    pub received: Lsn,
    /// Behind the last change that came of it.
    pub delivered: Lsn,
    /// What is wished of the next one.
    pub wish: Wish,
    /// The wish with which the publication of lookup tables broke the stream.
    pub refused: Option<Wish>,
    /// The wish with which the publication of messages did.
    pub refused_messages: Option<Wish>,
    /// Why the slot must not be read any further: it is to be made anew.
    pub replace: Option<GapReason>,
    /// The server's process of the session before: after a cut it may hold the slot still.
    pub sender: Option<Sender>,
}

/// Tells the history that is read from those a database has left by going back to an older copy of itself on the same
/// timeline: a number of this process, for nothing in the database says so. The first, zero, changes no epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork(u64);

impl Fork {
    fn new() -> Fork {
        Fork(rand::rng().random_range(1..=u64::MAX))
    }

    fn of(self, epoch: Epoch) -> Epoch {
        Epoch { origin: epoch.origin ^ self.0, ..epoch }
    }
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
    /// Somebody else reads the slot.
    #[error("another server reads replication slot \"{slot}\"{}", by_process(*.pid))]
    Taken {
        /// The slot.
        slot: String,
        /// The process of the session that reads it.
        pid: Option<i32>,
    },
    /// A session of our own, from before a cut, that does not end.
    #[error(
        "process {pid} of the database, of a session of ours that is over, still holds replication slot \"{slot}\""
    )]
    Held {
        /// The slot.
        slot: String,
        /// The process.
        pid: i32,
    },
    /// The server follows another one.
    #[error("the database is a standby")]
    Standby,
    /// It was not made while transactions of before were open.
    #[error("making replication slot \"{slot}\" was given up, because {why}{}", by_transaction(.open.as_ref()))]
    NotMade {
        /// The slot.
        slot: String,
        /// Why.
        why: GivenUp,
        /// What it waited for.
        open: Option<Open>,
    },
    /// The session failed.
    #[error("replication failed")]
    Replication(#[from] ReplicationError),
    /// The stream's messages do not fit together.
    #[error("replication stream is not consistent")]
    Assemble(#[from] AssembleError),
    /// Nothing was heard for too long.
    #[error("the database has not been heard for {0} s")]
    Silent(u64),
    /// The server waits for us alone, so that it can end.
    #[error("the database shuts down")]
    ShutsDown,
}

impl SourceError {
    /// The error with its causes and what to do about it, in one line. `role` is our login.
    pub fn with_hint(&self, config: &Config, role: &str) -> String {
        let hint = self.hint(config, role).unwrap_or_else(|| self.advice().to_owned());
        format!("{}; {hint}", describe(self))
    }

    /// What may help against an error that may go away by waiting.
    fn advice(&self) -> &'static str {
        match self {
            SourceError::Held { .. } => {
                "it was told to end and does not; it is tried again, and goes on when that process is continued or killed on \
                 the database's machine"
            }
            SourceError::Replication(ReplicationError::Server(error)) if error.code == "57P01" => {
                "the server stops, or somebody ended the session, as is done to drop its slot; it is tried again"
            }
            SourceError::Replication(ReplicationError::Server(error)) if error.code.starts_with("57P") => {
                "the server starts or stops: it is tried again until it is ready"
            }
            SourceError::ShutsDown => "it is tried again until it is there again",
            SourceError::Replication(ReplicationError::Io { .. } | ReplicationError::Ended)
            | SourceError::Silent(_) => "check that Postgres runs there and can be reached; it is tried again",
            _ => "it is tried again; the database's log may say more",
        }
    }

    /// Whether the way to the server may be what failed.
    pub(super) fn is_of_network(&self) -> bool {
        matches!(self, SourceError::Silent(_) | SourceError::Replication(ReplicationError::Io { .. }))
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

    /// Whether the slot is of no use any more, though the publication is there: it is older than the publication, and
    /// decodes a catalogue without it.
    pub(super) fn needs_new_slot(&self, config: &Config) -> Option<GapReason> {
        let SourceError::Replication(ReplicationError::Server(error)) = self else { return None };
        // As the documentation words it for each version since 10: publication "name" does not exist.
        let names_it = error.message.contains(&format!("\"{}\"", config.publication));
        (error.code == "42704" && names_it).then_some(GapReason::PublicationNew)
    }

    /// Whether there can be no logical replication until somebody changes something: the server's settings, our rights, the
    /// number of slots, or that a pooler is in the way.
    pub(super) fn is_impossible(&self) -> bool {
        let SourceError::Replication(ReplicationError::Server(error)) = self else { return false };
        match error.code.as_str() {
            "55000" => error.message.contains("wal_level"),
            // No right; no slot left; a pooler takes no such connection, or takes its commands for SQL.
            "42501" | "53400" | "08P01" | "42601" => true,
            "53300" => error.message.contains("max_wal_senders"),
            // pg_hba.conf lets us in, but not for this.
            "28000" => error.message.contains("replication"),
            _ => false,
        }
    }

    /// What to do about it, when that is known for certain. Such an error does not go away by waiting. `role` is our login.
    pub fn hint(&self, config: &Config, role: &str) -> Option<String> {
        let slot = escape_literal(&config.slot);
        let drop_slot = format!("run: select pg_drop_replication_slot({slot}); changes since then are lost to clients");
        match self {
            SourceError::NoPublication(name) => Some(format!(
                "create it with `walcast migrate`, or run: create publication {};",
                postgres_protocol::escape::escape_identifier(name)
            )),
            SourceError::ForeignSlot { .. } => Some("choose another name with --slot (WALCAST_SLOT)".to_owned()),
            SourceError::LostSlot(_) => Some(drop_slot),
            SourceError::Taken { .. } => Some(
                "this one waits as a standby and takes over when that one ends; to serve beside it, give this one a slot of \
                 its own with --slot (WALCAST_SLOT)"
                    .to_owned(),
            ),
            SourceError::Standby => Some(
                "changes are read from the primary: point DATABASE_URL at it; or promote this one, and it goes on by itself"
                    .to_owned(),
            ),
            SourceError::NotMade { open: Some(open), .. } => {
                Some(format!("it is tried again; to end that transaction, run: {}", open.fix()))
            }
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
                "42501" => {
                    Some(format!("give the role the right: alter role {} replication;", connect::identifier(role)))
                }
                "53400" => Some(
                    "drop a slot that is not used (select * from pg_replication_slots where not active;) or raise \
                     max_replication_slots and restart Postgres"
                        .to_owned(),
                ),
                code => connect::advice(code, role),
            },
            _ => None,
        }
    }
}

fn by_process(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid} of the database)"))
}

fn by_transaction(open: Option<&Open>) -> String {
    open.map_or_else(String::new, |open| format!(": it waited for a transaction of before to end, {open}"))
}

/// A stream that runs, and what is new about it.
pub struct Started {
    /// The stream.
    pub stream: ReplicationStream,
    /// The server's process.
    pub sender: Option<Sender>,
    /// The oid of the publication.
    pub publication: u32,
    /// The history its positions are of.
    pub epoch: Epoch,
    /// What tells it from others of the same name.
    pub fork: Fork,
    /// The timelines this one branched off, and up to where positions of theirs are its own.
    pub accepts: Vec<(Epoch, Lsn)>,
    /// Why the stream does not continue the one before; none when it does, or there was none.
    pub gap: Option<GapReason>,
    /// What the slot has confirmed already: a status update must not fall behind it.
    pub confirmed: Lsn,
    /// Silence for which the server takes a reader for gone; none when it never does.
    pub sender_timeout: Option<Duration>,
    /// Where the stream begins.
    pub from: Lsn,
    /// Where the log ended right before it began; none when that is not known.
    pub log_end: Option<Lsn>,
    /// The slot's `catalog_xmin` before it began.
    pub catalog_xmin: Option<u32>,
    /// The publication of lookup tables, by its oid, or why it is not in the stream.
    pub lookups: Result<u32, String>,
    /// The publication of messages, likewise.
    pub messages: Result<u32, String>,
}

impl Started {
    /// Which publications it is of, beside the one clients subscribe to.
    pub fn beside(&self) -> Beside {
        Beside::of(self.lookups.as_ref().ok().copied(), self.messages.as_ref().ok().copied())
    }
}

/// Connects, checks the publication, makes the slot when there is none, and starts streaming from where the slot is, or
/// from where everything before has been received. A transaction that came whole must not come again: with other
/// publications its changes count otherwise, and would be taken for others. A slot that is of no use any more is dropped
/// and made again.
pub(super) async fn start(maker: &Maker, config: &Config, before: &Before) -> Result<Started, SourceError> {
    let mut session = Session::connect(&maker.target, &config.application).await?;
    primary(&mut session, config).await?;
    let mut history = history(&mut session, config, before.fork).await?;
    let went_back = history.went_back(before);
    let sender = Sender::of(&mut session).await?;
    let sender_timeout = sender_timeout(&mut session).await?;
    let (existing, replaced) = usable_slot(&mut session, config, before, &history).await?;
    // Looked for before a slot is made: what is found then is older than the slot.
    let mut lookups = lookup_publication(&mut session, config, existing.as_ref()).await?;
    let mut messages = messages_publication(&mut session, config, existing.as_ref()).await?;
    let confirmed = match &existing {
        Some(slot) => slot.confirmed,
        None => {
            hear_our_end(&mut session).await?;
            let making = session.create_slot(&config.slot, config.temporary);
            let start = maker.make(sender.as_ref(), making).await?;
            tracing::info!(slot = config.slot, temporary = config.temporary, lsn = %start, "replication slot created");
            start
        }
    };
    let slot_is_new = existing.is_none();
    let catalog_xmin = match existing {
        Some(slot) => slot.catalog_xmin,
        None => existing_slot(&mut session, config).await?.and_then(|slot| slot.catalog_xmin),
    };
    let gap = went_back.then_some(GapReason::OtherHistory).or(replaced);
    let gap = gap.or_else(|| history.gap(before, slot_is_new, confirmed));
    let continues = before.is_any && gap.is_none();
    let from = if continues { confirmed.max(history.shared(before)) } else { confirmed };
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
    if went_back {
        // Nothing that was given of what is no more may be taken for a position of what is.
        history = history.renamed();
    }
    let log_end = log_end(&mut session).await?;
    let stream = session.start(&config.slot, &publications, from).await;
    let stream = stream.map_err(|error| SourceError::from(error).of_holder(config))?;
    let (lookups, messages) = (lookups.map(|found| found.oid), messages.map(|found| found.oid));
    let History { epoch, fork, accepts, publication, .. } = history;
    Ok(Started {
        stream,
        sender,
        publication,
        epoch,
        fork,
        accepts,
        gap,
        confirmed,
        sender_timeout,
        from,
        log_end,
        catalog_xmin,
        lookups,
        messages,
    })
}

/// The same for the first time, and without anybody who orders anything.
pub async fn start_alone(target: &Target, config: &Config) -> Result<Started, SourceError> {
    start(&Maker::alone(target, &config.slot), config, &Before::default()).await
}

/// Makes sure that the server is no standby. Where its log ends, and so where a subscription begins, a standby cannot say,
/// and its slots are nobody's after a failover. A slot that ends with us alone may be anywhere.
async fn primary(session: &mut Session, config: &Config) -> Result<(), SourceError> {
    let rows = session.query("select pg_catalog.pg_is_in_recovery()").await?;
    let is_standby = rows.first().and_then(|row| row.first()?.as_deref()) == Some("t");
    if is_standby && !config.temporary { Err(SourceError::Standby) } else { Ok(()) }
}

/// Has the server look whether we are there while it makes a slot, as far as its system can: when we are killed the slot
/// would keep WAL for as long as that waits.
async fn hear_our_end(session: &mut Session) -> Result<(), SourceError> {
    match session.query("set client_connection_check_interval = 2000").await {
        Ok(_) | Err(ReplicationError::Server(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // It counts from the next statement on, and goes on with what the session does then.
    session.query("select").await?;
    Ok(())
}

/// Up to where the log is safe from a crash.
async fn log_end(session: &mut Session) -> Result<Option<Lsn>, SourceError> {
    let identity = session.query("IDENTIFY_SYSTEM").await?;
    Ok(identity.first().and_then(|row| row.get(2).cloned().flatten()?.parse().ok()))
}

/// A slot that was made just now, with the snapshot of its beginning: what it shows will not come.
pub(super) struct Exported {
    session: Session,
    sender: Option<Sender>,
    history: History,
    sender_timeout: Option<Duration>,
    lookups: Result<OwnPublication, String>,
    messages: Result<OwnPublication, String>,
    catalog_xmin: Option<u32>,
    point: Lsn,
    /// The snapshot's name.
    pub(super) snapshot: String,
}

/// Makes the slot anew: what committed before is told by other means. One that is there goes only if it is where it was
/// seen idle for long, for somebody else may read it, or be about to. Cursors that could have been resumed from it are
/// older than what the new one begins with, and are refused by that.
pub(super) async fn export(
    maker: Maker,
    config: Config,
    idle: Option<Lsn>,
    fork: Fork,
) -> Result<Exported, SourceError> {
    let mut session = Session::connect(&maker.target, &config.application).await?;
    primary(&mut session, &config).await?;
    let history = history(&mut session, &config, fork).await?;
    let sender = Sender::of(&mut session).await?;
    let sender_timeout = sender_timeout(&mut session).await?;
    // One that was being made when a connection broke.
    maker.abandon().await;
    match existing_slot(&mut session, &config).await {
        Ok(None) => {}
        Ok(Some(slot)) if slot.holder.is_none() && Some(slot.confirmed) == idle => {
            drop_slot(&mut session, &config).await?;
            let confirmed = slot.confirmed;
            let warning = "replication slot dropped that nobody has read since the outbox is read, to be made again";
            tracing::warn!(slot = config.slot, %confirmed, "{warning}: who comes back with a cursor of it has to refetch");
        }
        Ok(Some(slot)) => return Err(SourceError::Taken { slot: config.slot.clone(), pid: slot.holder }),
        Err(SourceError::LostSlot(_)) => drop_slot(&mut session, &config).await?,
        Err(error) => return Err(error),
    }
    let lookups = lookup_publication(&mut session, &config, None).await?;
    let messages = messages_publication(&mut session, &config, None).await?;
    hear_our_end(&mut session).await?;
    let making = session.create_slot_with_snapshot(&config.slot);
    let (point, snapshot) = maker.make(sender.as_ref(), making).await?;
    tracing::info!(slot = config.slot, lsn = %point, "replication slot created");
    Ok(Exported { session, sender, history, sender_timeout, lookups, messages, catalog_xmin: None, point, snapshot })
}

impl Exported {
    /// Starts streaming from its beginning. The snapshot ends with that.
    pub(super) async fn start(mut self, config: &Config) -> Result<Started, SourceError> {
        self.catalog_xmin = existing_slot(&mut self.session, config).await?.and_then(|slot| slot.catalog_xmin);
        let Exported { session, sender, history, sender_timeout, lookups, messages, catalog_xmin, point, .. } = self;
        let mut publications = vec![config.publication.as_str()];
        publications.extend(lookups.is_ok().then_some(PUBLICATION));
        publications.extend(messages.is_ok().then_some(messages::PUBLICATION));
        let stream = session.start(&config.slot, &publications, point).await?;
        let (lookups, messages) = (lookups.map(|found| found.oid), messages.map(|found| found.oid));
        let History { epoch, fork, accepts, publication, .. } = history;
        let (gap, confirmed, from) = (None, point, point);
        Ok(Started {
            stream,
            sender,
            publication,
            epoch,
            fork,
            accepts,
            gap,
            confirmed,
            sender_timeout,
            from,
            log_end: None,
            catalog_xmin,
            lookups,
            messages,
        })
    }
}

/// What makes positions comparable with those of before.
struct History {
    epoch: Epoch,
    fork: Fork,
    /// Up to where the log is safe from a crash.
    log_end: Option<Lsn>,
    /// The timelines it branched off.
    accepts: Vec<(Epoch, Lsn)>,
    /// The oid of the publication.
    publication: u32,
}

impl History {
    /// Whether the log ends before what came of it. What a server has sent was safe from a crash, so it is another log: the
    /// database is an older copy of itself.
    fn went_back(&self, before: &Before) -> bool {
        let is_of_it = before.epoch == self.epoch || self.accepts.iter().any(|(epoch, _)| *epoch == before.epoch);
        before.is_any && is_of_it && self.log_end.is_some_and(|end| end < self.shared(before))
    }

    /// It under a name of its own.
    fn renamed(self) -> History {
        let (old, fork) = (self.fork, Fork::new());
        // What is left out and put in again leaves the rest.
        let rename = |epoch: Epoch| fork.of(old.of(epoch));
        let accepts = self.accepts.into_iter().map(|(epoch, end)| (rename(epoch), end)).collect();
        History { epoch: rename(self.epoch), fork, accepts, ..self }
    }

    /// Why a stream from a slot that has confirmed so much does not continue the one before.
    fn gap(&self, before: &Before, slot_is_new: bool, confirmed: Lsn) -> Option<GapReason> {
        if !before.is_any {
            return None;
        }
        let branched = self.accepts.iter().find(|(epoch, _)| *epoch == before.epoch);
        let is_shared = before.epoch == self.epoch || branched.is_some_and(|&(_, end)| before.delivered <= end);
        if !is_shared {
            let is_publication =
                before.epoch.timeline == self.epoch.timeline && before.epoch.origin != self.epoch.origin;
            return Some(if is_publication { GapReason::PublicationNew } else { GapReason::OtherHistory });
        }
        if slot_is_new {
            return Some(GapReason::SlotNew);
        }
        (confirmed > self.shared(before)).then_some(GapReason::ReadByOthers)
    }

    /// Up to where what was received is of this history. Keepalives may have told of more than was left of the other.
    fn shared(&self, before: &Before) -> Lsn {
        let branched = self.accepts.iter().find(|(epoch, _)| *epoch == before.epoch);
        branched.map_or(before.received, |&(_, end)| before.received.min(end))
    }
}

async fn history(session: &mut Session, config: &Config, fork: Fork) -> Result<History, SourceError> {
    let publication = escape_literal(&config.publication);
    let sql = format!(
        "select p.oid, d.oid from pg_catalog.pg_publication p, pg_catalog.pg_database d \
         where p.pubname = {publication} and d.datname = pg_catalog.current_database()"
    );
    let found = session.query(&sql).await?;
    let Some(oids) = found.first() else { return Err(SourceError::NoPublication(config.publication.clone())) };
    let identity = session.query("IDENTIFY_SYSTEM").await?;
    let cell = |row: Option<&Vec<Option<String>>>, at: usize| row.and_then(|row| row.get(at).cloned().flatten());
    let system = cell(identity.first(), 0).unwrap_or_default();
    let timeline: u32 = cell(identity.first(), 1).and_then(|text| text.parse().ok()).unwrap_or_default();
    let (publication, database) = (cell(Some(oids), 0).unwrap_or_default(), cell(Some(oids), 1).unwrap_or_default());
    let log_end = cell(identity.first(), 2).and_then(|text| text.parse().ok());
    let epoch = |timeline| fork.of(Epoch::of(&["wal", &system, &database, &publication], timeline));
    let mut accepts = Vec::new();
    if timeline > 1 {
        let rows = session.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let file = cell(rows.first(), 1).unwrap_or_default();
        accepts.extend(branches(&file).into_iter().map(|(timeline, end)| (epoch(timeline), end)));
    }
    let publication = publication.parse().unwrap_or_default();
    Ok(History { epoch: epoch(timeline), fork, log_end, accepts, publication })
}

/// The timelines a history file names, and where each was left. A line is a timeline, a position and a reason.
fn branches(file: &str) -> Vec<(u32, Lsn)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    file.lines().filter_map(line).collect()
}

async fn sender_timeout(session: &mut Session) -> Result<Option<Duration>, SourceError> {
    let timeout = session.query("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'").await?;
    let timeout = timeout.first().and_then(|row| row.first().cloned().flatten());
    Ok(timeout.and_then(|text| text.parse().ok()).filter(|&setting| setting > 0).map(Duration::from_millis))
}

/// The slot as it is; none when one is to be made, and the reason why an older one was dropped for that.
async fn usable_slot(
    session: &mut Session,
    config: &Config,
    before: &Before,
    history: &History,
) -> Result<(Option<ExistingSlot>, Option<GapReason>), SourceError> {
    if config.temporary {
        return Ok((None, None));
    }
    let other_publication =
        before.is_any && before.epoch.timeline == history.epoch.timeline && before.epoch.origin != history.epoch.origin;
    let replace = before.replace.or(other_publication.then_some(GapReason::PublicationNew));
    let existing = existing_slot(session, config).await;
    if let Ok(Some(slot)) = &existing {
        holder::free(session, config, slot.holder, before.sender.as_ref()).await?;
    }
    let reason = match (existing, replace) {
        (Ok(None), replace) => return Ok((None, replace)),
        (Ok(Some(slot)), None) => return Ok((Some(slot), None)),
        (Ok(Some(_)), Some(reason)) => reason,
        (Err(SourceError::LostSlot(_)), replace) => replace.unwrap_or(GapReason::SlotLost),
        (Err(error), _) => return Err(error),
    };
    drop_slot(session, config).await?;
    tracing::warn!(slot = config.slot, %reason, "replication slot dropped, to be made again: changes in between are lost");
    Ok((None, Some(reason)))
}

/// Drops the slot, unless somebody reads it.
async fn drop_slot(session: &mut Session, config: &Config) -> Result<(), SourceError> {
    let sql = format!("select pg_catalog.pg_drop_replication_slot({})", escape_literal(&config.slot));
    session.query(&sql).await.map(drop).map_err(|error| SourceError::from(error).of_holder(config))
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
    let values = [&*escape_literal(PUBLICATION), &escape_literal(&config.publication), &catalog_xmin];
    let sql = with_values(LOOKUP_PUBLICATION, values);
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
    /// The process of the session that reads it.
    holder: Option<i32>,
}

/// The slot; none when there is no such.
async fn existing_slot(session: &mut Session, config: &Config) -> Result<Option<ExistingSlot>, SourceError> {
    let sql = format!(
        "select plugin, database, database = pg_catalog.current_database(), wal_status, confirmed_flush_lsn, catalog_xmin, \
         active_pid \
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
    Ok(Some(ExistingSlot {
        confirmed: cell(4).parse().unwrap_or(Lsn::ZERO),
        catalog_xmin: cell(5).parse().ok(),
        holder: cell(6).parse().ok(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epoch: Epoch, log_end: Option<Lsn>) -> History {
        let older = Epoch { timeline: 1, ..epoch };
        History { epoch, fork: Fork::default(), log_end, accepts: vec![(older, Lsn(50))], publication: 7 }
    }

    #[test]
    fn a_log_that_ends_before_what_came_of_it_is_another_one_of_the_same_name() {
        let epoch = Epoch { origin: 3, timeline: 2 };
        let before = |epoch, received| Before { is_any: true, epoch, received: Lsn(received), ..Before::default() };
        let went_back = |end, before: &Before| history(epoch, end).went_back(before);
        assert!(went_back(Some(Lsn(99)), &before(epoch, 100)));
        assert!(!went_back(Some(Lsn(100)), &before(epoch, 100)));
        assert!(!went_back(None, &before(epoch, 100)), "nothing is known");
        let older = Epoch { timeline: 1, ..epoch };
        assert!(!went_back(Some(Lsn(60)), &before(older, 100)), "the timeline that was left had the rest");
        assert!(!went_back(Some(Lsn(99)), &before(Epoch { origin: 4, timeline: 2 }, 100)), "it is known to be another");
        assert!(!went_back(Some(Lsn(99)), &Before { is_any: false, ..before(epoch, 100) }));
        let first = history(epoch, None).renamed();
        let second = History { fork: first.fork, ..history(first.fork.of(epoch), None) }.renamed();
        assert_ne!(first.epoch, epoch);
        assert!(second.epoch != first.epoch && second.epoch == second.fork.of(epoch));
    }
}
