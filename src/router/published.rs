//! Whether the stream is still that of the publication it began with. From PostgreSQL 18 on it outlives its publication,
//! and goes on with the next one of that name as if nothing had been lost in between. Postgres describes every table again
//! then, so this is asked where the catalogue is read behind a description, before anything of the next one is told.
//! `source::guard` finds it too, and has a new slot made; with that comes the gap.

use super::visible::connection;
use crate::{
    change::Fragment,
    pg::{connect::describe, slot::is_publication},
    source::{Kind, SourceState},
};
use deadpool_postgres::Pool;
use std::time::Duration;
use tokio::time::timeout;

/// How long that may take: nobody is told anything meanwhile.
const LIMIT: Duration = Duration::from_secs(2);

/// Eras whose publication is gone, as far as is known.
#[derive(Default)]
pub(super) struct Published {
    lost: Option<u32>,
}

impl Published {
    /// Whether this is where it shows, once an era. What cannot be asked is left to the guard.
    pub(super) async fn is_lost(&mut self, pool: &Pool, source: &SourceState, fragment: &Fragment) -> bool {
        let era = fragment.era.number;
        let is_log = source.kind == Kind::Log && source.era == era;
        let streamed = source.stream.as_ref().filter(|_| is_log).map_or(0, |stream| stream.publication);
        // 0 is no oid: it is not known.
        if streamed == 0 || self.lost == Some(era) {
            return false;
        }
        let ask = async {
            let client = connection(pool).await?;
            is_publication(&client, streamed).await.map_err(|error| describe(&error)).map_or_else(unknown, Some)
        };
        let is_gone =
            timeout(LIMIT, ask).await.unwrap_or_else(|_| unknown("no answer in time".to_owned())) == Some(false);
        if is_gone {
            tracing::warn!("the publication the stream began with is gone; nothing is told until a new slot begins");
            self.lost = Some(era);
        }
        is_gone
    }
}

fn unknown(problem: String) -> Option<bool> {
    tracing::warn!(problem, "cannot ask whether the publication is there");
    None
}
