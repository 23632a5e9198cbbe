//! `Ledger`: what one join is owed and what it has got. It begins where the subscription was entered, and every message
//! moves it on: nothing that had to come may have been left out, nothing may come twice, out of order, or to one who may
//! not see it.

use super::{
    expected::{Asked, Message, told},
    world::{Changed, Database, Rights},
};
use crate::change::cursor::Cursor;
use serde_json::Value;

/// A change: the number of its transaction, and its own in that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) transaction: usize,
    pub(super) ordinal: usize,
}

/// When a frame was queued, and what counted then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The step that queued it.
    pub(super) step: u64,
    /// The step that judged it: an earlier one if the database lane was asked.
    pub(super) since: u64,
    /// The memberships it may have been judged by.
    pub(super) versions: (usize, usize),
    /// Fragments the router had taken in.
    pub(super) fragments: usize,
    /// Of these, the first it may still have: an era that follows a gap begins with none.
    pub(super) kept_from: usize,
    /// What a subscription that began then would get first.
    pub(super) head: Place,
    /// Its place in the outbox.
    pub(super) queued: usize,
    /// Whether the lane had no answer.
    pub(super) unasked: bool,
}

/// Which catalogue counted from which step on.
pub(super) type Catalogs = [(u64, usize)];

/// What there is to know beside the join.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) database: &'a Database,
    pub(super) catalogs: &'a Catalogs,
}

pub(super) struct Ledger {
    pub(super) asked: Vec<Asked>,
    visibility: bool,
    /// Whose rights counted from which step on.
    users: Vec<(u64, usize)>,
    /// When it was entered.
    entered: u64,
    /// The first change that has not been heard or passed over.
    next: Place,
    /// Of its messages, those that were given before this join.
    given: usize,
    /// The change whose messages are coming in.
    open: Option<Open>,
}

struct Open {
    place: Place,
    mark: Mark,
    /// Messages that were given before this join.
    given: usize,
    messages: Vec<Message>,
    /// What the last of them says of further ones, where it says anything.
    is_said_whole: Option<bool>,
}

/// Where a cursor says its holder stands: before a change, and behind so many messages about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) place: Place,
    pub(super) part: usize,
}

impl Stand {
    pub(super) fn of(database: &Database, cursor: &Cursor) -> Stand {
        let transactions = &database.transactions;
        let transaction = transactions.partition_point(|transaction| transaction.commit_lsn < cursor.commit_lsn);
        let is_within = transactions.get(transaction).is_some_and(|found| found.commit_lsn == cursor.commit_lsn);
        assert!(is_within || (cursor.ordinal, cursor.part) == (0, 0), "{cursor:?} is in no transaction");
        let counted = if cursor.is_amid() { cursor.beside.0 } else { 0 };
        let ordinal = usize::try_from(cursor.ordinal - counted).unwrap();
        let place = Place { transaction, ordinal }.normal(database);
        Stand { place, part: usize::try_from(cursor.part).unwrap() }
    }
}

impl Place {
    /// Behind a transaction is before the next one.
    fn normal(self, database: &Database) -> Place {
        match database.transactions.get(self.transaction) {
            Some(transaction) if self.ordinal >= transaction.changes.len() => {
                Place { transaction: self.transaction + 1, ordinal: 0 }
            }
            _ => self,
        }
    }

    fn after(self, database: &Database) -> Place {
        Place { ordinal: self.ordinal + 1, ..self }.normal(database)
    }
}

impl Ledger {
    pub(super) fn new(asked: Vec<Asked>, visibility: bool, (step, user): (u64, usize), next: Place) -> Ledger {
        Ledger { asked, visibility, users: vec![(step, user)], entered: step, next, given: 0, open: None }
    }

    /// It goes on from here, whatever was before.
    pub(super) fn begin_at(&mut self, stand: Stand) {
        (self.next, self.given, self.open) = (stand.place, stand.part, None);
    }

    /// Other claims count from here on.
    pub(super) fn replace_user(&mut self, step: u64, user: usize) {
        self.users.push((step, user));
    }

    /// Takes in a message about a change, and the cursor it came with.
    pub(super) fn hear(&mut self, ground: Ground<'_>, mark: &Mark, data: &Value, ids: Vec<u32>, cursor: Option<Stand>) {
        let message = Message {
            operation: ["INSERT", "UPDATE", "DELETE"].into_iter().find(|name| data["type"] == *name).expect("a type"),
            ids,
            record: data["record"].clone(),
            old_record: data["old_record"].clone(),
            reason: data["reason"].clone(),
        };
        let place = find(ground.database, data);
        if self.open.as_ref().is_none_or(|open| open.place != place) {
            self.close(ground);
            assert!(place >= self.next, "{place:?} comes twice or too late: {:?} was next\n{data}", self.next);
            self.pass(ground, place, mark.step);
            let given = std::mem::take(&mut self.given);
            self.open = Some(Open { place, mark: *mark, given, messages: Vec::new(), is_said_whole: None });
        }
        let open = self.open.as_mut().expect("it was opened");
        assert!(open.is_said_whole != Some(true), "a message behind the last one of its change: {data}");
        open.messages.push(message);
        open.is_said_whole = cursor.map(|stand| {
            let behind = Stand { place: place.after(ground.database), part: 0 };
            let within = Stand { place, part: open.given + open.messages.len() };
            assert!(stand == behind || stand == within, "{stand:?} behind {within:?}");
            stand == behind
        });
    }

