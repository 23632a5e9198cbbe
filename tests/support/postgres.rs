//! Real Postgres for the tests: one cluster a major version and test process, one database a test.
//!
//! The clusters end with the process, however that ends; see `devdb::run`.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};
use tokio_postgres::{Client, NoTls};
use walcast::devdb::{Binaries, Cluster, ClusterOptions};

/// The superuser's password, and the one of role `walcast`. They guard nothing.
pub const PASSWORD: &str = "postgres";
pub const WALCAST_PASSWORD: &str = "walcast";

const SETTINGS: [(&str, &str); 5] = [
    ("max_wal_senders", "100"),
    ("max_replication_slots", "100"),
    ("max_connections", "300"),
    ("fsync", "off"),
    ("shared_buffers", "64MB"),
];

const ROLES: &str = "
    create role anon nologin;
    create role authenticated nologin;
    create role service_role nologin bypassrls;
    create role walcast login replication password 'walcast';
    grant anon, authenticated, service_role to walcast;
";

/// The major versions under test: `WALCAST_TEST_POSTGRES`, a list with commas, or 15.
pub fn majors() -> Vec<u32> {
    let list = env::var("WALCAST_TEST_POSTGRES").unwrap_or_else(|_| "15".to_owned());
    list.split(',').map(|major| major.trim().parse().expect("WALCAST_TEST_POSTGRES lists major versions")).collect()
}

/// The major version for tests that do not depend on it: the first under test.
pub fn default_major() -> u32 {
    majors()[0]
}

/// The programs of a major version: those of tests/setup, else the machine's own.
pub async fn binaries(major: u32) -> Binaries {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/.cache/postgres-{major}/bin"));
    if let Some(binaries) = Binaries::at(&fetched).await {
        return binaries;
    }
    Binaries::installed(Some(major))
        .await
        .unwrap_or_else(|| panic!("there is no PostgreSQL {major} here: run tests/setup --all-majors"))
}

/// A new directory for a cluster, where the user it runs as can reach it.
pub fn new_directory() -> PathBuf {
    env::temp_dir().join(format!("walcast-test-{}-{}", std::process::id(), unique()))
}

/// A port for a cluster that is to come back on it: one that the system gives to nobody by itself, neither to who listens
/// anywhere nor to who connects, so that it is free still when the cluster was away.
pub fn lasting_port() -> u16 {
    // Below where Linux and macOS begin to choose from.
    loop {
        let port = rand::random_range(12_000..32_000);
        if std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn unique() -> u32 {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// A running cluster that the tests share.
pub struct Postgres {
    pub major: u32,
    pub port: u16,
    pub socket_directory: PathBuf,
    /// The superuser's connection string for the database `postgres`.
    pub url: String,
}

impl Postgres {
    /// The cluster of a major version, started when first asked for.
    pub fn shared(major: u32) -> &'static Postgres {
        static CLUSTERS: Mutex<Option<HashMap<u32, &'static Postgres>>> = Mutex::new(None);
        // A start that failed in another test fails here again, with its own message.
        let mut clusters = CLUSTERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        clusters.get_or_insert_default().entry(major).or_insert_with(|| Postgres::start(major))
    }

    /// The cluster for tests that do not depend on the version.
    pub fn default() -> &'static Postgres {
        Postgres::shared(default_major())
    }

    /// A cluster whose log cannot be decoded.
    pub fn without_decoding() -> &'static Postgres {
        static CLUSTER: Mutex<Option<&'static Postgres>> = Mutex::new(None);
        let mut cluster = CLUSTER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cluster.get_or_insert_with(|| Postgres::start_with(default_major(), Some(("wal_level", "replica"))))
    }

    fn start(major: u32) -> &'static Postgres {
        Postgres::start_with(major, None)
    }

    fn start_with(major: u32, setting: Option<(&'static str, &'static str)>) -> &'static Postgres {
        // Every test has its own runtime, which ends with it; this one is the cluster's and stays.
        let postgres = on_own_runtime(move || async move {
            let mut options = ClusterOptions::new(binaries(major).await, new_directory());
            let settings = SETTINGS.into_iter().chain(setting);
            options.settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            options.password = Some(PASSWORD.to_owned());
            options.ephemeral = true;
            let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("PostgreSQL {major}: {error}"));
            let postgres = Postgres {
                major,
                port: cluster.port(),
                socket_directory: cluster.socket_directory().to_owned(),
                url: cluster.url("postgres"),
            };
            connect(&postgres.url).await.batch_execute(ROLES).await.unwrap();
            // Its lifeline must stay open until the process ends.
            std::mem::forget(cluster);
            postgres
        });
        Box::leak(Box::new(postgres))
    }

    /// A new, empty database, which goes when the value does.
    pub async fn database(&'static self) -> Database {
        let name = format!("test_{}_{}", std::process::id(), unique());
        connect(&self.url).await.batch_execute(&format!("create database {name}")).await.unwrap();
        let url = self.url_of("postgres", PASSWORD, &name);
        Database { postgres: self, url, name }
    }

    fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }
}

/// A database of one test.
pub struct Database {
    pub postgres: &'static Postgres,
    /// The superuser's connection string.
    pub url: String,
    pub name: String,
}

impl Database {
    /// A connection as superuser.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs statements as superuser.
    pub async fn execute(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The connection string of a role.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.postgres.url_of(user, password, &self.name)
    }

    /// The connection string of role `walcast`, which a server under test uses.
    pub fn walcast_url(&self) -> String {
        self.url_as("walcast", WALCAST_PASSWORD)
    }

    /// A slot name that no other database has.
    pub fn slot(&self) -> String {
        format!("walcast_{}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.postgres.url.clone(), self.name.clone());
        // A database with slots cannot be dropped, nor a slot in use.
        let sql = format!(
            "do $$
            declare slot record;
            begin
                for i in 1..200 loop
                    perform pg_terminate_backend(active_pid) from pg_replication_slots where database = '{name}' and active;
                    for slot in select slot_name from pg_replication_slots where database = '{name}' and not active loop
                        begin
                            perform pg_drop_replication_slot(slot.slot_name);
                        exception when object_in_use or undefined_object then null;
                        end;
                    end loop;
                    exit when not exists (select from pg_replication_slots where database = '{name}');
                    perform pg_sleep(0.01);
                end loop;
            end $$"
        );
        // Best effort: what stays goes with the cluster, and a panic here would hide the test's own.
        let _ = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let client = try_connect(&url).await.ok()?;
                client.batch_execute(&sql).await.ok()?;
                client.batch_execute(&format!("drop database {name} with (force)")).await.ok()
            })
        })
        .join();
    }
}

/// A connection, driven by the current runtime.
pub async fn connect(url: &str) -> Client {
    try_connect(url).await.unwrap_or_else(|error| panic!("cannot connect: {error:?}"))
}

/// The same, when there may be nobody to connect to.
pub async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drive(async {
        // Errors of a connection come to whoever uses its client.
        let _ = connection.await;
    });
    Ok(client)
}

#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
pub fn drive(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Runs a future on a runtime that lives as long as the process, and waits for it.
fn on_own_runtime<T: Send + 'static, F: Future<Output = T>>(future: impl FnOnce() -> F + Send + 'static) -> T {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let value = runtime.block_on(future());
        std::mem::forget(runtime);
        value
    };
    thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
