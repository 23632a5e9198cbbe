//! What is asked of the database about the outbox, in which triggers put rows for a server that cannot read the log.
//!
//! Transactions get numbers when they are seen committed, for good, and are read by these. Nothing of it depends on how
//! long other transactions take:
//!
//! 1. *None is skipped.* What is looked for is not what comes behind some position, but what is visible and has no number.
//!    A transaction is visible whole or not at all. The search leaves out what had ended when the one before took its
//!    snapshot, which is kept (`seen`): that was visible then and has got its number. And it leaves out who is still running
//!    in its own snapshot: of these nothing is visible. So it costs what is new, however much is kept, and however much
//!    somebody writes who does not end.
//! 2. *Who writes a row after somebody else has the higher number.* Say B writes what A has written before: the same row, a
//!    row with the same unique key, one that refers to it. Then B has waited for A's commit. Whatever sees B's commit sees
//!    A's, because A left the list of running transactions before it gave up its locks. So A has got its number before B,
//!    or in the same search. There, transactions are ordered by the last id each has drawn, and B drew one when it had
//!    written, behind A's commit and so behind all ids of A: the sequence has no cache, ids are in the order in which they
//!    are drawn. (An id that is put before another one of its own transaction is put there with less than one step of the
//!    sequence.) The ids of transactions would not do: B's may be the lower one.
//! 3. *No number counts twice.* They are given while the one row of `outbox_state` is locked, by a statement that begins
//!    when it is.
//! 4. *What has a number stays.* A number is seen by nobody before it is on disk, and with it in the log all that committed
//!    before it, however lazily whoever wrote did so: a crash takes back nothing that clients may have been told.
//!
//! So between transactions that have nothing to do with each other the order may be another than that of their commits.
//! A number is given by whoever needs to know where the outbox ends, a server that waits among them.

mod lead;
mod log;
mod shapes;

pub use lead::{keeps_lead, take_lead};
pub use log::{Horizon, Outlook, SlotSeen, horizon, outlook};
pub use shapes::{ColumnShape, TableShape, prune_shapes, shapes};

use bytes::Bytes;
use std::{collections::HashSet, error::Error};
use tokio_postgres::{
    Client, GenericClient, Transaction,
    types::{FromSql, Type},
};

const INSTALLED: &str = include_str!("../../../sql/outbox_installed.sql");
const TABLES: &str = include_str!("../../../sql/outbox_tables.sql");
const TRIGGERS: &str = include_str!("../../../sql/outbox_triggers.sql");
const UNNUMBERED: &str =
    concat!(include_str!("../../../sql/outbox_open.sql"), include_str!("../../../sql/outbox_unnumbered.sql"));
const NUMBER: &str =
    concat!(include_str!("../../../sql/outbox_open.sql"), include_str!("../../../sql/outbox_number.sql"));
const UNSEEN: &str = include_str!("../../../sql/outbox_unseen.sql");
const PRUNE: &str = include_str!("../../../sql/outbox_prune.sql");
const PENDING: &str = include_str!("../../../sql/outbox_pending.sql");
const ROWS: &str = include_str!("../../../sql/outbox_rows.sql");

/// The channel on which writers say that there may be something. Anybody may say so.
pub const CHANNEL: &str = "walcast";

/// An outbox that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its table.
    pub table: u32,
    /// Whether our login may read it.
    pub may_read: bool,
    /// The database.
    pub database: u32,
    /// The cluster.
    pub system: i64,
    /// Its timeline; none on a standby.
    pub timeline: Option<u32>,
    /// Whether our login may have what the one that reads has locked. If it is there: else anybody can keep servers from it.
    pub may_lead: bool,
    /// Whether it is as this version makes it: what tables were can be pruned, and of several triggers one tells of a row.
    pub is_current: bool,
}

impl Installed {
    /// What a history of numbers is called. Another timeline goes on with the same numbers.
    pub fn history(&self) -> String {
        format!("{}/{}/{}", self.system, self.database, self.table)
    }
}

