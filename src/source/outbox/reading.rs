//! Reading the outbox in the order of its numbers: many small transactions with one question, a large one by pieces, so that
//! memory is bounded and no question takes long.

use super::{
    OutboxError,
    images::{Listing, Reading, Unreadable},
};
use crate::{
    change::{
        Change, Fragment,
        assemble::{FRAGMENT_BYTES, FRAGMENT_CHANGES},
        cursor::Beside,
        position::Era,
    },
    lsn::Lsn,
    pg::{
        messages,
        outbox::{self, Page, Pending, TableShape, Written},
    },
};
use std::collections::{HashMap, VecDeque};
use tokio_postgres::Client;

/// Transactions that are looked for at once.
const PENDING: i64 = 512;
/// Shapes that are kept: tables are altered seldom.
const SHAPES: usize = 4096;

/// Where reading is.
pub struct Reader {
    /// The publication clients subscribe to.
    publication: String,
    /// The era of what is read.
    era: Era,
    /// The next number.
    next: u64,
    pending: VecDeque<Pending>,
    large: Option<Large>,
    /// Whether a question was begun, and not answered to the end.
    is_asking: bool,
    listing: Listing,
    shapes: HashMap<i64, Vec<TableShape>>,
    /// How rows of a shape are read, as long as the listing is the same; none when nothing of it is published.
    readings: HashMap<i64, Option<Reading>>,
}

/// A transaction that is read by pieces.
#[derive(Clone)]
struct Large {
    transaction: Pending,
    behind: i64,
    ordinal: u64,
}

impl Reader {
    /// Reads from a number on.
    pub fn new(publication: &str, era: Era, next: u64) -> Reader {
        Reader {
            publication: publication.to_owned(),
            era,
            next,
            pending: VecDeque::new(),
            large: None,
            is_asking: false,
            listing: Listing::default(),
            shapes: HashMap::new(),
            readings: HashMap::new(),
        }
    }

    /// The next number it reads.
    pub fn position(&self) -> u64 {
        self.large.as_ref().map_or(self.next, |large| large.transaction.number)
    }

    /// The next fragments; none when there is no transaction with a number left. After an error it goes on where it was, and
    /// so it does when whoever asked did not wait for the answer.
    pub async fn next(&mut self, client: &Client) -> Result<Vec<Fragment>, OutboxError> {
        if std::mem::replace(&mut self.is_asking, true) {
            self.pending.clear();
        }
        let fragments = self.read(client).await;
        self.is_asking = false;
        if fragments.is_err() {
            self.pending.clear();
        }
        fragments
    }

    async fn read(&mut self, client: &Client) -> Result<Vec<Fragment>, OutboxError> {
        if let Some(large) = self.large.clone() {
            return Ok(vec![self.piece(client, large).await?]);
        }
        if self.pending.is_empty() {
            self.pending = outbox::pending(client, self.next, PENDING).await?.into();
            if self.pending.is_empty() {
                return Ok(Vec::new());
            }
            self.list(client).await?;
        }
        let group = self.group();
        match group.as_slice() {
            [one] if is_large(one) => {
                let large = Large { transaction: one.clone(), behind: i64::MIN, ordinal: 0 };
                Ok(vec![self.piece(client, large).await?])
            }
            _ => self.whole(client, &group).await,
        }
    }

    /// What is published counts as of now: what is not any more is told nobody.
    async fn list(&mut self, client: &Client) -> Result<(), OutboxError> {
        let listing = Listing::new(&outbox::tables(client, &self.publication, messages::PUBLICATION).await?);
        if listing != self.listing {
            self.listing = listing;
            self.readings.clear();
        }
        Ok(())
    }

    /// The transactions that are read with the next question.
    fn group(&mut self) -> Vec<Pending> {
        let (mut rows, mut bytes) = (0, 0);
        let mut group = Vec::new();
        while let Some(first) = self.pending.front() {
            (rows, bytes) = (rows + first.rows, bytes + first.bytes);
            if !group.is_empty() && (rows > rows_at_once() || bytes > bytes_at_once()) {
                break;
            }
            group.extend(self.pending.pop_front());
        }
        group
    }

