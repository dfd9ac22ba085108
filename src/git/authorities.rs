//! The certificate authorities for git's https.
//!
//! A git that was built with `GnuTLS` ignores `SSL_CERT_FILE`, and a minimal image has no authorities at
//! all. Then git gets one file with everything that the worker itself trusts.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use tempfile::NamedTempFile;

/// The files in which operating systems store their authorities.
const SYSTEM_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The PEM text that git needs: the system's authorities and those in the file `extra`. `None` if git finds the
/// system's authorities itself, and there is no `extra` file.
pub fn bundle(extra: Option<&Path>) -> io::Result<Option<Vec<u8>>> {
    let system = SYSTEM_FILES.iter().find_map(|path| fs::read(path).ok());
    if system.is_some() && extra.is_none() {
        return Ok(None);
    }
    let mut pem = system.unwrap_or_else(built_in);
    if let Some(path) = extra {
        let content = fs::read(path).map_err(|error| {
            let path = path.display();
            io::Error::new(
                error.kind(),
                format!("SSL_CERT_FILE {path} cannot be read: {error}"),
            )
        });
        pem.push(b'\n');
        pem.extend(content?);
    }
    Ok(Some(pem))
}

/// The public authorities that are part of this program.
fn built_in() -> Vec<u8> {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

/// Writes `pem` to a temporary file for one command. The file is deleted when the result is dropped.
pub fn temporary_file(pem: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("descartes-authorities-")
        .tempfile()?;
    file.write_all(pem)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_built_in_authorities_are_valid_pem() {
        let pem = built_in();
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(certificates, webpki_root_certs::TLS_SERVER_ROOT_CERTS);
    }
}
