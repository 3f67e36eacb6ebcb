//! Keys and signatures on P-521 (secp521r1), which ring lacks but certificates use.
//!
//! Certificates may be signed with any SHA-2 digest (OpenSSL uses SHA-256 by default); handshakes
//! of TLS 1.3 use SHA-512 alone (RFC 8446 §4.2.3). Digests are ring's, the arithmetic of the curve
//! is that of the crate `p521`, in constant time. Our own signatures are deterministic (RFC 6979).

use p521::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p521::ecdsa::{Signature, SigningKey as Secret, VerifyingKey};
use p521::pkcs8::DecodePrivateKey;
use ring::digest;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// Bytes of a number on the curve.
const FIELD_LEN: usize = 66;

/// ECDSA on P-521 with SHA-256.
pub(super) static WITH_SHA256: Verifier =
    Verifier { digest: &digest::SHA256, signature: alg_id::ECDSA_SHA256 };
/// ECDSA on P-521 with SHA-384.
pub(super) static WITH_SHA384: Verifier =
    Verifier { digest: &digest::SHA384, signature: alg_id::ECDSA_SHA384 };
/// ECDSA on P-521 with SHA-512.
pub(super) static WITH_SHA512: Verifier =
    Verifier { digest: &digest::SHA512, signature: alg_id::ECDSA_SHA512 };

/// Verifies signatures made with one digest.
#[derive(Debug)]
pub(super) struct Verifier {
    digest: &'static digest::Algorithm,
    signature: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Verifier {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let number = number_of(self.digest, message);
        key.verify_prehash(&number, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// Returns the digest of `message` as the number that is signed, padded with zeros: all digests are
/// shorter than the curve's numbers, and `p521` refuses those of SHA-256 unless they are as long.
fn number_of(algorithm: &'static digest::Algorithm, message: &[u8]) -> [u8; FIELD_LEN] {
    let digest = digest::digest(algorithm, message);
    let mut number = [0; FIELD_LEN];
    number[FIELD_LEN - digest.as_ref().len()..].copy_from_slice(digest.as_ref());
    number
}

/// Returns the key in `der`, if it is on this curve.
pub(super) fn key_of(der: &PrivateKeyDer<'_>) -> Option<Arc<dyn SigningKey>> {
    let secret = match der {
        PrivateKeyDer::Pkcs8(der) => Secret::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Sec1(der) => {
            p521::SecretKey::from_sec1_der(der.secret_sec1_der()).ok().map(|key| Secret::from(&key))
        }
        _ => None,
    };
    Some(Arc::new(Key(Arc::new(secret?))))
}

/// A private key on P-521.
struct Key(Arc<Secret>);

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let is_offered = offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512);
        is_offered.then(|| Box::new(Self(Arc::clone(&self.0))) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let point = self.0.verifying_key().to_sec1_point(false);
        Some(public_key_to_spki(&alg_id::ECDSA_P521, point.as_bytes()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Result<Signature, _> =
            self.0.sign_prehash(&number_of(&digest::SHA512, message));
        let signature = signature.map_err(|error| Error::General(error.to_string()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key on P-521")
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, Verifier, WITH_SHA256, WITH_SHA384, WITH_SHA512, key_of, number_of};
    use p521::ecdsa::Signature;
    use p521::ecdsa::signature::hazmat::PrehashSigner;
    use rustls::SignatureScheme;
    use rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};

    fn number() -> [u8; 66] {
        let mut number = [7; 66];
        number[0] = 1;
        number
    }

    fn secret() -> Secret {
        Secret::from_slice(&number()).unwrap()
    }

    fn point() -> Vec<u8> {
        secret().verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    #[test]
    fn a_signature_by_any_digest_is_verified_and_none_by_another() {
        let verifiers: [&Verifier; 3] = [&WITH_SHA256, &WITH_SHA384, &WITH_SHA512];
        for (place, verifier) in verifiers.iter().enumerate() {
            let number = number_of(verifier.digest, b"message");
            let signature: Signature = secret().sign_prehash(&number).unwrap();
            let signature = signature.to_der().as_bytes().to_vec();
            let verify = |verifier: &Verifier, message: &[u8], signature: &[u8]| {
                verifier.verify_signature(&point(), message, signature).is_ok()
            };
            assert!(verify(verifier, b"message", &signature));
            assert!(!verify(verifier, b"massage", &signature));
            assert!(!verify(verifiers[(place + 1) % 3], b"message", &signature));
            assert!(!verify(verifier, b"message", &signature[1..]));
            assert!(verifier.verify_signature(&point()[1..], b"message", &signature).is_err());
        }
    }

    #[test]
    fn a_key_signs_by_the_scheme_of_its_curve_alone() {
        // ECPrivateKey of RFC 5915 §3, with the curve's identifier.
        let curve = b"\xa0\x07\x06\x05\x2b\x81\x04\x00\x23";
        let der = [&b"\x30\x50\x02\x01\x01\x04\x42"[..], &number(), curve].concat();
        let der = PrivateKeyDer::Sec1(der.into());
        let key = key_of(&der).unwrap();
        let other = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        assert!(key.choose_scheme(&other).is_none());
        let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP521_SHA512]).unwrap();
        let signature = signer.sign(b"message").unwrap();
        WITH_SHA512.verify_signature(&point(), b"message", &signature).unwrap();
        assert!(key.public_key().unwrap().ends_with(&point()));
    }
}
