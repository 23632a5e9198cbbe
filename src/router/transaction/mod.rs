//! `Transaction`: the fragments of one transaction until all of it has come, because what it says of rights holds for
//! its first row, too. So many bytes of it stay in memory; what is beyond goes to a file that has no name, and is read
//! again a fragment at a time.

mod encoding;
mod spill;

use crate::{
    change::{Fragment, position::Era},
    lsn::Lsn,
};
pub use spill::SpillConfig;
use spill::{Reader, Spill};
use std::{io, sync::Arc};

/// A transaction, as far as it has come.
pub(super) struct Transaction {
    /// The history it is of.
    pub(super) era: Era,
    xid: u32,
    /// Where its commit record is.
    pub(super) commit_lsn: Lsn,
    /// When it committed.
    pub(super) commit_time: i64,
    /// What may be confirmed once all of it is handed on; none while fragments are to come.
    pub(super) end_lsn: Option<Lsn>,
    memory: Vec<Arc<Fragment>>,
    bytes: usize,
    limit_bytes: usize,
    file: SpillConfig,
    spill: Option<Spill>,
}

/// Whether there is room for some of a transaction in a directory.
pub(super) async fn has_room(config: &SpillConfig) -> bool {
    match Spill::open(config).await {
        Ok(spill) => spill.has_room().await,
        Err(_) => false,
    }
}

/// Where in a transaction somebody reads.
#[derive(Default)]
pub(super) struct Cursor {
    memory: usize,
    file: Reader,
}

impl Transaction {
    /// The one this fragment begins, still empty. Beyond so many bytes it goes to a file.
    pub(super) fn of(fragment: &Fragment, limit_bytes: usize, file: &SpillConfig) -> Transaction {
        let &Fragment { era, xid, commit_lsn, commit_time, .. } = fragment;
        let (memory, file) = (Vec::new(), file.clone());
        Transaction {
            era,
            xid,
            commit_lsn,
            commit_time,
            end_lsn: None,
            memory,
            bytes: 0,
            limit_bytes,
            file,
            spill: None,
        }
    }

    /// Whether a fragment belongs to it.
    pub(super) fn has(&self, fragment: &Fragment) -> bool {
        (self.xid, self.commit_lsn, self.commit_time) == (fragment.xid, fragment.commit_lsn, fragment.commit_time)
    }

    /// Whether a part of it is in a file.
    pub(super) fn is_in_file(&self) -> bool {
        self.spill.is_some()
    }

    /// Adds the next fragment. After an error the transaction holds what it held before.
    pub(super) async fn push(&mut self, fragment: &Arc<Fragment>) -> io::Result<()> {
        let bytes = fragment.bytes();
        match &mut self.spill {
            None if self.bytes + bytes <= self.limit_bytes => {
                self.bytes += bytes;
                self.memory.push(fragment.clone());
            }
            None => {
                let mut spill = Spill::open(&self.file).await?;
                spill.write(fragment).await?;
                tracing::debug!(xid = self.xid, "a large transaction goes to a file until all of it has come");
                self.spill = Some(spill);
            }
            Some(spill) => spill.write(fragment).await?,
        }
        (self.era, self.end_lsn) = (fragment.era, fragment.end_lsn);
        Ok(())
    }

    /// The next fragment; none behind the last.
    pub(super) async fn next(&mut self, cursor: &mut Cursor) -> io::Result<Option<Arc<Fragment>>> {
        if let Some(fragment) = self.memory.get(cursor.memory) {
            cursor.memory += 1;
            return Ok(Some(fragment.clone()));
        }
        match &mut self.spill {
            Some(spill) => Ok(spill.read(&mut cursor.file).await?.map(Arc::new)),
            None => Ok(None),
        }
    }

    #[cfg(test)]
    pub(super) fn damage(&self) {
        self.spill.as_ref().unwrap().damage();
    }
}

#[cfg(test)]
mod tests;
