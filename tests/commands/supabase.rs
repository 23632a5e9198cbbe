//! In the place of Supabase's Realtime container: its environment, its health checks, and the files in docker/.

use super::{
    SOON, output,
    serving::{Serving, begin, record, text},
    stdout,
};
use crate::{
    line::setup::all_of,
    support::{
        postgres::{Database, PASSWORD, Postgres, WALCAST_PASSWORD, drive},
        socket::Message,
        token::{SECRET, anon, service},
        wait,
    },
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream};
use walcast::config::supabase::{IGNORED, READ, READ_ELSEWHERE};
use yaml_rust2::{Yaml, YamlLoader};

/// What the compose file of Supabase's stack passes to its realtime container.
fn of_the_stack(port: &str, user: &'static str, password: &'static str, database: &Database) -> Vec<(String, String)> {
    let variables = [
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", port),
        ("DB_USER", user),
        ("DB_PASSWORD", password),
        ("DB_NAME", &database.name),
        ("DB_AFTER_CONNECT_QUERY", "SET search_path TO _realtime"),
        ("DB_ENC_KEY", "supabaserealtime"),
        ("API_JWT_SECRET", SECRET),
        ("SECRET_KEY_BASE", "UpNVntn3cDxHJpq99YMc1T1AQgQpc8kfYTuRgBiYa15BLrx8etQoXz3gZv1"),
        ("ERL_AFLAGS", "-proto_dist inet_tcp"),
        ("DNS_NODES", "''"),
        ("RLIMIT_NOFILE", "10000"),
        ("APP_NAME", "realtime"),
        ("SEED_SELF_HOST", "true"),
        ("RUN_JANITOR", "true"),
        ("METRICS_JWT_SECRET", "another secret"),
        ("DISABLE_HEALTHCHECK_LOGGING", "true"),
        // One slot for each test's database; a stack has no need of it.
        ("SLOT_NAME_SUFFIX", &database.name),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn borrowed(variables: &[(String, String)]) -> Vec<(&str, &str)> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn the_environment_of_the_replaced_container_starts_a_server_on_a_bare_database() {
    let database = Postgres::default().database().await;
    let port = database.postgres.port.to_string();
    let serving = Serving::start(&borrowed(&of_the_stack(&port, "postgres", PASSWORD, &database))).await;
    assert_eq!(text(&serving.record("listening").unwrap(), "slot"), format!("walcast_{}", database.name));
    let table = "create table items (id int primary key); grant select on items to service_role";
    database.execute(&format!("{table}; alter publication supabase_realtime add table items")).await;
    let mut socket = serving.socket(&service()).await;
    socket.join("realtime:a", &json!({"config": {"postgres_changes": all_of("items")}})).await;
    // At the latest when the catalogue has been read again.
    let is_active = |message: &Message| {
        message.is("realtime:a", "system") && *message.payload.at("message") == "Subscribed to PostgreSQL"
    };
    socket.expect("an active subscription", is_active).await;
    database.execute("insert into items values (7)").await;
    let change = socket.change("realtime:a").await;
    assert_eq!(change.at("data").at("record").at("id").as_i64(), Some(7));
    let bearer = format!("Bearer {}", anon());
    wait::until(SOON, async || {
        let headers = [("Authorization", bearer.as_str())];
        serving.ask("HEAD", "/api/tenants/realtime-dev/health", &headers).await.0 == 200
    })
    .await;
    assert_eq!(serving.ask("HEAD", "/api/tenants/realtime-dev/health", &[]).await.0, 403);
    for (path, host) in [("/api/ping", "realtime-dev"), ("/healthcheck", "localhost")] {
        assert_eq!(serving.ask("HEAD", path, &[("Host", host)]).await.0, 200, "{path}");
    }
    let log = serving.running.stderr.lines().join("\n");
    assert!(!log.contains(SECRET) && !log.contains(PASSWORD.repeat(2).as_str()), "{log}");
    serving.stop().await;
}

#[tokio::test]
async fn a_database_that_comes_later_is_waited_for_with_one_line() {
    let database = Postgres::default().database().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let variables = of_the_stack(&address.port().to_string(), "postgres", PASSWORD, &database);
    let mut running = begin(&borrowed(&variables));
    wait::until(SOON, async || record(&running, "the database does not answer yet; waiting for it").is_some()).await;
    assert!(running.child.try_wait().unwrap().is_none());

    // Now it comes: a way to the real one.
    let listener = TcpListener::bind(address).await.unwrap();
    let real = database.postgres.port;
    drive(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            drive(async move {
                if let Ok(mut there) = TcpStream::connect(("127.0.0.1", real)).await {
                    let _ = copy_bidirectional(&mut here, &mut there).await;
                }
            });
        }
    });
    wait::until(SOON, async || record(&running, "listening").is_some()).await;
    let lines = running.stderr.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("does not answer yet")).count(), 1, "{lines:?}");
    running.signal("TERM");
    assert!(running.ended().await.success());
}

