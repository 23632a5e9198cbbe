//! The database of the play: tables of texts, who may see their rows, and every transaction that ever committed. What
//! its rules say is written once more here, by hand and without any of the router's code: it is what the router is
//! held to.

use crate::{
    change::{
        Change, Fragment, OldRow, Operation,
        cursor::Beside,
        position::Era,
        relation::{Relation, ReplicaIdentity},
    },
    lsn::Lsn,
    policy::{
        catalog::{Catalog, RowPolicy, RowRule},
        lookup::{Layout, Loading, Lookups, Need, Snapshot},
    },
    router::{
        commit_timestamp,
        fixture::{MEMBERS, catalog_of, compiled_or_asked, facts, is_member, is_owner, relation_by, row, table, types},
    },
};
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

pub(super) const USERS: [&str; 3] = ["alice", "bob", "carol"];
pub(super) const GROUPS: [&str; 3] = ["red", "green", "blue"];

/// Who sees a row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Everybody,
    Nobody,
    /// Whom it belongs to.
    Owner,
    /// The members of its group.
    Members,
    /// Whom it belongs to, and only the database can say so.
    AskedOwner,
}

pub(super) const TABLES: [&str; 6] = ["open", "owned", "grouped", "asked", "closed", "keyed"];
/// The table that logs no old rows but their keys.
const KEYED: usize = 5;
const FIRST_OID: u32 = 11;

/// The rules of the tables, in every catalogue there is.
pub(super) const CATALOGS: [[Rule; 6]; 4] = {
    use Rule::{AskedOwner, Everybody, Members, Nobody, Owner};
    [
        [Everybody, Owner, Members, AskedOwner, Nobody, Owner],
        [Everybody, Everybody, Members, AskedOwner, Nobody, Owner],
        [Everybody, AskedOwner, Members, Owner, Nobody, Members],
        [Nobody, Owner, Owner, AskedOwner, Everybody, Everybody],
    ]
};

const OWNER_POLICY: &str = "the_owner";
const MEMBER_POLICY: &str = "a_member";

/// The catalogues, made once: they are what every play shares.
static MADE: LazyLock<Vec<Arc<Catalog>>> = LazyLock::new(|| {
    let asked = |text: &str| Arc::new(RowPolicy { expression: text.to_owned(), reads: None, why: Vec::new() });
    let owner = compiled_or_asked(is_owner(), asked(OWNER_POLICY));
    let member = compiled_or_asked(is_member(), asked(MEMBER_POLICY));
    let rule = |rule| match rule {
        Rule::Everybody => RowRule::All,
        Rule::Nobody => RowRule::None,
        Rule::Owner => owner.clone(),
        Rule::Members => member.clone(),
        Rule::AskedOwner => RowRule::Database(asked(OWNER_POLICY)),
    };
    let made = CATALOGS.iter().enumerate().map(|(version, rules)| {
        let tables = (FIRST_OID..).zip(TABLES).zip(rules);
        let tables = tables.map(|((oid, name), of)| table(oid, name, rule(*of)));
        catalog_of(&version.to_string(), tables.collect())
    });
    made.collect()
});

static RELATIONS: LazyLock<Vec<Arc<Relation>>> = LazyLock::new(|| {
    let identity = |table| if table == KEYED { ReplicaIdentity::Default } else { ReplicaIdentity::Full };
    (FIRST_OID..).zip(0..TABLES.len()).map(|(oid, table)| relation_by(oid, identity(table))).collect()
});

static MEMBERS_RELATION: LazyLock<Arc<Relation>> = LazyLock::new(|| relation_by(MEMBERS, ReplicaIdentity::Full));

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: u32,
    pub(super) owner: usize,
    pub(super) group: usize,
    body: usize,
}

impl Row {
    fn texts(&self) -> [String; 4] {
        let Row { id, owner, group, body } = *self;
        [id.to_string(), USERS[owner].to_owned(), GROUPS[group].to_owned(), "x".repeat(body)]
    }

    pub(super) fn json(&self) -> Value {
        let [id, owner, state, body] = self.texts();
        json!({"id": id, "owner": owner, "state": state, "body": body})
    }

    fn image(&self) -> crate::change::Row {
        row(&self.texts().join(" "))
    }
}

/// A change of a row that somebody might hear of.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) table: usize,
    pub(super) operation: Operation,
    pub(super) old: Option<Row>,
    pub(super) new: Option<Row>,
}

impl Changed {
    /// Whether the stream says what the row was, beyond its key.
    pub(super) fn has_old_row(&self) -> bool {
        self.table != KEYED
    }

    pub(super) fn id(&self) -> u32 {
        self.new.as_ref().or(self.old.as_ref()).map_or(0, |row| row.id)
    }
}

