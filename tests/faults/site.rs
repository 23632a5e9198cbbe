//! Where a storm takes place: a database with the tables, and a login of the server's own, in the shared cluster or in one
//! that can be restarted.

use super::storm::PATIENCE;
use crate::{
    line::setup::PRELUDE,
    support::{
        postgres::{Database, PASSWORD, Postgres, binaries, connect, default_major, lasting_port, new_directory},
        token::{ALICE, BOB},
        wait::until,
    },
};
use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};
use tokio_postgres::Client;
use walcast::devdb::{Cluster, ClusterOptions};

/// A subscriber who has rows in the table of the database lane only.
pub const CAROL: &str = "33333333-3333-3333-3333-333333333333";
/// The password of the server's login.
pub const SECRET: &str = "storm";

/// Tables whose rows are given by an owner, by a membership, by a function that only Postgres understands, and to all;
/// and the ledger, written with every row, that says in which order what happened to which row, and whose it was.
const TABLES: &str = "
    create table owned (id int primary key, owner uuid, n bigint, body text);
    create table members (room int, member uuid, primary key (room, member));
    create table shared (id int primary key, room int, n bigint, body text);
    create table odd (id int primary key, tag text, n bigint, body text);
    create table marks (id int primary key, n bigint);
    create table ledger (n bigint primary key, tbl text, op text, id int, owner uuid, room int, tag text);
    create function odd_visible(tag text) returns boolean language plpgsql stable as
      $$ declare seen boolean;
         begin execute 'select $1 = $2' into seen using tag, auth.jwt() ->> 'tag'; return seen; end $$;
    alter table owned replica identity full;
    alter table shared replica identity full;
    alter table odd replica identity full;
    alter table owned enable row level security;
    alter table shared enable row level security;
    alter table odd enable row level security;
    create policy p on owned for select to authenticated using (owner = auth.uid());
    create policy p on shared for select to authenticated using
      (exists (select 1 from members m where m.room = shared.room and m.member = auth.uid()));
    create policy p on odd for select to authenticated using (odd_visible(tag));
    alter publication supabase_realtime add table owned, shared, odd, marks;
    create publication walcast_lookups for table members;
";

const ROLES: &str = "
    create role anon nologin;
    create role authenticated nologin;
    create role service_role nologin bypassrls;
    create role walcast login replication password 'walcast';
";

/// A cluster of one's own, which can be restarted.
pub struct Own {
    cluster: Option<Cluster>,
    pub directory: PathBuf,
    pub port: u16,
    major: u32,
    settings: Vec<(String, String)>,
}

pub enum Place {
    /// It goes when this does.
    Shared {
        _database: Database,
    },
    Own(Box<Own>),
}

/// A database of a storm.
pub struct Site {
    place: Place,
    /// The server's login.
    pub role: String,
    pub slot: String,
    port: u16,
    name: String,
}

impl Site {
    /// In the cluster that all tests share.
    pub async fn shared() -> Site {
        let database = Postgres::default().database().await;
        let (port, name, slot) = (database.postgres.port, database.name.clone(), database.slot());
        let site = Site { place: Place::Shared { _database: database }, role: role(), slot, port, name };
        site.set_up().await;
        site
    }

    /// In a cluster of its own.
    pub async fn own(settings: &[(&str, &str)]) -> Site {
        Site::own_of(default_major(), settings).await
    }

    /// The same of this major version.
    pub async fn own_of(major: u32, settings: &[(&str, &str)]) -> Site {
        let always = [("fsync", "off"), ("shared_buffers", "32MB"), ("autovacuum", "off")];
        let settings: Vec<_> =
            always.iter().chain(settings).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut own = Own { cluster: None, directory: new_directory(), port: 0, major, settings };
        own.start().await;
        let site = Site {
            port: own.port,
            place: Place::Own(Box::new(own)),
            role: role(),
            slot: "storm".into(),
            name: "postgres".into(),
        };
        site.admin().await.batch_execute(ROLES).await.unwrap();
        site.set_up().await;
        site
    }

    async fn set_up(&self) {
        let (admin, role) = (self.admin().await, &self.role);
        let login = format!(
            "create role {role} login replication password '{SECRET}';
             grant anon, authenticated, service_role to {role};
             grant select on all tables in schema public to {role}, anon, authenticated, service_role;
             insert into members values (1, '{ALICE}'), (2, '{ALICE}'), (2, '{BOB}'), (3, '{BOB}');"
        );
        admin.batch_execute(PRELUDE).await.unwrap();
        admin.batch_execute(TABLES).await.unwrap();
        admin.batch_execute(&login).await.unwrap();
    }

