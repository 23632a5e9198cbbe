//! A JSON Web Key Set (RFC 7517, section 5): keys found by their name and by what they verify.

use super::key::Key;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// A larger set is not read.
pub const MAX_KEY_SET_BYTES: usize = 1024 * 1024;
/// A set with more keys is not used.
const MAX_KEYS: usize = 100;

/// A text is no key set. What it says stays inside: it may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than a set may be.
    #[error("a key set has at most {MAX_KEY_SET_BYTES} bytes and {MAX_KEYS} keys")]
    TooLarge,
    /// No JSON, or JSON of another form.
    #[error("it is no JSON of the form {{\"keys\": [...]}} (line {line}, column {column})")]
    Form {
        /// Where reading ended.
        line: usize,
        /// Where in that line.
        column: usize,
    },
}

/// Keys by name.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: HashMap<String, Vec<Key>>,
    unusable: usize,
    /// Of the text: two sets of one text are one set.
    digest: [u8; 32],
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set that was given to this server alone: it may hold secrets (`oct`).
    pub fn read(text: &[u8]) -> Result<KeySet, KeySetError> {
        KeySet::read_where(text, |_| true)
    }

    /// Reads a set that was published: what it calls a secret is known to all, and not used.
    pub(super) fn read_public(text: &[u8]) -> Result<KeySet, KeySetError> {
        KeySet::read_where(text, |key| !key.is_secret())
    }

    fn read_where(text: &[u8], is_usable: impl Fn(&Key) -> bool) -> Result<KeySet, KeySetError> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| KeySetError::Form { line: error.line(), column: error.column() })?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooLarge);
        }
        let mut set = KeySet { digest: Sha256::digest(text).into(), ..KeySet::default() };
        for entry in &document.keys {
            match Key::read(entry).filter(&is_usable) {
                Some(key) => set.keys.entry(key.id.clone()).or_default().push(key),
                None => set.unusable += 1,
            }
        }
        Ok(set)
    }

    /// These keys and those.
    #[must_use]
    pub fn and(mut self, other: KeySet) -> KeySet {
        for (id, keys) in other.keys {
            self.keys.entry(id).or_default().extend(keys);
        }
        self.unusable += other.unusable;
        self.digest = Sha256::digest([self.digest, other.digest].concat()).into();
        self
    }

    /// The keys of this name that verify this algorithm.
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let named = self.keys.get(id).map(Vec::as_slice).unwrap_or_default();
        named.iter().filter(move |key| key.verifies(algorithm)).map(|key| &key.decoding)
    }

    /// Whether no key of it verifies anything.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Entries that cannot verify tokens: of a kind that is not known, without a name, for encryption, or too weak.
    pub fn unusable(&self) -> usize {
        self.unusable
    }

    pub(super) fn is_same(&self, other: &KeySet) -> bool {
        self.digest == other.digest
    }
}
