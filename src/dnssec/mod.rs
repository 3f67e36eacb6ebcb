//! Keys and signatures of DNSSEC (RFC 4034, 5702, 6605, 8080). PURE, apart from random numbers of
//! the library that signs.
//!
//! A [`KeyPair`] signs with what the files of a key contain; [`Draft`] is the signature of an RRset
//! before it is made: the fields of its RRSIG record and the RRset in canonical form; [`Types`] are
//! those of an NSEC record. What is
//! signed, when, and where signatures are kept is for the callers: the engine, which signs replies,
//! and the loader. ECDSA needs a random number for each signature, RSA for its protection against
//! timing; `ring` fetches them from the kernel, which is the only system call here.

mod bitmap;
mod draft;
mod pair;
mod secret;

pub(crate) use bitmap::Types;
pub(crate) use draft::{Draft, Owner, RRSIG_HEAD, label_count};
pub(crate) use pair::KeyPair;
pub use pair::verify;
pub(crate) use secret::SecretBytes;

use ring::digest;
use std::fmt;

/// Protocol field of every DNSKEY record (RFC 4034 §2.1.2).
const PROTOCOL: u8 = 3;
/// Flag of a key that signs (RFC 4034 §2.1.1).
const ZONE_KEY: u16 = 0x100;
/// Flag of a key that is revoked.
const REVOKED: u16 = 0x80;
/// Flag of a key-signing key.
const SECURE_ENTRY_POINT: u16 = 1;
/// Digest type SHA-256 of DS records (RFC 4509).
const SHA256: u8 = 2;

/// Algorithms that sign (RFC 8624 §3.1); SHA-1 is no longer among them (RFC 9905).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    /// RSA/SHA-256.
    RsaSha256 = 8,
    /// RSA/SHA-512.
    RsaSha512 = 10,
    /// ECDSA with P-256 and SHA-256.
    EcdsaP256 = 13,
    /// ECDSA with P-384 and SHA-384.
    EcdsaP384 = 14,
    Ed25519 = 15,
}

impl Algorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::RsaSha256, Self::RsaSha512, Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519];

    /// The algorithm with this number in the registry.
    pub(crate) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u8 == number)
    }

    /// The mnemonic in the registry.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RsaSha256 => "RSASHA256",
            Self::RsaSha512 => "RSASHA512",
            Self::EcdsaP256 => "ECDSAP256SHA256",
            Self::EcdsaP384 => "ECDSAP384SHA384",
            Self::Ed25519 => "ED25519",
        }
    }

    /// Approximate time in microseconds that one signature takes, of RSA with 2048 bits.
    pub(crate) fn cost_us(self) -> u32 {
        match self {
            Self::RsaSha256 | Self::RsaSha512 => 650,
            Self::EcdsaP256 => 20,
            Self::EcdsaP384 => 290,
            Self::Ed25519 => 20,
        }
    }
}

/// A public key as DNSKEY records have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey {
    pub(crate) flags: u16,
    pub(crate) algorithm: Algorithm,
    /// The key in the format of its algorithm.
    pub(crate) key: Box<[u8]>,
}

impl PublicKey {
    /// Returns true if zones are signed with such keys.
    pub(crate) fn is_zone_key(&self) -> bool {
        self.flags & ZONE_KEY != 0
    }

    /// Returns true for a key-signing key.
    pub(crate) fn is_entry_point(&self) -> bool {
        self.flags & SECURE_ENTRY_POINT != 0
    }

    /// Returns true if resolvers no longer trust the key (RFC 5011 §2.1).
    pub(crate) fn is_revoked(&self) -> bool {
        self.flags & REVOKED != 0
    }

    /// RDATA of the DNSKEY record.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = self.flags.to_be_bytes().to_vec();
        data.extend([PROTOCOL, self.algorithm as u8]);
        data.extend(&*self.key);
        data
    }

    /// The key tag (RFC 4034 appendix B).
    pub fn tag(&self) -> u16 {
        let data = self.data();
        let words = data.chunks(2).map(|pair| {
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([pair[0], low]))
        });
        let sum: u32 = words.sum();
        (sum + (sum >> 16)) as u16
    }

    /// RDATA of the DS record with SHA-256 of this key at `owner`, which is in lower case.
    pub(crate) fn ds(&self, owner: &[u8]) -> Vec<u8> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(owner);
        context.update(&self.data());
        let mut data = self.tag().to_be_bytes().to_vec();
        data.extend([self.algorithm as u8, SHA256]);
        data.extend(context.finish().as_ref());
        data
    }
}

/// Returns true if keys of both kinds divide the work of an algorithm: key-signing keys sign the
/// DNSKEY records, the others all else.
pub(crate) fn is_split<'a>(
    keys: impl Iterator<Item = &'a PublicKey>,
    algorithm: Algorithm,
) -> bool {
    let mut keys = keys.filter(|key| key.algorithm == algorithm);
    let Some(first) = keys.next() else { return false };
    keys.any(|key| key.is_entry_point() != first.is_entry_point())
}

/// A private key, in the fields of its file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Secret {
    /// Of ECDSA and Ed25519.
    Scalar(SecretBytes),
    /// Of RSA.
    Rsa(Box<RsaSecret>),
}

/// A private key of RSA, its numbers in network order.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct RsaSecret {
    /// Modulus.
    pub(crate) n: SecretBytes,
    /// Public exponent.
    pub(crate) e: SecretBytes,
    /// Private exponent.
    pub(crate) d: SecretBytes,
    pub(crate) primes: [SecretBytes; 2],
    /// The exponents of the primes.
    pub(crate) exponents: [SecretBytes; 2],
    pub(crate) coefficient: SecretBytes,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests;