/// Looks for the outbox.
pub async fn installed(client: &Client) -> Result<Option<Installed>, tokio_postgres::Error> {
    let Some(row) = client.query_opt(INSTALLED, &[]).await? else { return Ok(None) };
    let timeline: Option<&str> = row.try_get("timeline")?;
    Ok(Some(Installed {
        table: oid(row.try_get("oid")?),
        may_read: row.try_get("may_read")?,
        database: oid(row.try_get("database")?),
        system: row.try_get("system")?,
        timeline: timeline.and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        may_lead: row.try_get("may_lead")?,
        is_current: row.try_get("is_current")?,
    }))
}

/// A table that a publication lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Whether it is the publication of `realtime.messages` that does.
    pub is_messages: bool,
    /// The table.
    pub table: u32,
    /// Its name, quoted.
    pub name: String,
    /// What is published of it.
    pub operations: Operations,
    /// Whether the publication leaves rows out. What they are the outbox does not know.
    pub is_filtered: bool,
    /// Whether all its columns are published, but generated ones.
    pub has_all_columns: bool,
    /// The numbers of the columns that are published.
    pub columns: Vec<i16>,
    /// The table that is to have the trigger.
    pub target: u32,
    /// Its name, quoted.
    pub target_name: String,
    /// Whether changes of it are captured.
    pub is_captured: bool,
    /// How many triggers do that.
    pub triggers: i64,
}

/// Which operations are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations {
    /// INSERT.
    pub insert: bool,
    /// UPDATE.
    pub update: bool,
    /// DELETE.
    pub delete: bool,
}

/// The tables of the clients' publication, and of the one of messages.
pub async fn tables(client: &Client, clients: &str, messages: &str) -> Result<Vec<Listed>, tokio_postgres::Error> {
    let listed = |row: &tokio_postgres::Row| {
        Ok(Listed {
            is_messages: row.try_get("is_messages")?,
            table: oid(row.try_get("oid")?),
            name: row.try_get("name")?,
            operations: Operations {
                insert: row.try_get("pubinsert")?,
                update: row.try_get("pubupdate")?,
                delete: row.try_get("pubdelete")?,
            },
            is_filtered: row.try_get("is_filtered")?,
            has_all_columns: row.try_get("has_all_columns")?,
            columns: row.try_get("columns")?,
            target: oid(row.try_get("target")?),
            target_name: row.try_get("target_name")?,
            is_captured: row.try_get("is_captured")?,
            triggers: row.try_get("triggers")?,
        })
    };
    client.query(TABLES, &[&clients, &messages]).await?.iter().map(listed).collect()
}

/// A trigger that captures a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The table.
    pub table: u32,
    /// Its name, quoted.
    pub table_name: String,
    /// The trigger's name, quoted.
    pub name: String,
}

/// Every such trigger, but those that parts have from the whole.
pub async fn triggers(client: &Client) -> Result<Vec<Trigger>, tokio_postgres::Error> {
    let trigger = |row: &tokio_postgres::Row| {
        Ok(Trigger { table: oid(row.try_get(0)?), table_name: row.try_get(1)?, name: row.try_get(2)? })
    };
    client.query(TRIGGERS, &[]).await?.iter().map(trigger).collect()
}

/// Gives numbers to what is seen committed without one; the next number. Whoever commits later gets that or a higher one,
/// and whoever has committed has a lower one. While the log is read nobody gets a number: what has one counts as told.
pub async fn number(client: &mut Client) -> Result<u64, tokio_postgres::Error> {
    let row = client.query_one(UNNUMBERED, &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(unsigned(row.try_get(1)?));
    }
    give_numbers(client, None).await
}

/// The same for what a snapshot shows, and nothing else.
pub async fn number_shown(client: &mut Client, snapshot: &str) -> Result<u64, tokio_postgres::Error> {
    give_numbers(client, Some(snapshot)).await
}

async fn give_numbers(client: &mut Client, snapshot: Option<&str>) -> Result<u64, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let state = State::lock(&transaction).await?;
    if !state.is_whole {
        return Ok(unsigned(state.next_number));
    }
    let next = match state.has_seen {
        true => transaction.query_one(NUMBER, &[&snapshot]).await?,
        false => transaction.query_one(&without_seen(), &[&snapshot]).await?,
    };
    let next = next.try_get(0)?;
    transaction.commit().await?;
    Ok(unsigned(next))
}

