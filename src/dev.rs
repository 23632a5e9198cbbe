//! `walcast dev`: the newcomer's command. A development Postgres of its own, the migrations with the demo, the server,
//! and what a person needs next.
//!
//! The server runs as the least-privileged role the migrations document, so what works here works in production.

use crate::{
    auth::jwt,
    config::Settings,
    devdb::{Binaries, Cluster, ClusterOptions, Search},
    pg::{Target, migrate},
    serve,
};
use anyhow::Context;
use clap::Args;
use postgres_protocol::escape::escape_literal;
use serde_json::{Map, Value, json};
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio_postgres::Client;

/// The people of the demo's example data.
const PEOPLE: [(&str, &str); 2] =
    [("Alice", "11111111-1111-1111-1111-111111111111"), ("Bob", "22222222-2222-2222-2222-222222222222")];
/// The conversation they share.
const CONVERSATION: &str = "d0000000-0000-4000-8000-000000000001";
/// How long the keys of a development server are good for, in seconds: as long as anybody leaves one running.
const KEY_LIFETIME: i64 = 365 * 24 * 3600;
/// The port Postgres gets when it is free.
const POSTGRES_PORT: u16 = 54322;

/// Flags of `walcast dev`.
#[derive(Args)]
pub struct DevArgs {
    /// Where the data lives [default: .walcast in the current directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// PostgreSQL installation to use [default: the first that is found]
    #[arg(long, value_name = "DIRECTORY")]
    pub postgres: Option<PathBuf>,
    /// Port of the server [default: 4000, or a free one when it is taken]
    #[arg(long)]
    pub port: Option<u16>,
    /// Port of Postgres [default: 54322, or a free one when it is taken]
    #[arg(long, value_name = "PORT")]
    pub postgres_port: Option<u16>,
}

/// What is running.
pub struct Running {
    cluster: Cluster,
    server: serve::Running,
    banner: String,
}

/// Starts everything.
pub async fn start(arguments: &DevArgs) -> anyhow::Result<Running> {
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => std::env::current_dir().context("cannot tell the current directory")?.join(".walcast"),
    };
    let cluster = start_cluster(arguments, &data.join("postgres")).await?;
    let superuser = Target::parse(&cluster.url("postgres"))?;
    let mut client = superuser.connect("walcast dev").await?;
    if cluster.is_reused() && is_served(&client).await? {
        anyhow::bail!("`walcast dev` runs on these data already; stop it, or name another directory with --data");
    }
    let is_new = make_role(&client, cluster.password()).await?;
    let report = migrate::migrate(&mut client, true).await.context("cannot set up the database")?;
    if let Some(sql) = report.least_privilege_sql() {
        client.batch_execute(&sql).await.context("cannot give the server's role its rights")?;
    }
    drop(client);

    let secret = secret(&data)?;
    let database_url = format!("postgresql://walcast:{}@127.0.0.1:{}/postgres", cluster.password(), cluster.port());
    let settings = Settings {
        database_url: Some(database_url.clone()),
        jwt_secret: Some(secret.clone()),
        host: Some("127.0.0.1".to_owned()),
        port: Some(server_port(arguments.port).await?),
        ..Settings::default()
    };
    let server = serve::start(settings.serve()?).await?;
    let url = format!("http://{}", server.address());
    let banner = banner(&cluster, is_new, &url, &database_url, &secret)?;
    Ok(Running { cluster, server, banner })
}

impl Running {
    /// What a person needs next.
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Waits for Postgres or the server to end by itself, which neither should.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            ended = self.cluster.ended() => ended,
            failed = self.server.failed() => return anyhow::anyhow!("{failed}"),
        };
        match ended {
            Ok(status) => anyhow::anyhow!("Postgres ended by itself: {status}; its log is beside its data"),
            Err(error) => anyhow::Error::new(error).context("cannot watch Postgres"),
        }
    }

    /// Stops the server, then Postgres.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.server.stop().await;
        self.cluster.stop().await.context("cannot stop Postgres")
    }
}

async fn start_cluster(arguments: &DevArgs, directory: &Path) -> anyhow::Result<Cluster> {
    // Data that exist are read by the version that wrote them.
    let written_by = std::fs::read_to_string(directory.join("data/PG_VERSION")).ok();
    let search = Search {
        explicit: arguments.postgres.clone(),
        major: written_by.and_then(|text| text.trim().parse().ok()),
        cache: None,
    };
    let binaries = Binaries::find(&search).await?;
    let mut options = ClusterOptions::new(binaries, directory);
    options.port = Some(arguments.postgres_port.unwrap_or(POSTGRES_PORT));
    let cluster = Cluster::start(options).await?;
    match arguments.postgres_port {
        Some(wanted) if wanted != cluster.port() => {
            let port = cluster.port();
            cluster.stop().await.context("cannot stop Postgres")?;
            anyhow::bail!("Postgres could not have port {wanted}, only {port}; choose another with --postgres-port")
        }
        _ => Ok(cluster),
    }
}

