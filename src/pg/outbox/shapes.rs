//! What tables were when rows of them were written, and when that may go.
//!
//! Writers look for the description of their table as it is, and refer to it. None may go that a row refers to, or will:
//!
//! 1. One that is to go is *set apart*. The transaction that does so (P) first puts its id where every writer sees it at
//!    once, a sequence. A writer takes only what is not set apart, and what is there already only if its snapshot shows the
//!    end of P. Else it makes a description of its own. So however old a writer's snapshot is: once P's id is there, he
//!    does not begin to use what P sets apart.
//! 2. Whoever did before had his own id by then. The next transaction notes its id beside what was set apart (`retired_before`):
//!    a higher one than any of theirs.
//! 3. It goes when every transaction below that id has ended, and the outbox has no row of one. So nobody refers to it, and
//!    nobody will. As rows are pruned in about the order of ids, that takes as long as they are kept.

use serde::Deserialize;
use tokio_postgres::{Client, GenericClient};

const SHAPES: &str = include_str!("../../../sql/outbox_shapes.sql");
const SUPERSEDED: &str = include_str!("../../../sql/outbox_shapes_superseded.sql");
/// The mark of what was set apart while there is no id beside it. No transaction comes to it.
const SET_APART: &str = "18446744073709551615";
/// So many that are of no use any more stay: to set some apart has a few writers make descriptions that are there already.
const SLACK: i64 = 64;

/// What a table was when a row of it was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TableShape {
    /// Its oid.
    pub oid: u32,
    /// Its schema's name.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `d`, `n`, `f` or `i`.
    pub identity: String,
    /// The numbers of the columns of the index by which its rows are told apart.
    pub key: Option<Vec<i16>>,
    /// Its columns, in the order of an image.
    pub columns: Vec<ColumnShape>,
}

/// A column: its number, name, type and type modifier, and whether it is generated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ColumnShape(pub i16, pub String, pub u32, pub i32, pub bool);

/// Shapes: each with the table itself and then the tables it was a part of, or the reason why it cannot be read.
pub async fn shapes(
    client: &Client,
    ids: &[i64],
) -> Result<Vec<(i64, Result<Vec<TableShape>, serde_json::Error>)>, tokio_postgres::Error> {
    let shape = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, serde_json::from_str(row.try_get(1)?)));
    client.query(SHAPES, &[&ids]).await?.iter().map(shape).collect()
}

/// Takes out what no row needs any more, and sets apart what is not to be used any more.
pub async fn prune_shapes(client: &mut Client) -> Result<(), tokio_postgres::Error> {
    let sql = "delete from walcast.outbox_shapes s \
               where s.retired_before <= pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) \
               and not exists (select from walcast.outbox o where o.xid < s.retired_before)";
    client.execute(sql, &[]).await?;
    let sql = "update walcast.outbox_shapes set retired_before = pg_catalog.pg_current_xact_id() \
               where retired_before = $1::text::pg_catalog.xid8";
    client.execute(sql, &[&SET_APART]).await?;
    let superseded = format!("select pg_catalog.count(*) > {SLACK} from ({SUPERSEDED}) superseded");
    if !client.query_one(&superseded, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    // One after the other: the id in the sequence is that of the last to end.
    transaction.query_one("select is_it from walcast.outbox_state for update", &[]).await?;
    let sql = "select pg_catalog.setval('walcast.outbox_retired', pg_catalog.pg_current_xact_id()::text::bigint)";
    transaction.query_one(sql, &[]).await?;
    let sql = format!(
        "update walcast.outbox_shapes set retired_before = $1::text::pg_catalog.xid8 where id in ({SUPERSEDED})"
    );
    transaction.execute(&sql, &[&SET_APART]).await?;
    transaction.commit().await
}

/// What another cluster or database has set apart says nothing here. Older versions set nothing apart.
pub(super) async fn keep_all(client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
    let sql = "select pg_catalog.to_regclass('walcast.outbox_retired') is not null";
    if !client.query_one(sql, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    client.query_one("select pg_catalog.setval('walcast.outbox_retired', 1, false)", &[]).await?;
    let sql = "update walcast.outbox_shapes set retired_before = null where retired_before is not null";
    client.execute(sql, &[]).await.map(drop)
}
