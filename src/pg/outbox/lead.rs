//! The lock of who reads the outbox: who may have it, and who has it.
//!
//! It is on a view that takes a right, `walcast.outbox_lead`. Older versions had an advisory lock alone, which any role may
//! take. That one is taken, too, so that an old server and a new one never both read; but one that somebody holds who could
//! not be a server, for want of the right to the outbox, keeps nobody away.

use tokio_postgres::{Client, error::SqlState};

const LED: &str = include_str!("../../../sql/outbox_led.sql");
/// With the outbox's own id, what the advisory lock is on ("walc").
const KEY: i32 = 0x7761_6c63;
/// Whether the view is there and our login may lock it.
const MAY: &str = "select coalesce((select pg_catalog.has_table_privilege(c.oid, 'UPDATE') from pg_catalog.pg_class c \
                   where c.oid = pg_catalog.to_regclass('walcast.outbox_lead') and c.relkind = 'v'), false)";

/// Takes both locks within the transaction that is open; false when another server has one.
pub async fn take_lead(client: &Client, table: u32) -> Result<bool, tokio_postgres::Error> {
    if !client.query_one(MAY, &[]).await?.try_get::<_, bool>(0)? {
        return take_advisory(client, table).await;
    }
    let lock = "lock table walcast.outbox_lead in share update exclusive mode nowait";
    match client.batch_execute(lock).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(false),
        taken => taken?,
    }
    keeps_lead(client, table).await
}

/// Whether no server of an older version reads beside whoever has the view locked. The lock is tried for again: once somebody
/// gives it back who had no right, such a server could get it.
pub async fn keeps_lead(client: &Client, table: u32) -> Result<bool, tokio_postgres::Error> {
    if take_advisory(client, table).await? {
        return Ok(true);
    }
    let is_led: bool = client.query_one(LED, &[&i64::from(KEY), &i64::from(table)]).await?.try_get(0)?;
    Ok(!is_led)
}

async fn take_advisory(client: &Client, table: u32) -> Result<bool, tokio_postgres::Error> {
    let sql = "select pg_catalog.pg_try_advisory_xact_lock($1, $2)";
    client.query_one(sql, &[&KEY, &table.cast_signed()]).await?.try_get(0)
}