#[tokio::test]
async fn a_database_that_never_comes_ends_the_start_and_so_does_a_wrong_password_at_once() {
    let database = Postgres::default().database().await;
    let mut absent = of_the_stack("1", "postgres", PASSWORD, &database);
    absent.push(("WALCAST_START_WAIT_MS".to_owned(), "700".to_owned()));
    let port = database.postgres.port.to_string();
    let wrong = of_the_stack(&port, "postgres", "wrong-word", &database);
    for (variables, waits) in [(absent, true), (wrong, false)] {
        let mut running = begin(&borrowed(&variables));
        assert_eq!(running.ended().await.code(), Some(1));
        wait::until(SOON, async || running.stderr.lines().iter().any(|line| line.starts_with("walcast: "))).await;
        assert_eq!(record(&running, "the database does not answer yet; waiting for it").is_some(), waits);
        assert!(!running.stderr.lines().join("\n").contains("wrong-word"));
    }
}

#[tokio::test]
async fn what_the_role_may_not_set_up_is_named_and_the_rest_is_served() {
    let database = Postgres::default().database().await;
    database.execute("create publication supabase_realtime").await;
    let port = database.postgres.port.to_string();
    let variables = of_the_stack(&port, "walcast", WALCAST_PASSWORD, &database);
    let serving = Serving::start(&borrowed(&variables)).await;
    let missing = "this role may not set it up; `walcast migrate` prints the SQL";
    let named: Vec<String> = serving.running.stderr.lines().into_iter().filter(|line| line.contains(missing)).collect();
    assert!(named.iter().any(|line| line.contains("schema auth")), "{named:?}");
    serving.stop().await;

    let mut never = variables;
    never.push(("WALCAST_MIGRATE".to_owned(), "false".to_owned()));
    let serving = Serving::start(&borrowed(&never)).await;
    assert!(serving.record(missing).is_none());
    serving.stop().await;
}

#[tokio::test]
async fn a_contradiction_between_both_ways_to_name_the_database_is_said() {
    let database = Postgres::default().database().await;
    database.execute("create publication supabase_realtime").await;
    let url = database.walcast_url();
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("WALCAST_SLOT", &database.slot()),
        ("DB_HOST", "elsewhere"),
        ("DB_PASSWORD", "sesame-open"),
    ];
    let serving = Serving::start(&environment).await;
    let log = serving.running.stderr.lines().join("\n");
    assert!(log.contains("DATABASE_URL (") && log.contains("DB_HOST (postgres at elsewhere:5432"), "{log}");
    assert!(!log.contains("sesame-open") && !log.contains(WALCAST_PASSWORD.repeat(2).as_str()), "{log}");
    assert!(!log.contains("set up the database"), "nothing is made where DATABASE_URL names the database");
    serving.stop().await;
}

fn docker(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(name);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

fn compose(name: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&docker(name).1).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// The environment of a service, with variables as compose puts them in.
fn environment(service: &Yaml, outside: &BTreeMap<&str, &str>) -> Vec<(String, String)> {
    let variables = service["environment"].as_hash().unwrap().iter();
    let value = |value: &Yaml| match value {
        Yaml::Integer(number) => number.to_string(),
        other => interpolated(other.as_str().expect("a text: compose takes no booleans here"), outside),
    };
    variables.map(|(name, text)| (name.as_str().unwrap().to_owned(), value(text))).collect()
}

/// `${NAME}`, `${NAME:-default}` and `${NAME:?error}`.
fn interpolated(text: &str, outside: &BTreeMap<&str, &str>) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, behind) = after.split_once('}').expect("a closing brace");
        let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
        let name = name.split(":?").next().unwrap();
        done += before;
        done += outside.get(name).copied().unwrap_or(default);
        rest = behind;
    }
    done + rest
}

#[test]
fn every_variable_of_the_compose_files_is_understood() {
    let known = |name: &str| {
        let help = stdout(&output(&["serve", "--help"], &[])) + &stdout(&output(&["migrate", "--help"], &[]));
        ["=", "]"].iter().any(|end| help.contains(&format!("[env: {name}{end}")))
            || READ.contains(&name)
            || READ_ELSEWHERE.contains(&name)
            || IGNORED.iter().any(|(ignored, _)| *ignored == name)
    };
    for (file, services) in [("compose.yml", vec!["walcast", "demo"]), ("supabase.override.yml", vec!["realtime"])] {
        let compose = compose(file);
        for service in services {
            for (name, _) in environment(&compose["services"][service], &BTreeMap::new()) {
                assert!(known(&name), "{file}: {name} of {service}");
            }
        }
    }
    assert!(!known("WALCAST_NONSENSE"));
}

