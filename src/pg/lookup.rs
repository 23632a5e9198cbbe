//! Reads the rows of lookup tables under one snapshot, so that with the stream from there on they are complete.
//!
//! Why no change is lost and none counts twice. Postgres says of every transaction in one order when it committed: the
//! order of the log, which is the stream's. A snapshot follows that order but for transactions whose commit is in the
//! log and that are not visible yet, and so may be behind the stream. And the stream carries a change of a table if the
//! publication had the table when the change was made, whatever became of that until the commit. Therefore, in this
//! order, while the router stands between two transactions and holds the stream:
//!
//! 1. the table is seen in the publication, by committed rows of the catalogue (`Members::membership`);
//! 2. every transaction that may have written to the table by now is waited for (`sql/lookup_writers.sql`);
//! 3. the table is locked against being altered or truncated, which snapshots do not show as rows do;
//! 4. the snapshot is taken.
//!
//! A transaction of which the snapshot shows nothing did not write to the table before step 2. So its commit lies
//! behind what the router has seen, and its changes were made with the table in the publication: the stream carries all
//! of them. A transaction of which the snapshot shows all is known by its id when it comes (`Snapshot::shows`).
//!
//! One thing is left. Up to the minor versions of May 2025, a walsender that decoded a change of a transaction from
//! before the table was added goes on leaving the table out. So the running stream must have begun behind step 2, or
//! the table must have been in the publication before the oldest transaction the slot knew of when the stream began
//! (`Outcome::Unsettled`). It costs new tables one reconnect.

use crate::{
    lsn::Lsn,
    policy::{
        facts::TableFacts,
        lookup::{Layout, Loading, Room, Snapshot, Trouble},
    },
};
use futures_util::StreamExt;
use postgres_protocol::escape::escape_identifier;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The publication of our own, of tables that policies look into and clients do not subscribe to.
pub const PUBLICATION: &str = "walcast_lookups";

const MEMBERS: &str = include_str!("../../sql/lookup_members.sql");
const WRITERS: &str = include_str!("../../sql/lookup_writers.sql");
const OPEN: &str = include_str!("../../sql/lookup_open.sql");

/// How long a load waits for transactions that write to the table, before it is put off until they have ended.
const WRITERS_LIMIT: Duration = Duration::from_secs(2);
/// How long it waits for whoever alters the table.
const LOCK_LIMIT: &str = "set local lock_timeout = '2s'";
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A table to load.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is read of it.
    pub layout: Layout,
    /// The publication that carries it.
    pub publication: String,
    /// Whether the running stream has that publication.
    pub is_streamed: bool,
    /// The membership in the publication that the running stream began behind, if that is known.
    pub trusted: Option<String>,
}

/// Tables to load under one snapshot.
#[derive(Clone, Debug)]
pub struct Load {
    /// Which.
    pub tables: Vec<Wanted>,
    /// How much room there is for their rows.
    pub room: Room,
    /// The slot's `catalog_xmin` when the running stream began.
    pub catalog_xmin: Option<u32>,
    /// How long it may take.
    pub limit: Duration,
}

/// What became of a table.
#[derive(Debug)]
pub enum Outcome {
    /// Its rows are complete.
    Loaded {
        /// They.
        rows: Box<Loading>,
        /// What they depend on without the stream telling.
        mark: String,
    },
    /// These transactions must end first.
    Writers(Vec<String>),
    /// The stream must begin anew at this position or behind it first.
    Unsettled {
        /// The membership that is then behind it.
        membership: String,
        /// The position.
        from: Lsn,
    },
    /// It could not be loaded.
    Failed(Arc<LoadError>),
}

/// Why a table could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no connection.
    #[error("no connection to read it: {0}")]
    Connection(String),
    /// A statement failed.
    #[error("cannot read it")]
    Query(#[from] tokio_postgres::Error),
    /// What was read is not what was expected.
    #[error("cannot understand {0}")]
    Answer(&'static str),
    /// The table is not what the catalogue said.
    #[error("it has changed since the catalogue was read")]
    Changed,
    /// The table is not in the publication.
    #[error("it is not in publication \"{0}\"")]
    NotCarried(String),
    /// Its rows cannot be kept.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// Nobody we may be can read it.
    #[error("no role that is granted to this server's login can read all of its rows")]
    NoReader,
    /// It took too long.
    #[error("it was not loaded within {0:?}; see lookup_load_limit_ms")]
    Slow(Duration),
}

/// What is asked about tables that are loaded, and transactions that are waited for.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The tables and the publication each is carried by.
    pub tables: Vec<(u32, String)>,
    /// The transactions.
    pub transactions: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// By table, what its rows depend on without the stream telling.
    pub marks: HashMap<u32, String>,
    /// The transactions that have not ended.
    pub open: HashSet<String>,
}

struct Member {
    membership: String,
    is_settled: bool,
    mark: String,
    columns: Vec<(i16, String, u32)>,
}

