//! Where the database is: the connection string and TLS. Who connects is `target`'s and `handshake`'s.
//!
//! tokio-postgres parses the string; what it does not know (`sslmode=verify-*`, `sslrootcert`) is taken out first.
//! Errors never carry the string, because it holds a password.

use super::tls::{self, TlsError, Verification};
use percent_encoding::percent_decode_str;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How values are written, whatever the server's or the role's defaults are: what the stream carries and what filters
/// are compared with must be spelled alike.
pub const TEXT_FORMS: &str = "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c timezone=UTC \
                              -c bytea_output=hex";
/// What reading the stream's texts depends on, for sessions that otherwise keep the database's defaults.
pub const TEXT_INPUT: &str = "-c intervalstyle=postgres";

/// How long one attempt to reach the server may take when the connection string sets no `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without any sign of life a connection is asked for one.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be read. The string itself is not repeated: it may hold a password.
    #[error("the database URL is not valid: {0}")]
    Url(String),
    /// TLS cannot be set up as asked.
    #[error("cannot set up TLS to the database")]
    Tls(#[from] TlsError),
    /// The server did not take the connection.
    #[error("cannot connect to the database at {address}")]
    Connect {
        /// Host and port, without credentials.
        address: String,
        /// What the attempt said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The pool could not be built.
    #[error("cannot build the connection pool")]
    Pool(#[source] deadpool_postgres::BuildError),
}

/// How a database is reached. Cheap to clone.
#[derive(Clone)]
pub struct Reach {
    pub(super) config: Arc<Config>,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

impl Reach {
    /// Reads a connection string: a `postgresql://` URL or libpq's `key=value` form.
    pub(super) fn parse(text: &str) -> Result<Reach, ConnectError> {
        let mut own = OwnOptions::default();
        let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            own.take_from_url(text)?
        } else {
            own.take_from_pairs(text)?
        };
        let mut config: Config = rest.parse().map_err(|error| ConnectError::Url(describe(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConnectError::Url(
                "it names no host; write postgresql://user:password@host:5432/database".into(),
            ));
        }
        if config.get_user().is_none() {
            return Err(ConnectError::Url(
                "it names no user; write postgresql://user:password@host:5432/database".into(),
            ));
        }
        // The first `@` ends the password, and what follows would be repeated as the host.
        let holds_at = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if config.get_hosts().iter().any(holds_at) {
            return Err(ConnectError::Url("its host holds an `@`; write an `@` of the password as %40".into()));
        }
        let verification = own.apply(&mut config)?;
        // As libpq does: a Unix socket knows no TLS, whatever `sslmode` says.
        #[cfg(unix)]
        if config.get_hostaddrs().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        notice_dead_peers(&mut config);
        let tls = tls::client_config(verification, own.root_certificates.as_ref())?;
        Ok(Reach { config: Arc::new(config), tls: Arc::new(tls) })
    }

    /// Host and port for messages; never the user, never the password.
    pub(super) fn address(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        format!("{host}:{}", self.config.get_ports().first().copied().unwrap_or(5432))
    }

    /// The user the connection string names.
    pub(super) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// The database the connection string names, by default that of the user's name.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }

    /// Whether the other one leads to the same database of the same server.
    pub(super) fn is_same_place(&self, other: &Reach) -> bool {
        let place = |reach: &Reach| {
            let config = &reach.config;
            (config.get_hosts().to_vec(), config.get_hostaddrs().to_vec(), config.get_ports().to_vec())
        };
        place(self) == place(other) && self.database() == other.database()
    }

    pub(super) fn rustls(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new((*self.tls).clone())
    }
}

/// What to do when the server refuses a session with this SQLSTATE, where that is known. `role` is our login.
pub fn advice(code: &str, role: &str) -> Option<String> {
    match code {
        "53300" => Some(format!(
            "raise max_connections, max_wal_senders or the role's own limit (alter role {} connection limit -1;), or close \
             other sessions",
            identifier(role)
        )),
        "28P01" | "28000" => Some("check user, password and pg_hba.conf for DATABASE_URL".to_owned()),
        "3D000" => Some("check the database's name in DATABASE_URL".to_owned()),
        _ => None,
    }
}

/// A name as SQL has it, with quotes only where it needs them.
pub fn identifier(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain && !name.starts_with(|first: char| first.is_ascii_digit()) {
        name.to_owned()
    } else {
        postgres_protocol::escape::escape_identifier(name)
    }
}

/// A peer that is gone without a word is noticed in less than a minute, unless the connection string says when.
fn notice_dead_peers(config: &mut Config) {
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(KEEPALIVE);
    }
    config.get_keepalives_interval().is_none().then(|| config.keepalives_interval(KEEPALIVE / 3));
    config.get_keepalives_retries().is_none().then(|| config.keepalives_retries(3));
    config.get_tcp_user_timeout().is_none().then(|| config.tcp_user_timeout(KEEPALIVE));
}

/// An error with its causes in one line, as for a log field.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The options that tokio-postgres knows.
const OPTIONS: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslmode",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Whether an option of this name is read, here or there.
fn is_option(key: &str) -> bool {
    OPTIONS.contains(&key) || key == "sslrootcert"
}

/// The options of a connection string that tokio-postgres does not know.
#[derive(Default)]
struct OwnOptions {
    ssl_mode: Option<String>,
    root_certificates: Option<PathBuf>,
}

impl OwnOptions {
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.ssl_mode = Some(value.to_owned()),
            "sslrootcert" => self.root_certificates = Some(PathBuf::from(value)),
            _ => return false,
        }
        true
    }

    fn take_from_url(&mut self, url: &str) -> Result<String, ConnectError> {
        let Some((base, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
        // A `?` that is not encoded ends a password, and its rest up to the `@` looks like options.
        let is_sound = base.contains('@') && !query.contains('@');
        // What has no `=` is a part of the next option's name, for whoever reads the rest.
        let is_known = |pair: &str| pair.is_empty() || pair.split_once('=').is_some_and(|(key, _)| is_option(key));
        if !is_sound && !query.split('&').all(is_known) {
            return Err(ConnectError::Url("it holds unknown options; write a `?` of the password as %3F".into()));
        }
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                !pair
                    .split_once('=')
                    .is_some_and(|(key, value)| self.take(key, &percent_decode_str(value).decode_utf8_lossy()))
            })
            .collect();
        Ok(if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) })
    }

    fn take_from_pairs(&mut self, text: &str) -> Result<String, ConnectError> {
        let mut kept = String::new();
        for (key, value) in key_value_pairs(text)? {
            // Not by name: of a mistyped URL, and of a password with a space, everything up to a `=` looks like one.
            if !is_option(&key) {
                return Err(ConnectError::Url(
                    "it holds an unknown option; a URL begins with postgresql://, and a value with a space stands in \
                     quotes"
                        .into(),
                ));
            }
            if !self.take(&key, &value) {
                let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
                kept.push_str(&format!("{key}='{quoted}' "));
            }
        }
        Ok(kept)
    }

    /// libpq's meaning of `sslmode`, and its oddity that `require` with a root certificate verifies the chain.
    fn apply(&self, config: &mut Config) -> Result<Verification, ConnectError> {
        let (mode, verification) = match self.ssl_mode.as_deref() {
            Some("disable") => (SslMode::Disable, Verification::None),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Verification::None),
            Some("require") if self.root_certificates.is_some() => (SslMode::Require, Verification::Chain),
            Some("require") => (SslMode::Require, Verification::None),
            Some("verify-ca") => (SslMode::Require, Verification::Chain),
            Some("verify-full") => (SslMode::Require, Verification::ChainAndName),
            // Not what it is: that may be the rest of a password.
            Some(_) => {
                return Err(ConnectError::Url(
                    "sslmode is none of disable, prefer, require, verify-ca and verify-full".into(),
                ));
            }
        };
        config.ssl_mode(mode);
        Ok(verification)
    }
}