    /// All of the last change has come.
    fn close(&mut self, ground: Ground<'_>) {
        let Some(Open { place, mark, given, messages, is_said_whole }) = self.open.take() else { return };
        assert!(is_said_whole != Some(false), "further messages about {place:?} were announced");
        let changed = changed(ground.database, place).expect("it was found");
        let rights = self.rights(ground, changed, (mark.since, mark.step), mark.versions);
        let wanted: Vec<_> = rights.iter().map(|&rights| (rights, self.told(ground, changed, rights, given))).collect();
        assert!(
            wanted.iter().any(|(_, wanted)| *wanted == messages),
            "of {place:?} was told\n{messages:#?}\nby {mark:?}, and should have been one of\n{wanted:#?}"
        );
        self.next = place.after(ground.database);
    }

    /// Whatever is before this place has not come: it was not to come.
    fn pass(&mut self, ground: Ground<'_>, place: Place, step: u64) {
        while self.next < place {
            let Some(transaction) = ground.database.transactions.get(self.next.transaction) else { break };
            let given = std::mem::take(&mut self.given);
            if let Some(changed) = &transaction.changes[self.next.ordinal] {
                let since = transaction.step.max(self.entered);
                let versions = (self.next.transaction + 1, ground.database.transactions.len());
                let rights = self.rights(ground, changed, (since, step), versions);
                let all = rights.iter().all(|&rights| !self.told(ground, changed, rights, given).is_empty());
                assert!(!all, "{:?} is missing: {changed:?} for {:?}", self.next, self.users);
            }
            self.next = self.next.after(ground.database);
        }
    }

    /// It is told that it stands here: everything before has been given.
    pub(super) fn stand(&mut self, ground: Ground<'_>, mark: &Mark, stand: Stand) {
        self.close(ground);
        let is_ahead = stand.place >= self.next && (stand.place > self.next || stand.part >= self.given);
        assert!(is_ahead, "a cursor leads back from {:?} to {stand:?}", self.next);
        self.pass(ground, stand.place, mark.step);
        self.given = stand.part;
    }

    /// It is told that what is before this place is lost to it.
    pub(super) fn miss(&mut self, ground: Ground<'_>, stand: Option<Stand>) {
        self.close(ground);
        if let Some(stand) = stand {
            assert!(stand.place >= self.next && stand.part == 0, "{stand:?} is before {:?}", self.next);
            self.begin_at(stand);
        }
    }

    /// Everything that committed has been served.
    pub(super) fn settle(&mut self, ground: Ground<'_>, step: u64) {
        self.close(ground);
        self.pass(ground, Place { transaction: ground.database.transactions.len(), ordinal: 0 }, step);
    }

    /// Where it stands.
    pub(super) fn next(&self, database: &Database) -> Place {
        self.open.as_ref().map_or(self.next, |open| open.place.after(database))
    }

    /// The first change from here on that may have been offered to it.
    pub(super) fn next_offered(&self, database: &Database) -> Option<Place> {
        let mut place = self.next(database);
        while let Some(transaction) = database.transactions.get(place.transaction) {
            if let Some(changed) = &transaction.changes[place.ordinal]
                && self.asked.iter().any(|asked| asked.may_concern(changed))
            {
                return Some(place);
            }
            place = place.after(database);
        }
        None
    }

    /// What it is to be told of a change beyond what was given.
    fn told(&self, ground: Ground<'_>, changed: &Changed, rights: Rights, given: usize) -> Vec<Message> {
        let mut all = told(ground.database, changed, &self.asked, self.visibility, rights);
        all.drain(..given.min(all.len()));
        all
    }

    /// The rights that counted between two steps, with the memberships between two versions.
    fn rights(
        &self,
        ground: Ground<'_>,
        changed: &Changed,
        steps: (u64, u64),
        (from, to): (usize, usize),
    ) -> Vec<Rights> {
        let mut rights = Vec::new();
        for catalog in between(ground.catalogs, steps) {
            let to = if Database::looks_up(changed.table, catalog) { to } else { from };
            for user in between(&self.users, steps) {
                rights.extend(ground.database.versions(from, to).map(|version| Rights { user, catalog, version }));
            }
        }
        rights
    }
}

/// What counted at some step between two.
fn between(timeline: &[(u64, usize)], (since, until): (u64, u64)) -> impl Iterator<Item = usize> + Clone {
    let first = timeline.iter().rposition(|(step, _)| *step <= since).unwrap_or(0);
    timeline[first..].iter().take_while(move |(step, _)| *step <= until.max(since)).map(|(_, value)| *value)
}

pub(super) fn changed(database: &Database, place: Place) -> Option<&Changed> {
    database.transactions.get(place.transaction)?.changes.get(place.ordinal)?.as_ref()
}

/// The change a message is about.
fn find(database: &Database, data: &Value) -> Place {
    let transaction = data["commit_timestamp"].as_str().and_then(|time| database.by_time(time)).expect("a time");
    let image = if data["record"].is_null() { &data["old_record"] } else { &data["record"] };
    let id: u32 = image["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let is = |changed: &Changed| changed.id() == id && data["table"] == super::world::TABLES[changed.table];
    let changes = &database.transactions[transaction].changes;
    let ordinal = changes.iter().position(|changed| changed.as_ref().is_some_and(is)).expect("a change");
    Place { transaction, ordinal }
}
