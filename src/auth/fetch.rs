//! One GET of a key set, bounded in time and size. No redirects: the keys are where the operator said, or nowhere.

use super::{
    jwks_url::JwksUrl,
    key_set::{KeySet, KeySetError, MAX_KEY_SET_BYTES},
};
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there are no new keys. None of it repeats what was answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it took longer than {LIMIT:?}")]
    Slow,
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the host's name cannot be verified")]
    Name,
    #[error("the answer is no HTTP")]
    Http,
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_KEY_SET_BYTES} bytes, or broke off")]
    Body,
    #[error("the answer is no key set: {0}")]
    Set(#[from] KeySetError),
}

/// The set as it is published now.
pub(super) async fn fetch(url: &JwksUrl) -> Result<KeySet, FetchError> {
    let answer = async {
        let socket = TcpStream::connect((url.host(), url.port())).await?;
        if !url.is_tls() {
            return get(socket, url).await;
        }
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| FetchError::Name)?;
        get(TlsConnector::from(tls()?).connect(name, socket).await?, url).await
    };
    let body = tokio::time::timeout(LIMIT, answer).await.map_err(|_| FetchError::Slow)??;
    Ok(KeySet::read_public(&body)?)
}

/// Trusts whom this machine trusts. Read each time: certificates are renewed, and this is seldom.
fn tls() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn get(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    url: &JwksUrl,
) -> Result<Vec<u8>, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|_| FetchError::Http)?;
    let request = Request::get(url.target())
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("walcast/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(|_| FetchError::Http)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|_| FetchError::Http)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        to_bytes(Body::new(answer.into_body()), MAX_KEY_SET_BYTES).await.map_err(|_| FetchError::Body)
    };
    // The connection may be over before its answer was read to the end; the answer knows whether it is whole.
    let driven = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = answer => answer.map(Vec::from),
        never = driven => never,
    }
}
