//! `TableRows`: the rows of one table, by what tells them apart and by every set of columns they are found by.

use super::{Trouble, layout::Layout};
use crate::policy::value::{self, Value};
use slab::Slab;
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

/// About what a row takes beside its values ...
const ROW_BYTES: usize = 200;
/// ... a value beside its text ...
const VALUE_BYTES: usize = 40;
/// ... and its entry in an index.
const ENTRY_BYTES: usize = 120;

/// One column of a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Absent,
    Null,
    Is(&'a [u8]),
}

/// The rows with one key; never none.
#[derive(Debug)]
pub(super) enum Bucket {
    One(u32),
    Many(Vec<u32>),
}

impl Bucket {
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Bucket::One(place) => std::slice::from_ref(place),
            Bucket::Many(places) => places,
        }
    }

    /// Adds a row; where in the bucket it is.
    fn push(&mut self, place: u32) -> usize {
        match self {
            Bucket::One(first) => {
                *self = Bucket::Many(vec![*first, place]);
                1
            }
            Bucket::Many(places) => {
                places.push(place);
                places.len() - 1
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) values: Arc<[Value]>,
    identity: u128,
    /// Where it stands in the bucket of each index; nowhere with NULL in the key.
    positions: Box<[u32]>,
    bytes: usize,
}

const NOWHERE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct TableRows {
    pub(super) layout: Layout,
    /// Two hashes under secret keys stand for the texts of the identity: 128 bits that nobody can aim at.
    hashers: (RandomState, RandomState),
    pub(super) rows: Slab<Stored>,
    by_identity: HashMap<u128, Bucket>,
    indexes: Vec<HashMap<Box<[Value]>, Bucket>>,
    pub(super) bytes: usize,
}

impl TableRows {
    pub(super) fn new(layout: Layout) -> TableRows {
        TableRows {
            hashers: (RandomState::new(), RandomState::new()),
            rows: Slab::new(),
            by_identity: HashMap::new(),
            indexes: layout.keys.iter().map(|_| HashMap::new()).collect(),
            bytes: 0,
            layout,
        }
    }

    /// The index by this set of slots, ascending.
    pub(super) fn index(&self, key: &[usize]) -> Option<&HashMap<Box<[Value]>, Bucket>> {
        let at = self.layout.keys.iter().position(|slots| slots == key)?;
        self.indexes.get(at)
    }

    /// Adds a row that is not there yet.
    pub(super) fn insert(&mut self, image: &[Text<'_>]) -> Result<(), Trouble> {
        let identity = self.identity(image)?;
        let (values, bytes) = self.values(image, None)?;
        self.add(identity, values, bytes)
    }

    /// Puts a row in the place of another; whether any value is another then.
    pub(super) fn update(&mut self, old: Option<&[Text<'_>]>, new: &[Text<'_>]) -> Result<bool, Trouble> {
        let identity = self.identity(new)?;
        let old_identity = old.map_or(Ok(identity), |old| self.identity(old))?;
        let place = self.find_identity(old_identity).ok_or(Trouble::Missing)?;
        let stored = self.rows.get(place as usize).ok_or(Trouble::Missing)?;
        let (before, before_bytes) = (stored.values.clone(), stored.bytes);
        let (values, bytes) = self.values(new, Some((&before, before_bytes)))?;
        let is_alike = values == before;
        if identity == old_identity && is_alike {
            // Equal values have equal keys, but need not be the same: 1.0 and 1.00 print differently.
            if let Some(stored) = self.rows.get_mut(place as usize) {
                stored.values = values;
            }
            return Ok(false);
        }
        self.remove_at(place)?;
        self.add(identity, values, bytes)?;
        Ok(!is_alike)
    }

    /// Takes a row out.
    pub(super) fn delete(&mut self, old: &[Text<'_>]) -> Result<(), Trouble> {
        let identity = self.identity(old)?;
        let place = self.find_identity(identity).ok_or(Trouble::Missing)?;
        self.remove_at(place)
    }

    /// Takes all rows out.
    pub(super) fn clear(&mut self) {
        self.rows = Slab::new();
        self.by_identity = HashMap::new();
        self.indexes = self.layout.keys.iter().map(|_| HashMap::new()).collect();
        self.bytes = 0;
    }

    /// What tells a row apart: the texts of its identity's columns. As texts, and not as values: a row keeps its own
    /// text in the stream, and values that are equal may have several.
    fn identity(&self, image: &[Text<'_>]) -> Result<u128, Trouble> {
        let (mut high, mut low) = (self.hashers.0.build_hasher(), self.hashers.1.build_hasher());
        for (read, text) in self.layout.columns.iter().zip(image).filter(|(read, _)| read.is_identity) {
            for hasher in [&mut high, &mut low] {
                match text {
                    Text::Absent => return Err(self.unresolved(read.column)),
                    Text::Null => hasher.write_u64(u64::MAX),
                    Text::Is(text) => {
                        hasher.write_u64(text.len() as u64);
                        hasher.write(text);
                    }
                }
            }
        }
        Ok(u128::from(high.finish()) << 64 | u128::from(low.finish()))
    }

    fn unresolved(&self, column: usize) -> Trouble {
        Trouble::Unresolved(self.column_name(column))
    }

    fn column_name(&self, column: usize) -> String {
        self.layout.facts().columns.get(column).map(|column| column.name.clone()).unwrap_or_default()
    }

    /// The values of an image, and about how many bytes they take. What the image leaves out is as it was before.
    fn values(
        &self,
        image: &[Text<'_>],
        before: Option<(&Arc<[Value]>, usize)>,
    ) -> Result<(Arc<[Value]>, usize), Trouble> {
        let mut bytes = ROW_BYTES + ENTRY_BYTES * self.indexes.len();
        let mut values = Vec::with_capacity(self.layout.columns.len());
        for (read, text) in self.layout.columns.iter().zip(image) {
            let Some(kind) = read.kept else { continue };
            bytes += VALUE_BYTES;
            values.push(match text {
                Text::Null => Value::Null,
                Text::Is(text) => {
                    bytes += text.len();
                    value::read(kind, text).map_err(|_| Trouble::Unreadable(self.column_name(read.column)))?
                }
                Text::Absent => {
                    let (values_before, bytes_before) = before.ok_or_else(|| self.unresolved(read.column))?;
                    bytes = bytes.max(bytes_before);
                    values_before.get(values.len()).cloned().ok_or_else(|| self.unresolved(read.column))?
                }
            });
        }
        Ok((values.into(), bytes))
    }

    fn find_identity(&self, identity: u128) -> Option<u32> {
        self.by_identity.get(&identity).and_then(|bucket| bucket.as_slice().last().copied())
    }

    fn add(&mut self, identity: u128, values: Arc<[Value]>, bytes: usize) -> Result<(), Trouble> {
        let place = u32::try_from(self.rows.vacant_key()).ok().filter(|&place| place < NOWHERE);
        let place = place.ok_or(Trouble::TooManyRows)?;
        match self.by_identity.entry(identity) {
            Entry::Vacant(entry) => {
                entry.insert(Bucket::One(place));
            }
            // With FULL rows may be alike; a key is nobody else's.
            Entry::Occupied(mut entry) if self.layout.is_full() => {
                entry.get_mut().push(place);
            }
            Entry::Occupied(_) => return Err(Trouble::Twice),
        }
        let mut positions = Vec::with_capacity(self.indexes.len());
        for (slots, index) in self.layout.keys.iter().zip(&mut self.indexes) {
            positions.push(match key_of(slots, &values) {
                None => NOWHERE,
                Some(key) => {
                    let position = match index.entry(key) {
                        Entry::Vacant(entry) => {
                            entry.insert(Bucket::One(place));
                            0
                        }
                        Entry::Occupied(mut entry) => entry.get_mut().push(place),
                    };
                    u32::try_from(position).map_err(|_| Trouble::TooManyRows)?
                }
            });
        }
        self.bytes += bytes;
        self.rows.insert(Stored { values, identity, positions: positions.into(), bytes });
        Ok(())
    }

    /// Takes out a row that its identity's bucket names last.
    fn remove_at(&mut self, place: u32) -> Result<(), Trouble> {
        let stored = self.rows.try_remove(place as usize).ok_or(Trouble::Missing)?;
        self.bytes = self.bytes.saturating_sub(stored.bytes);
        if let Entry::Occupied(mut entry) = self.by_identity.entry(stored.identity) {
            match entry.get_mut() {
                Bucket::Many(places) if places.len() > 1 => {
                    places.pop();
                }
                _ => {
                    entry.remove();
                }
            }
        }
        for (at, &position) in stored.positions.iter().enumerate().filter(|(_, position)| **position != NOWHERE) {
            self.leave(at, position as usize, &stored.values);
        }
        Ok(())
    }

    /// Takes a row out of a bucket of an index. The last one of the bucket takes its place, so that it costs the same
    /// however many have the key.
    fn leave(&mut self, at: usize, position: usize, values: &[Value]) {
        let Some((slots, index)) = self.layout.keys.get(at).zip(self.indexes.get_mut(at)) else { return };
        let Some(key) = key_of(slots, values) else { return };
        let Entry::Occupied(mut entry) = index.entry(key) else { return };
        let Bucket::Many(places) = entry.get_mut() else {
            entry.remove();
            return;
        };
        if position < places.len() {
            places.swap_remove(position);
        }
        match places.get(position).copied() {
            None if places.is_empty() => {
                entry.remove();
            }
            None => {}
            Some(moved) => {
                let positions = self.rows.get_mut(moved as usize).map(|row| &mut row.positions);
                if let Some(slot) = positions.and_then(|positions| positions.get_mut(at)) {
                    *slot = u32::try_from(position).unwrap_or(NOWHERE);
                }
            }
        }
    }
}

/// The key of a row in an index; none with NULL in it, which equals nothing.
fn key_of(slots: &[usize], values: &[Value]) -> Option<Box<[Value]>> {
    slots.iter().map(|&slot| values.get(slot).filter(|value| **value != Value::Null).cloned()).collect()
}
