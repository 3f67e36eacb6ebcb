//! The keys that sign a zone, ready for use.
//!
//! Made once from the keys of the configuration, because a pair costs more than a signature.

use crate::config::SigningKey;
use crate::dnssec::{Algorithm, KeyPair, is_split};

/// Type DNSKEY (RFC 4034 §2).
pub(super) const DNSKEY: u16 = 48;
/// Type CDS (RFC 7344 §3.1).
pub(super) const CDS: u16 = 59;
/// Type CDNSKEY (RFC 7344 §3.2).
pub(super) const CDNSKEY: u16 = 60;

pub(super) struct ZoneKey {
    pub(super) algorithm: Algorithm,
    /// Its key tag.
    pub(super) tag: u16,
    /// It is a key-signing key.
    pub(super) is_entry_point: bool,
    /// Its algorithm has keys of both kinds, which divide the work.
    is_split: bool,
    /// Data of its DNSKEY record.
    pub(super) data: Vec<u8>,
    /// Data of its DS record.
    pub(super) ds: Vec<u8>,
    /// The pair that signs.
    pub(super) pair: KeyPair,
}

impl ZoneKey {
    /// The keys of a zone.
    ///
    /// # Errors
    /// Never for keys that were read with the configuration.
    pub(super) fn all(keys: &[SigningKey]) -> Result<Vec<Self>, String> {
        let publics = || keys.iter().map(|key| &key.public);
        let one = |key: &SigningKey| {
            let public = &key.public;
            Ok(Self {
                algorithm: public.algorithm,
                tag: public.tag(),
                is_entry_point: public.is_entry_point(),
                is_split: is_split(publics(), public.algorithm),
                data: public.data(),
                ds: public.ds(key.owner.as_wire()),
                pair: key.pair()?,
            })
        };
        keys.iter().map(one).collect()
    }

    /// Returns true if the key signs RRsets of this type. CDS and CDNSKEY records are signed by a
    /// key that the parent has a DS record of (RFC 7344 §4.1).
    pub(super) fn signs(&self, rtype: u16) -> bool {
        !self.is_split || self.is_entry_point == matches!(rtype, DNSKEY | CDS | CDNSKEY)
    }
}
