//! The replication session and the pool's connections against real clusters: every way of authentication, every
//! `sslmode`, certificates that do not fit, and errors without secrets.

use crate::support::postgres::{binaries, connect, majors, new_directory};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};
use walcast::{
    devdb::{Cluster, ClusterOptions},
    pg::{Target, connect::describe, replication::Session},
};

const PASSWORD: &str = "sesame-open";

struct Certificates {
    directory: PathBuf,
    ca: PathBuf,
    other_ca: PathBuf,
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A CA, another one, and in `directory` leaves for the right names and for a wrong one, for a server of this user.
fn certificates(directory: PathBuf, user: u32) -> Certificates {
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let ca = issuer("the CA");
    let names = [("right", vec!["localhost", "127.0.0.1"]), ("wrong", vec!["elsewhere.example"])];
    for (file, names) in names {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        fs::write(directory.join(format!("{file}.crt")), leaf.pem()).unwrap();
        let key_file = directory.join(format!("{file}.key"));
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&key_file, Some(user), Some(user)).unwrap();
    }
    let write = |name: &str, pem: String| {
        let path = directory.join(name);
        fs::write(&path, pem).unwrap();
        path
    };
    let (ca, other_ca) = (write("ca.pem", ca.pem()), write("other.pem", issuer("another CA").pem()));
    Certificates { directory, ca, other_ca }
}

async fn start(major: u32, directory: &Path) -> Cluster {
    let mut options = ClusterOptions::new(binaries(major).await, directory);
    options.password = Some("postgres".to_owned());
    Cluster::start(options).await.unwrap_or_else(|error| panic!("PostgreSQL {major}: {error}"))
}

/// Both kinds of connection; the first error, with its causes, and an error for the second is an error too.
async fn both(url: &str) -> Result<(), String> {
    let target = Target::parse(url).map_err(|error| describe(&error))?;
    let replication = async {
        let mut session = Session::connect(&target, "test").await.map_err(|error| describe(&error))?;
        let rows = session.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").await;
        rows.map(|rows| rows[0][0].clone().unwrap()).map_err(|error| describe(&error))
    };
    let plain = async {
        let client = target.connect("test").await.map_err(|error| describe(&error))?;
        let sql = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
        Ok::<String, String>(client.query_one(sql, &[]).await.map_err(|error| describe(&error))?.get(0))
    };
    let (replication, plain) = (replication.await, plain.await);
    assert_eq!(replication.is_ok(), plain.is_ok(), "{url}: {replication:?} {plain:?}");
    for error in [&replication, &plain].into_iter().filter_map(|result| result.as_ref().err()) {
        assert!(!error.contains("sesame") && !error.contains("wrong-word"), "a secret in: {error}");
    }
    if let (Ok(a), Ok(b)) = (&replication, &plain) {
        assert_eq!(a.starts_with('t'), b.starts_with('t'), "{url}: TLS for one and not the other");
    }
    replication.map(|_| ())
}

