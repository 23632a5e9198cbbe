//! Whether new snapshots see what a transaction wrote. A commit can arrive in the stream before that.

use crate::pg::connect::describe;
use deadpool_postgres::{Object, Pool};
use std::time::Duration;
use tokio::time::timeout;

/// Attempts when the database cannot be reached.
const ATTEMPTS: u32 = 4;
/// The wait between them doubles from here.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A commit can arrive in the stream before a new snapshot sees it. The stream's xid has 32 bits; it is taken for the
/// one that is nearest to the snapshot's end. It may lie behind that end, which is where the *completed* transactions
/// end, and then it is not visible yet.
const INVISIBLE: &str = "
    select count(*) from pg_catalog.unnest($1::bigint[]) as x(low),
      (select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint as newest) as s,
      lateral (select (s.newest >> 32 << 32) + x.low as guess) as g
    where not pg_catalog.pg_visible_in_snapshot(
      (case when g.guess > s.newest + 2147483648 and g.guess >= 4294967296 then g.guess - 4294967296
            when g.guess < s.newest - 2147483648 then g.guess + 4294967296
            else g.guess end)::text::xid8,
      pg_catalog.pg_current_snapshot())";

/// Prepares the question, so that asking it takes one round trip.
pub(super) async fn prepare_check(client: &Object) -> Result<(), tokio_postgres::Error> {
    client.prepare_cached(INVISIBLE).await.map(drop)
}

/// How many of these transactions a new snapshot would not see.
pub(super) async fn count_invisible(client: &Object, transactions: &[i64]) -> Result<i64, tokio_postgres::Error> {
    let statement = client.prepare_cached(INVISIBLE).await?;
    Ok(client.query_one(&statement, &[&transactions]).await?.get(0))
}

/// Waits until new snapshots see what these transactions wrote: a policy's lookups would, and so would the catalogue.
pub(super) async fn wait_until_visible(pool: &Pool, transactions: &[i64], limit: Duration) -> bool {
    let wait = async {
        let mut pause = Duration::from_millis(1);
        loop {
            let client = connection(pool).await?;
            let invisible = match count_invisible(&client, transactions).await {
                Ok(invisible) => invisible,
                Err(error) => {
                    tracing::warn!(error = %describe(&error), "cannot ask whether a transaction is visible");
                    return None;
                }
            };
            if invisible == 0 {
                return Some(());
            }
            drop(client);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    };
    let seen = timeout(limit, wait).await;
    if seen.is_err() {
        tracing::warn!(?limit, "a transaction whose commit arrived does not become visible");
    }
    matches!(seen, Ok(Some(())))
}

/// A connection of the pool; none when the database cannot be reached for some attempts.
pub(super) async fn connection(pool: &Pool) -> Option<Object> {
    let mut wait = FIRST_WAIT;
    for attempt in 1..=ATTEMPTS {
        match pool.get().await {
            Ok(client) => return Some(client),
            Err(error) => {
                tracing::warn!(attempt, error = %describe(&error), "no connection to ask about rows");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
    None
}
