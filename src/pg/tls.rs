//! TLS towards Postgres by rustls, with libpq's meaning of `sslmode` (PostgreSQL documentation, "SSL Support").
//!
//! Owns the three ways a certificate is checked and the channel-binding data of SCRAM-SHA-256-PLUS (RFC 5929,
//! `tls-server-end-point`).

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::{path::PathBuf, sync::Arc};
use x509_cert::{
    Certificate,
    der::{Decode, oid::ObjectIdentifier},
};

/// How much a server's certificate must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// `require`: encrypted, nothing proved.
    None,
    /// `verify-ca`: the chain.
    Chain,
    /// `verify-full`: the chain and the name.
    ChainAndName,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `sslrootcert` names a file that cannot be used.
    #[error("cannot read certificates from sslrootcert {path}")]
    RootFile {
        /// The file.
        path: String,
        /// What reading it said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// No root certificate is known, so none can be trusted.
    #[error("no root certificate to verify the server with: set sslrootcert to the file of its CA")]
    NoRoots,
    /// rustls refused the settings.
    #[error("TLS settings are not usable")]
    Settings(#[source] Error),
    /// rustls refused the root certificates.
    #[error("root certificates are not usable")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

/// The client side of TLS for one `sslmode` and `sslrootcert`.
pub(crate) fn client_config(verification: Verification, roots: Option<&PathBuf>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if verification == Verification::None {
        Arc::new(Encrypting { provider: provider.clone() })
    } else {
        let full = WebPkiServerVerifier::builder_with_provider(Arc::new(root_store(roots)?), provider.clone())
            .build()
            .map_err(TlsError::Verifier)?;
        if verification == Verification::Chain { Arc::new(ChainOnly { full }) } else { full }
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Settings)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn root_store(roots: Option<&PathBuf>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots.filter(|path| path.as_os_str() != "system") {
        Some(path) => {
            let failed = |source| TlsError::RootFile { path: path.display().to_string(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                store.add_parsable_certificates([certificate.map_err(failed)?]);
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok(store) }
}

/// Checks nothing about who the server is: libpq's `require`. The handshake's own signatures are still checked.
#[derive(Debug)]
struct Encrypting {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Encrypting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain and forgives the name: libpq's `verify-ca`.
#[derive(Debug)]
struct ChainOnly {
    full: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        match self.full.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // webpki looks at the name last, so a name error means that the chain held.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.full.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.full.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.full.supported_verify_schemes()
    }
}

/// The `tls-server-end-point` data of a server's certificate: its hash by the hash of its own signature, where MD5 and
/// SHA-1 are raised to SHA-256. None for a signature that names no hash (Ed25519).
pub(crate) fn end_point_binding(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let hash = match parsed.signature_algorithm.oid {
        SHA512_RSA | SHA512_ECDSA => Sha512::digest(certificate).to_vec(),
        SHA384_RSA | SHA384_ECDSA => Sha384::digest(certificate).to_vec(),
        MD5_RSA | SHA1_RSA | SHA1_ECDSA | SHA256_RSA | SHA256_ECDSA => Sha256::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

const MD5_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
const SHA1_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const SHA256_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const SHA1_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const SHA256_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SHA384_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const SHA512_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