/// libpq's `key = 'value'` form (PostgreSQL documentation, "Keyword/Value Connection Strings").
fn key_value_pairs(text: &str) -> Result<Vec<(String, String)>, ConnectError> {
    let bad = |what: &str| ConnectError::Url(format!("{what}; write postgresql://user:password@host:5432/database"));
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| bad("it is neither a URL nor `key=value` pairs"))?;
        let mut value = String::new();
        let mut characters = after.trim_start().char_indices();
        let body = after.trim_start();
        let quoted = body.starts_with('\'');
        if quoted {
            characters.next();
        }
        let mut end = body.len();
        let mut closed = !quoted;
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                '\'' if quoted => {
                    closed = true;
                    end = at + 1;
                    break;
                }
                blank if !quoted && blank.is_whitespace() => {
                    end = at;
                    break;
                }
                other => value.push(other),
            }
        }
        if !closed {
            return Err(bad("a quoted value is not closed"));
        }
        pairs.push((key.trim().to_owned(), value));
        rest = body[end..].trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_what_tokio_postgres_knows_and_gives_up_what_it_does_not() {
        let reach = Reach::parse("postgresql://u:p%40@h:6000/d?sslmode=require&connect_timeout=3").unwrap();
        assert_eq!(reach.address(), "h:6000");
        assert_eq!((reach.user(), reach.database()), ("u", "d"));
        assert_eq!(reach.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(reach.config.get_password(), Some(&b"p@"[..]));
        assert_eq!(reach.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }

    #[test]
    fn the_key_value_form_is_read_with_quotes_and_escapes() {
        let reach = Reach::parse(r"host=/run/pg user = 'a b' password='it\'s' dbname=x sslmode=disable").unwrap();
        assert_eq!((reach.user(), reach.database()), ("a b", "x"));
        assert_eq!(reach.config.get_password(), Some(&b"it's"[..]));
        assert_eq!(reach.config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(reach.address(), "/run/pg:5432");
    }

    #[test]
    fn a_bad_string_is_refused_by_what_is_wrong_and_never_repeated() {
        for (text, why) in [
            ("postgres://u:sesame@h/d?sslmode=maybe", "sslmode is none of"),
            ("postgres://u@h/d?sslmode=sesame@h", "sslmode is none of"),
            ("postgres://u:sesame@h/d?nonsense=1", "nonsense"),
            ("postgres:///d", "no "),
            ("sesame", "neither a URL"),
            ("host=h user=u password='sesame", "not closed"),
            ("postgres://h/d", "no user"),
            ("postgres://u:open@sesame@h/d", "%40"),
            ("postgres://u:open?sesame=x@h/d", "%3F"),
            ("postgres://u:open?sesame@h/d?sslmode=require", "%3F"),
            ("host=h user=u password=open sesame=x", "quotes"),
            ("postgress://u:sesame@h/d?sslmode=require", "postgresql://"),
        ] {
            let error = describe(&Reach::parse(text).err().unwrap());
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn verifying_without_any_root_certificate_is_refused_with_the_fix() {
        let error = Reach::parse("postgres://u@h/d?sslmode=verify-full&sslrootcert=/nonexistent.pem").err().unwrap();
        assert!(describe(&error).contains("/nonexistent.pem"));
    }
}
