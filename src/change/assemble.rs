//! `Assembler`: pgoutput messages → fragments of one transaction. Pure.
//!
//! pgoutput's protocol version 1 sends a transaction only when it has committed, and its Begin already tells where and
//! when it did; so a fragment can be handed on before the Commit has come, and a transaction of any size never stands
//! in memory whole. Only the last fragment carries the position that may be confirmed.

use super::{
    Change, Datum, Fragment, OldRow, Operation, Row,
    cursor::Beside,
    position::Era,
    relation::{Column, Relation, ReplicaIdentity},
};
use crate::pgoutput::{
    Message,
    message::{Begin, Commit, OldTuple, RelationMessage},
    tuple::{Tuple, TupleValue},
};
use std::{collections::HashMap, sync::Arc};

/// A fragment is closed at this many changes ...
pub(crate) const FRAGMENT_CHANGES: usize = 512;
/// ... or when its values reach this many bytes, whichever comes first.
pub(crate) const FRAGMENT_BYTES: usize = 1024 * 1024;

/// A stream whose messages do not fit together. It cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A change or commit without a Begin before it.
    #[error("{0} outside a transaction")]
    NoTransaction(&'static str),
    /// A Begin inside a transaction.
    #[error("a transaction begins inside another")]
    Nested,
    /// A change of a table that was not described.
    #[error("a change of the unknown relation {0}")]
    UnknownRelation(u32),
    /// A tuple with another number of values than the relation has columns.
    #[error("a tuple of {values} values for the {columns} columns of relation {relation}")]
    Width {
        /// The relation's oid.
        relation: u32,
        /// How many values came.
        values: usize,
        /// How many columns it has.
        columns: usize,
    },
    /// A binary value, which was not asked for.
    #[error("a binary value in a stream of texts")]
    Binary,
}

struct Open {
    begin: Begin,
    ordinal: u64,
    changes: Vec<Change>,
    bytes: usize,
}

/// Puts the messages of one stream together.
#[derive(Default)]
pub struct Assembler {
    era: Era,
    beside: Beside,
    relations: HashMap<u32, Arc<Relation>>,
    open: Option<Open>,
}

impl Assembler {
    /// One whose fragments are of this era, in a stream of these publications.
    pub fn of(era: Era, beside: Beside) -> Assembler {
        Assembler { era, beside, ..Assembler::default() }
    }

    /// Whether no transaction is open.
    pub fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    /// Takes the next message; a fragment when one is complete.
    pub fn push(&mut self, message: Message) -> Result<Option<Fragment>, AssembleError> {
        match message {
            Message::Begin(begin) => {
                if self.open.is_some() {
                    return Err(AssembleError::Nested);
                }
                self.open = Some(Open { begin, ordinal: 0, changes: Vec::new(), bytes: 0 });
                Ok(None)
            }
            Message::Commit(commit) => self.commit(&commit).map(Some),
            Message::Relation(message) => {
                self.describe(message);
                Ok(None)
            }
            Message::Insert(insert) => {
                let relation = self.relation(insert.relation)?;
                let (new, bytes) = row(&relation, insert.new, false)?;
                self.change(Operation::Insert, relation, None, Some(new), bytes)
            }
            Message::Update(update) => {
                let relation = self.relation(update.relation)?;
                let (old, old_bytes) = old_row(&relation, update.old)?;
                let (mut new, bytes) = row(&relation, update.new, false)?;
                if let Some(old) = &old {
                    fill_unchanged(&mut new, old);
                }
                self.change(Operation::Update, relation, old, Some(new), bytes + old_bytes)
            }
            Message::Delete(delete) => {
                let relation = self.relation(delete.relation)?;
                let (old, bytes) = old_row(&relation, Some(delete.old))?;
                self.change(Operation::Delete, relation, old, None, bytes)
            }
            Message::Truncate(truncate) => {
                // One message, so at most one fragment: it is closed behind the last table.
                for oid in truncate.relations {
                    let relation = self.relation(oid)?;
                    self.add(Operation::Truncate, relation, None, None, 0)?;
                }
                Ok(self.take_full())
            }
            // Types are known from the catalogue; origins and logical messages change nothing for clients.
            Message::Type(_) | Message::Origin(_) | Message::Logical(_) => Ok(None),
        }
    }

    fn describe(&mut self, message: RelationMessage) {
        let or_catalog = |schema: String| if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        let relation = Relation {
            oid: message.oid,
            schema: or_catalog(message.schema),
            name: message.name,
            replica_identity: match message.replica_identity {
                b'f' => ReplicaIdentity::Full,
                b'i' => ReplicaIdentity::Index,
                b'n' => ReplicaIdentity::Nothing,
                _ => ReplicaIdentity::Default,
            },
            columns: message
                .columns
                .into_iter()
                .map(|column| Column {
                    name: column.name,
                    type_oid: column.type_oid,
                    type_modifier: column.type_modifier,
                    is_key: column.is_key,
                })
                .collect(),
        };
        self.relations.insert(relation.oid, Arc::new(relation));
    }

