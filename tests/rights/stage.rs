//! A database with private channels, the server's rights to them, and the oracle.

use crate::{
    line::setup,
    support::postgres::{Database, Postgres},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_postgres::Client;
use walcast::{
    claims::Claims,
    metrics::Metrics,
    pg::Target,
    policy::topic::{ChannelAccess, ChannelUser, Granted, RightsError},
    rights::{ChannelRights, Parts},
    router::{Refresh, Refresher},
    shutdown::Tasks,
};

pub const ALICE: &str = "11111111-1111-1111-1111-111111111111";
pub const BOB: &str = "22222222-2222-2222-2222-222222222222";
pub const BOTH: Granted = Granted { broadcast: true, presence: true };
pub const NEITHER: Granted = Granted { broadcast: false, presence: false };
/// Far above what a question takes, so that a slow machine does not make it a timeout.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Process,
    Database,
}

pub struct Stage {
    pub database: Database,
    pub admin: Client,
    pub refresh: Refresh,
    pub rights: ChannelRights,
    pub metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

/// The schema and these statements.
pub async fn database(sql: &str) -> Database {
    let schema = [include_str!("schema.sql"), include_str!("oracle.sql"), sql].concat();
    setup::database(Postgres::default(), &schema).await
}

impl Stage {
    pub async fn new(sql: &str) -> Stage {
        Stage::on(database(sql).await, LIMIT).await
    }

    /// On a database, with this limit for a statement.
    pub async fn on(database: Database, statement_timeout: Duration) -> Stage {
        let target = Target::parse(&database.walcast_url()).unwrap();
        let (refresh, refresher) = Refresher::start(&target, "supabase_realtime").await.unwrap();
        let tasks = Tasks::new();
        tasks.spawn("catalogue", refresher.run(tasks.stop_token().clone()));
        let metrics = Arc::<Metrics>::default();
        let parts = Parts { target, refresh: refresh.clone(), statement_timeout, metrics: metrics.clone() };
        let rights = ChannelRights::new(parts).unwrap();
        let admin = database.connect().await;
        Stage { database, admin, refresh, rights, metrics, tasks }
    }

    /// Runs statements, and waits until the catalogue has been read behind them.
    pub async fn apply(&mut self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert!(self.refresh.now().await, "the catalogue is read");
    }

    pub async fn ask(&self, user: &ChannelUser, access: ChannelAccess) -> Result<Granted, RightsError> {
        self.rights.ask(user, access).await
    }

    /// What is granted, and who said so.
    pub async fn ask_way(&self, user: &ChannelUser, access: ChannelAccess) -> (Granted, Way) {
        let before = (self.metrics.rights_in_process.get(), self.metrics.rights_asked.get());
        let granted = self.ask(user, access).await.unwrap_or_else(|error| panic!("{error} for {}", user.topic));
        let after = (self.metrics.rights_in_process.get(), self.metrics.rights_asked.get());
        let way = match (after.0 - before.0, after.1 - before.1) {
            (1, 0) => Way::Process,
            (0, 1) => Way::Database,
            other => panic!("decided {other:?} times"),
        };
        (granted, way)
    }

    /// What Postgres does when the rows are written: its words for broadcast and presence.
    pub async fn oracle(&self, questions: &[(ChannelUser, ChannelAccess)]) -> Vec<[String; 2]> {
        let list = |text: &dyn Fn(&ChannelUser) -> String| -> Vec<String> {
            questions.iter().map(|(user, _)| text(user)).collect()
        };
        let roles = list(&|user| user.claims.role.to_string());
        let claims = list(&|user| user.claims.json.to_string());
        let topics = list(&|user| user.topic.to_string());
        let headers = list(&|user| user.headers.to_string());
        let reads: Vec<bool> = questions.iter().map(|(_, access)| *access == ChannelAccess::Read).collect();
        let rows = self
            .admin
            .query("select * from oracle.all($1, $2, $3, $4, $5)", &[&roles, &claims, &topics, &headers, &reads])
            .await
            .unwrap_or_else(|error| panic!("the oracle fails: {error:?}"));
        rows.iter().map(|row| [row.get(1), row.get(2)]).collect()
    }

    /// Nothing was left behind: no row, and no session in a transaction.
    pub async fn assert_no_trace(&self) {
        let count = |sql: &'static str| async move { self.admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) };
        assert_eq!(count("select count(*) from realtime.messages").await, 0);
        let open = "select count(*) from pg_stat_activity where datname = current_database() \
                    and application_name = 'walcast rights' and (xact_start is not null or backend_xid is not null)";
        assert_eq!(count(open).await, 0);
    }
}

/// Somebody with these claims, in a topic.
pub fn user(role: &str, mut claims: Value, topic: &str) -> ChannelUser {
    claims["role"] = role.into();
    ChannelUser {
        topic: topic.into(),
        claims: Claims { role: role.into(), expires_at: None, json: claims.to_string().into() },
        headers: json!({"x-tenant": "acme"}).to_string().into(),
    }
}

pub fn alice(topic: &str) -> ChannelUser {
    user("authenticated", json!({"sub": ALICE, "team": "red", "email": "alice@example.org", "aal": "aal2"}), topic)
}

pub fn bob(topic: &str) -> ChannelUser {
    user("authenticated", json!({"sub": BOB, "email": "bob@example.org"}), topic)
}
