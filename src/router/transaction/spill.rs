//! Fragments in a file that only we can read: it has lost its name before anything is in it, and is gone with us.

use super::encoding::{Relations, decode, encode};
use crate::change::Fragment;
use bytes::Bytes;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};
use uuid::Uuid;

/// Each fragment stands behind its length.
const HEADER_BYTES: usize = 8;
/// So much is written to see whether there is room: about as much as a fragment.
const TRIAL_BYTES: usize = 1024 * 1024;

/// A file of fragments.
pub(super) struct Spill {
    file: Arc<File>,
    relations: Relations,
    end: u64,
}

/// Where in the file somebody reads.
#[derive(Default)]
pub(super) struct Reader {
    offset: u64,
}

impl Spill {
    /// A new, empty one.
    pub(super) async fn open(directory: &Path) -> io::Result<Spill> {
        let path = directory.join(format!("walcast-{}", Uuid::new_v4().simple()));
        let file = blocking(move || {
            // `create_new` follows no link that somebody laid.
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        });
        Ok(Spill { file: Arc::new(file.await?), relations: Relations::default(), end: 0 })
    }

    /// Whether some can be written.
    pub(super) async fn has_room(&self) -> bool {
        let file = self.file.clone();
        // Not zeros: a file system may keep none of these.
        blocking(move || file.write_all_at(&vec![1; TRIAL_BYTES], 0)).await.is_ok()
    }

    /// Adds a fragment, all of it or none.
    pub(super) async fn write(&mut self, fragment: &Fragment) -> io::Result<()> {
        let body = encode(fragment, &mut self.relations);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&body);
        let (file, end, length) = (self.file.clone(), self.end, bytes.len() as u64);
        blocking(move || file.write_all_at(&bytes, end)).await?;
        // Only now: what was written in part is written over by the next.
        self.end += length;
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