/// What an older version made has no place for what was seen, and is looked through whole.
fn without_seen() -> String {
    NUMBER.lines().filter(|line| !line.trim_start().starts_with("seen = ")).collect::<Vec<_>>().join("\n")
}

/// What is known of the numbers.
struct State {
    history: String,
    generation: i64,
    is_whole: bool,
    next_number: i64,
    has_seen: bool,
}

impl State {
    /// Keeps others from changing it. What the transaction does is on disk before anybody sees it, whatever the database does
    /// for others; for a standby it need not wait, since another timeline is another history.
    async fn lock(transaction: &Transaction<'_>) -> Result<State, tokio_postgres::Error> {
        let sql = "select history, generation, is_whole, next_number, pg_catalog.to_jsonb(s) ? 'seen', \
                   pg_catalog.set_config('synchronous_commit', 'local', true) from walcast.outbox_state s for update";
        let row = transaction.query_one(sql, &[]).await?;
        Ok(State {
            history: row.try_get(0)?,
            generation: row.try_get(1)?,
            is_whole: row.try_get(2)?,
            next_number: row.try_get(3)?,
            has_seen: row.try_get(4)?,
        })
    }
}

/// Has nobody get a number any more, if all were read that were given: the next is this one. Which generation that was; none
/// when somebody has given another number.
pub async fn close(client: &Client, next: u64) -> Result<Option<i64>, tokio_postgres::Error> {
    let next = i64::try_from(next).unwrap_or(i64::MAX);
    let sql = "update walcast.outbox_state set is_whole = false where is_whole and next_number = $1 \
               returning generation, pg_catalog.set_config('synchronous_commit', 'local', true)";
    client.query_opt(sql, &[&next]).await?.map(|row| row.try_get(0)).transpose()
}

/// Undoes that, unless another generation has begun.
pub async fn reopen(client: &Client, generation: i64) -> Result<(), tokio_postgres::Error> {
    let sql = "update walcast.outbox_state set is_whole = true where generation = $1";
    client.execute(sql, &[&generation]).await.map(drop)
}

/// The transactions that have numbers below this one and are not shown by a snapshot, without their epochs.
pub async fn unseen(client: &Client, snapshot: &str, below: u64) -> Result<HashSet<u32>, tokio_postgres::Error> {
    let below = i64::try_from(below).unwrap_or(i64::MAX);
    let rows = client.query(UNSEEN, &[&snapshot, &below]).await?;
    rows.iter().map(|row| Ok(u32::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default())).collect()
}

/// What clients were given when everything is told that a snapshot shows, and everything that has a number.
pub async fn given(client: &Client, snapshot: &str) -> Result<Given, tokio_postgres::Error> {
    let sql = "select pg_catalog.pg_snapshot_xmin($1::text::pg_catalog.pg_snapshot)::text, \
               (select coalesce(pg_catalog.array_agg(t.xid::text::bigint % 4294967296), '{}') \
                from walcast.outbox_transactions t \
                where t.xid >= pg_catalog.pg_snapshot_xmin($1::text::pg_catalog.pg_snapshot))";
    let row = client.query_one(sql, &[&snapshot]).await?;
    let also: Vec<i64> = row.try_get(1)?;
    let also = also.into_iter().map(|xid| u32::try_from(xid).unwrap_or_default()).collect();
    Ok(Given { before: xid(row.try_get(0)?), also })
}

/// What clients were given already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Every transaction with a lower id.
    pub before: u64,
    /// And these, without their epochs.
    pub also: HashSet<u32>,
}

