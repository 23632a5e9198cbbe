//! Sets up a database cluster in a directory, starts its server, and stops it.
//!
//! The directory holds the data, the superuser's password, the log of the latest start, and, if its path is short
//! enough, the server's Unix socket. The server listens on loopback only and wants a password from everybody. It runs
//! under `supervise.sh`, so it ends with this process however that ends.

use super::{
    account::{self, Account, AccountError, Place},
    install::Binaries,
    postmaster::{self, Postmaster},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep, timeout},
};

/// The superuser of every cluster made here.
pub const SUPERUSER: &str = "postgres";

/// The longest that making a cluster, starting it (a crashed one first replays its log) and stopping it may take.
const INITDB_LIMIT: Duration = Duration::from_secs(120);
const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// How data are named while they are made; the process that makes them follows.
const FRESH: &str = "data.";

/// How often another port is tried when somebody takes the chosen one first.
const PORT_ATTEMPTS: usize = 5;

/// A development server could not be set up, started or stopped.
#[derive(Debug, Error)]
pub enum RunError {
    /// No user or directory for it.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The user it must run as cannot reach the programs.
    #[error("the programs in {} cannot be run by the user the server must run as: name an installation that everybody can reach", .0.display())]
    Unreachable(PathBuf),
    /// The data were made by another major version.
    #[error("the data in {} are of PostgreSQL {theirs}, and the programs found are of {ours}: name an installation of {theirs}, or move the data away", path.display())]
    OtherMajor {
        /// The directory of the cluster.
        path: PathBuf,
        /// The version of the data.
        theirs: String,
        /// The version of the programs.
        ours: u32,
    },
    /// The password belonging to the data is gone.
    #[error("the password of the data in {} cannot be read: restore the file, or move the data away", path.parent().unwrap_or(path).display())]
    Password {
        /// The file that should hold it.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// `initdb` did not do its work.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server ended instead of starting, or did not get ready in time.
    #[error("the development server did not start: {reason} (its log: {})", log.display())]
    Start {
        /// What its log says.
        reason: String,
        /// Where the whole log is.
        log: PathBuf,
    },
    /// The server is still there after it was told to end.
    #[error("the development server did not stop in time")]
    Stop,
    /// Something around it failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Io { what, source }
}

/// What to run, and where.
#[derive(Clone)]
pub struct ClusterOptions {
    /// The programs.
    pub binaries: Binaries,
    /// The directory of the cluster; made if missing, and another one if root's server cannot use it.
    pub directory: PathBuf,
    /// The port to prefer; a free one is taken when it is none or taken.
    pub port: Option<u16>,
    /// Server settings beyond those needed here.
    pub settings: Vec<(String, String)>,
    /// The superuser's password for a new cluster; a random one if none.
    pub password: Option<String>,
    /// Whether the whole directory goes when the server ends, so that nothing needs to be safe on disk.
    pub ephemeral: bool,
}

impl ClusterOptions {
    /// A cluster in `directory` with nothing special about it.
    pub fn new(binaries: Binaries, directory: impl Into<PathBuf>) -> ClusterOptions {
        let directory = directory.into();
        ClusterOptions { binaries, directory, port: None, settings: Vec::new(), password: None, ephemeral: false }
    }
}

/// A running server. Dropping it makes the server end soon; `stop` also waits for that.
pub struct Cluster {
    directory: PathBuf,
    moved: bool,
    port: u16,
    socket_directory: PathBuf,
    password: String,
    /// None for a server that ran already.
    own: Option<Supervisor>,
}

struct Supervisor {
    child: Child,
    /// Its closing tells the supervisor to stop the server.
    lifeline: ChildStdin,
}

impl Cluster {
    /// Starts the cluster of a directory, after making it if it is new. A server that runs there already is taken.
    pub async fn start(options: ClusterOptions) -> Result<Cluster, RunError> {
        let place = account::place(&options.directory).await?;
        let setup =
            Setup { data: place.directory.join("data"), log: place.directory.join("postgres.log"), options, place };
        setup.check_programs().await?;
        let password = setup.password()?;
        if !setup.data.join("PG_VERSION").exists() {
            setup.initdb().await?;
        }
        setup.check_version()?;
        let socket_directory = account::socket_directory(setup.place.account, &setup.place.directory)?;
        let (port, own) = setup.run(&socket_directory).await?;
        let Place { directory, moved, .. } = setup.place;
        Ok(Cluster { directory, moved, port, socket_directory, password, own })
    }

    /// The directory of the cluster.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether that is another directory than the one wished for, which the server's user cannot reach.
    pub fn is_moved(&self) -> bool {
        self.moved
    }

