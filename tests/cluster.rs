//! A throwaway Postgres cluster of one test's own: roles belong to the cluster, so a test about roles cannot share.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio_postgres::Client;
use walcast::pg::Target;

pub struct Cluster {
    server: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let run = |program: &str| {
            let mut command = Command::new(bin().join(program));
            if let Some((uid, gid)) = other_user() {
                command.uid(uid).gid(gid);
            }
            command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
            command
        };
        if let Some((uid, gid)) = other_user() {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).unwrap();
        }
        let made =
            run("initdb").args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]).arg(&data).status();
        assert!(made.unwrap().success(), "initdb failed");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = run("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-c", "wal_level=logical", "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "shared_buffers=32MB", "-c", "unix_socket_directories=", "-p", &port.to_string()])
            .spawn()
            .unwrap();
        let cluster = Cluster { server, port, _directory: directory };
        let limit = Instant::now() + Duration::from_secs(30);
        while let Err(error) = cluster.target("postgres", "postgres").connect("test").await {
            assert!(Instant::now() < limit, "the cluster does not start: {error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster
    }

    pub fn target(&self, user: &str, database: &str) -> Target {
        Target::parse(&format!("postgresql://{user}@127.0.0.1:{}/{database}?sslmode=disable", self.port)).unwrap()
    }

    pub async fn connect(&self, user: &str, database: &str) -> Client {
        self.target(user, database).connect("test").await.unwrap()
    }

    /// The superuser in database `postgres`.
    pub async fn superuser(&self) -> Client {
        self.connect("postgres", "postgres").await
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn bin() -> PathBuf {
    match std::env::var_os("WALCAST_TEST_PG_BIN") {
        Some(path) => path.into(),
        None => "/usr/local/bin".into(),
    }
}

/// Postgres refuses root: then the owner of a well-known account runs it.
fn other_user() -> Option<(u32, u32)> {
    let id = |flag: &str, name: &[&str]| -> u32 {
        let answer = Command::new("id").arg(flag).args(name).output().unwrap();
        String::from_utf8(answer.stdout).unwrap().trim().parse().unwrap()
    };
    (id("-u", &[]) == 0).then(|| (id("-u", &["postgres"]), id("-g", &["postgres"])))
}