/// Begins to read, and says which generation of numbers it is. When there was none of this database, or it is not whole
/// because a server went over to the log, another one begins, and what was numbered before goes. So it is when numbers are
/// behind where somebody was who read them (`reached`): then they are from before. Numbers never come twice.
/// Also whether it is another one.
pub async fn begin(
    client: &mut Client,
    history: &str,
    given: &Given,
    reached: u64,
) -> Result<(i64, bool), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let state = State::lock(&transaction).await?;
    let is_same = state.history == history;
    if is_same && state.is_whole && unsigned(state.next_number) >= reached {
        return Ok((state.generation, false));
    }
    if is_same || state.history.is_empty() {
        let sql = "delete from walcast.outbox o using walcast.outbox_transactions t where t.xid = o.xid";
        transaction.execute(sql, &[]).await?;
        forget(&transaction, given).await?;
    } else {
        // What other clusters and databases have written has ids that say nothing here.
        transaction.execute("delete from walcast.outbox", &[]).await?;
        shapes::keep_all(&transaction).await?;
    }
    transaction.execute("delete from walcast.outbox_transactions", &[]).await?;
    let sql = "update walcast.outbox_state \
               set oldest_open = case when history = $1 then oldest_open else '0' end, history = $1, \
               generation = generation + 1, next_number = greatest(next_number, $2), is_whole = true \
               returning generation";
    let reached = i64::try_from(reached).unwrap_or_default();
    let generation = transaction.query_one(sql, &[&history, &reached]).await?.try_get(0)?;
    transaction.commit().await?;
    Ok((generation, true))
}

/// Says that from now on transactions get no numbers: they are read from the log. What another cluster or database has
/// written goes: its ids say nothing here, and later nobody could tell it from what is written from now on.
pub async fn leave(client: &mut Client, history: &str) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let before = State::lock(&transaction).await?.history;
    if before != history && !before.is_empty() {
        transaction.execute("delete from walcast.outbox", &[]).await?;
        transaction.execute("delete from walcast.outbox_transactions", &[]).await?;
        shapes::keep_all(&transaction).await?;
    }
    let sql = "update walcast.outbox_state set is_whole = false, history = $1 where is_whole or history <> $1";
    transaction.execute(sql, &[&history]).await?;
    transaction.commit().await
}

/// Whether it has reached its limit, and captures nothing any more. What is asked after numbers were given holds for whatever
/// got one: of a transaction of which a part is missing that was so before it committed.
pub async fn is_full(client: &Client) -> Result<bool, tokio_postgres::Error> {
    client.query_one("select is_called from walcast.outbox_full", &[]).await?.try_get(0)
}

/// Empties it, and has it capture what begins from now on. Of what has begun a part may be missing: none of it gets a number.
/// With `left` only while the log is read; whether it was done.
pub async fn empty(client: &mut Client, left: bool) -> Result<bool, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let state = State::lock(&transaction).await?;
    if left && state.is_whole {
        return Ok(false);
    }
    // Only that gives the room back at once. Whoever has written keeps us from it until he ends, and must not be waited for.
    transaction.batch_execute("set local lock_timeout = '500ms'; savepoint untouched").await?;
    if transaction.batch_execute("truncate walcast.outbox, walcast.outbox_transactions").await.is_err() {
        let sql = "rollback to savepoint untouched; set local lock_timeout = 0; \
                   delete from walcast.outbox; delete from walcast.outbox_transactions";
        transaction.batch_execute(sql).await?;
    }
    transaction.query_one("select pg_catalog.setval('walcast.outbox_full', 1, false)", &[]).await?;
    let sql = "update walcast.outbox_state \
               set is_whole = false, oldest_open = pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())";
    transaction.execute(sql, &[]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Takes out what the log has given, unless another server has begun to read here meanwhile; whether it was done.
pub async fn forget_told(client: &mut Client, given: &Given) -> Result<bool, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let sql = "select is_whole from walcast.outbox_state for share";
    if transaction.query_one(sql, &[]).await?.try_get(0)? {
        return Ok(false);
    }
    forget(&transaction, given).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Takes out what clients were given.
async fn forget(client: &impl GenericClient, given: &Given) -> Result<(), tokio_postgres::Error> {
    let before = given.before.to_string();
    client.execute("delete from walcast.outbox where xid < $1::text::pg_catalog.xid8", &[&before]).await?;
    if given.also.is_empty() {
        return Ok(());
    }
    let also: Vec<i64> = given.also.iter().map(|&xid| i64::from(xid)).collect();
    let sql = "delete from walcast.outbox where xid >= $1::text::pg_catalog.xid8 \
               and xid::text::bigint % 4294967296 = any ($2)";
    client.execute(sql, &[&before, &also]).await.map(drop)
}

/// How far behind what is handed on the outbox is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// In milliseconds.
    pub milliseconds: i64,
    /// In bytes.
    pub bytes: i64,
}