    /// The superuser's connection string.
    pub fn admin_url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// The server's, to whatever listens on this port.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{}:{SECRET}@127.0.0.1:{port}/{}", self.role, self.name)
    }

    /// The server's.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection as superuser.
    pub async fn admin(&self) -> Client {
        connect(&self.admin_url()).await
    }

    /// Runs statements as superuser.
    pub async fn execute(&self, sql: &str) {
        self.admin().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Ends the sessions of the server's login, those in replication or all.
    pub async fn end_sessions(&self, only_senders: bool) {
        let (view, role) = (if only_senders { "pg_stat_replication" } else { "pg_stat_activity" }, &self.role);
        self.execute(&format!("select pg_terminate_backend(pid) from {view} where usename = '{role}'")).await;
    }

    /// Drops the slot, taking it from whoever reads it.
    pub async fn drop_slot(&self) {
        let admin = self.admin().await;
        let end = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active";
        let drop = "select pg_drop_replication_slot($1)";
        until(PATIENCE, async || {
            admin.query(end, &[&self.slot]).await.unwrap();
            admin.query(drop, &[&self.slot]).await.is_ok()
        })
        .await;
    }

    pub fn own_cluster(&mut self) -> &mut Own {
        match &mut self.place {
            Place::Own(own) => own,
            Place::Shared { .. } => panic!("this cluster is everybody's"),
        }
    }

    /// Ends the cluster for good.
    pub async fn end(self) {
        if let Place::Own(mut own) = self.place {
            own.stop().await;
            std::fs::remove_dir_all(&own.directory).unwrap();
        }
    }
}

impl Own {
    pub async fn start(&mut self) {
        let mut options = ClusterOptions::new(binaries(self.major).await, &self.directory);
        options.password = Some(PASSWORD.to_owned());
        options.settings = self.settings.clone();
        options.port = Some(if self.port == 0 { lasting_port() } else { self.port });
        let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(self.port == 0 || self.port == cluster.port(), "somebody took the port");
        self.port = cluster.port();
        self.directory = cluster.directory().to_owned();
        self.cluster = Some(cluster);
    }

    /// Ends all sessions and stops.
    pub async fn stop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().await.unwrap();
        }
    }

    /// Ends as by a crash: nothing is written down, and what had been is recovered from the log.
    pub async fn crash(&mut self) {
        let mut cluster = self.cluster.take().expect("it runs");
        let lock = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = lock.lines().next().expect("the process id").trim().to_owned();
        assert!(Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
        cluster.ended().await.unwrap();
    }

    /// What the cluster has said.
    pub fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Makes a standby, which can take over what this cluster does: a copy that goes on with the log from here.
    pub async fn standby(&mut self, settings: &[(&str, &str)]) -> Own {
        let directory = new_directory();
        let conninfo = format!("host=127.0.0.1 port={} user=postgres password={PASSWORD} dbname=postgres", self.port);
        let more = [settings, &[("primary_conninfo", &conninfo), ("primary_slot_name", "standby")]].concat();
        let more = more.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = self.settings.iter().cloned().chain(more).collect();
        self.stop().await;
        let copied = Command::new("cp").arg("-a").arg(&self.directory).arg(&directory).status().unwrap();
        assert!(copied.success());
        let standby = Own { cluster: None, directory, port: 0, major: self.major, settings };
        // Slots are nobody's but those they were made on.
        for slot in std::fs::read_dir(standby.data().join("pg_replslot")).unwrap() {
            std::fs::remove_dir_all(slot.unwrap().path()).unwrap();
        }
        std::fs::write(standby.data().join("standby.signal"), "").unwrap();
        self.start().await;
        standby
    }

    /// The superuser's connection string.
    pub fn url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }
}

impl Site {
    /// Another cluster takes the place of this one, which is stopped for that.
    pub async fn replace_running(&mut self, other: Own) {
        self.own_cluster().stop().await;
        self.replace(other);
    }

    /// Another cluster takes the place of this one, which is gone.
    pub fn replace(&mut self, other: Own) {
        self.port = other.port;
        let old = std::mem::replace(self.own_cluster(), other);
        std::fs::remove_dir_all(&old.directory).unwrap();
    }
}

fn role() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    format!("storm_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}
