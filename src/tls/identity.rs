//! Certificates, keys and authorities, from the bytes of files.
//!
//! PEM as every tool writes it; other text between the blocks is skipped, because certificates are
//! often preceded by their description. rustls checks that a key belongs to its certificate when
//! both are put to use.

use super::certificate::Certificate;
use super::trust::Trusted;
use super::{SetupError, pem};
use crate::config::Pem;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// Bits of the largest RSA key that can sign; certificates of others may have 8192.
const RSA_BITS_MAX: usize = 4096;

/// Returns the certificates in a file, at least one.
pub(super) fn certificates(file: &Pem) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let refuse = |message: String| SetupError::new(&file.path, message);
    let lines = pem::lines(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&lines).collect();
    let found = found.map_err(|error| refuse(format!("invalid PEM: {error}")))?;
    if found.is_empty() {
        let message = "no certificate in the file: expected -----BEGIN CERTIFICATE-----";
        return Err(refuse(message.into()));
    }
    Ok(found)
}

/// Returns the first key in a file.
pub(super) fn key(file: &Pem) -> Result<PrivateKeyDer<'static>, SetupError> {
    PrivateKeyDer::from_pem_slice(&pem::lines(file)?).map_err(|_| {
        let message = "no private key in the file: expected PKCS #8, SEC 1 or PKCS #1 in PEM, not \
                       encrypted";
        SetupError::new(&file.path, message)
    })
}

/// Returns the authorities in a file; without a file, the system's.
pub(super) fn authorities(file: Option<&Pem>) -> Result<Trusted, SetupError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let system = rustls_native_certs::load_native_certs();
        // A few unreadable ones among hundreds do not matter.
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let why = system.errors.first().map_or_else(String::new, |why| format!(" ({why})"));
            let message = format!(
                "this system has no trusted certificate authorities{why}: install \
                 ca-certificates, or give a CA file to 'tls'"
            );
            return Err(SetupError::new("", message));
        }
        return Ok(Trusted { roots: Arc::new(roots), certificates: Arc::default() });
    };
    let certificates = certificates(file)?;
    for (place, authority) in certificates.iter().enumerate() {
        roots.add(authority.clone()).map_err(|error| {
            let message = format!("certificate {} of the file cannot be used: {error}", place + 1);
            SetupError::new(&file.path, message)
        })?;
    }
    Ok(Trusted { roots: Arc::new(roots), certificates: certificates.into() })
}

/// Returns the error of rustls about a certificate and its key.
pub(super) fn refuse_pair(certificate: &Pem, key: &Pem, error: &rustls::Error) -> SetupError {
    let own = certificates(certificate).ok().and_then(|chain| Certificate::read(&chain[0]));
    let bits = own.and_then(|own| own.rsa_bits()).filter(|bits| *bits > RSA_BITS_MAX);
    let message = match (error, bits) {
        (rustls::Error::InconsistentKeys(_), _) => {
            format!("the key in {} belongs to another certificate", key.path)
        }
        (_, Some(bits)) => format!(
            "the RSA key has {bits} bits, and a signature would occupy a worker for tens of \
             milliseconds in each handshake: expected RSA with 2048 to {RSA_BITS_MAX} bits, \
             P-256, P-384, P-521 or Ed25519"
        ),
        (other, None) => {
            format!("the certificate cannot be used with the key in {}: {other}", key.path)
        }
    };
    SetupError::new(&certificate.path, message)
}

#[cfg(test)]
mod tests {
    use super::certificates;
    use crate::config::Pem;

    #[test]
    fn a_chain_put_together_without_line_breaks_is_whole() {
        let made = || rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let (first, second) = (made().cert, made().cert);
        let text = first.pem().trim_end().to_owned() + second.pem().trim_end();
        let bytes = text.into_bytes().into();
        let file = Pem { path: "a.pem".into(), place: "/a.pem".into(), bytes };
        assert_eq!(certificates(&file).unwrap(), [first.der().clone(), second.der().clone()]);
    }
}