/// Deletes what is handed on and not kept, about so many rows; whether there may be more.
pub async fn prune(client: &Client, handed_on: u64, kept: Kept, rows: i64) -> Result<bool, tokio_postgres::Error> {
    let handed_on = i64::try_from(handed_on).unwrap_or(i64::MAX);
    let row = client.query_one(PRUNE, &[&handed_on, &kept.milliseconds, &kept.bytes, &rows]).await?;
    Ok(row.try_get::<_, i64>(0)? > 0)
}

/// The first number that is left; none when there is none.
pub async fn first(client: &Client) -> Result<Option<u64>, tokio_postgres::Error> {
    let row = client.query_one("select min(number) from walcast.outbox_transactions", &[]).await?;
    Ok(row.try_get::<_, Option<i64>>(0)?.map(unsigned))
}

/// A transaction with a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The number.
    pub number: u64,
    /// Its id.
    pub xid: u64,
    /// How many rows it wrote.
    pub rows: i64,
    /// The size of their images.
    pub bytes: i64,
    /// When the last of them was written, in microseconds since 2000-01-01 UTC.
    pub written_at: i64,
}

/// The transactions from a number on, at most so many.
pub async fn pending(client: &Client, from: u64, at_most: i64) -> Result<Vec<Pending>, tokio_postgres::Error> {
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let pending = |row: &tokio_postgres::Row| {
        Ok(Pending {
            number: unsigned(row.try_get(0)?),
            xid: xid(row.try_get(1)?),
            rows: row.try_get(2)?,
            bytes: row.try_get(3)?,
            written_at: row.try_get(4)?,
        })
    };
    client.query(PENDING, &[&from, &at_most]).await?.iter().map(pending).collect()
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The transaction.
    pub xid: u64,
    /// Its place in the transaction.
    pub id: i64,
    /// What its table was.
    pub shape: i64,
    /// `I`, `U` or `D`.
    pub operation: u8,
    /// The image before.
    pub old: Option<Bytes>,
    /// The image after.
    pub new: Option<Bytes>,
}

/// Which rows are read.
#[derive(Clone, Debug)]
pub struct Page {
    /// Of these transactions ...
    pub xids: Vec<u64>,
    /// ... those behind this id ...
    pub behind: i64,
    /// ... at most so many ...
    pub rows: i64,
    /// ... and none that begins behind so many bytes.
    pub bytes: i64,
}

/// Rows of the outbox, by transaction and id.
pub async fn rows(client: &Client, page: &Page) -> Result<Vec<Written>, tokio_postgres::Error> {
    let xids: Vec<String> = page.xids.iter().map(u64::to_string).collect();
    let written = |row: &tokio_postgres::Row| {
        let image =
            |index| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<Image>>(index)?.map(|image| image.0));
        Ok(Written {
            xid: xid(row.try_get(0)?),
            id: row.try_get(1)?,
            shape: row.try_get(2)?,
            operation: row.try_get::<_, i8>(3)?.cast_unsigned(),
            old: image(4)?,
            new: image(5)?,
        })
    };
    client.query(ROWS, &[&xids, &page.behind, &page.rows, &page.bytes]).await?.iter().map(written).collect()
}

/// The bytes of a text as they are: a database that checks no encoding may hold anything.
struct Image(Bytes);

impl<'a> FromSql<'a> for Image {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Image(Bytes::copy_from_slice(raw)))
    }

    fn accepts(given: &Type) -> bool {
        *given == Type::TEXT
    }
}

/// An id as the stream has it.
pub fn without_epoch(xid: u64) -> u32 {
    u32::try_from(xid & u64::from(u32::MAX)).unwrap_or_default()
}

fn oid(value: i64) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// An id Postgres has printed.
fn xid(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}
