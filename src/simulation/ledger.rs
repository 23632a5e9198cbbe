//! `Ledger`: what one join is owed and what it has got. It begins where the subscription was entered, and every message
//! moves it on: nothing that had to come may have been left out, nothing may come twice, out of order, or to one who may
//! not see it.

use super::{
    expected::{Asked, Message, told},
    world::{Changed, Database, Rights},
};
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
    pub(super) next: Place,
    /// The change whose messages are coming in.
    open: Option<(Place, Mark, Vec<Message>)>,
}

impl Ledger {
    pub(super) fn new(asked: Vec<Asked>, visibility: bool, (step, user): (u64, usize), next: Place) -> Ledger {
        Ledger { asked, visibility, users: vec![(step, user)], entered: step, next, open: None }
    }

    /// Other claims count from here on.
    pub(super) fn replace_user(&mut self, step: u64, user: usize) {
        self.users.push((step, user));
    }

    /// Takes in a message about a change.
    pub(super) fn hear(&mut self, ground: Ground<'_>, mark: &Mark, ids: Option<Vec<u32>>, data: &Value) -> Place {
        let message = Message {
            operation: ["INSERT", "UPDATE", "DELETE"].into_iter().find(|name| data["type"] == *name).expect("a type"),
            ids: ids.unwrap_or_else(|| self.asked.iter().map(|asked| asked.id).collect()),
            record: data["record"].clone(),
            old_record: data["old_record"].clone(),
            reason: data["reason"].clone(),
        };
        let place = find(ground.database, data);
        if let Some((open, _, messages)) = &mut self.open
            && *open == place
        {
            messages.push(message);
            return place;
        }
        self.close(ground);
        assert!(place >= self.next, "{place:?} comes twice or too late: {:?} was next\n{data}", self.next);
        self.pass(ground, place, mark.step);
        self.open = Some((place, *mark, vec![message]));
        place
    }

    /// All of the last change has come.
    pub(super) fn close(&mut self, ground: Ground<'_>) {
        let Some((place, mark, messages)) = self.open.take() else { return };
        let changed = changed(ground.database, place).expect("it was found");
        let rights = self.rights(ground, changed, (mark.since, mark.step), mark.versions);
        let wanted: Vec<_> = rights.iter().map(|&rights| (rights, self.told(ground, changed, rights))).collect();
        assert!(
            wanted.iter().any(|(_, wanted)| *wanted == messages),
            "of {place:?} was told\n{messages:#?}\nby {mark:?}, and should have been one of\n{wanted:#?}"
        );
        self.next = Place { ordinal: place.ordinal + 1, ..place };
    }

    /// The messages of a change may have been lost with the connection.
    pub(super) fn tear(&mut self) -> Option<Place> {
        self.open.take().map(|(place, ..)| place)
    }

    /// Whatever is before this place has not come: it was not to come.
    fn pass(&mut self, ground: Ground<'_>, place: Place, step: u64) {
        while self.next < place {
            let Some(transaction) = ground.database.transactions.get(self.next.transaction) else { break };
            let Some(changed) = transaction.changes.get(self.next.ordinal) else {
                self.next = Place { transaction: self.next.transaction + 1, ordinal: 0 };
                continue;
            };
            if let Some(changed) = changed {
                let since = transaction.step.max(self.entered);
                let versions = (self.next.transaction + 1, ground.database.transactions.len());
                let rights = self.rights(ground, changed, (since, step), versions);
                let all = rights.iter().all(|&rights| !self.told(ground, changed, rights).is_empty());
                assert!(!all, "{:?} is missing: {changed:?} for {:?}", self.next, self.users);
            }
            self.next.ordinal += 1;
        }
    }

    /// Everything that committed has been served.
    pub(super) fn settle(&mut self, ground: Ground<'_>, step: u64) {
        self.close(ground);
        self.pass(ground, Place { transaction: ground.database.transactions.len(), ordinal: 0 }, step);
    }

    /// The first change from here on that may have been offered to it.
    pub(super) fn next_offered(&self, database: &Database) -> Option<Place> {
        let mut place = self.open.as_ref().map_or(self.next, |(open, ..)| Place { ordinal: open.ordinal + 1, ..*open });
        while let Some(transaction) = database.transactions.get(place.transaction) {
            match transaction.changes.get(place.ordinal) {
                None => place = Place { transaction: place.transaction + 1, ordinal: 0 },
                Some(Some(changed)) if self.asked.iter().any(|asked| asked.may_concern(changed)) => return Some(place),
                Some(_) => place.ordinal += 1,
            }
        }
        None
    }

    fn told(&self, ground: Ground<'_>, changed: &Changed, rights: Rights) -> Vec<Message> {
        told(ground.database, changed, &self.asked, self.visibility, rights)
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
