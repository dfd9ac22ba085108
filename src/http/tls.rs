//! The certificate authorities that are trusted: the public ones that are built in, and private ones
//! from a PEM file.
//!
//! Reads nothing from disk unless a setting names a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// How many TLS sessions a client stores to resume them: those of one server, because each client has one. The default of
/// rustls reserves memory for 32 servers.
const MAX_SESSIONS: usize = 8;

/// Why the private authorities cannot be used. The messages name the variable that holds the path of the PEM file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("SSL_CERT_FILE: the certificate authorities in {} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("SSL_CERT_FILE: {} is not a PEM file: {cause}", path.display())]
    NotPem { path: PathBuf, cause: pem::Error },
    #[error("SSL_CERT_FILE: there is no certificate authority in {}", path.display())]
    NoAuthority { path: PathBuf },
}

/// The TLS configuration for a URL. It trusts no authority if the URL is not https. `authorities` is a PEM file with
/// more authorities to trust.
pub fn config(url: &Url, authorities: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    if url.scheme() == "https" {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = authorities {
            add_authorities(&mut roots, path)?;
        }
    }
    Ok(config_with_roots(roots))
}

/// The configuration for connections without TLS: it trusts no authority. The HTTP client requires a configuration
/// even for these.
pub fn config_without_tls() -> ClientConfig {
    config_with_roots(RootCertStore::empty())
}

/// A message for a TLS error in plain words. If the user can fix the cause, the message says how.
pub fn plain_cause(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS: is it http://?".to_owned()
        }
        rustls::Error::InvalidCertificate(error) => certificate_cause(error),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)
        | rustls::Error::PeerIncompatible(_) => {
            "the server and the worker have no TLS version or cipher in common".to_owned()
        }
        other => other.to_string(),
    }
}

/// A message for a certificate that rustls rejects.
fn certificate_cause(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "the server's certificate is self-signed, or signed by \
            an authority that is not trusted; SSL_CERT_FILE can name a file with that authority"
            .to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: is this machine's clock right?".to_owned()
        }
        CertificateError::NotValidForName => {
            "the server's certificate is for another host name".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            // rustls writes each name as `DnsName("a.example")`.
            let names = presented
                .iter()
                .map(|name| name.split('"').nth(1).unwrap_or(name));
            let names: Vec<&str> = names.collect();
            format!(
                "the server's certificate is not for {}, but for {}",
                expected.to_str(),
                names.join(", ")
            )
        }
        // An error of webpki that has no variant in rustls.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "self-signed certificate: the server uses a certificate authority's certificate as its \
             own; give it one that is signed by that authority"
                .to_owned()
        }
        other => format!("the server's certificate is refused: {other}"),
    }
}

fn config_with_roots(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
    config
}

/// The number of authorities in a PEM file.
pub fn count_authorities(path: &Path) -> Result<usize, TlsError> {
    add_authorities(&mut RootCertStore::empty(), path)
}

/// Adds the authorities of a PEM file; returns their number.
fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<usize, TlsError> {
    let pem = fs::read(path).map_err(|cause| TlsError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|cause| TlsError::NotPem {
        path: path.to_owned(),
        cause,
    })?;
    // Certificates that webpki does not support are skipped: a bundle may contain some.
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(TlsError::NoAuthority {
            path: path.to_owned(),
        });
    }
    Ok(added)
}
