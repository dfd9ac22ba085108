//! Whom to trust: the public authorities that are built in, and the private ones of a PEM file.
//!
//! Reads nothing from disk unless it is told to.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// What rustls says in one word, and what to do about it.
const UNTRUSTED: &str =
    "it is signed by an authority that is not trusted; SSL_CERT_FILE can name further ones";

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate authorities in {} cannot be read", path.display())]
    Authorities { path: PathBuf, source: pem::Error },
    #[error("there is no certificate authority in {}", path.display())]
    NoAuthority { path: PathBuf },
}

/// TLS for a URL, with private authorities beside the public ones; with none at all where the
/// URL needs none.
pub fn config(url: &Url, authorities: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    if url.scheme() == "https" {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = authorities {
            trust(&mut roots, path)?;
        }
    }
    Ok(trusting(roots))
}

/// For connections that need no TLS; a client wants to know all the same.
pub fn none() -> ClientConfig {
    trusting(RootCertStore::empty())
}

/// What to do where the other side's certificate comes from an authority that nobody named.
pub fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    (tls_error(error) == Some(&unknown)).then(|| UNTRUSTED.to_owned())
}

/// Whether the other side is not who it should be, as far as anybody can tell.
pub fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// What TLS said, somewhere below an error.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    // An I/O error's source is not what it holds, but that one's source.
    let below = match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|held| held as &(dyn Error + 'static)),
        None => error.source(),
    };
    error.downcast_ref().or_else(|| tls_error(below?))
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The number of authorities in a PEM file.
pub fn count_authorities(path: &Path) -> Result<usize, TlsError> {
    trust(&mut RootCertStore::empty(), path)
}

/// Adds the authorities of a PEM file; returns their number.
fn trust(roots: &mut RootCertStore, path: &Path) -> Result<usize, TlsError> {
    let failed = |source| TlsError::Authorities {
        path: path.to_owned(),
        source,
    };
    let pem = fs::read(path).map_err(|error| failed(pem::Error::Io(error)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    // A bundle may hold some that webpki does not like; the others count.
    let (added, _) = roots.add_parsable_certificates(certificates.map_err(failed)?);
    if added == 0 {
        return Err(TlsError::NoAuthority {
            path: path.to_owned(),
        });
    }
    Ok(added)
}
