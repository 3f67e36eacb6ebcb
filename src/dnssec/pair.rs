//! Pairs of a public and a private key.
//!
//! Each algorithm has its own formats of keys in DNSKEY records and in files, which are turned into
//! those of the library here. A pair whose keys do not belong together is refused.

use super::{Algorithm, PublicKey, RsaSecret, Secret, SecretBytes};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use std::fmt;

/// Octets of a private key of Ed25519.
const ED25519_SEED: usize = 32;

/// A key pair that signs.
pub(crate) struct KeyPair {
    kind: Kind,
    random: SystemRandom,
}

enum Kind {
    Ecdsa(Box<EcdsaKeyPair>, usize),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
}

impl KeyPair {
    /// Makes the pair of these keys.
    ///
    /// # Errors
    /// The keys do not belong together, or are not of their algorithm; the text for the operator.
    pub(crate) fn new(public: &PublicKey, secret: &Secret) -> Result<Self, String> {
        let random = SystemRandom::new();
        let kind = match (public.algorithm, secret) {
            (Algorithm::EcdsaP256 | Algorithm::EcdsaP384, Secret::Scalar(scalar)) => {
                ecdsa(public, scalar, &random)?
            }
            (Algorithm::Ed25519, Secret::Scalar(seed)) => ed25519(public, seed)?,
            (Algorithm::RsaSha256 | Algorithm::RsaSha512, Secret::Rsa(secret)) => {
                rsa(public, secret)?
            }
            _ => return Err("the private key is of another algorithm".into()),
        };
        Ok(Self { kind, random })
    }

    /// Octets of a signature.
    pub(crate) fn signature_len(&self) -> usize {
        match &self.kind {
            Kind::Ecdsa(_, len) => *len,
            Kind::Ed25519(_) => 64,
            Kind::Rsa(pair, _) => pair.public().modulus_len(),
        }
    }

    /// Writes the signature of `data` into `out`, which has the length of a signature. Returns
    /// false if the kernel has no random numbers.
    pub(crate) fn sign(&self, data: &[u8], out: &mut [u8]) -> bool {
        debug_assert_eq!(out.len(), self.signature_len());
        let made = match &self.kind {
            Kind::Ecdsa(pair, _) => pair.sign(&self.random, data),
            Kind::Ed25519(pair) => Ok(pair.sign(data)),
            Kind::Rsa(pair, encoding) => {
                return pair.sign(*encoding, &self.random, data, out).is_ok();
            }
        };
        let Ok(made) = made else { return false };
        let is_whole = made.as_ref().len() == out.len();
        if is_whole {
            out.copy_from_slice(made.as_ref());
        }
        is_whole
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair")
    }
}

const UNFIT: &str = "the private key does not belong to the public key";

fn ecdsa(public: &PublicKey, scalar: &[u8], random: &SystemRandom) -> Result<Kind, String> {
    let (algorithm, len) = match public.algorithm {
        Algorithm::EcdsaP256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, 32_usize),
        _ => (&ECDSA_P384_SHA384_FIXED_SIGNING, 48),
    };
    // Some programs leave leading zeros out.
    let start = len.checked_sub(scalar.len()).ok_or("the private key is too long")?;
    let mut whole = Vec::with_capacity(len);
    whole.resize(start, 0);
    whole.extend(scalar);
    let whole = SecretBytes::from(whole);
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        algorithm,
        &whole,
        &point(&public.key),
        random,
    );
    Ok(Kind::Ecdsa(Box::new(pair.map_err(|_| UNFIT)?), 2 * len))
}

fn ed25519(public: &PublicKey, seed: &[u8]) -> Result<Kind, String> {
    if seed.len() != ED25519_SEED {
        return Err(format!("the private key has {} octets, not {ED25519_SEED}", seed.len()));
    }
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, &public.key);
    Ok(Kind::Ed25519(Box::new(pair.map_err(|_| UNFIT)?)))
}

fn rsa(public: &PublicKey, secret: &RsaSecret) -> Result<Kind, String> {
    let own = rsa_numbers(&public.key).ok_or("the public key is malformed")?;
    if (own.n, own.e) != (trimmed(&secret.n), trimmed(&secret.e)) {
        return Err(UNFIT.into());
    }
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: own.n, e: own.e },
        d: trimmed(&secret.d),
        p: trimmed(&secret.primes[0]),
        q: trimmed(&secret.primes[1]),
        dP: trimmed(&secret.exponents[0]),
        dQ: trimmed(&secret.exponents[1]),
        qInv: trimmed(&secret.coefficient),
    };
    let pair = RsaKeyPair::from_components(&components).map_err(|error| {
        format!("the private key cannot be used ({error}): expected RSA with 2048 to 4096 bits")
    })?;
    let encoding: &'static dyn RsaEncoding = match public.algorithm {
        Algorithm::RsaSha256 => &RSA_PKCS1_SHA256,
        _ => &RSA_PKCS1_SHA512,
    };
    Ok(Kind::Rsa(Box::new(pair), encoding))
}

/// Returns true if `signature` of `data` was made with the private key of `public`.
pub fn verify(public: &PublicKey, data: &[u8], signature: &[u8]) -> bool {
    let check = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
        UnparsedPublicKey::new(algorithm, key).verify(data, signature).is_ok()
    };
    match public.algorithm {
        Algorithm::EcdsaP256 => check(&ECDSA_P256_SHA256_FIXED, &point(&public.key)),
        Algorithm::EcdsaP384 => check(&ECDSA_P384_SHA384_FIXED, &point(&public.key)),
        Algorithm::Ed25519 => check(&ED25519, &public.key),
        Algorithm::RsaSha256 | Algorithm::RsaSha512 => {
            let algorithm = match public.algorithm {
                Algorithm::RsaSha256 => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
                _ => &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            };
            rsa_numbers(&public.key)
                .is_some_and(|numbers| numbers.verify(algorithm, data, signature).is_ok())
        }
    }
}

/// The uncompressed form of a point (SEC 1 §2.3.3): DNSKEY records leave its first octet out.
fn point(key: &[u8]) -> Vec<u8> {
    let mut point = vec![4];
    point.extend(key);
    point
}

/// The modulus and the exponent in a public key of RSA (RFC 3110 §2).
fn rsa_numbers(key: &[u8]) -> Option<RsaPublicKeyComponents<&[u8]>> {
    let (first, rest) = key.split_first()?;
    let (len, rest) = match *first {
        0 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*len).into(), rest)
        }
        len => (usize::from(len), rest),
    };
    let (e, n) = rest.split_at_checked(len)?;
    Some(RsaPublicKeyComponents { n: trimmed(n), e: trimmed(e) })
}

/// A number without leading zeros.
fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    &number[zeros..]
}
