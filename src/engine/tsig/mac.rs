//! Message authentication codes: HMAC (RFC 2104) with the hashes of RFC 8945 §6.
//!
//! One enum over the algorithms, so that there is one implementation of signing. MACs are compared
//! in constant time.

use crate::config::TsigAlgorithm;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

/// Maximum length of a MAC.
const MAC_LEN_MAX: usize = 64;

/// A MAC that is being computed.
#[derive(Clone)]
pub(super) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Mac {
    /// Begins a MAC.
    pub(super) fn new(algorithm: TsigAlgorithm, secret: &[u8]) -> Self {
        const ANY: &str = "HMAC takes keys of any length";
        match algorithm {
            TsigAlgorithm::Sha1 => Self::Sha1(KeyInit::new_from_slice(secret).expect(ANY)),
            TsigAlgorithm::Sha224 => Self::Sha224(KeyInit::new_from_slice(secret).expect(ANY)),
            TsigAlgorithm::Sha256 => Self::Sha256(KeyInit::new_from_slice(secret).expect(ANY)),
            TsigAlgorithm::Sha384 => Self::Sha384(KeyInit::new_from_slice(secret).expect(ANY)),
            TsigAlgorithm::Sha512 => Self::Sha512(KeyInit::new_from_slice(secret).expect(ANY)),
        }
    }

    /// Length of a whole MAC.
    pub(super) fn len_of(algorithm: TsigAlgorithm) -> usize {
        match algorithm {
            TsigAlgorithm::Sha1 => 20,
            TsigAlgorithm::Sha224 => 28,
            TsigAlgorithm::Sha256 => 32,
            TsigAlgorithm::Sha384 => 48,
            TsigAlgorithm::Sha512 => 64,
        }
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(bytes),
            Self::Sha224(mac) => mac.update(bytes),
            Self::Sha256(mac) => mac.update(bytes),
            Self::Sha384(mac) => mac.update(bytes),
            Self::Sha512(mac) => mac.update(bytes),
        }
    }

    pub(super) fn finish(self) -> MacBytes {
        match self {
            Self::Sha1(mac) => MacBytes::of(&mac.finalize().into_bytes()),
            Self::Sha224(mac) => MacBytes::of(&mac.finalize().into_bytes()),
            Self::Sha256(mac) => MacBytes::of(&mac.finalize().into_bytes()),
            Self::Sha384(mac) => MacBytes::of(&mac.finalize().into_bytes()),
            Self::Sha512(mac) => MacBytes::of(&mac.finalize().into_bytes()),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct MacBytes {
    bytes: [u8; MAC_LEN_MAX],
    len: u8,
}

impl Default for MacBytes {
    fn default() -> Self {
        Self { bytes: [0; MAC_LEN_MAX], len: 0 }
    }
}

impl MacBytes {
    /// Copies a MAC of at most [`MAC_LEN_MAX`] bytes.
    pub(super) fn of(mac: &[u8]) -> Self {
        let mut own = Self { bytes: [0; MAC_LEN_MAX], len: mac.len() as u8 };
        own.bytes[..mac.len()].copy_from_slice(mac);
        own
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }

    /// Returns true if `mac` is equal.
    pub(super) fn is(&self, mac: &[u8]) -> bool {
        mac.len() == usize::from(self.len) && self.begins_with(mac)
    }

    /// Returns true if `mac` is equal or a truncated form. The time does not depend on the
    /// difference.
    pub(super) fn begins_with(&self, mac: &[u8]) -> bool {
        let Some(own) = self.as_bytes().get(..mac.len()) else { return false };
        let differences = own.iter().zip(mac).fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(differences) == 0
    }
}