#[tokio::test]
async fn the_environments_of_the_compose_files_start_a_server() {
    for (file, service) in [("compose.yml", "walcast"), ("supabase.override.yml", "realtime")] {
        let database = Postgres::default().database().await;
        let port = database.postgres.port.to_string();
        let outside = BTreeMap::from([
            ("JWT_SECRET", SECRET),
            ("POSTGRES_PASSWORD", PASSWORD),
            ("POSTGRES_HOST", "127.0.0.1"),
            ("POSTGRES_PORT", port.as_str()),
            ("POSTGRES_DB", database.name.as_str()),
        ]);
        let mut variables = environment(&compose(file)["services"][service], &outside);
        // The names inside of a stack that are not those of this machine.
        for (name, value) in &mut variables {
            match name.as_str() {
                "PORT" => "0".clone_into(value),
                "DB_HOST" => "127.0.0.1".clone_into(value),
                "DB_PORT" => port.clone_into(value),
                "DB_NAME" => database.name.clone_into(value),
                "DB_USER" => "postgres".clone_into(value),
                _ => {}
            }
        }
        variables.push(("WALCAST_SLOT".to_owned(), database.slot()));
        let serving = Serving::start(&borrowed(&variables)).await;
        let port = serving.address.rsplit(':').next().unwrap().to_owned();
        assert!(output(&["health"], &[("PORT", &port)]).status.success(), "{file}");
        wait::until(SOON, async || output(&["health", "--stream"], &[("PORT", &port)]).status.success()).await;
        serving.stop().await;
        assert_eq!(output(&["health", "--port", &port], &[]).status.code(), Some(1), "nobody is there any more");
    }
}

#[test]
fn the_override_keeps_what_the_stack_depends_on() {
    let compose = compose("supabase.override.yml");
    let realtime = &compose["services"]["realtime"];
    assert_eq!(compose["services"].as_hash().unwrap().len(), 1, "nothing else is touched");
    assert_eq!(realtime["container_name"].as_str(), Some("realtime-dev.supabase-realtime"));
    let check = realtime["healthcheck"]["test"][1].as_str().unwrap();
    assert!(check.contains("curl -sSfL --head") && check.contains("/api/tenants/realtime-dev/health"), "{check}");
    let image = docker("Dockerfile").1;
    let packages = image.lines().find(|line| line.contains("ca-certificates curl"));
    assert!(packages.is_some(), "that check runs curl inside of the container");
}

#[test]
fn the_image_is_built_from_files_that_are_there_by_commands_that_work() {
    let (_, text) = docker("Dockerfile");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = docker("Dockerfile.dockerignore").1;
    let copied: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split(' ').filter(|word| !word.starts_with('.')))
        .collect();
    for name in &copied {
        assert!(root.join(name).exists(), "{name}");
        assert!(ignore.lines().any(|line| line.strip_prefix('!') == Some(name)), "{name} is kept out of the build");
    }
    // What the source takes into the program has to be there, too.
    for file in sources(&root.join("src")) {
        for part in fs::read_to_string(&file).unwrap().split("include_str!(\"").skip(1) {
            let name = part.split('"').next().unwrap();
            let included = file.parent().unwrap().join(name).canonicalize().unwrap();
            let place = included.strip_prefix(root.canonicalize().unwrap()).unwrap();
            let first = place.components().next().unwrap().as_os_str().to_str().unwrap();
            assert!(copied.contains(&first), "{} takes in {name}, which is not copied", file.display());
        }
    }
    // Targets the manifest names, besides.
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for path in manifest.lines().filter_map(|line| line.strip_prefix("path = \"tests/")) {
        let path = format!("tests/{}", path.trim_end_matches('"'));
        assert!(text.contains(&format!(" {path}")), "{path} is not made");
    }
    assert!(text.contains("\nRUN cargo build --locked --release --bin walcast\n"));
    assert!(text.contains("/src/target/release/walcast /usr/local/bin/walcast\n"));
    assert!(text.contains("\nENTRYPOINT [\"walcast\"]\nCMD [\"serve\"]\n"));
    assert!(text.contains("CMD [\"walcast\", \"health\"]\n") && text.contains("\nUSER 10001\n"));
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
