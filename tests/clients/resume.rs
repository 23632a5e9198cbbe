//! `clients/js`, the transport that gives an unmodified supabase-js exact resume: its own tests, against a server that
//! does what a test says (`resume/`), and the real thing, under faults.

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::{process::Command, time::timeout};
use tokio_postgres::{Client, NoTls};
use walcast::devdb::{Cluster, ClusterOptions};

use super::script::Script;
use crate::line::setup::{PRELUDE, get, wait_for_stream};
use crate::support::json::Json;
use crate::support::postgres::{PASSWORD, binaries, connect, default_major, drive, new_directory};
use crate::support::server::Server;
use crate::wire::fixture::{self, ALICE, BOB};

const ROLES: &str =
    "create role anon; create role authenticated; create role service_role bypassrls; create role walcast;";
const FEED: &str = "create table feed(id bigint generated always as identity primary key, owner uuid);
    alter table feed enable row level security;
    create policy own on feed for select to authenticated using (owner is null or owner = (select auth.uid()));
    alter publication supabase_realtime add table feed;";

/// How long it may take until a client has caught up, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(35);

#[tokio::test(flavor = "multi_thread")]
async fn the_resuming_transport_keeps_its_promises_frame_by_frame() {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = ["memory", "socket", "library"].map(|name| tests.join(format!("clients/resume/{name}.test.mjs")));
    // The library leaves timers behind when it disconnects, which would keep Node for ten seconds.
    let run = Command::new(tests.join(".cache/bin/node"))
        .args(["--test", "--test-force-exit", "--test-reporter=spec"])
        .args(files)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = run.await.expect("Node is there: tests/setup installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let passed = said.lines().find_map(|line| line.strip_prefix("ℹ pass ")?.parse().ok()).unwrap_or(0);
    assert!(passed > 90, "not all of them ran: {said}");
}

/// A cluster that may be crashed, and a server on it that may be killed; both come back where they were.
struct Stage {
    cluster: Cluster,
    directory: PathBuf,
    server: Option<Server>,
    port: String,
}

impl Stage {
    async fn set() -> Stage {
        let cluster = start_cluster(new_directory(), None).await;
        let setup = format!("{ROLES} {PRELUDE} {FEED}");
        connect(&cluster.url("postgres")).await.batch_execute(&setup).await.expect("the tables can be made");
        let server = Server::start_at(&cluster.url("postgres"), "walcast", &[]).await;
        let port = server.address().rsplit(':').next().expect("a port").to_owned();
        Stage { directory: cluster.directory().to_owned(), cluster, server: Some(server), port }
    }

    fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it is started again whenever it was killed")
    }

    /// SIGKILL, and a new one at the same address.
    async fn kill_the_server(&mut self, settings: &[(&str, &str)]) {
        self.server = None;
        let settings = [settings, &[("PORT", self.port.as_str())]].concat();
        self.server = Some(Server::start_at(&self.url(), "walcast", &settings).await);
    }

    /// Postgres ends at once, without a checkpoint, and recovers.
    async fn crash_postgres(&mut self) {
        let pid = fs::read_to_string(self.directory.join("data/postmaster.pid")).expect("Postgres runs");
        let pid = pid.lines().next().expect("its process comes first");
        let sent = Command::new("kill").args(["-QUIT", pid]).status().await;
        assert!(sent.expect("kill is a program").success());
        self.cluster.ended().await.expect("it can be waited for");
        self.cluster = start_cluster(self.directory.clone(), Some(self.cluster.port())).await;
    }

    async fn end(self) {
        assert!(self.server.expect("it runs").stop().await.success());
        self.cluster.stop().await.expect("Postgres ends");
        fs::remove_dir_all(self.directory).expect("the directory is ours");
    }

    /// What somebody may see behind an id, from the database.
    async fn visible(&self, owner: &str, behind: i64) -> Vec<i64> {
        let client = connect(&self.url()).await;
        let sql =
            format!("select id from feed where (owner is null or owner = '{owner}') and id > {behind} order by id");
        client.query(&sql, &[]).await.expect("the table is there").iter().map(|row| row.get(0)).collect()
    }
}

