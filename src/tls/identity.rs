//! Certificates, keys and authorities, from the bytes of files.
//!
//! PEM as every tool writes it; whatever else stands between is skipped, as certificates are
//! mostly preceded by their text. That a key belongs to its certificate is found out by rustls when
//! both are put to use.

use super::SetupError;
use crate::config::Pem;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates in a file, at least one.
pub(super) fn certificates(file: &Pem) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let refuse = |message: String| SetupError::new(&file.path, message);
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
    let found = found.map_err(|error| refuse(format!("it is no PEM: {error}")))?;
    if found.is_empty() {
        let message = "there is no certificate in it (-----BEGIN CERTIFICATE----- is expected)";
        return Err(refuse(message.into()));
    }
    Ok(found)
}

/// The first key in a file.
pub(super) fn key(file: &Pem) -> Result<PrivateKeyDer<'static>, SetupError> {
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|_| {
        let message = "there is no private key in it (PKCS #8, SEC 1 or PKCS #1 in PEM, not \
                       encrypted, is expected)";
        SetupError::new(&file.path, message)
    })
}

/// The authorities in a file; without one, those that the system trusts.
pub(super) fn authorities(file: Option<&Pem>) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let system = rustls_native_certs::load_native_certs();
        // One of hundreds that cannot be read is nobody's.
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let why = system.errors.first().map_or_else(String::new, |why| format!(" ({why})"));
            let message = format!(
                "this system has no authorities that it trusts{why}: install ca-certificates, or \
                 name a file with 'tls CA'"
            );
            return Err(SetupError::new("", message));
        }
        return Ok(roots);
    };
    for authority in certificates(file)? {
        roots.add(authority).map_err(|error| {
            SetupError::new(&file.path, format!("one of its certificates is of no use: {error}"))
        })?;
    }
    Ok(roots)
}

/// What rustls says of a certificate and its key.
pub(super) fn refuse_pair(certificate: &Pem, key: &Pem, error: &rustls::Error) -> SetupError {
    let message = match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key in {} belongs to another certificate", key.path)
        }
        other => format!("it cannot be used with the key in {}: {other}", key.path),
    };
    SetupError::new(&certificate.path, message)
}