    fn relation(&self, oid: u32) -> Result<Arc<Relation>, AssembleError> {
        self.relations.get(&oid).cloned().ok_or(AssembleError::UnknownRelation(oid))
    }

    fn change(
        &mut self,
        operation: Operation,
        relation: Arc<Relation>,
        old: Option<OldRow>,
        new: Option<Row>,
        bytes: usize,
    ) -> Result<Option<Fragment>, AssembleError> {
        self.add(operation, relation, old, new, bytes)?;
        Ok(self.take_full())
    }

    fn add(
        &mut self,
        operation: Operation,
        relation: Arc<Relation>,
        old: Option<OldRow>,
        new: Option<Row>,
        bytes: usize,
    ) -> Result<(), AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::NoTransaction("a change"))?;
        open.changes.push(Change { operation, relation, old, new, ordinal: open.ordinal });
        open.ordinal += 1;
        open.bytes += bytes;
        Ok(())
    }

    /// The changes so far, when they are enough for a fragment.
    fn take_full(&mut self) -> Option<Fragment> {
        let open = self.open.as_mut()?;
        if open.changes.len() < FRAGMENT_CHANGES && open.bytes < FRAGMENT_BYTES {
            return None;
        }
        open.bytes = 0;
        let changes = std::mem::take(&mut open.changes);
        Some(fragment((self.era, self.beside), &open.begin, changes))
    }

    fn commit(&mut self, commit: &Commit) -> Result<Fragment, AssembleError> {
        let open = self.open.take().ok_or(AssembleError::NoTransaction("a commit"))?;
        Ok(Fragment { end_lsn: Some(commit.end_lsn), ..fragment((self.era, self.beside), &open.begin, open.changes) })
    }
}

fn fragment((era, beside): (Era, Beside), begin: &Begin, changes: Vec<Change>) -> Fragment {
    Fragment {
        era,
        beside,
        xid: begin.xid,
        commit_lsn: begin.commit_lsn,
        commit_time: begin.commit_time,
        changes,
        end_lsn: None,
    }
}

/// The datums of a tuple and their size. In a key-only tuple what lies outside the key reads as NULL, but is absent.
fn row(relation: &Relation, tuple: Tuple, key_only: bool) -> Result<(Row, usize), AssembleError> {
    if tuple.len() != relation.columns.len() {
        return Err(AssembleError::Width {
            relation: relation.oid,
            values: tuple.len(),
            columns: relation.columns.len(),
        });
    }
    let mut bytes = 0;
    let mut datums = Vec::with_capacity(tuple.len());
    for (value, column) in tuple.into_iter().zip(&relation.columns) {
        datums.push(match value {
            _ if key_only && !column.is_key => Datum::Absent,
            TupleValue::Null => Datum::Null,
            TupleValue::Unchanged => Datum::Absent,
            TupleValue::Text(text) => {
                bytes += text.len();
                Datum::Text(text)
            }
            TupleValue::Binary(_) => return Err(AssembleError::Binary),
        });
    }
    Ok((Row(datums), bytes))
}

fn old_row(relation: &Relation, old: Option<OldTuple>) -> Result<(Option<OldRow>, usize), AssembleError> {
    let (tuple, whole) = match old {
        None => return Ok((None, 0)),
        Some(OldTuple::Key(tuple)) => (tuple, false),
        Some(OldTuple::Whole(tuple)) => (tuple, true),
    };
    let (row, bytes) = row(relation, tuple, !whole)?;
    Ok((Some(OldRow { whole, row }), bytes))
}

