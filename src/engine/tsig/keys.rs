//! Keys of a server block, and verification of requests.
//!
//! The checks have the order of RFC 8945 §5.2: key, MAC, time, and finally the truncation of the
//! MAC. A [`Failure`] has the fields of the TSIG record in the error reply.

use super::mac::{Mac, MacBytes};
use super::{FUDGE, Fields, Signature, Signer, TsigError, lower};
use crate::config::{Opcode, Required, ServerBlock, TsigKey};
use crate::engine::message::name::WireName;
use crate::engine::message::u16_at;
use crate::engine::zones::{LowercaseName, Zones};
use ahash::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Minimum length of a truncated MAC (RFC 8945 §5.2.2.1).
const MAC_LEN_MIN: usize = 10;

/// A request that failed verification, with the data for its reply.
pub(crate) struct Failure {
    pub(crate) error: TsigError,
    /// Signer of the reply; `None` after an error of key or MAC: such a reply is not signed (RFC
    /// 8945 §5.3.2).
    signer: Option<Signer>,
    key: WireName,
    algorithm: WireName,
    time: u64,
    fudge: u16,
}

impl Failure {
    /// Appends the TSIG to the reply of `len` bytes and returns the new length. `now`: in seconds
    /// since 1970.
    pub(crate) fn append(&mut self, message: &mut [u8], len: usize, now: u64) -> Option<usize> {
        let error = self.error as u16;
        let clock = now.to_be_bytes();
        // Only after an error of time does the client get its own time back (RFC 8945 §5.2.3).
        let (timers, other) = match self.error {
            TsigError::BadTime => ((self.time, self.fudge), &clock[2..]),
            _ => ((now, FUDGE), &[][..]),
        };
        if let Some(signer) = &mut self.signer {
            return signer.sign_with(message, len, timers, error, other);
        }
        let (key, algorithm) = (self.key.as_bytes(), self.algorithm.as_bytes());
        let id = u16_at(message, 0)?;
        let fields = Fields { key, algorithm, time: 0, fudge: FUDGE, error, other };
        fields.append(message, len, &[], id)
    }
}

/// The keys of a server block.
pub(crate) struct Keys {
    zones: Zones<()>,
    /// By name, each with its number.
    keys: HashMap<Box<[u8]>, (u32, Arc<TsigKey>)>,
    require_opcode: Required<Opcode>,
}

impl Keys {
    /// The keys of `block`, if it has `tsig`. `hasher` is keyed.
    pub(crate) fn new(block: &ServerBlock, hasher: &RandomState) -> Option<Self> {
        let tsig = block.stages.tsig.as_ref()?;
        let keys = tsig.keys().zip(0..).map(|(key, number)| {
            let name = lower(key.name.as_wire());
            (name.as_bytes().into(), (number, Arc::new(key.clone())))
        });
        let zones = match &tsig.zones {
            Some(zones) => Zones::new(hasher.clone(), zones.iter().map(|zone| (zone, ()))),
            None => Zones::new(hasher.clone(), block.zones().map(|zone| (zone, ()))),
        };
        let require_opcode = tsig.require_opcode.clone();
        Some(Self { zones, keys: keys.collect(), require_opcode })
    }

    /// Returns true if signatures of queries for `name` are verified.
    pub(crate) fn covers(&self, name: &LowercaseName) -> bool {
        self.zones.longest(name).is_some()
    }

    /// Returns true if messages of this opcode have to be signed.
    pub(crate) fn require(&self, opcode: u16) -> bool {
        self.require_opcode.contains(&Opcode(opcode as u8))
    }

    /// Returns the key with this name, which is in lower case, and its number.
    pub(crate) fn key(&self, name: &[u8]) -> Option<(u32, &Arc<TsigKey>)> {
        self.keys.get(name).map(|(number, key)| (*number, key))
    }

    /// Verifies the signature of a request at `now`, in seconds since 1970. Returns the signer of
    /// the replies.
    ///
    /// # Errors
    /// [`Failure`], or `None` if the MAC has an invalid length (RFC 8945 §5.2.2.1).
    pub(crate) fn verify(
        &self,
        packet: &[u8],
        signature: &Signature<'_>,
        now: u64,
    ) -> Result<Signer, Option<Box<Failure>>> {
        let fail = |error, signer| {
            let Signature { key, algorithm, time, fudge, .. } = *signature;
            Some(Box::new(Failure { error, signer, key, algorithm, time, fudge }))
        };
        let (Some((_, key)), Some(algorithm)) =
            (self.key(signature.key.as_bytes()), signature.algorithm())
        else {
            return Err(fail(TsigError::BadKey, None));
        };
        if key.pinned && key.algorithm != algorithm {
            return Err(fail(TsigError::BadKey, None));
        }
        let (len, full) = (signature.mac.len(), Mac::len_of(algorithm));
        if len > full || len < MAC_LEN_MIN.max(full / 2) {
            return Err(None);
        }
        let mut mac = Mac::new(algorithm, &key.secret);
        signature.digest(packet, &mut mac, false);
        if !mac.finish().begins_with(signature.mac) {
            return Err(fail(TsigError::BadSig, None));
        }
        let signer = Signer::after(Arc::clone(key), algorithm, MacBytes::of(signature.mac));
        if now.abs_diff(signature.time) > signature.fudge.into() {
            return Err(fail(TsigError::BadTime, Some(signer)));
        }
        if len < full {
            return Err(fail(TsigError::BadTrunc, Some(signer)));
        }
        Ok(signer)
    }
}