/// Whether a server reads the slot: a second one would get no changes.
async fn is_served(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let sql = "select from pg_catalog.pg_replication_slots where slot_name = 'walcast' and active";
    Ok(client.query_opt(sql, &[]).await?.is_some())
}

/// The role the server runs as; whether it was made now. Only here somebody knows a password for it.
async fn make_role(client: &Client, password: &str) -> anyhow::Result<bool> {
    let exists = client.query_opt("select from pg_catalog.pg_roles where rolname = 'walcast'", &[]).await?.is_some();
    if !exists {
        client.batch_execute("create role walcast login replication noinherit").await?;
    }
    let password = escape_literal(password);
    client.batch_execute(&format!("alter role walcast password {password}")).await?;
    Ok(!exists)
}

/// The JWT secret of this project: made once, kept beside the data, so that tokens outlive a restart.
fn secret(data: &Path) -> anyhow::Result<String> {
    let path = data.join("jwt-secret");
    let failed = |what: &str| format!("cannot {what} {}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(secret) if secret.trim().len() >= 32 => return Ok(secret.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| failed("read")),
    }
    std::fs::create_dir_all(data).with_context(|| failed("make the directory of"))?;
    let secret: String = (0..2).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).with_context(|| failed("write"))?;
    file.write_all(secret.as_bytes()).with_context(|| failed("write"))?;
    Ok(secret)
}

/// The wanted port, or 4000, or a free one when nobody asked for a certain one and 4000 is taken.
async fn server_port(wanted: Option<u16>) -> anyhow::Result<u16> {
    if let Some(port) = wanted {
        return Ok(port);
    }
    match tokio::net::TcpListener::bind(("127.0.0.1", 4000)).await {
        Ok(_) => Ok(4000),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(0),
        Err(error) => Err(error).context("cannot listen on 127.0.0.1"),
    }
}

fn token(secret: &str, role: &str, subject: Option<&str>) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let now = i64::try_from(now.as_secs()).context("the clock is wrong")?;
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), json!("walcast dev"));
    claims.insert("role".to_owned(), json!(role));
    claims.insert("iat".to_owned(), json!(now));
    claims.insert("exp".to_owned(), json!(now + KEY_LIFETIME));
    if let Some(subject) = subject {
        claims.insert("sub".to_owned(), Value::from(subject));
        claims.insert("aud".to_owned(), json!("authenticated"));
    }
    Ok(jwt::sign(secret, &claims)?)
}

fn banner(cluster: &Cluster, is_new: bool, url: &str, database_url: &str, secret: &str) -> anyhow::Result<String> {
    let anon = token(secret, "anon", None)?;
    let service = token(secret, "service_role", None)?;
    let people: Vec<(&str, &str, String)> = PEOPLE
        .iter()
        .map(|(name, id)| Ok((*name, *id, token(secret, "authenticated", Some(id))?)))
        .collect::<anyhow::Result<_>>()?;
    let alice = &people[0].2;
    let bob = &people[1].2;
    let state = if is_new { "new" } else { "kept from the last start" };
    let moved = if cluster.is_moved() { " (outside the project: the server's user cannot reach it there)" } else { "" };
    let directory = cluster.directory().display();
    let owner_url = cluster.url("postgres");
    Ok(format!(
        r#"
Walcast is running. Ctrl-C stops it.

  URL           {url}
  Database      {database_url}
  As its owner  {owner_url}
  Data          {directory}{moved}, {state}
  Anon key      {anon}
  Service key   {service}
  Alice         {alice}
  Bob           {bob}

See a message arrive. In one terminal, with Node 20 or newer:

mkdir -p walcast-try && cd walcast-try && npm install --silent @supabase/supabase-js ws
cat > listen.mjs <<'JS'
import {{ createClient }} from '@supabase/supabase-js'
import ws from 'ws'
const supabase = createClient('{url}', '{anon}', {{
  realtime: {{ transport: ws }},
  accessToken: async () => '{bob}',
}})
await supabase.realtime.setAuth()
supabase
  .channel('messages')
  .on('postgres_changes', {{ event: 'INSERT', schema: 'public', table: 'messages' }},
      (change) => console.log('arrived:', change.new.content))
  .subscribe((status) => console.log(status))
JS
node listen.mjs

In another, Alice sends one to the conversation she shares with Bob:

curl -sS {url}/rest/v1/rpc/insert_message \
  -H 'apikey: {anon}' -H 'Authorization: Bearer {alice}' -H 'Content-Type: application/json' \
  -d '{{"content":"Hello Bob","conversation_id":"{CONVERSATION}"}}'
"#
    ))
}