/// A TOAST value the UPDATE did not touch is the one of the old row, when that is at hand.
fn fill_unchanged(new: &mut Row, old: &OldRow) {
    for (new, old) in new.0.iter_mut().zip(&old.row.0) {
        if *new == Datum::Absent {
            *new = old.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lsn::Lsn,
        pgoutput::message::{Delete, Insert, RelationColumn, Update},
    };

    fn begin() -> Message {
        Message::Begin(Begin { commit_lsn: Lsn(10), commit_time: 5, xid: 3 })
    }

    fn commit() -> Message {
        Message::Commit(Commit { commit_lsn: Lsn(10), end_lsn: Lsn(12), commit_time: 5 })
    }

    fn table() -> Message {
        let column =
            |name: &str, is_key| RelationColumn { is_key, name: name.to_owned(), type_oid: 25, type_modifier: -1 };
        Message::Relation(RelationMessage {
            oid: 1,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            replica_identity: b'd',
            columns: vec![column("id", true), column("body", false)],
        })
    }

    fn text(value: &'static str) -> TupleValue {
        TupleValue::Text(bytes::Bytes::from_static(value.as_bytes()))
    }

    fn all(messages: Vec<Message>) -> Result<Vec<Fragment>, AssembleError> {
        let mut assembler = Assembler::default();
        let mut fragments = Vec::new();
        for message in messages {
            fragments.extend(assembler.push(message)?);
        }
        Ok(fragments)
    }

    #[test]
    fn a_transaction_becomes_one_fragment_that_can_be_confirmed() {
        let insert = Message::Insert(Insert { relation: 1, new: vec![text("1"), TupleValue::Null] });
        let fragments = all(vec![begin(), table(), insert, commit()]).unwrap();
        let [fragment] = &fragments[..] else { panic!("{fragments:?}") };
        assert_eq!((fragment.commit_lsn, fragment.end_lsn, fragment.xid), (Lsn(10), Some(Lsn(12)), 3));
        assert_eq!(fragment.changes[0].new.as_ref().unwrap().0, [Datum::Text("1".into()), Datum::Null]);
    }

    #[test]
    fn what_a_key_only_image_leaves_out_is_absent_and_not_null() {
        let old = OldTuple::Key(vec![text("1"), TupleValue::Null]);
        let fragments = all(vec![begin(), table(), Message::Delete(Delete { relation: 1, old }), commit()]).unwrap();
        let old = fragments[0].changes[0].old.as_ref().unwrap();
        assert!(!old.whole);
        assert_eq!(old.row.0, [Datum::Text("1".into()), Datum::Absent]);
    }

    #[test]
    fn an_unchanged_value_comes_from_the_old_row_or_stays_absent() {
        let update = |old| Message::Update(Update { relation: 1, old, new: vec![text("1"), TupleValue::Unchanged] });
        let whole = OldTuple::Whole(vec![text("1"), text("long")]);
        let fragments = all(vec![begin(), table(), update(Some(whole)), update(None), commit()]).unwrap();
        let new = |index: usize| fragments[0].changes[index].new.as_ref().unwrap().0[1].clone();
        assert_eq!(new(0), Datum::Text("long".into()));
        assert_eq!(new(1), Datum::Absent);
    }

    #[test]
    fn a_large_transaction_is_cut_and_only_its_end_can_be_confirmed() {
        let insert = || Message::Insert(Insert { relation: 1, new: vec![text("1"), TupleValue::Null] });
        let mut messages = vec![begin(), table()];
        messages.extend(std::iter::repeat_with(insert).take(FRAGMENT_CHANGES + 1));
        messages.push(commit());
        let fragments = all(messages).unwrap();
        let ends: Vec<_> = fragments.iter().map(|fragment| (fragment.changes.len(), fragment.end_lsn)).collect();
        assert_eq!(ends, [(FRAGMENT_CHANGES, None), (1, Some(Lsn(12)))]);
        assert_eq!(fragments[1].changes[0].ordinal, FRAGMENT_CHANGES as u64);
    }

    #[test]
    fn a_truncate_of_two_tables_that_fills_a_fragment_loses_nothing_before_it() {
        let insert = || Message::Insert(Insert { relation: 1, new: vec![text("1"), TupleValue::Null] });
        let mut messages = vec![begin(), table()];
        messages.extend(std::iter::repeat_with(insert).take(FRAGMENT_CHANGES - 1));
        messages.push(Message::Truncate(crate::pgoutput::message::Truncate {
            cascade: false,
            restart_identity: false,
            relations: vec![1, 1],
        }));
        messages.push(commit());
        let lengths: Vec<_> = all(messages).unwrap().iter().map(|fragment| fragment.changes.len()).collect();
        assert_eq!(lengths, [FRAGMENT_CHANGES + 1, 0]);
    }

    #[test]
    fn messages_that_do_not_fit_together_are_an_error_of_the_stream() {
        let insert = |new| Message::Insert(Insert { relation: 1, new });
        let cases = [
            (vec![commit()], AssembleError::NoTransaction("a commit")),
            (vec![begin(), begin()], AssembleError::Nested),
            (vec![begin(), insert(vec![])], AssembleError::UnknownRelation(1)),
            (vec![table(), insert(vec![text("1"), text("2")])], AssembleError::NoTransaction("a change")),
            (
                vec![begin(), table(), insert(vec![text("1")])],
                AssembleError::Width { relation: 1, values: 1, columns: 2 },
            ),
            (vec![begin(), table(), insert(vec![TupleValue::Binary("1".into()), text("2")])], AssembleError::Binary),
        ];
        for (messages, error) in cases {
            assert_eq!(all(messages).unwrap_err(), error);
        }
    }
}
