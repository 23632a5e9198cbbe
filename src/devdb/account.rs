//! Which user a development server runs as, and in which directory.
//!
//! Postgres refuses to run as root. So for root the server gets another user, and a directory which that user can
//! enter: the one wished for, or one below `/var/lib/walcast` when the project lies in a home closed to others.

use sha2::{Digest, Sha256};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, lchown},
    path::{Path, PathBuf},
    process::Stdio,
};
use thiserror::Error;
use tokio::process::Command;

/// Where root's development servers live when their project is closed to other users.
const OUTSIDE: &str = "/var/lib/walcast";

/// No user or no directory for a server could be had.
#[derive(Debug, Error)]
pub enum AccountError {
    /// The program that tells users and groups could not be run.
    #[error("cannot tell the current user with the program id")]
    Id(#[source] io::Error),
    /// Root has nobody to hand the server to.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody: start as another user"
    )]
    Nobody,
    /// The directory could not be made or given away.
    #[error("cannot set up the directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is there, and not something a server can live in.
    #[error("{} is not a directory that a database server can use as its own: move it away", .0.display())]
    Foreign(PathBuf),
}

/// The user a server and its helpers run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever runs this process.
    Own,
    /// Another one; this process is root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// The user for a server in `directory`: root takes the one who owns it already, else `postgres`, else `nobody`.
    pub(super) async fn choose(directory: &Path) -> Result<Account, AccountError> {
        if id("-u", None).await? != Some(0) {
            return Ok(Account::Own);
        }
        if let Ok(metadata) = fs::symlink_metadata(directory)
            && metadata.uid() != 0
        {
            return Ok(Account::Other { uid: metadata.uid(), gid: metadata.gid() });
        }
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", Some(name)).await?, id("-g", Some(name)).await?) {
                return Ok(Account::Other { uid, gid });
            }
        }
        Err(AccountError::Nobody)
    }

    /// Makes `command` run as this user, with no other groups than its own.
    pub(super) fn apply(self, command: &mut Command) {
        if let Account::Other { uid, gid } = self {
            // Setting the user as root clears the supplementary groups too.
            command.uid(uid).gid(gid);
        }
    }

    /// Whether this user can run or enter `path`.
    pub(super) async fn can_enter(self, path: &Path) -> bool {
        let mut command = Command::new("test");
        command.arg("-x").arg(path).current_dir("/");
        self.apply(&mut command);
        command.status().await.is_ok_and(|status| status.success())
    }

    /// Makes a directory that only this user can use, or takes the one that is there.
    pub(super) fn make_private(self, path: &Path) -> Result<(), AccountError> {
        let failed = |source| AccountError::Directory { path: path.to_owned(), source };
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give(path).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = fs::symlink_metadata(path).map_err(failed)?;
                let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
                match self {
                    _ if !metadata.is_dir() => Err(AccountError::Foreign(path.to_owned())),
                    Account::Other { uid, .. } if metadata.uid() == uid => Ok(()),
                    Account::Other { .. } if metadata.uid() == 0 && is_empty() => self.give(path).map_err(failed),
                    Account::Other { .. } => Err(AccountError::Foreign(path.to_owned())),
                    Account::Own => Ok(()),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn give(self, path: &Path) -> io::Result<()> {
        match self {
            Account::Own => Ok(()),
            Account::Other { uid, gid } => lchown(path, Some(uid), Some(gid)),
        }
    }
}

/// A server's user and directory.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) account: Account,
    pub(super) directory: PathBuf,
    /// Whether it is another directory than the one wished for.
    pub(super) moved: bool,
}

/// Decides on user and directory, and makes the directory.
pub(super) async fn place(wish: &Path) -> Result<Place, AccountError> {
    let wish = absolute(wish)?;
    let account = Account::choose(&wish).await?;
    if account == Account::Own || account.can_enter(nearest_existing(&wish)).await {
        make_parents(&wish)?;
        let made = account.make_private(&wish);
        // A umask can close the parents just made.
        if account == Account::Own || made.is_err() || account.can_enter(&wish).await {
            return made.map(|()| Place { account, directory: wish, moved: false });
        }
        // Best effort: only an empty directory goes.
        let _ = fs::remove_dir(&wish);
    }
    let directory = Path::new(OUTSIDE).join(short_hash(&wish));
    let account = Account::choose(&directory).await?;
    make_parents(&directory)?;
    account.make_private(&directory)?;
    Ok(Place { account, directory, moved: true })
}

/// A directory for Unix sockets whose path is short enough for their addresses, owned by `account` alone.
pub(super) fn socket_directory(account: Account, directory: &Path) -> Result<PathBuf, AccountError> {
    // 103 bytes is the least any supported system takes, the socket's own name is at most 15 of them.
    if directory.as_os_str().len() + "/.s.PGSQL.65535".len() <= 103 {
        return Ok(directory.to_owned());
    }
    let short = Path::new("/tmp").join(format!("walcast-{}", short_hash(directory)));
    account.make_private(&short)?;
    // Anybody can make directories in /tmp: one of somebody else, or an open one, is not ours.
    let owner = |path: &Path| {
        fs::symlink_metadata(path).map_err(|source| AccountError::Directory { path: path.to_owned(), source })
    };
    let (theirs, ours) = (owner(&short)?, owner(directory)?);
    if theirs.uid() != ours.uid() || theirs.mode() & 0o077 != 0 {
        return Err(AccountError::Foreign(short));
    }
    Ok(short)
}

fn absolute(path: &Path) -> Result<PathBuf, AccountError> {
    std::path::absolute(path).map_err(|source| AccountError::Directory { path: path.to_owned(), source })
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn make_parents(path: &Path) -> Result<(), AccountError> {
    let parent = path.parent().unwrap_or(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(|source| AccountError::Directory { path: parent.to_owned(), source })
}

/// Twelve hexadecimal digits that stand for a path.
fn short_hash(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// A number of the current or the named user; none when there is no such user.
async fn id(what: &str, name: Option<&str>) -> Result<Option<u32>, AccountError> {
    let mut command = Command::new("id");
    command.arg(what).args(name).stdin(Stdio::null());
    let output = command.output().await.map_err(AccountError::Id)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_for_a_socket_gets_a_short_directory() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        let short = socket_directory(Account::Own, &long).unwrap();
        assert!(short.as_os_str().len() < 40, "{}", short.display());
        assert_eq!(socket_directory(Account::Own, &long).unwrap(), short, "the same directory every time");
        fs::remove_dir(&short).unwrap();
        assert_eq!(socket_directory(Account::Own, root.path()).unwrap(), root.path());
    }

    #[test]
    fn a_link_in_the_place_of_the_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(matches!(Account::Own.make_private(&link), Err(AccountError::Foreign(_))));
    }
}
