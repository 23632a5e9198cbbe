//! What can be told about a server from outside: its lock file, its process, and whether it answers.
//!
//! The lines of the lock file are those of `postmaster.pid` in the PostgreSQL documentation, section "Database File
//! Layout".

use std::{fs, io, net::Ipv4Addr, path::Path, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    process::Command,
    time::timeout,
};

/// The longest a server that is ready may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The length and code of a question for TLS, which every server answers before it knows who asks.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// A server as its lock file describes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) is_ready: bool,
}

impl Postmaster {
    /// Reads a lock file. One that is being written has no port yet, which reads as 0.
    pub(super) fn read(path: &Path) -> Option<Postmaster> {
        Postmaster::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Postmaster> {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok()?;
        let port = lines.get(3).and_then(|line| line.parse().ok()).unwrap_or(0);
        Some(Postmaster { pid, port, is_ready: lines.get(7) == Some(&"ready") })
    }
}

/// Who has a process id now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// Nobody.
    Gone,
    /// A PostgreSQL server.
    Server,
    /// Something else, or the remains of a server nobody waited for.
    Other,
}

/// Tells who has a process id.
pub(super) async fn process(pid: u32) -> Process {
    // The name stands in parentheses and may hold some itself; the state follows.
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self/stat").exists() => {
            return Process::Gone;
        }
        Err(_) => {
            let pid = pid.to_string();
            let output = Command::new("ps").args(["-o", "comm=", "-p", &pid]).output().await;
            let name = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            format!("{pid} ({}) S", name.trim().rsplit('/').next().unwrap_or_default())
        }
    };
    let (name, state) = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map_or(("", ""), |(name, rest)| (name, rest.trim_start()));
    match name {
        "" => Process::Gone,
        "postgres" if !state.starts_with('Z') => Process::Server,
        _ => Process::Other,
    }
}

/// Whether a server answers on a port of loopback.
pub(super) async fn answers_on_port(port: u16) -> bool {
    let ask = async { answers(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?).await };
    timeout(ANSWER_LIMIT, ask).await.is_ok_and(|answer: io::Result<bool>| answer.unwrap_or(false))
}

/// Whether a server answers on its socket in a directory.
pub(super) async fn answers_on_socket(directory: &Path, port: u16) -> bool {
    let ask = async { answers(UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?).await };
    timeout(ANSWER_LIMIT, ask).await.is_ok_and(|answer: io::Result<bool>| answer.unwrap_or(false))
}

async fn answers(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<bool> {
    stream.write_all(&SSL_REQUEST).await?;
    Ok(matches!(stream.read_u8().await?, b'S' | b'N'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_tells_process_port_and_state() {
        let text = "4711\n/data\n1700000000\n5433\n/tmp\n127.0.0.1\n  1234567    98\nready   \n";
        assert_eq!(Postmaster::parse(text), Some(Postmaster { pid: 4711, port: 5433, is_ready: true }));
        let text = text.replace("ready   ", "stopping");
        assert_eq!(Postmaster::parse(&text), Some(Postmaster { pid: 4711, port: 5433, is_ready: false }));
    }

    #[test]
    fn a_lock_file_cut_anywhere_is_never_ready() {
        let text = "4711\n/data\n1700000000\n5433\n/tmp\n127.0.0.1\n  1234567    98\nready";
        for end in 0..text.len() {
            assert!(!Postmaster::parse(&text[..end]).is_some_and(|found| found.is_ready), "{end}");
        }
    }

    #[tokio::test]
    async fn a_process_that_is_no_server_is_told_apart() {
        assert_eq!(process(std::process::id()).await, Process::Other);
        assert_eq!(process(u32::MAX - 1).await, Process::Gone);
    }
}
