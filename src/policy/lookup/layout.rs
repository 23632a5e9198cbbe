//! `Layout`: which columns of a table are read, which of them are kept as values, and what tells its rows apart.

use super::{Need, Trouble};
use crate::{
    change::{
        relation::{Relation, ReplicaIdentity},
        value::{TypeKind, TypeRegistry},
    },
    policy::{
        catalog::{ColumnIndex, TableColumn},
        facts::{Carried, TableFacts},
        functions::scalar_of,
        value::Type,
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// How rows of a table are kept.
#[derive(Clone, Debug)]
pub struct Layout {
    facts: Arc<TableFacts>,
    need: Need,
    /// What is read, in column order.
    pub(super) columns: Vec<ReadColumn>,
    /// Where a column of the table stands among the values that are kept.
    pub(super) slots: Arc<[Option<usize>]>,
    /// The slots of each set of columns that rows are found by; the empty set needs no index.
    pub(super) keys: Vec<Vec<usize>>,
}

/// A column that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadColumn {
    pub(super) column: ColumnIndex,
    /// Its type, when its values are kept; else it only tells rows apart.
    pub(super) kept: Option<Type>,
    /// Whether it tells rows apart.
    pub(super) is_identity: bool,
}

impl Layout {
    /// How a table's rows are kept for a need; an error where they cannot be followed.
    pub fn new(facts: Arc<TableFacts>, need: Need, types: &TypeRegistry) -> Result<Layout, Trouble> {
        if !facts.is_ordinary {
            return Err(Trouble::Unfollowable("it is not an ordinary table without parents and children"));
        }
        if facts.carried == Carried::No {
            return Err(Trouble::Unfollowable("its changes are not in the stream"));
        }
        if facts.identity.is_empty() {
            return Err(Trouble::Unfollowable("it has no usable replica identity"));
        }
        let is_full = facts.replica_identity == ReplicaIdentity::Full;
        let kept: BTreeSet<ColumnIndex> = need.columns.iter().chain(need.keys.iter().flatten()).copied().collect();
        // Rows that are alike in all that is kept need not be told apart, so with FULL nothing more is read.
        let identity: BTreeSet<ColumnIndex> =
            if is_full { kept.clone() } else { facts.identity.iter().copied().collect() };
        let mut columns = Vec::new();
        let mut slots = vec![None; facts.columns.len()];
        for &column in kept.union(&identity) {
            let known = facts.columns.get(column).ok_or(Trouble::Changed)?;
            if known.generated.is_some() {
                return Err(Trouble::Generated(known.name.clone()));
            }
            let kept = match kept.contains(&column) {
                true => Some(type_of(known, types).ok_or_else(|| Trouble::UnknownType(known.name.clone()))?),
                false => None,
            };
            if let (Some(slot), Some(_)) = (slots.get_mut(column), kept) {
                *slot = Some(columns.iter().filter(|read: &&ReadColumn| read.kept.is_some()).count());
            }
            columns.push(ReadColumn { column, kept, is_identity: identity.contains(&column) });
        }
        let slots: Arc<[Option<usize>]> = slots.into();
        let slots_of = |key: &BTreeSet<ColumnIndex>| {
            key.iter().filter_map(|column| slots.get(*column).copied().flatten()).collect::<Vec<usize>>()
        };
        let keys = need.keys.iter().filter(|key| !key.is_empty()).map(slots_of).collect();
        Ok(Layout { facts, need, columns, slots, keys })
    }

    /// The table.
    pub fn facts(&self) -> &Arc<TableFacts> {
        &self.facts
    }

    /// Whether rows that are alike are not told apart.
    pub(super) fn is_full(&self) -> bool {
        self.facts.replica_identity == ReplicaIdentity::Full
    }

    /// The names of the columns that are read, in the order in which rows give their texts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter_map(|read| Some(self.facts.columns.get(read.column)?.name.as_str()))
    }

    /// The same table as a later catalogue has it, when these rows serve it too: nothing more is needed, and nothing
    /// that is read has changed.
    pub(super) fn serves(&self, facts: &TableFacts, need: &Need) -> bool {
        let is_same = |read: &ReadColumn| match (self.facts.columns.get(read.column), facts.columns.get(read.column)) {
            (Some(old), Some(new)) => {
                old.number == new.number
                    && old.name == new.name
                    && old.type_oid == new.type_oid
                    && old.collation == new.collation
                    && old.generated == new.generated
            }
            _ => false,
        };
        need.columns.iter().all(|&column| self.slots.get(column).copied().flatten().is_some())
            && need.keys.iter().all(|key| self.need.keys.contains(key))
            && self.columns.iter().all(is_same)
            && facts.oid == self.facts.oid
            && facts.is_ordinary
            && facts.carried == self.facts.carried
            && facts.replica_identity == self.facts.replica_identity
            && facts.identity == self.facts.identity
    }

    /// Where the columns that are read stand in a relation of the stream; an error when it is not the table any more
    /// that was loaded.
    pub(super) fn places_in(&self, relation: &Relation) -> Result<Vec<usize>, Trouble> {
        let known = |read: &ReadColumn| self.facts.columns.get(read.column).ok_or(Trouble::Changed);
        let mut places = Vec::with_capacity(self.columns.len());
        for read in &self.columns {
            let known = known(read)?;
            let place = relation.columns.iter().position(|column| column.name == known.name).ok_or(Trouble::Changed)?;
            if relation.columns.get(place).is_none_or(|column| column.type_oid != known.type_oid) {
                return Err(Trouble::Changed);
            }
            places.push(place);
        }
        let mut names: Vec<&str> =
            relation.columns.iter().filter(|column| column.is_key).map(|column| column.name.as_str()).collect();
        let mut identity: Vec<&str> = self
            .facts
            .identity
            .iter()
            .filter_map(|&column| Some(self.facts.columns.get(column)?.name.as_str()))
            .collect();
        names.sort_unstable();
        identity.sort_unstable();
        if relation.replica_identity != self.facts.replica_identity || (!self.is_full() && names != identity) {
            return Err(Trouble::Changed);
        }
        Ok(places)
    }
}

/// What a column's values are, if the process computes with them.
fn type_of(column: &TableColumn, types: &TypeRegistry) -> Option<Type> {
    let base = types.base(column.type_oid);
    let is_enum = |oid: u32| types.get(oid).is_some_and(|info| info.kind == TypeKind::Enum);
    match types.get(base).map(|info| &info.kind) {
        Some(TypeKind::Array { element, .. }) => {
            let element = types.base(*element);
            scalar_of(element, is_enum(element)).map(Type::array)
        }
        _ => scalar_of(base, is_enum(base)).map(Type::of),
    }
}
