//! The server under test, as its own process.

use super::{postgres::Database, written::Written};
use serde_json::Value;
use std::{
    env,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// For a machine that has much else to do.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A running `walcast serve`. Killed when dropped.
pub struct Server {
    address: String,
    child: Child,
    guard: Child,
    log: Written,
}

impl Server {
    /// Starts a server for a database, as role `walcast`, and waits until it listens. `extra` adds to its environment
    /// or replaces what is there.
    pub async fn start(database: &Database, extra: &[(&str, &str)]) -> Server {
        Server::start_at(&database.walcast_url(), &database.slot(), extra).await
    }

    /// The same for any connection string and slot.
    pub async fn start_at(url: &str, slot: &str, extra: &[(&str, &str)]) -> Server {
        let log = Written::new();
        let child = command(url, slot, extra).stderr(log.target()).spawn().expect("the server's program was built");
        let guard = guard(child.id());
        let mut server = Server { address: String::new(), child, guard, log };
        let start = Instant::now();
        loop {
            let has_ended = server.child.try_wait().expect("it can be asked").is_some();
            let log = server.log();
            if let Some(address) = log.iter().find_map(|line| address(line)) {
                server.address = address;
                break;
            }
            assert!(!has_ended, "the server ended instead of listening:\n{}", log.join("\n"));
            let is_late = start.elapsed() > START_LIMIT;
            assert!(!is_late, "the server does not listen after {START_LIMIT:?}:\n{}", log.join("\n"));
            tokio::time::sleep(POLL).await;
        }
        server
    }

    /// What a server says that refuses to start.
    pub async fn refusal(url: &str, slot: &str) -> String {
        let mut command = tokio::process::Command::from(command(url, slot, &[]));
        let output = tokio::time::timeout(START_LIMIT, command.kill_on_drop(true).output()).await;
        let output = output.expect("it ends by itself").expect("the server's program was built");
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The host and port it listens on.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its base URL, as a client is given it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where a client's WebSocket connects.
    pub fn websocket_url(&self, vsn: &str, token: &str) -> String {
        websocket_url_at(&self.address, vsn, token)
    }

    /// Its log so far, line by line.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as a service manager does, and waits for that.
    pub async fn stop(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is a program").success(), "the server had ended already:\n{}", self.log().join("\n"));
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < STOP_LIMIT, "the server does not end:\n{}", self.log().join("\n"));
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Where a client's WebSocket connects to a server at this address.
pub fn websocket_url_at(address: &str, vsn: &str, token: &str) -> String {
    format!("ws://{address}/realtime/v1/websocket?apikey={token}&vsn={vsn}")
}

fn command(url: &str, slot: &str, extra: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WALCAST_")) {
        command.env_remove(name);
    }
    command
        .arg("serve")
        .env("DATABASE_URL", url)
        .env("JWT_SECRET", super::token::SECRET)
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("WALCAST_LOG_FORMAT", "json")
        .env("WALCAST_SLOT", slot)
        .env("WALCAST_JOIN_ERROR_DELAY_MS", "0")
        .env("WALCAST_CONNECT_ERROR_DELAY_MS", "0")
        .envs(extra.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if url.is_empty() {
        // A file has it.
        command.env_remove("DATABASE_URL");
    }
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guard first: after the server is waited for, its process id may be another's.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the server when this process is gone, which closes the guard's standard input.
fn guard(pid: u32) -> Child {
    Command::new("sh")
        .args(["-c", "read -r _; kill -KILL \"$1\"", "guard", &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh is a program")
}

/// The address in the record that says that the server listens.
fn address(line: &str) -> Option<String> {
    let record: Value = serde_json::from_str(line).ok()?;
    // tracing's JSON keeps fields below "fields" unless they are flattened.
    let fields = record.get("fields").unwrap_or(&record);
    let listening = fields.get("message")? == "listening";
    listening.then(|| fields.get("address")?.as_str().map(str::to_owned)).flatten()
}