/// Loads tables under one snapshot. A table's own failure ends the load of those after it: they are not in the answer.
/// After a failure the connection may stand amid a transaction, and must not be used again.
pub async fn load(client: &Client, load: &Load) -> Vec<(u32, Outcome)> {
    let deadline = Instant::now() + load.limit;
    let mut done = Vec::new();
    let end = tokio::time::timeout_at(deadline, attempt(client, load, &mut done)).await;
    let end = match end {
        Ok(Ok(())) => return done,
        Ok(Err(end)) => end,
        Err(_) => End::All(LoadError::Slow(load.limit)),
    };
    match end {
        End::One(table, error) => done.push((table, Outcome::Failed(Arc::new(error)))),
        End::All(error) => {
            let error = Arc::new(error);
            let is_done = |table: &u32| !done.iter().any(|(other, _)| other == table);
            let left: Vec<u32> = load.tables.iter().map(Wanted::oid).filter(is_done).collect();
            done.extend(left.into_iter().map(|table| (table, Outcome::Failed(error.clone()))));
        }
    }
    done
}

/// What ended an attempt.
enum End {
    One(u32, LoadError),
    All(LoadError),
}

impl<E: Into<LoadError>> From<E> for End {
    fn from(error: E) -> End {
        End::All(error.into())
    }
}

impl Wanted {
    fn oid(&self) -> u32 {
        self.layout.facts().oid
    }
}

