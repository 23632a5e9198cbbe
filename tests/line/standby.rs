//! Two servers on one slot: one streams, the other one waits, and what a client that resumes hears through both is exactly
//! what was written.

use super::setup::{all_of, database, get, items, problem, wait_for_health, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{Database, Postgres, drive},
    server::Server,
    socket::{Heard, Message, Socket},
    token::alice,
    wait::until,
};
use serde_json::{Value, json};
use std::{
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "realtime:line";
/// How long it may take until another server has taken over: seconds where the machine has nothing else to do, and in any
/// case less than `wal_sender_timeout`, after which Postgres itself gives a reader up.
const TAKEOVER: Duration = Duration::from_secs(45);

/// A client that goes on where it was, on whatever server it is sent to.
struct Follower {
    /// The cursor of what it heard last.
    cursor: Value,
    /// The keys of the rows it was told of, in order.
    heard: Vec<i64>,
    socket: Option<Socket>,
}

impl Follower {
    fn new() -> Follower {
        Follower { cursor: true.into(), heard: Vec::new(), socket: None }
    }

    /// Joins on a server; whether it could go on where it was.
    async fn join(&mut self, server: &Server) -> bool {
        let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
        let options = json!({"resume": self.cursor});
        let payload = json!({"config": {"postgres_changes": all_of("docs"), "postgres_changes_options": options}});
        socket.join(TOPIC, &payload).await;
        let is_subscribed =
            |m: &Message| m.is(TOPIC, "system") && *m.payload.at("message") == "Subscribed to PostgreSQL";
        let word = socket.expect_within(TAKEOVER, "the subscription", is_subscribed).await;
        self.remember(word.payload.at("cursor"));
        self.socket = Some(socket);
        *word.payload.at("resumed") == json!(true)
    }

    fn remember(&mut self, cursor: &Json) {
        self.cursor = cursor.as_str().expect("a cursor").into();
    }

    /// Hears for so long, or until the connection ends, whose code it returns.
    async fn listen(&mut self, time: Duration) -> Option<u16> {
        let end = tokio::time::Instant::now() + time;
        loop {
            let heard = self.socket.as_mut().expect("it is connected").read(end).await;
            match heard {
                Heard::Message(message) if message.is(TOPIC, "postgres_changes") => {
                    let data = message.payload.at("data");
                    self.heard.push(data.at("record").at("id").as_i64().expect("a key"));
                    self.remember(data.at("cursor"));
                }
                Heard::Message(_) | Heard::Binary(_) => {}
                Heard::Closed(code) => return Some(code),
                Heard::Silence => return None,
            }
        }
    }

    /// Hears until it was told of this row.
    async fn listen_until(&mut self, id: i64) {
        let start = Instant::now();
        while self.heard.last().is_none_or(|&last| last < id) {
            assert_eq!(self.listen(Duration::from_millis(50)).await, None, "the connection ended before row {id}");
            assert!(start.elapsed() < TAKEOVER, "row {id} does not come; last: {:?}", self.heard.last());
        }
    }
}

/// Writes rows one by one until it is told to stop; the key of the last.
async fn write(database: &Database, stop: &CancellationToken) -> i64 {
    let client = database.connect().await;
    let mut id = 0;
    while !stop.is_cancelled() {
        id += 1;
        client.execute("insert into docs values ($1, 'x')", &[&i32::try_from(id).unwrap()]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    id
}

fn is_standby(status: u16, health: &Json) -> bool {
    status == 503 && *health.at("replication").at("state") == "standby"
}

#[tokio::test]
async fn a_standby_takes_over_within_seconds_and_who_resumes_there_hears_exactly_what_was_written() {
    let database = database(Postgres::default(), &items("docs")).await;
    let mut active = Server::start(&database, &[]).await;
    wait_for_stream(&active).await;
    let mut standby = Server::start(&database, &[]).await;
    let health = wait_for_health(&standby, is_standby).await;
    assert!(problem(&health).contains("another server reads replication slot"), "{health}");
    let lines = standby.log().iter().filter(|line| line.contains("standby")).count();
    assert_eq!(lines, 1, "{:?}", standby.log());

    let mut follower = Follower::new();
    assert!(!follower.join(&active).await, "there was nothing to resume");
    let stop = CancellationToken::new();
    let writing = write(&database, &stop);
    let moving = async {
        for _ in 0..2 {
            follower.listen(Duration::from_millis(500)).await;
            // Killed, as by kill -9.
            drop(active);
            let killed = Instant::now();
            assert!(follower.join(&standby).await, "the cursor holds");
            wait_for_stream(&standby).await;
            assert!(killed.elapsed() < TAKEOVER, "{:?}", killed.elapsed());
            // And back.
            active = standby;
            standby = Server::start(&database, &[]).await;
            wait_for_health(&standby, is_standby).await;
        }
        follower.listen(Duration::from_millis(300)).await;
        stop.cancel();
        (active, standby)
    };
    let (last, _servers) = tokio::join!(writing, moving);
    follower.listen_until(last).await;
    assert_eq!(follower.listen(Duration::from_millis(200)).await, None);
    assert_eq!(follower.heard, (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_join_on_a_standby_is_told_so_and_completed_when_it_takes_over() {
    let database = database(Postgres::default(), &items("docs")).await;
    let active = Server::start(&database, &[]).await;
    wait_for_stream(&active).await;
    let standby = Server::start(&database, &[]).await;
    wait_for_health(&standby, is_standby).await;
    let mut socket = Socket::open(&standby.websocket_url("2.0.0", &alice())).await;
    socket.join(TOPIC, &json!({"config": {"postgres_changes": all_of("docs")}})).await;
    let told = socket.expect("word of the standby", |m| m.is(TOPIC, "system")).await;
    assert_eq!(*told.payload.at("status"), "error");
    assert!(told.payload.at("message").as_str().unwrap().contains("standby"), "{}", told.payload);
    assert!(active.stop().await.success());
    let is_subscribed = |m: &Message| m.is(TOPIC, "system") && *m.payload.at("message") == "Subscribed to PostgreSQL";
    socket.expect_within(TAKEOVER, "the subscription", is_subscribed).await;
    database.execute("insert into docs values (1)").await;
    assert_eq!(super::setup::next(&mut socket).await, super::setup::is("INSERT", 1));
}

/// A way to the database that can be cut so that only this end of it notices.
struct Bridge {
    address: String,
    cut: watch::Sender<u32>,
}

impl Bridge {
    async fn to(port: u16) -> Bridge {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, cuts) = watch::channel(0);
        drive(async move {
            while let Ok((near, _)) = listener.accept().await {
                drive(Self::carry(near, port, cuts.clone()));
            }
        });
        Bridge { address, cut }
    }

    async fn carry(mut near: TcpStream, port: u16, mut cuts: watch::Receiver<u32>) {
        let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        cuts.mark_unchanged();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = cuts.changed() => drop(near),
        }
        // The far end is never told.
        std::future::pending::<()>().await;
        drop(far);
    }
}

/// The server takes a reader that was cut off for gone only after `wal_sender_timeout`, which is a minute.
#[tokio::test]
async fn a_session_of_its_own_that_was_cut_off_does_not_make_a_server_its_own_standby() {
    let database = database(Postgres::default(), &items("docs")).await;
    let bridge = Bridge::to(database.postgres.port).await;
    let url = database.walcast_url().replace(&format!("127.0.0.1:{}", database.postgres.port), &bridge.address);
    let server = Server::start_at(&url, &database.slot(), &[]).await;
    wait_for_stream(&server).await;
    let mut follower = Follower::new();
    follower.join(&server).await;
    database.execute("insert into docs values (1)").await;
    follower.listen_until(1).await;
    bridge.cut.send_modify(|cuts| *cuts += 1);
    let again = |line: &String| line.contains("replication started");
    until(TAKEOVER, async || server.log().iter().filter(|line| again(line)).count() == 2).await;
    database.execute("insert into docs values (2)").await;
    follower.listen_until(2).await;
    assert_eq!(follower.heard, [1, 2]);
    assert!(!server.log().iter().any(|line| line.contains("standby")), "{:?}", server.log());
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &server.pid().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// A server that stands still loses the slot to the other one, and its clients with it; what it finds when it comes back
/// to the slot is a gap exactly when the other one confirmed more than it had received.
#[tokio::test]
async fn who_loses_the_slot_sends_its_clients_away_and_coming_back_says_a_gap_only_where_there_is_one() {
    for window_ms in ["300000", "0"] {
        let database = database(Postgres::default(), &items("docs")).await;
        let window = [("WALCAST_RESUME_WINDOW_MS", window_ms)];
        let first = Server::start(&database, &window).await;
        wait_for_stream(&first).await;
        let second = Server::start(&database, &window).await;
        wait_for_health(&second, is_standby).await;
        let (mut follower, mut bystander) = (Follower::new(), Follower::new());
        follower.join(&first).await;
        bystander.join(&first).await;
        database.execute("insert into docs values (1)").await;
        follower.listen_until(1).await;
        signal(&first, "STOP");
        let cut = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active";
        database.connect().await.query(cut, &[&database.slot()]).await.unwrap();
        wait_for_stream(&second).await;
        signal(&first, "CONT");
        wait_for_health(&first, is_standby).await;
        assert_eq!(bystander.listen(TAKEOVER).await, Some(1012), "it is sent away");
        assert_eq!(follower.listen(TAKEOVER).await, Some(1012));
        assert!(follower.join(&second).await || window_ms == "0");
        database.execute("insert into docs values (2)").await;
        follower.listen_until(2).await;
        if window_ms == "0" {
            // What was handed on is confirmed with the next status update, and there is more than what was published.
            database.execute("create table unpublished ()").await;
            let sql = "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = $2";
            let client = database.connect().await;
            let end: String = client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
            until(TAKEOVER, async || client.query_one(sql, &[&end, &database.slot()]).await.unwrap().get::<_, bool>(0))
                .await;
        }
        drop(second);
        wait_for_stream(&first).await;
        let gaps = first.log().iter().filter(|line| line.contains("are lost to clients")).count();
        assert_eq!(gaps, usize::from(window_ms == "0"), "{:?}", first.log());
        let is_resumed = follower.join(&first).await;
        assert_eq!(is_resumed, window_ms != "0", "with a window the first still gets what the second told");
        database.execute("insert into docs values (3)").await;
        follower.listen_until(3).await;
        assert_eq!(follower.heard, [1, 2, 3]);
        assert_eq!(get(&first, "/health").await.0, 200);
    }
}