    /// Whether the server ran already; then it is not ours to stop.
    pub fn is_reused(&self) -> bool {
        self.own.is_none()
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A connection string of the superuser for a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{}",
            percent_encoded(&self.password),
            self.port,
            percent_encoded(database)
        )
    }

    /// Waits until the server ends by itself; for ever if it is not ours.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.own {
            Some(supervisor) => supervisor.child.wait().await,
            None => std::future::pending().await,
        }
    }

    /// Stops the server and waits until it is gone. Connections still open are cut. One that ran already goes on.
    pub async fn stop(self) -> Result<(), RunError> {
        let Some(Supervisor { mut child, lifeline }) = self.own else { return Ok(()) };
        drop(lifeline);
        timeout(STOP_LIMIT, child.wait())
            .await
            .map_err(|_| RunError::Stop)?
            .map_err(io_error("wait for the server"))?;
        Ok(())
    }
}

/// What the steps of a start share.
struct Setup {
    options: ClusterOptions,
    place: Place,
    data: PathBuf,
    log: PathBuf,
}

impl Setup {
    async fn check_programs(&self) -> Result<(), RunError> {
        for name in ["postgres", "initdb"] {
            if !self.place.account.can_enter(&self.options.binaries.program(name)).await {
                return Err(RunError::Unreachable(self.options.binaries.bin_dir.clone()));
            }
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), RunError> {
        let theirs = fs::read_to_string(self.data.join("PG_VERSION")).map_err(io_error("read the data's version"))?;
        let (theirs, ours) = (theirs.trim().to_owned(), self.options.binaries.major);
        if theirs == ours.to_string() {
            return Ok(());
        }
        Err(RunError::OtherMajor { path: self.place.directory.clone(), theirs, ours })
    }

    /// The password in its file; without data, a new one is written there.
    fn password(&self) -> Result<String, RunError> {
        let path = self.place.directory.join("password");
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim_end().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.data.exists() => {}
            Err(source) => return Err(RunError::Password { path, source }),
        }
        let password = match &self.options.password {
            Some(password) => password.clone(),
            None => random_password().map_err(io_error("make a password"))?,
        };
        self.write_private(&path, &password).map_err(io_error("write the password's file"))?;
        Ok(password)
    }

