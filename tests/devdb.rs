//! The development server: set up, started, stopped, started again, as whoever runs the tests.

use crate::support::{
    postgres::{Database, Postgres, binaries, connect, default_major, majors, new_directory},
    wait::until,
};
use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio_postgres::{NoTls, error::SqlState};
use walcast::devdb::{Binaries, Cluster, ClusterOptions, RunError, Search};

const SOON: Duration = Duration::from_secs(20);

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        Directory(new_directory())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn options(major: u32, directory: &Path) -> ClusterOptions {
    ClusterOptions::new(binaries(major).await, directory)
}

async fn one(url: &str, query: &str) -> String {
    connect(url).await.query_one(query, &[]).await.unwrap().get(0)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[tokio::test]
async fn a_second_start_reuses_data_and_password() {
    for major in majors() {
        let directory = Directory::new();
        let cluster = Cluster::start(options(major, &directory.0).await).await.unwrap();
        assert!(!cluster.is_reused() && !cluster.is_moved());
        let (url, password) = (cluster.url("postgres"), cluster.password().to_owned());
        assert_eq!(one(&url, "show wal_level").await, "logical");
        assert_eq!(one(&url, "show listen_addresses").await, "127.0.0.1");
        assert_eq!(one(&url, "show server_encoding").await, "UTF8");
        assert!(one(&url, "show server_version").await.starts_with(&major.to_string()));
        connect(&url).await.batch_execute("create table kept as select 'still here'::text as t").await.unwrap();
        let pid_file = cluster.directory().join("data/postmaster.pid");
        cluster.stop().await.unwrap();
        assert!(!pid_file.exists(), "a clean stop leaves no lock file");

        let cluster = Cluster::start(options(major, &directory.0).await).await.unwrap();
        assert_eq!(cluster.password(), password);
        assert_eq!(one(&cluster.url("postgres"), "select t from kept").await, "still here");
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_password_and_others_cannot_read_it() {
    let directory = Directory::new();
    let cluster = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    assert!(cluster.password().len() >= 32, "a password that cannot be guessed");
    let mode = fs::metadata(directory.0.join("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::metadata(&directory.0).unwrap().permissions().mode() & 0o777, 0o700);

    let sockets = cluster.socket_directory().display().to_string();
    for host in ["127.0.0.1", &sockets] {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(cluster.port()).user("postgres").password("wrong");
        let error = config.connect(NoTls).await.err().expect("a wrong password is refused");
        assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD), "{host}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_replaced_by_a_free_one_and_a_free_one_is_used() {
    let directory = Directory::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut options = options(default_major(), &directory.0).await;
    options.port = Some(port);
    let cluster = Cluster::start(options.clone()).await.unwrap();
    assert_ne!(cluster.port(), port);
    cluster.stop().await.unwrap();

    drop(taken);
    let cluster = Cluster::start(options).await.unwrap();
    assert_eq!(cluster.port(), port);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_runs_already_is_taken_and_not_stopped() {
    let directory = Directory::new();
    let first = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    let second = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    assert!(second.is_reused() && !first.is_reused());
    assert_eq!(second.url("postgres"), first.url("postgres"));
    second.stop().await.unwrap();
    assert_eq!(one(&first.url("postgres"), "select 'alive'").await, "alive");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_lock_file_of_a_crashed_server_is_no_obstacle() {
    let directory = Directory::new();
    let mut cluster = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    let pid_file = cluster.directory().join("data/postmaster.pid");
    let lock = fs::read_to_string(&pid_file).unwrap();
    let pid = lock.lines().next().unwrap().to_owned();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    assert!(!cluster.ended().await.unwrap().success(), "the end is noticed");
    assert!(pid_file.exists());
    let cluster = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    assert!(!cluster.is_reused());
    cluster.stop().await.unwrap();

    // After a restart of the machine the number may belong to anybody.
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let lock = lock.replacen(&pid, &sleeper.id().to_string(), 1);
    fs::write(&pid_file, lock).unwrap();
    let cluster = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    assert!(!cluster.is_reused());
    cluster.stop().await.unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[tokio::test]
async fn an_interrupted_set_up_starts_over() {
    let directory = Directory::new();
    let options = options(default_major(), &directory.0).await;
    Cluster::start(options.clone()).await.unwrap().stop().await.unwrap();
    // What a set-up leaves that was killed: a directory named after a process that is gone, and no data yet.
    fs::rename(directory.0.join("data"), directory.0.join("data.4194305")).unwrap();
    let cluster = Cluster::start(options).await.unwrap();
    assert!(!directory.0.join("data.4194305").exists());
    assert_eq!(one(&cluster.url("postgres"), "select 'new'").await, "new");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_major_version_are_refused_by_name() {
    let directory = Directory::new();
    let mut options = options(default_major(), &directory.0).await;
    Cluster::start(options.clone()).await.unwrap().stop().await.unwrap();
    options.binaries.major += 1;
    let error = Cluster::start(options).await.err().expect("refused");
    assert!(matches!(error, RunError::OtherMajor { .. }), "{error}");
    assert!(error.to_string().contains(&directory.0.display().to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let directory = Directory::new();
    let mut options = options(default_major(), &directory.0).await;
    options.settings = vec![("shared_buffers".to_owned(), "nonsense".to_owned())];
    let error = Cluster::start(options).await.err().expect("refused").to_string();
    assert!(error.contains("shared_buffers") && error.contains("postgres.log"), "{error}");
}

#[tokio::test]
async fn a_dropped_cluster_ends_and_an_ephemeral_one_leaves_nothing() {
    let directory = Directory::new();
    let mut options = options(default_major(), &directory.0).await;
    options.ephemeral = true;
    let cluster = Cluster::start(options).await.unwrap();
    let port = cluster.port();
    assert!(directory.0.exists());
    drop(cluster);
    until(SOON, || async { !directory.0.exists() }).await;
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "nobody listens any more");
}

/// A project directory whose parent only its owner can enter, as root's home is.
#[tokio::test]
async fn root_gets_a_directory_outside_a_home_that_is_closed_to_others() {
    if !is_root() {
        eprintln!("SKIPPED: root_gets_a_directory_outside_a_home_that_is_closed_to_others (needs root)");
        return;
    }
    let home = Directory::new();
    fs::create_dir(&home.0).unwrap();
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o700)).unwrap();
    let wish = home.0.join("project/.walcast/postgres");
    let cluster = Cluster::start(options(default_major(), &wish).await).await.unwrap();
    let outside = Directory(cluster.directory().to_owned());
    assert!(cluster.is_moved());
    assert!(!outside.0.starts_with(&home.0), "{}", outside.0.display());
    assert!(!home.0.join("project").exists(), "nothing is left in the place that does not do");
    assert_ne!(fs::metadata(&outside.0).unwrap().uid(), 0);
    connect(&cluster.url("postgres")).await.batch_execute("create table kept (i int)").await.unwrap();
    cluster.stop().await.unwrap();

    let cluster = Cluster::start(options(default_major(), &wish).await).await.unwrap();
    assert_eq!(cluster.directory(), outside.0, "the same project finds its data again");
    assert_eq!(one(&cluster.url("postgres"), "select count(*)::text from kept").await, "0");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_has_no_group_of_roots() {
    if !is_root() {
        eprintln!("SKIPPED: the_server_has_no_group_of_roots (needs root)");
        return;
    }
    let directory = Directory::new();
    let cluster = Cluster::start(options(default_major(), &directory.0).await).await.unwrap();
    let lock = fs::read_to_string(directory.0.join("data/postmaster.pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", lock.lines().next().unwrap())).unwrap();
    let field = |name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!field("Uid:").contains(&"0".to_owned()), "{status}");
    assert!(!field("Gid:").contains(&"0".to_owned()), "{status}");
    assert!(!field("Groups:").contains(&"0".to_owned()), "{status}");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn programs_the_servers_user_cannot_reach_are_refused_by_name() {
    if !is_root() {
        eprintln!("SKIPPED: programs_the_servers_user_cannot_reach_are_refused_by_name (needs root)");
        return;
    }
    let (home, directory) = (Directory::new(), Directory::new());
    fs::create_dir(&home.0).unwrap();
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o700)).unwrap();
    let mut options = options(default_major(), &directory.0).await;
    for name in ["postgres", "initdb"] {
        fs::copy(options.binaries.program(name), home.0.join(name)).unwrap();
    }
    options.binaries.bin_dir = home.0.clone();
    let error = Cluster::start(options).await.err().expect("refused");
    assert!(matches!(error, RunError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains(&home.0.display().to_string()), "{error}");
}

#[tokio::test]
async fn a_killed_process_leaves_no_server_behind() {
    const HOLD: &str = "WALCAST_TEST_HOLD";
    if let Some(directory) = env::var_os(HOLD) {
        // The process to be killed: this same test, run by itself.
        let _cluster = Cluster::start(options(default_major(), Path::new(&directory)).await).await.unwrap();
        return std::future::pending().await;
    }
    let directory = Directory::new();
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "devdb::a_killed_process_leaves_no_server_behind"])
        .env(HOLD, &directory.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lock = directory.0.join("data/postmaster.pid");
    until(SOON, || async { fs::read_to_string(&lock).is_ok_and(|lock| lock.contains("\nready")) }).await;
    victim.kill().unwrap();
    victim.wait().unwrap();
    until(SOON, || async { !lock.exists() }).await;
}

#[tokio::test]
async fn a_tests_database_goes_with_its_slots() {
    let postgres = Postgres::default();
    let database: Database = postgres.database().await;
    let (name, slot) = (database.name.clone(), database.slot());
    let sql = "select slot_name::text from pg_create_logical_replication_slot($1, 'pgoutput')";
    database.connect().await.query_one(sql, &[&slot]).await.unwrap();
    let roles = "select string_agg(r::regrole::text, ' ' order by r::regrole::text)
                 from unnest(array['anon','authenticated','service_role']) r where pg_has_role(r, 'member')";
    assert_eq!(one(&database.walcast_url(), roles).await, "anon authenticated service_role");
    drop(database);
    let left = format!(
        "select (select count(*) from pg_database where datname = '{name}')
              + (select count(*) from pg_replication_slots where slot_name = '{slot}')"
    );
    let left: i64 = connect(&postgres.url).await.query_one(&left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_machine_without_postgres_fetches_one_and_keeps_it() {
    let (cache, directory) = (Directory::new(), Directory::new());
    let search = Search { major: Some(default_major()), cache: Some(cache.0.clone()), explicit: None };
    let binaries = Binaries::fetched(&search).await.unwrap_or_else(|error| panic!("{error}: {search:?}"));
    assert_eq!(binaries.major, default_major());
    assert_eq!(fs::read_dir(&cache.0).unwrap().count(), 1, "the archive is not kept");
    let cluster = Cluster::start(ClusterOptions::new(binaries.clone(), &directory.0)).await.unwrap();
    assert_eq!(one(&cluster.url("postgres"), "select 'runs'").await, "runs");
    cluster.stop().await.unwrap();

    let program = binaries.program("postgres");
    let made = fs::metadata(&program).unwrap().ino();
    assert_eq!(Binaries::fetched(&search).await.unwrap(), binaries);
    assert_eq!(fs::metadata(&program).unwrap().ino(), made, "taken from the cache the second time");
}

#[tokio::test]
async fn every_major_under_test_has_its_shared_cluster() {
    for major in majors() {
        let postgres = Postgres::shared(major);
        assert_eq!(postgres.major, major);
        assert!(postgres.socket_directory.join(format!(".s.PGSQL.{}", postgres.port)).exists());
        let database = postgres.database().await;
        database.execute("create table t (version text); insert into t select current_setting('server_version')").await;
        assert!(one(&database.url, "select version from t").await.starts_with(&major.to_string()));
    }
}