pub(super) struct Transaction {
    pub(super) commit_lsn: Lsn,
    pub(super) end_lsn: Lsn,
    xid: u32,
    /// By their numbers; none for one of another table, or a TRUNCATE.
    pub(super) changes: Vec<Option<Changed>>,
    logged: Vec<Change>,
    /// When it committed, in the play's steps.
    pub(super) step: u64,
}

type Members = BTreeSet<(usize, usize)>;

pub(super) struct Database {
    pub(super) transactions: Vec<Transaction>,
    by_time: HashMap<String, usize>,
    rows: Vec<Vec<Row>>,
    next_id: u32,
    /// Pairs of group and user, after so many transactions.
    members: Vec<Members>,
    /// The end of the log.
    pub(super) end: Lsn,
    /// The longest text in a row.
    longest: usize,
}

/// What decides about a row, apart from the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) user: usize,
    pub(super) catalog: usize,
    /// After how many transactions the memberships are those that count.
    pub(super) version: usize,
}

pub(super) fn catalog(number: usize) -> Arc<Catalog> {
    MADE[number].clone()
}

impl Database {
    pub(super) fn new(random: &mut StdRng) -> Database {
        let pairs = (0..GROUPS.len()).flat_map(|group| (0..USERS.len()).map(move |user| (group, user)));
        let members = pairs.filter(|_| random.random()).collect();
        Database {
            transactions: Vec::new(),
            by_time: HashMap::new(),
            rows: vec![Vec::new(); TABLES.len()],
            next_id: 1,
            members: vec![members],
            end: Lsn(100),
            longest: [40, 400, 3000][random.random_range(0..3)],
        }
    }

    /// Commits a transaction of random changes.
    pub(super) fn commit(&mut self, random: &mut StdRng, step: u64) {
        let number = self.transactions.len();
        let count = match random.random_range(0..10) {
            0..5 => 1,
            5..9 => random.random_range(2..8),
            _ => random.random_range(8..60),
        };
        let mut members = self.members[number].clone();
        let (mut changes, mut logged) = (Vec::new(), Vec::new());
        // A row changes once a transaction, so that a message tells which change it is about.
        let mut touched = BTreeSet::new();
        for ordinal in 0..count {
            let (changed, mut change) = match random.random_range(0..30) {
                0..3 => (None, self.change_members(random, &mut members)),
                3 => (None, truncate()),
                _ => self.change_rows(random, &mut touched),
            };
            change.ordinal = ordinal;
            changes.push(changed);
            logged.push(change);
        }
        let commit_lsn = Lsn(self.end.0 + random.random_range(0..5));
        let end_lsn = Lsn(commit_lsn.0 + random.random_range(1..5));
        self.end = end_lsn;
        self.by_time.insert(commit_timestamp(time(number)), number);
        self.members.push(members);
        let xid = u32::try_from(number).unwrap() + 1;
        self.transactions.push(Transaction { commit_lsn, end_lsn, xid, changes, logged, step });
    }

    fn change_members(&self, random: &mut StdRng, members: &mut Members) -> Change {
        let pair = (random.random_range(0..GROUPS.len()), random.random_range(0..USERS.len()));
        let image = row(&format!("{} {} - -", GROUPS[pair.0], USERS[pair.1]));
        let relation = MEMBERS_RELATION.clone();
        if members.remove(&pair) {
            let old = Some(OldRow { whole: true, row: image });
            return Change { operation: Operation::Delete, relation, old, new: None, ordinal: 0 };
        }
        members.insert(pair);
        Change { operation: Operation::Insert, relation, old: None, new: Some(image), ordinal: 0 }
    }

    fn change_rows(&mut self, random: &mut StdRng, touched: &mut BTreeSet<u32>) -> (Option<Changed>, Change) {
        let table = random.random_range(0..TABLES.len());
        let long = random.random_ratio(1, 6);
        let new = Row {
            id: self.next_id,
            owner: random.random_range(0..USERS.len()),
            group: random.random_range(0..GROUPS.len()),
            body: random.random_range(1..if long { self.longest } else { 20 }),
        };
        let at = random.random_range(0..self.rows[table].len().max(1));
        let existing = self.rows[table].get(at).filter(|row| !touched.contains(&row.id)).cloned();
        let (operation, old, new) = match (random.random_range(0..5), existing) {
            (0..2, _) | (_, None) => {
                self.next_id += 1;
                self.rows[table].push(new.clone());
                (Operation::Insert, None, Some(new))
            }
            (2..4, Some(old)) => {
                let new = Row { id: old.id, ..new };
                self.rows[table][at] = new.clone();
                (Operation::Update, Some(old), Some(new))
            }
            (_, Some(old)) => {
                self.rows[table].swap_remove(at);
                (Operation::Delete, Some(old), None)
            }
        };
        let changed = Changed { table, operation, old, new };
        touched.insert(changed.id());
        let change = changed.logged();
        (Some(changed), change)
    }

