//! `pg_recvlogical` on the same stream: what a reader without filters, rights and sockets gets.

use crate::{
    board::{Board, Histogram, histogram, number_after},
    support::postgres::{Database, connect},
};
use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
};

const SLOT: &str = "bench_reference";

/// The program: next to the server's programs, else Debian's.
pub(crate) fn program(bin_dir: &Path) -> Option<PathBuf> {
    let places = [bin_dir.to_owned(), PathBuf::from("/usr/lib/postgresql/15/bin")];
    places.into_iter().map(|place| place.join("pg_recvlogical")).find(|program| program.is_file())
}

/// A reader that runs.
pub(crate) struct Reference {
    child: Child,
    url: String,
    latencies: Arc<Histogram>,
}

impl Reference {
    /// Starts it. With `counts`, what it reads counts as arrivals of the step; otherwise it only has its own figures.
    pub(crate) async fn start(program: &Path, database: &Database, board: &Arc<Board>, counts: bool) -> Reference {
        let client = connect(&database.url).await;
        client
            .execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&SLOT])
            .await
            .expect("a slot is free");
        let mut child = Command::new(program)
            .args(["--start", "--no-loop", "--slot", SLOT, "--dbname", &database.url, "--file", "-"])
            .args(["--option", "proto_version=1", "--option", "publication_names=supabase_realtime"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pg_recvlogical starts");
        let mut output = child.stdout.take().expect("stdout was asked for");
        let latencies = Arc::new(histogram());
        let (board, own) = (board.clone(), latencies.clone());
        thread::spawn(move || {
            let (mut buffer, mut kept) = (vec![0; 1 << 20], Vec::new());
            while let Ok(read) = output.read(&mut buffer) {
                if read == 0 {
                    return;
                }
                kept.extend_from_slice(&buffer[..read]);
                let mut rest = &kept[..];
                while let Some((id, behind)) = number_after(rest, b"<change ") {
                    rest = behind;
                    board.arrive_at(id, &own);
                    if counts {
                        board.arrive(id);
                    }
                }
                kept = rest.to_vec();
            }
            if counts {
                board.broken.fetch_add(1, Relaxed);
            }
        });
        let reference = Reference { child, url: database.url.clone(), latencies };
        reference.until_active(true).await;
        reference
    }

    async fn until_active(&self, wanted: bool) {
        let client = connect(&self.url).await;
        for _ in 0..1000 {
            let row = client.query_one("select active from pg_replication_slots where slot_name = $1", &[&SLOT]).await;
            if row.expect("the slot is there").get::<_, bool>(0) == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("pg_recvlogical does not start or end");
    }

    pub(crate) fn latencies(&self) -> &Histogram {
        &self.latencies
    }

    /// Ends it and takes its slot away.
    pub(crate) async fn stop(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.until_active(false).await;
        let client = connect(&self.url).await;
        client.execute("select pg_drop_replication_slot($1)", &[&SLOT]).await.expect("the slot is idle");
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
