//! From the outbox to the log, without loss and nothing twice. A new slot begins at a point for which Postgres exports a
//! snapshot: what it shows had committed before, and does not come from the slot; everything else comes.
//!
//! | a transaction | is told by |
//! |---|---|
//! | has a number | the outbox |
//! | has none, and the snapshot shows it | the outbox: it gets one now |
//! | has none, and the snapshot does not show it | the log |
//!
//! What has a number and is not shown committed while the slot was made: the log has it, too, and it is left out there by
//! its id. This task numbers nothing meanwhile, and whoever joins waits (`Kind::Between`). Who was about to join may still give
//! a number to something: that is read, too, and then the outbox is closed: from there on nobody gets a number. So every
//! number was told by the outbox, and nothing else.
//!
//! The order between transactions that have to do with each other holds: what the snapshot shows has committed before what
//! it does not show; and if one that has a number depended on one without, that would have been seen, and numbered, before.

use super::{
    OutboxError,
    task::{Moved, Session, answer},
};
use crate::{
    pg::outbox,
    source::{Kind, slot::Exported},
};
use postgres_protocol::escape::escape_literal;

/// How often it is tried to close the outbox: only who joins at that very moment is in the way.
const CLOSING_TIMES: u32 = 100;

/// Goes over. If that fails nothing has happened, but that the slot is gone.
pub(super) async fn to_log(session: &mut Session<'_>, exported: Exported) -> Result<Box<Moved>, OutboxError> {
    let ends = session.task.ends;
    ends.state.send_modify(|state| state.kind = Kind::Between);
    let moved = go_over(session, exported).await;
    if moved.is_err() {
        ends.state.send_modify(|state| state.kind = Kind::Outbox);
        // Nobody would read it, and it keeps the log.
        let drop_slot = format!("select pg_catalog.pg_drop_replication_slot({})", escape_literal(&ends.config.slot));
        if let Err(error) = answer(session.client.batch_execute(&drop_slot)).await {
            tracing::warn!(slot = ends.config.slot, %error, "a replication slot is left behind that nobody reads");
        }
    }
    moved
}

async fn go_over(session: &mut Session<'_>, exported: Exported) -> Result<Box<Moved>, OutboxError> {
    let ends = session.task.ends;
    let snapshot = {
        let client = ends.target.connect("walcast outbox").await?;
        client.batch_execute("begin isolation level repeatable read read only").await?;
        client.batch_execute(&format!("set transaction snapshot {}", escape_literal(&exported.snapshot))).await?;
        let row = client.query_one("select pg_catalog.pg_current_snapshot()::text", &[]).await?;
        row.try_get::<_, String>(0)?
    };
    answer(outbox::number_shown(&mut session.client, &snapshot)).await?;
    let generation = close(session).await?;
    let moved = start(session, exported, &snapshot).await;
    if moved.is_err() {
        answer(outbox::reopen(&session.client, generation)).await?;
    }
    moved
}

/// Reads what has a number, until nobody gets one any more.
async fn close(session: &mut Session<'_>) -> Result<i64, OutboxError> {
    for _ in 0..CLOSING_TIMES {
        if !session.drain().await? {
            break;
        }
        if let Some(generation) = answer(outbox::close(&session.client, session.reader.position())).await? {
            return Ok(generation);
        }
    }
    Err(OutboxError::Silent)
}

async fn start(session: &Session<'_>, exported: Exported, snapshot: &str) -> Result<Box<Moved>, OutboxError> {
    let ends = session.task.ends;
    let told = answer(outbox::unseen(&session.client, snapshot, session.reader.position())).await?;
    let given = answer(outbox::given(&session.client, snapshot)).await?;
    let until = answer(outbox::horizon(&session.client)).await?.end;
    let started = exported.start(&ends.config).await?;
    tracing::info!(from = %started.from, told_already = told.len(), "changes are read from the log from now on");
    let given = session.is_whole().then_some(given);
    Ok(Box::new(Moved { started, era: session.era, told, until, given }))
}
