//! The cryptography of all sessions: ring's, and P-521 beside it.
//!
//! Made once for the process. Signatures on P-521 are verified and made by [`secp521r1`], so that
//! certificates and keys on that curve can be used on both sides; all else is ring's.

use super::secp521r1;
use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme};
use std::sync::{Arc, LazyLock};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let ring = ring::default_provider();
    let algorithms = with_p521(&ring.signature_verification_algorithms);
    Arc::new(CryptoProvider {
        signature_verification_algorithms: algorithms,
        key_provider: &Keys,
        ..ring
    })
});

/// Returns the cryptography of all sessions.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Returns the algorithms of `known` and those on P-521. They live as long as the process.
fn with_p521(known: &WebPkiSupportedAlgorithms) -> WebPkiSupportedAlgorithms {
    type Algorithms = Vec<&'static dyn SignatureVerificationAlgorithm>;
    // In TLS 1.2 a scheme is of any curve (RFC 5246 §7.4.1.4.1); in 1.3 the first matches.
    let added: [(SignatureScheme, &'static dyn SignatureVerificationAlgorithm); 3] = [
        (SignatureScheme::ECDSA_NISTP256_SHA256, &secp521r1::WITH_SHA256),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &secp521r1::WITH_SHA384),
        (SignatureScheme::ECDSA_NISTP521_SHA512, &secp521r1::WITH_SHA512),
    ];
    let mut all: Algorithms = known.all.to_vec();
    all.extend(added.map(|(_, algorithm)| algorithm));
    let mut mapping: Vec<(SignatureScheme, Algorithms)> =
        known.mapping.iter().map(|(scheme, of_scheme)| (*scheme, of_scheme.to_vec())).collect();
    for (scheme, algorithm) in added {
        match mapping.iter_mut().find(|(known, _)| *known == scheme) {
            Some((_, of_scheme)) => of_scheme.push(algorithm),
            None => mapping.push((scheme, vec![algorithm])),
        }
    }
    let mapping: Vec<(SignatureScheme, &'static [_])> =
        mapping.into_iter().map(|(scheme, of_scheme)| (scheme, &*of_scheme.leak())).collect();
    WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.leak() }
}

/// Reads private keys.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match secp521r1::key_of(&der) {
            Some(key) => Ok(key),
            None => ring::default_provider().key_provider.load_private_key(der),
        }
    }
}
