//! Writes changes at a steady rate, from a thread of its own so that the subscribers do not disturb its pace, and
//! stamps each right before its COMMIT is sent.

use crate::{board::Board, support::postgres::connect};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Transactions a second at most; beyond that, each has more than one row.
pub(crate) const COMMITS_A_SECOND: usize = 500;

/// What came of writing.
pub(crate) struct Written {
    pub(crate) changes: usize,
    pub(crate) took: Duration,
}

/// Writes `rate` rows a second for a while, by a statement that takes a list of ids. Ends early when told to.
pub(crate) fn write(
    url: &str,
    insert: &str,
    rate: usize,
    changes: usize,
    board: &Arc<Board>,
    stop: &Arc<AtomicBool>,
) -> thread::JoinHandle<Written> {
    let (url, insert, board, stop) = (url.to_owned(), insert.to_owned(), board.clone(), stop.clone());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = connect(&url).await;
            let insert = client.prepare(&insert).await.expect("the case's statement is right");
            let rows = rate.div_ceil(COMMITS_A_SECOND);
            let pause = Duration::from_secs(1).mul_f64(rows as f64 / rate as f64);
            let start = Instant::now();
            let (mut due, mut written) = (start, 0);
            while written < changes && !stop.load(Relaxed) {
                tokio::time::sleep_until(due.into()).await;
                due += pause;
                let ids = board.ids(rows.min(changes - written));
                let list: Vec<i64> = ids.clone().filter_map(|id| i64::try_from(id).ok()).collect();
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&list];
                let (begun, inserted) =
                    futures_util::future::join(client.batch_execute("begin"), client.execute(&insert, &parameters))
                        .await;
                begun.expect("a transaction begins");
                inserted.expect("rows can be written");
                board.commit(ids.clone());
                client.batch_execute("commit").await.expect("rows can be committed");
                written += ids.len();
            }
            Written { changes: written, took: start.elapsed() }
        })
    })
}
