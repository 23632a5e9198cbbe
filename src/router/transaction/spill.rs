//! Fragments in a file that only we can read: it has lost its name before anything is in it, and is gone with us. It has a
//! bound: a disk that others need, too, is not filled.

use super::encoding::{Relations, decode, encode};
use crate::change::Fragment;
use bytes::Bytes;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};
use uuid::Uuid;

/// What may be in files.
#[derive(Clone, Debug)]
pub struct SpillConfig {
    /// Where they are made.
    pub directory: PathBuf,
    /// Bytes of one, at most.
    pub limit_bytes: u64,
}

impl From<PathBuf> for SpillConfig {
    /// Files without a bound.
    fn from(directory: PathBuf) -> SpillConfig {
        SpillConfig { directory, limit_bytes: u64::MAX }
    }
}

/// Each fragment stands behind its length.
const HEADER_BYTES: usize = 8;
/// So much is written to see whether there is room: about as much as a fragment.
const TRIAL_BYTES: usize = 1024 * 1024;

/// The file would become larger than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes more than {0} bytes; raise spill_bytes")]
struct TooMuch(u64);

/// A file of fragments.
pub(super) struct Spill {
    file: Arc<File>,
    relations: Relations,
    end: u64,
    limit_bytes: u64,
}

/// Where in the file somebody reads.
#[derive(Default)]
pub(super) struct Reader {
    offset: u64,
}

impl Spill {
    /// A new, empty one.
    pub(super) async fn open(config: &SpillConfig) -> io::Result<Spill> {
        let path = config.directory.join(format!("walcast-{}", Uuid::new_v4().simple()));
        let file = blocking(move || {
            // `create_new` follows no link that somebody laid.
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        });
        let (file, relations, limit_bytes) = (Arc::new(file.await?), Relations::default(), config.limit_bytes);
        Ok(Spill { file, relations, end: 0, limit_bytes })
    }

    /// Whether some can be written.
    pub(super) async fn has_room(&self) -> bool {
        let file = self.file.clone();
        // Not zeros: a file system may keep none of these.
        blocking(move || file.write_all_at(&vec![1; TRIAL_BYTES], 0)).await.is_ok()
    }

    /// Adds a fragment, all of it or none.
    pub(super) async fn write(&mut self, fragment: &Fragment) -> io::Result<()> {
        let (length, pieces) = encode(fragment, &mut self.relations).into_parts();
        let (file, start) = (self.file.clone(), self.end);
        let end = start + HEADER_BYTES as u64 + length;
        if end > self.limit_bytes {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, TooMuch(self.limit_bytes)));
        }
        let written = blocking(move || {
            let mut at = start;
            for piece in std::iter::once(Bytes::from(length.to_be_bytes().to_vec())).chain(pieces) {
                file.write_all_at(&piece, at)?;
                at += piece.len() as u64;
            }
            Ok(())
        });
        written.await?;
        // Only now: what was written in part is written over by the next.
        self.end = end;
        Ok(())
    }

    /// The next fragment; none at the end.
    pub(super) async fn read(&mut self, reader: &mut Reader) -> io::Result<Option<Fragment>> {
        if reader.offset >= self.end {
            return Ok(None);
        }
        let (file, offset, left) = (self.file.clone(), reader.offset, self.end - reader.offset);
        let body = blocking(move || {
            let mut header = [0; HEADER_BYTES];
            file.read_exact_at(&mut header, offset)?;
            let length = u64::from_be_bytes(header);
            if length > left {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut body, offset + HEADER_BYTES as u64)?;
            Ok(body)
        });
        let body = body.await?;
        reader.offset += HEADER_BYTES as u64 + body.len() as u64;
        let fragment = decode(Bytes::from(body), &self.relations);
        fragment.map(Some).map_err(|damaged| io::Error::new(io::ErrorKind::InvalidData, damaged))
    }

    #[cfg(test)]
    pub(super) fn damage(&self) {
        self.file.set_len(self.end / 2).unwrap();
    }

    #[cfg(test)]
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Files block, however they are asked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