async fn start_cluster(directory: impl AsRef<Path>, port: Option<u16>) -> Cluster {
    let mut options = ClusterOptions::new(binaries(default_major()).await, directory.as_ref());
    options.password = Some(PASSWORD.to_owned());
    options.port = port;
    Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A transaction with a row for each of the two, and one for both; the last is its id.
async fn write(client: &Client) -> Result<i64, tokio_postgres::Error> {
    let sql = format!("insert into feed(owner) values ('{ALICE}'), ('{BOB}'), (null) returning id");
    Ok(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).max().expect("three rows"))
}

/// Writes, one transaction after the other, whatever becomes of Postgres meanwhile.
async fn keep_writing(url: &str, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            drive(async {
                let _ = connection.await;
            });
            while !is_over.load(Ordering::Relaxed) && write(&client).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn driver(server: &Server, user: &str, vsn: &str, websocket: &str) -> Script {
    let environment = [
        ("WALCAST_URL", server.url()),
        ("WALCAST_KEY", fixture::token(user)),
        ("WALCAST_VSN", vsn.to_owned()),
        ("WALCAST_WEBSOCKET", websocket.to_owned()),
    ];
    Script::start("resume/driver.mjs", &environment)
}

/// What came since it was asked last, once this one has come.
async fn until(script: &mut Script, id: i64) -> Vec<i64> {
    script.tell(&json!({"do": "until", "id": id})).await;
    let said = script.expect(&format!("number {id}"), |event| event.has("rows")).await;
    said.at("rows").elements().iter().filter_map(Json::as_i64).collect()
}

/// One of the two, with everything it was given so far.
struct Reader {
    owner: &'static str,
    script: Script,
    rows: Vec<i64>,
}

impl Reader {
    async fn start(stage: &Stage, (user, owner): (&str, &'static str), vsn: &str, websocket: &str) -> Reader {
        let mut script = driver(stage.server(), user, vsn, websocket);
        script.tell(&json!({"do": "subscribe", "channel": "feed", "table": "feed"})).await;
        let begun = script.expect("the subscription", |event| event.has("system")).await;
        assert_eq!(*begun.at("system").at("message"), "Subscribed to PostgreSQL", "{begun}");
        Reader { owner, script, rows: Vec::new() }
    }

    async fn tell(&mut self, what: &str) {
        self.script.tell(&json!({ "do": what })).await;
    }

    /// Waits for a row and collects everything up to there.
    async fn until(&mut self, id: i64) {
        self.rows.extend(until(&mut self.script, id).await);
    }

    fn gaps(&mut self) -> Vec<Json> {
        self.script.rest().into_iter().filter(|event| event.has("gap")).collect()
    }
}

/// Both have heard of everything up to now.
async fn catch_up(stage: &Stage, readers: &mut [Reader]) {
    let row = connect(&stage.url()).await.query_one("select max(id) from feed where owner is null", &[]).await;
    let last: i64 = row.expect("the table is there").get(0);
    for reader in readers {
        if timeout(PATIENCE, reader.until(last)).await.is_err() {
            let (_, health) = get(stage.server(), "/health").await;
            let (said, log) = (reader.script.rest(), stage.server().log().join("\n"));
            panic!("row {last} did not come to {}; it was told {said:?}\n{health}\n{log}", reader.owner);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_gets_every_change_once_and_in_order_whatever_fails() {
    let mut stage = Stage::set().await;
    wait_for_stream(stage.server()).await;
    let alice = Reader::start(&stage, ("alice", ALICE), "1.0.0", "ws").await;
    let bob = Reader::start(&stage, ("bob", BOB), "2.0.0", "node").await;
    let mut readers = [alice, bob];
    let is_over = AtomicBool::new(false);
    let url = stage.url();
    write(&connect(&url).await).await.expect("Postgres runs");
    let faults = async {
        for round in 0..6 {
            for reader in &mut readers {
                reader.tell("cut").await;
            }
            if round % 3 == 2 {
                catch_up(&stage, &mut readers).await;
            } else {
                // Amid whatever it is doing: joining, catching up, or live.
                tokio::time::sleep(Duration::from_millis(90 + 70 * round)).await;
            }
        }
        for _ in 0..2 {
            stage.kill_the_server(&[]).await;
            catch_up(&stage, &mut readers).await;
        }
        stage.crash_postgres().await;
        readers[0].tell("cut").await;
        catch_up(&stage, &mut readers).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(keep_writing(&url, &is_over), faults);
    catch_up(&stage, &mut readers).await;
    for reader in &mut readers {
        let expected = stage.visible(reader.owner, 0).await;
        assert!(expected.len() > 50, "little was written: {}", expected.len());
        assert_eq!(reader.rows, expected);
        assert!(reader.gaps().is_empty());
    }

    // What is too old to come back to is told as a gap, and what is new follows.
    for reader in &mut readers {
        reader.tell("shut").await;
    }
    stage.kill_the_server(&[("WALCAST_BACKLOG_BYTES", "4000")]).await;
    wait_for_stream(stage.server()).await;
    let client = connect(&stage.url()).await;
    let mut last = 0;
    for _ in 0..40 {
        last = write(&client).await.expect("Postgres runs");
    }
    for reader in &mut readers {
        reader.rows.clear();
        reader.tell("open").await;
        let told = reader.script.expect("a gap", |event| event.has("gap")).await;
        assert_eq!(*told.at("gap").at("topic"), "realtime:feed", "{told}");
        assert!(told.at("gap").at("reason").as_str().is_some_and(|reason| reason.contains("too old")), "{told}");
    }
    write(&client).await.expect("Postgres runs");
    catch_up(&stage, &mut readers).await;
    for reader in &mut readers {
        reader.tell("cut").await;
    }
    write(&client).await.expect("Postgres runs");
    catch_up(&stage, &mut readers).await;
    for mut reader in readers {
        assert_eq!(reader.rows, stage.visible(reader.owner, last).await);
        assert!(reader.gaps().is_empty());
        reader.script.end().await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_hears_what_was_broadcast_while_it_was_away_and_nothing_twice() {
    let stage = super::private::stage().await;
    let say = async |numbers: RangeInclusive<i64>| {
        for number in numbers {
            let payload = json!({ "number": number });
            stage.sql(&format!("select realtime.send('{payload}', 'news', 'team')")).await;
        }
    };
    let config = json!({"private": true, "broadcast": {"replay": {"since": 1}}});
    let join = json!({"do": "subscribe", "channel": "team", "config": config});
    let joined = |event: &Json| *event.at("status") == "SUBSCRIBED";
    let mut readers = [("1.0.0", "node"), ("2.0.0", "ws")].map(|(vsn, ws)| driver(&stage.server, "alice", vsn, ws));
    for reader in &mut readers {
        reader.tell(&join).await;
        reader.expect("the join", joined).await;
    }
    say(1..=3).await;
    for reader in &mut readers {
        assert_eq!(until(reader, 3).await, [1, 2, 3]);
        reader.tell(&json!({"do": "shut"})).await;
    }
    say(4..=6).await;
    for reader in &mut readers {
        reader.tell(&json!({"do": "open"})).await;
        reader.expect("the next join", joined).await;
    }
    say(7..=9).await;
    for mut reader in readers {
        assert_eq!(until(&mut reader, 9).await, [4, 5, 6, 7, 8, 9]);
        reader.end().await;
    }
    stage.server.stop().await;
}
