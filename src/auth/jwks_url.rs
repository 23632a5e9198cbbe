//! Where a key set is published.

use axum::http::Uri;
use std::{fmt, net::IpAddr};

/// Why a URL is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// No URL.
    #[error("it is no URL such as https://auth.example.com/.well-known/jwks.json")]
    Form,
    /// Whoever is on the way could put in his own keys.
    #[error(
        "over plain http, whoever is on the way could put in keys of his own: use https, or set \
         WALCAST_JWKS_PLAIN_HTTP=true if the network between is yours alone"
    )]
    PlainHttp,
    /// A URL is no place for a password.
    #[error("it names a user, which is not sent")]
    User,
}

/// The URL of a key set, checked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct JwksUrl {
    uri: Uri,
    is_tls: bool,
}

impl JwksUrl {
    /// Reads a URL. Plain http is for this machine, and for others only when the operator says so.
    pub fn read(text: &str, plain_http: bool) -> Result<JwksUrl, JwksUrlError> {
        let uri: Uri = text.trim().parse().map_err(|_| JwksUrlError::Form)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(JwksUrlError::Form)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(JwksUrlError::User);
        }
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if plain_http || is_this_machine(host) => false,
            Some("http") => return Err(JwksUrlError::PlainHttp),
            _ => return Err(JwksUrlError::Form),
        };
        Ok(JwksUrl { uri, is_tls })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host's name, without the brackets of an address.
    pub(super) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// Host and port, as the `Host` header has them.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query, as a request line has them.
    pub(super) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }
}

/// Without path and query: a query may hold a key.
impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_only_unless_the_operator_says_so() {
        for url in ["https://a.example/k", "http://localhost:9/k", "http://127.0.0.1/k", "http://[::1]:80/k"] {
            assert!(JwksUrl::read(url, false).is_ok(), "{url}");
        }
        for url in ["http://auth:9999/k", "http://10.0.0.1/k", "http://localhost.example/k", "http://127.0.0.1.nip.io"]
        {
            assert_eq!(JwksUrl::read(url, false).err(), Some(JwksUrlError::PlainHttp), "{url}");
            assert!(JwksUrl::read(url, true).is_ok(), "{url}");
        }
        assert_eq!(JwksUrl::read("https://user:sesame@a.example/k", true).err(), Some(JwksUrlError::User));
        for url in ["", "/k", "a.example", "ftp://a.example/k", "file:///etc/passwd", "https://"] {
            assert_eq!(JwksUrl::read(url, true).err(), Some(JwksUrlError::Form), "{url}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_holds_no_query() {
        let url = JwksUrl::read("https://a.example:8443/k?apikey=sesame", false).unwrap();
        assert_eq!(url.to_string(), "https://a.example:8443");
        assert_eq!((url.host(), url.port(), url.target()), ("a.example", 8443, "/k?apikey=sesame"));
        assert_eq!(JwksUrl::read("https://a.example", false).unwrap().target(), "/");
    }
}