async fn is_tls(url: &str) -> bool {
    let client = Target::parse(url).unwrap().connect("test").await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn reload(cluster: &Cluster, sql: &str) {
    let client = connect(&cluster.url("postgres")).await;
    for statement in sql.split(';').chain(["select pg_reload_conf()"]) {
        client.batch_execute(statement).await.unwrap();
    }
}

#[tokio::test]
async fn every_authentication_and_every_sslmode_works_or_is_refused_as_it_must() {
    for major in majors() {
        let directory = new_directory();
        let cluster = start(major, &directory).await;
        let directory = cluster.directory().to_owned();
        let data = directory.join("data");
        let user = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&data).unwrap());
        let certificates = certificates(directory.join("tls"), user);
        let client = connect(&cluster.url("postgres")).await;
        let sql = format!(
            "set password_encryption to 'md5'; create role by_md5 login replication password '{PASSWORD}';
             set password_encryption to 'scram-sha-256'; create role by_scram login replication password '{PASSWORD}';
             create role by_plain login replication password '{PASSWORD}'"
        );
        client.batch_execute(&sql).await.unwrap();
        let hba = "local all postgres trust\nlocal all all scram-sha-256\nhost all postgres all scram-sha-256\n\
                   host all by_md5 all md5\nhost all by_plain all password\nhost all all all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        reload(&cluster, "select 1").await;
        let port = cluster.port();
        let url = |user: &str, host: &str, options: &str| {
            format!("postgres://{user}:{PASSWORD}@{host}:{port}/postgres?{options}")
        };

        // Without TLS at the server.
        for user in ["by_md5", "by_scram", "by_plain"] {
            for mode in ["disable", "prefer"] {
                both(&url(user, "127.0.0.1", &format!("sslmode={mode}")))
                    .await
                    .unwrap_or_else(|e| panic!("{user}: {e}"));
            }
            let wrong = url(user, "127.0.0.1", "sslmode=disable").replace(PASSWORD, "wrong-word");
            let error = both(&wrong).await.unwrap_err();
            assert!(error.contains("password authentication failed"), "{error}");
        }
        let target = Target::parse(&url("by_scram", "127.0.0.1", "sslmode=require")).unwrap();
        let error = Session::connect(&target, "test").await.err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("the database at 127.0.0.1:{port} offers no TLS, and sslmode requires it")
        );
        both(&url("by_scram", "127.0.0.1", "sslmode=require")).await.unwrap_err();
        both(&url("by_scram", "127.0.0.1", "channel_binding=require")).await.unwrap_err();
        let error = both(&format!("postgres://by_scram@127.0.0.1:{port}/postgres")).await.unwrap_err();
        assert!(error.contains("password"), "{error}");

        // The unix socket, where nobody offers TLS.
        let socket = cluster.socket_directory().display().to_string();
        for mode in ["disable", "prefer", "require"] {
            let text =
                format!("host={socket} port={port} user=by_scram password={PASSWORD} dbname=postgres sslmode={mode}");
            both(&text).await.unwrap_or_else(|error| panic!("unix socket, {mode}: {error}"));
        }

        // With TLS.
        let file = |name: &str| certificates.directory.join(name).display().to_string();
        let set = |name: &str| {
            format!(
                "alter system set ssl_cert_file = '{}'; alter system set ssl_key_file = '{}'; alter system set ssl = on",
                file(&format!("{name}.crt")),
                file(&format!("{name}.key"))
            )
        };
        reload(&cluster, &set("right")).await;
        let (ca, other) = (certificates.ca.display(), certificates.other_ca.display());
        crate::support::wait::until(crate::support::socket::PATIENCE, async || {
            is_tls(&url("by_scram", "127.0.0.1", "sslmode=prefer")).await
        })
        .await;
        assert!(!is_tls(&url("by_scram", "127.0.0.1", "sslmode=disable")).await);
        for user in ["by_md5", "by_scram", "by_plain"] {
            both(&url(user, "127.0.0.1", "sslmode=require")).await.unwrap_or_else(|e| panic!("{user}: {e}"));
        }
        // SCRAM-SHA-256-PLUS is all the server accepts from one who demands it.
        both(&url("by_scram", "127.0.0.1", "sslmode=require&channel_binding=require")).await.unwrap();
        both(&url("by_scram", "127.0.0.1", "sslmode=require&channel_binding=disable")).await.unwrap();
        for user in ["by_md5", "by_plain"] {
            both(&url(user, "127.0.0.1", "sslmode=require&channel_binding=require")).await.unwrap_err();
        }
        for (mode, host) in [("verify-ca", "127.0.0.1"), ("verify-full", "127.0.0.1"), ("verify-full", "localhost")] {
            both(&url("by_scram", host, &format!("sslmode={mode}&sslrootcert={ca}")))
                .await
                .unwrap_or_else(|error| panic!("{mode} of {host}: {error}"));
            let error = both(&url("by_scram", host, &format!("sslmode={mode}&sslrootcert={other}"))).await.unwrap_err();
            assert!(error.contains("certificate"), "{error}");
        }
        let error = both(&url("by_scram", "127.0.0.1", &format!("sslmode=require&sslrootcert={other}"))).await;
        assert!(error.is_err(), "require with a root certificate verifies the chain, as libpq does");

        // A certificate of the right CA for another name.
        reload(&cluster, &set("wrong")).await;
        crate::support::wait::until(crate::support::socket::PATIENCE, async || {
            both(&url("by_scram", "127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ca}"))).await.is_err()
        })
        .await;
        both(&url("by_scram", "localhost", &format!("sslmode=verify-full&sslrootcert={ca}"))).await.unwrap_err();
        both(&url("by_scram", "localhost", &format!("sslmode=verify-ca&sslrootcert={ca}"))).await.unwrap();
        both(&url("by_scram", "localhost", "sslmode=require")).await.unwrap();

        cluster.stop().await.unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