    /// The transaction a message says it is of.
    pub(super) fn by_time(&self, commit_timestamp: &str) -> Option<usize> {
        self.by_time.get(commit_timestamp).copied()
    }

    /// Whether somebody may see a row.
    pub(super) fn sees(&self, table: usize, row: &Row, rights: Rights) -> bool {
        match CATALOGS[rights.catalog][table] {
            Rule::Everybody => true,
            Rule::Nobody => false,
            Rule::Owner | Rule::AskedOwner => row.owner == rights.user,
            Rule::Members => self.members[rights.version].contains(&(row.group, rights.user)),
        }
    }

    /// Whether memberships decide about a table's rows.
    pub(super) fn looks_up(table: usize, catalog: usize) -> bool {
        CATALOGS[catalog][table] == Rule::Members
    }

    /// How often memberships have changed, transaction by transaction: those that matter of a range of versions.
    pub(super) fn versions(&self, from: usize, to: usize) -> impl Iterator<Item = usize> + '_ {
        let is_other = move |version: &usize| *version == from || self.members[*version] != self.members[*version - 1];
        (from..=to).filter(is_other)
    }

    /// What the database says of an image when it is asked for a policy.
    pub(super) fn answer(&self, statement: &str, claims: &str, image: &str) -> bool {
        let text = |json: &str, key: &str| -> String {
            let json: Value = serde_json::from_str(json).unwrap();
            json[key].as_str().unwrap().to_owned()
        };
        let subject = text(claims, "sub");
        if statement.contains(OWNER_POLICY) {
            return text(image, "owner") == subject;
        }
        assert!(statement.contains(MEMBER_POLICY), "{statement}");
        let place = |names: &[&str], name: String| names.iter().position(|known| *known == name).unwrap();
        let pair = (place(&GROUPS, text(image, "state")), place(&USERS, subject));
        self.members.last().unwrap().contains(&pair)
    }

    /// The memberships as they are now, read as the lookup loader reads them.
    pub(super) fn lookups(&self) -> Lookups {
        let columns: BTreeSet<usize> = [0, 1].into();
        let need = Need { columns: columns.clone(), keys: [columns].into() };
        let facts = crate::policy::facts::TableFacts {
            replica_identity: ReplicaIdentity::Full,
            identity: vec![0, 1, 2, 3],
            ..facts(MEMBERS, "t")
        };
        let layout = Layout::new(Arc::new(facts), need, &types()).unwrap();
        let next = self.transactions.len() + 1;
        let snapshot = Snapshot::parse(&format!("{next}:{next}:"), self.end).unwrap();
        let mut lookups = Lookups::default();
        let mut loading = Loading::new(layout, snapshot, lookups.room_without(&[]));
        for &(group, user) in self.members.last().unwrap() {
            loading.add_row([Some(GROUPS[group].as_bytes()), Some(USERS[user].as_bytes())]).unwrap();
        }
        lookups.complete(loading);
        lookups
    }
}

impl Transaction {
    /// The changes from one on, up to so many: the rest of it, when there is no more. Before them as many count as it is
    /// streamed with.
    pub(super) fn fragment(&self, (era, beside): (Era, Beside), number: usize, from: usize, count: usize) -> Fragment {
        let to = (from + count).min(self.logged.len());
        let mut changes = self.logged[from..to].to_vec();
        changes.iter_mut().for_each(|change| change.ordinal += beside.0);
        Fragment {
            era,
            beside,
            xid: self.xid,
            commit_lsn: self.commit_lsn,
            commit_time: time(number),
            changes,
            end_lsn: (to == self.logged.len()).then_some(self.end_lsn),
        }
    }
}

impl Changed {
    fn logged(&self) -> Change {
        let key = |row: &Row| crate::router::fixture::row(&format!("{} - - -", row.id));
        let old = match (self.operation, &self.old) {
            (_, Some(old)) if self.has_old_row() => Some(OldRow { whole: true, row: old.image() }),
            (Operation::Delete, Some(old)) => Some(OldRow { whole: false, row: key(old) }),
            _ => None,
        };
        let new = self.new.as_ref().map(Row::image);
        Change { operation: self.operation, relation: RELATIONS[self.table].clone(), old, new, ordinal: 0 }
    }
}

fn truncate() -> Change {
    Change { operation: Operation::Truncate, relation: RELATIONS[0].clone(), old: None, new: None, ordinal: 0 }
}

/// Every transaction commits in a millisecond of its own, so that its messages name it.
fn time(number: usize) -> i64 {
    (i64::try_from(number).unwrap() + 1) * 1000
}