async fn attempt(client: &Client, load: &Load, done: &mut Vec<(u32, Outcome)>) -> Result<(), End> {
    let pairs: Vec<(u32, String)> =
        load.tables.iter().map(|wanted| (wanted.oid(), wanted.publication.clone())).collect();
    let mut members = members(client, &pairs, load.catalog_xmin).await?;
    let oids: Vec<u32> = pairs.iter().map(|(oid, _)| *oid).collect();
    let writers = wait_for_writers(client, &oids).await?;
    let mut left = Vec::new();
    for wanted in &load.tables {
        let oid = wanted.oid();
        let Some(member) = members.remove(&oid) else {
            done.push((oid, Outcome::Failed(Arc::new(LoadError::NotCarried(wanted.publication.clone())))));
            continue;
        };
        if let Some(writers) = writers.get(&oid) {
            done.push((oid, Outcome::Writers(writers.clone())));
        } else if !wanted.is_streamed || !(member.is_settled || wanted.trusted.as_ref() == Some(&member.membership)) {
            let from = flushed_log_end(client).await?;
            done.push((oid, Outcome::Unsettled { membership: member.membership, from }));
        } else {
            left.push((wanted, member));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let read = read(client, load, &left, done).await;
    let ended = client.batch_execute("rollback").await;
    read.and(ended.map_err(End::from))
}

/// Reads the tables in one transaction.
async fn read(
    client: &Client,
    load: &Load,
    tables: &[(&Wanted, Member)],
    done: &mut Vec<(u32, Outcome)>,
) -> Result<(), End> {
    // No query before the tables are locked: the first one takes the snapshot.
    client
        .batch_execute(&format!(
            "begin isolation level repeatable read read only; {LOCK_LIMIT}; set local row_security = off; \
             set local statement_timeout = {}",
            load.limit.as_millis()
        ))
        .await?;
    for (wanted, _) in tables {
        let facts = wanted.layout.facts();
        let lock = format!("{}; lock table only {} in access share mode", be_reader(facts)?, name(facts));
        client.batch_execute(&lock).await.map_err(|error| End::One(wanted.oid(), error.into()))?;
    }
    client.batch_execute("set local role none").await?;
    let row = client
        .query_one("select pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text", &[])
        .await?;
    // The position is computed when the snapshot, which the statement itself runs under, has been taken.
    let settled: Lsn = row.try_get::<_, &str>(1)?.parse().map_err(|_| LoadError::Answer("the end of the log"))?;
    let snapshot = Snapshot::parse(row.try_get(0)?, settled).map_err(|_| LoadError::Answer("the snapshot"))?;
    let pairs: Vec<(u32, String)> =
        tables.iter().map(|(wanted, _)| (wanted.oid(), wanted.publication.clone())).collect();
    let mut now = members(client, &pairs, load.catalog_xmin).await?;
    let mut room = load.room;
    for (wanted, before) in tables {
        let oid = wanted.oid();
        let one = |error: LoadError| End::One(oid, error);
        let now = now.remove(&oid).filter(|now| now.membership == before.membership);
        let now = now.ok_or_else(|| one(LoadError::Changed))?;
        let known = wanted.layout.facts().columns.iter();
        let is_known = known.map(|column| (column.number, column.name.as_str(), column.type_oid));
        if !is_known.eq(now.columns.iter().map(|(number, name, oid)| (*number, name.as_str(), *oid))) {
            return Err(one(LoadError::Changed));
        }
        let loading = Loading::new(wanted.layout.clone(), snapshot.clone(), room);
        let rows = Box::new(rows(client, loading, None).await.map_err(one)?);
        room.left = room.left.saturating_sub(rows.bytes());
        done.push((oid, Outcome::Loaded { rows, mark: now.mark }));
    }
    Ok(())
}

/// The rows of one table, one after the other, or at most so many of them, in a transaction in which row level security
/// must not hide any (`row_security = off`). Without a list of parameters values come as their types' output functions
/// print them, which is how the stream has them; a cast to text may print them otherwise.
pub async fn rows(client: &Client, mut loading: Loading, at_most: Option<usize>) -> Result<Loading, LoadError> {
    client.batch_execute(&be_reader(loading.layout().facts())?).await?;
    let names: Vec<String> = loading.layout().names().map(escape_identifier).collect();
    let limit = at_most.map(|count| format!(" limit {count}")).unwrap_or_default();
    let sql = format!("select {} from only {}{limit}", names.join(", "), name(loading.layout().facts()));
    let mut stream = std::pin::pin!(client.simple_query_raw(&sql).await?);
    while let Some(message) = stream.next().await {
        let SimpleQueryMessage::Row(row) = message? else { continue };
        let texts: Result<Vec<Option<&str>>, tokio_postgres::Error> =
            (0..names.len()).map(|column| row.try_get(column)).collect();
        loading.add_row(texts?.into_iter().map(|text| text.map(str::as_bytes)))?;
    }
    Ok(loading)
}

/// The statement after which all rows of a table can be read, in a transaction.
pub fn be_reader(table: &TableFacts) -> Result<String, LoadError> {
    match &table.reader {
        Some(Some(role)) => Ok(format!("set local role {}", escape_identifier(role))),
        Some(None) => Ok("set local role none".to_owned()),
        None => Err(LoadError::NoReader),
    }
}

fn name(table: &TableFacts) -> String {
    format!("{}.{}", escape_identifier(&table.schema), escape_identifier(&table.name))
}

/// Asks about tables that are loaded and transactions that are waited for.
pub async fn ask(client: &Client, question: &Question) -> Result<Answer, LoadError> {
    let members = members(client, &question.tables, None).await?;
    let open = match question.transactions.is_empty() {
        true => HashSet::new(),
        false => still_open(client, &question.transactions).await?,
    };
    Ok(Answer { marks: members.into_iter().map(|(table, member)| (table, member.mark)).collect(), open })
}

/// The end of the log. What is sent is what is written to disk, and on an idle server the last records may stay in
/// memory: a transaction that does nothing but take an id has them written.
async fn flushed_log_end(client: &Client) -> Result<Lsn, LoadError> {
    let row = client.query_one("select pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await?;
    client.query_one("select pg_catalog.pg_current_xact_id()::text", &[]).await?;
    row.try_get::<_, &str>(0)?.parse().map_err(|_| LoadError::Answer("the end of the log"))
}

async fn members(
    client: &Client,
    tables: &[(u32, String)],
    catalog_xmin: Option<u32>,
) -> Result<HashMap<u32, Member>, LoadError> {
    let (oids, publications): (Vec<u32>, Vec<&str>) =
        tables.iter().map(|(oid, publication)| (*oid, publication.as_str())).unzip();
    let catalog_xmin = catalog_xmin.map(|xid| xid.to_string());
    let rows = client.query(MEMBERS, &[&oids, &publications, &catalog_xmin]).await?;
    let member = |row: &tokio_postgres::Row| -> Result<(u32, Member), LoadError> {
        let columns = serde_json::from_value(row.try_get("columns")?).map_err(|_| LoadError::Answer("its columns"))?;
        let (membership, mark) = (row.try_get("membership")?, row.try_get("mark")?);
        Ok((row.try_get("oid")?, Member { membership, mark, is_settled: row.try_get("is_settled")?, columns }))
    };
    rows.iter().map(member).collect()
}

/// Waits, a bounded time, for the transactions that may have written to the tables by now; those that are left, by
/// table.
async fn wait_for_writers(client: &Client, tables: &[u32]) -> Result<HashMap<u32, Vec<String>>, LoadError> {
    let deadline = Instant::now() + WRITERS_LIMIT;
    let mut writers: HashMap<u32, Vec<String>> = HashMap::new();
    for row in client.query(WRITERS, &[&tables]).await? {
        writers.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
    }
    while !writers.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
        let all: Vec<String> = writers.values().flatten().cloned().collect();
        let open = still_open(client, &all).await?;
        for transactions in writers.values_mut() {
            transactions.retain(|transaction| open.contains(transaction));
        }
        writers.retain(|_, transactions| !transactions.is_empty());
    }
    Ok(writers)
}

async fn still_open(client: &Client, transactions: &[String]) -> Result<HashSet<String>, LoadError> {
    let rows = client.query(OPEN, &[&transactions]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