    /// Transactions that are read whole.
    async fn whole(&mut self, client: &Client, group: &[Pending]) -> Result<Vec<Fragment>, OutboxError> {
        let page = Page {
            xids: group.iter().map(|transaction| transaction.xid).collect(),
            behind: i64::MIN,
            rows: group.iter().map(|transaction| transaction.rows).sum(),
            bytes: i64::MAX,
        };
        let written = outbox::rows(client, &page).await?;
        self.know(client, &written).await?;
        let mut by_transaction: HashMap<u64, Vec<Written>> = HashMap::new();
        for row in written {
            by_transaction.entry(row.xid).or_default().push(row);
        }
        let mut fragments = Vec::new();
        for transaction in group {
            let rows = by_transaction.remove(&transaction.xid).unwrap_or_default();
            if i64::try_from(rows.len()) != Ok(transaction.rows) {
                return Err(OutboxError::Missing(transaction.number));
            }
            fragments.push(self.fragment(transaction, &rows, 0, true)?);
        }
        if let Some(last) = group.last() {
            self.next = last.number + 1;
        }
        Ok(fragments)
    }

    /// The next piece of a large transaction.
    async fn piece(&mut self, client: &Client, mut large: Large) -> Result<Fragment, OutboxError> {
        let page = Page {
            xids: vec![large.transaction.xid],
            behind: large.behind,
            rows: rows_at_once(),
            bytes: bytes_at_once(),
        };
        let rows = outbox::rows(client, &page).await?;
        self.know(client, &rows).await?;
        let Some(last) = rows.last() else { return Err(OutboxError::Missing(large.transaction.number)) };
        large.behind = last.id;
        let first = large.ordinal;
        large.ordinal += rows.len() as u64;
        let is_whole = i64::try_from(large.ordinal).is_ok_and(|read| read >= large.transaction.rows);
        let fragment = self.fragment(&large.transaction, &rows, first, is_whole)?;
        if is_whole {
            self.next = large.transaction.number + 1;
        }
        self.large = (!is_whole).then_some(large);
        Ok(fragment)
    }

    /// Reads the shapes that are not known yet.
    async fn know(&mut self, client: &Client, rows: &[Written]) -> Result<(), OutboxError> {
        let mut unknown: Vec<i64> =
            rows.iter().map(|row| row.shape).filter(|shape| !self.shapes.contains_key(shape)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.shapes.len() > SHAPES {
            self.shapes.clear();
            self.readings.clear();
            unknown = rows.iter().map(|row| row.shape).collect();
            unknown.sort_unstable();
            unknown.dedup();
        }
        for (id, shape) in outbox::shapes(client, &unknown).await? {
            let Ok(shape) = shape else { continue };
            self.shapes.insert(id, shape);
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        transaction: &Pending,
        rows: &[Written],
        first: u64,
        is_whole: bool,
    ) -> Result<Fragment, OutboxError> {
        let unreadable = |why| OutboxError::Unreadable { number: transaction.number, why };
        let mut changes: Vec<Change> = Vec::with_capacity(rows.len());
        // Every row counts, published or not: positions must not depend on what is published later.
        for (ordinal, row) in (first..).zip(rows) {
            let reading = match self.readings.get(&row.shape) {
                Some(reading) => reading,
                None => {
                    let shape = self.shapes.get(&row.shape).ok_or_else(|| unreadable(Unreadable::Shape))?;
                    let reading = Reading::new(shape, &self.listing);
                    self.readings.entry(row.shape).or_insert(reading)
                }
            };
            let Some(reading) = reading else { continue };
            changes.extend(reading.change(row, ordinal).map_err(unreadable)?);
        }
        let number = Lsn(transaction.number);
        Ok(Fragment {
            xid: outbox::without_epoch(transaction.xid),
            commit_lsn: number,
            commit_time: transaction.written_at,
            era: self.era,
            beside: Beside::default(),
            changes,
            end_lsn: is_whole.then_some(Lsn(transaction.number + 1)),
        })
    }
}

fn is_large(transaction: &Pending) -> bool {
    transaction.rows > rows_at_once() || transaction.bytes > bytes_at_once()
}

fn rows_at_once() -> i64 {
    i64::try_from(FRAGMENT_CHANGES).unwrap_or(i64::MAX)
}

fn bytes_at_once() -> i64 {
    i64::try_from(FRAGMENT_BYTES).unwrap_or(i64::MAX)
}