    /// Writes a file that only the server's user can read.
    fn write_private(&self, path: &Path, text: &str) -> io::Result<()> {
        // A new file, never one that a link of somebody else leads to.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        if let Account::Other { uid, gid } = self.place.account {
            fchown(&file, Some(uid), Some(gid))?;
        }
        writeln!(file, "{text}")?;
        file.sync_all()
    }

    /// Makes the data under another name first, so that an interrupted attempt is never taken for a cluster.
    async fn initdb(&self) -> Result<(), RunError> {
        self.remove_leftovers().await;
        let fresh = self.place.directory.join(format!("{FRESH}{}", std::process::id()));
        let mut complaint = String::new();
        // Not every system has C.UTF-8; C orders by bytes just as well, and only letters beyond ASCII lose their case.
        for locale in ["C.UTF-8", "C"] {
            let mut command = Command::new(self.options.binaries.program("initdb"));
            command
                .arg("--pgdata")
                .arg(&fresh)
                .arg("--pwfile")
                .arg(self.place.directory.join("password"))
                .args(["--username", SUPERUSER, "--encoding", "UTF8", "--locale", locale, "--lc-messages", "C"])
                .args(["--auth-local", "scram-sha-256", "--auth-host", "scram-sha-256"])
                .args(self.options.ephemeral.then_some("--no-sync"))
                .current_dir(&self.place.directory)
                .stdin(Stdio::null())
                .kill_on_drop(true);
            self.place.account.apply(&mut command);
            let output = timeout(INITDB_LIMIT, command.output())
                .await
                .map_err(|_| RunError::Initdb("it took too long".to_owned()))?
                .map_err(io_error("run initdb"))?;
            if output.status.success() {
                return self.move_into_place(&fresh);
            }
            complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            if !complaint.contains("locale") {
                break;
            }
        }
        Err(RunError::Initdb(complaint))
    }

    fn move_into_place(&self, fresh: &Path) -> Result<(), RunError> {
        let Err(error) = fs::rename(fresh, &self.data) else { return Ok(()) };
        // Another process made the cluster meanwhile, with the same password.
        if self.data.join("PG_VERSION").exists() {
            return fs::remove_dir_all(fresh).map_err(io_error("remove data that are not needed"));
        }
        Err(RunError::Io { what: "move the new data into place", source: error })
    }

    /// Removes what attempts left that were interrupted; best effort.
    async fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.place.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(FRESH)?.parse().ok()) else { continue };
            if postmaster::process(pid).await == postmaster::Process::Gone {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Takes the server that runs on the data, else starts one.
    async fn run(&self, sockets: &Path) -> Result<(u16, Option<Supervisor>), RunError> {
        let deadline = Instant::now() + START_LIMIT;
        let mut port = free_port(self.options.port).map_err(io_error("find a free port"))?;
        for _ in 0..PORT_ATTEMPTS {
            if let Some(port) = self.running(sockets, deadline).await? {
                return Ok((port, None));
            }
            match self.launch(sockets, port, deadline).await? {
                Some(supervisor) => return Ok((port, Some(supervisor))),
                None => port = free_port(None).map_err(io_error("find a free port"))?,
            }
        }
        Err(self.start_error("every port that was tried was taken"))
    }

    /// The port of the server that runs on the data already; waits for one that is just starting or stopping.
    async fn running(&self, sockets: &Path, deadline: Instant) -> Result<Option<u16>, RunError> {
        let file = self.data.join("postmaster.pid");
        while let Some(found) = Postmaster::read(&file) {
            match postmaster::process(found.pid).await {
                // Postgres itself clears the file, after a look at what else may be left of the old server.
                postmaster::Process::Gone => return Ok(None),
                // The number went to another process, which Postgres would take for a server.
                postmaster::Process::Other => {
                    fs::remove_file(&file).map_err(io_error("remove the lock file of a crashed server"))?;
                }
                postmaster::Process::Server => {
                    // Only this cluster's server has its socket in this directory.
                    if found.is_ready && postmaster::answers_on_socket(sockets, found.port).await {
                        return Ok(Some(found.port));
                    }
                }
            }
            if Instant::now() > deadline {
                return Err(self.start_error("another server on the same data neither answers nor ends"));
            }
            sleep(POLL).await;
        }
        Ok(None)
    }

    /// Starts a server and waits until it takes connections. None when somebody took the port, or the data, first.
    async fn launch(&self, sockets: &Path, port: u16, deadline: Instant) -> Result<Option<Supervisor>, RunError> {
        // Kept from the latest start only, so it cannot grow for ever.
        let _ = fs::remove_file(&self.log);
        let mut command = self.command(sockets, port);
        let mut child = command.spawn().map_err(io_error("run sh"))?;
        let lifeline = child.stdin.take().expect("stdin was asked for");
        let stdout = child.stdout.take().expect("stdout was asked for");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.map_err(io_error("read the server's process id"))?;
        let pid: Option<u32> = line.trim().parse().ok();
        loop {
            if child.try_wait().map_err(io_error("look after the server"))?.is_some() {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                if log.contains("Address already in use") || log.contains("lock file \"postmaster.pid\" already exists")
                {
                    return Ok(None);
                }
                let fatal = log.lines().rev().find_map(|line| line.split_once("FATAL:"));
                return Err(self.start_error(fatal.map_or("it ended at once", |(_, message)| message.trim())));
            }
            if let Some(found) = Postmaster::read(&self.data.join("postmaster.pid"))
                && Some(found.pid) == pid
                && found.is_ready
                && postmaster::answers_on_port(port).await
            {
                return Ok(Some(Supervisor { child, lifeline }));
            }
            if Instant::now() > deadline {
                return Err(self.start_error("it was not ready in time"));
            }
            sleep(POLL).await;
        }
    }

    fn command(&self, sockets: &Path, port: u16) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(include_str!("supervise.sh")).arg("supervise").arg(&self.log);
        command.arg(if self.options.ephemeral { self.place.directory.as_path() } else { Path::new("") });
        command.arg(self.options.binaries.program("postgres")).arg("-D").arg(&self.data);
        let sockets = format!("\"{}\"", sockets.display().to_string().replace('"', "\"\""));
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port.to_string()),
            ("unix_socket_directories", &sockets),
            ("unix_socket_permissions", "0700"),
            ("wal_level", "logical"),
        ];
        let theirs = self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ours.into_iter().chain(theirs) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // A group of its own: Ctrl-C in a terminal is for this process, which then stops the server in its own order.
        command.process_group(0).current_dir(&self.place.directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        self.place.account.apply(&mut command);
        command
    }

    fn start_error(&self, reason: &str) -> RunError {
        RunError::Start { reason: reason.to_owned(), log: self.log.clone() }
    }
}

/// The preferred port if it is free, else any that is.
fn free_port(preferred: Option<u16>) -> io::Result<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match preferred.map(bind) {
        Some(Ok(listener)) => listener,
        _ => bind(0)?,
    };
    Ok(listener.local_addr()?.port())
}

/// 192 random bits that need no quoting anywhere.
fn random_password() -> io::Result<String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
