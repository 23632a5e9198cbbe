//! How an era of the outbox begins, or goes on over another connection. Whatever fails on the way is tried again from the
//! start: nothing is forgotten before the queue has the beginning.

use super::{
    OutboxError,
    reading::Reader,
    task::{Entry, OutboxTask, answer},
};
use crate::{
    change::{cursor::Epoch, position::Era},
    lsn::Lsn,
    pg::outbox::{self, Given, Installed},
    source::{Beginning, Feed, Follows, Gap, GapReason, Kind},
};
use std::sync::Arc;
use tokio_postgres::Client;

/// Where the task is. It outlives connections.
pub(super) struct Place {
    pub(super) entry: Entry,
    /// The era that was begun here, and where in it: the next one's number is higher.
    pub(super) reading: Option<(Era, Reader)>,
    /// The generation out of which was taken what the log has given.
    pub(super) cleared: Option<i64>,
    /// Why changes were lost here, until the queue has the gap.
    pub(super) lost: Option<GapReason>,
}

impl Place {
    /// The gap behind which another era begins, and where the one before ended; none when the era goes on.
    fn gap(&self, epoch: Epoch, generation: i64) -> Option<(Option<GapReason>, Lsn)> {
        let lost = self.lost;
        match &self.reading {
            Some((era, _)) if lost.is_none() && era.epoch == epoch => None,
            Some((_, reader)) => Some((Some(lost.unwrap_or(GapReason::OtherHistory)), Lsn(reader.position()))),
            None if self.entry.era.number == 0 => Some((None, Lsn::ZERO)),
            // Another server may have told of the rest meanwhile.
            None if lost.is_none() && self.entry.given.is_some() && self.cleared == Some(generation) => {
                Some((None, self.entry.reached))
            }
            None => Some((Some(lost.unwrap_or(GapReason::LogToOutbox)), self.entry.reached)),
        }
    }
}

impl OutboxTask<'_> {
    /// Begins an era, or goes on with the one that runs; false when it is time to stop.
    pub(super) async fn begin(
        &self,
        client: &mut Client,
        installed: &Installed,
        place: &mut Place,
    ) -> Result<bool, OutboxError> {
        if answer(outbox::is_full(client)).await? {
            // Before it is emptied: that may be done although nobody hears of it.
            place.lost = Some(GapReason::OutboxFull);
            answer(outbox::empty(client, false)).await?;
        }
        let nothing = Given::default();
        let (given, reached) = match &place.reading {
            Some((_, reader)) => (&nothing, reader.position()),
            None => (place.entry.given.as_ref().unwrap_or(&nothing), 0),
        };
        let (history, publication) = (installed.history(), &self.ends.config.publication);
        let (generation, is_new) = answer(outbox::begin(client, &history, given, reached)).await?;
        if is_new && place.reading.is_none() {
            place.cleared = Some(generation);
        }
        let names = ["outbox", history.as_str(), publication.as_str(), &generation.to_string()];
        let epoch = Epoch::of(&names, installed.timeline.unwrap_or_default());
        let Some((gap, old)) = place.gap(epoch, generation) else { return Ok(true) };
        let before = place.reading.as_ref().map_or(place.entry.era, |(era, _)| *era);
        let next = answer(outbox::number(client)).await?;
        // What was given once is read again where clients may come back to it, and what nobody was given is theirs.
        let is_continued = before.number > 0 || !is_new;
        let first = if gap.is_none() && is_continued { answer(outbox::first(client)).await? } else { None };
        let from = Lsn(first.unwrap_or(next));
        let follows = match gap {
            Some(reason) => Follows::Gap(Gap { reason, old, new: from }),
            None if before.number == 0 => Follows::First,
            None => Follows::Seamless,
        };
        let new_from = Some(if before.number == 0 { Lsn(next) } else { Lsn::ZERO });
        let era = Era { number: before.number + 1, epoch };
        tracing::info!(%from, next, generation, ?follows, "changes are read from the outbox");
        let beginning = Beginning { era, from, accepts: Vec::new(), follows, new_from, kind: Kind::Outbox };
        if !self.feed(Feed::Begin(Arc::new(beginning))).await {
            return Ok(false);
        }
        place.reading = Some((era, Reader::new(publication, era, from.0)));
        place.lost = None;
        Ok(true)
    }
}
