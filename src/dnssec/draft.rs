//! Signatures before they are made: fields and signed data (RFC 4034 §3.1, §6).
//!
//! Records are added with their names in any letter case and in any order; the signed data have
//! them in canonical form. The times come last, so that the same RRset can be recognised before it
//! is signed.

use super::KeyPair;

/// Length of an RRSIG's RDATA before the signer's name.
pub(crate) const RRSIG_HEAD: usize = 18;
/// Offset of the times in RRSIG RDATA: expiration, then inception.
const TIMES: usize = 8;

/// Owner, type and class of an RRset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// The name in wire format and lower case.
    pub(crate) name: &'a [u8],
    /// The type.
    pub(crate) rtype: u16,
    pub(crate) class: u16,
}

/// The signature of an RRset before it is made. Reused for one RRset after the other, it allocates
/// nothing once it has grown.
#[derive(Default)]
pub(crate) struct Draft {
    /// Canonical RDATA of all records, one behind the other.
    data: Vec<u8>,
    /// Begin and end of each in `data`.
    places: Vec<(u32, u32)>,
    /// The signed bytes: RDATA of the RRSIG without the signature, then the records.
    signed: Vec<u8>,
    /// Length of the RDATA in `signed`.
    head: usize,
}

impl Draft {
    /// Begins another RRset.
    pub(crate) fn clear(&mut self) {
        self.data.clear();
        self.places.clear();
    }

    /// Adds a record with this RDATA, whose names are not compressed.
    pub(crate) fn add(&mut self, rtype: u16, data: &[u8]) {
        self.add_parts(rtype, |all| {
            all.extend_from_slice(data);
            Some(())
        });
    }

    /// Adds a record whose RDATA `write` appends, with names that are not compressed. Returns
    /// `None`, and adds nothing, if that does.
    pub(crate) fn add_parts(
        &mut self,
        rtype: u16,
        write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Option<()> {
        let begin = self.data.len();
        if write(&mut self.data).is_none() {
            self.data.truncate(begin);
            return None;
        }
        canonical_data(rtype, &mut self.data[begin..]);
        self.places.push((begin as u32, self.data.len() as u32));
        Some(())
    }

    /// Composes the signed bytes, with times of 0. `key`: number of the algorithm, and tag;
    /// `signer`: name of the zone in lower case.
    pub(crate) fn compose(&mut self, owner: &Owner<'_>, ttl: u32, key: (u8, u16), signer: &[u8]) {
        let Self { data, places, signed, .. } = self;
        let part = |place: &(u32, u32)| &data[place.0 as usize..place.1 as usize];
        places.sort_unstable_by(|one, other| part(one).cmp(part(other)));
        places.dedup_by(|one, other| part(one) == part(other));
        signed.clear();
        signed.extend(owner.rtype.to_be_bytes());
        signed.extend([key.0, label_count(owner.name)]);
        signed.extend(ttl.to_be_bytes());
        signed.extend([0; 8]);
        signed.extend(key.1.to_be_bytes());
        signed.extend(signer);
        self.head = signed.len();
        for place in places.iter() {
            signed.extend(owner.name);
            signed.extend(owner.rtype.to_be_bytes());
            signed.extend(owner.class.to_be_bytes());
            signed.extend(ttl.to_be_bytes());
            let data = part(place);
            signed.extend((data.len() as u16).to_be_bytes());
            signed.extend(data);
        }
    }

    /// The bytes that [`Draft::compose`] wrote, which determine the signature but for its times.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.signed
    }

    /// Sets the times: inception, then expiration (RFC 4034 §3.1.5).
    pub(crate) fn set_times(&mut self, inception: u32, expiration: u32) {
        self.signed[TIMES..TIMES + 4].copy_from_slice(&expiration.to_be_bytes());
        self.signed[TIMES + 4..TIMES + 8].copy_from_slice(&inception.to_be_bytes());
    }

    /// RDATA of the RRSIG record without the signature.
    pub(crate) fn head(&self) -> &[u8] {
        &self.signed[..self.head]
    }

    /// Writes the signature into `out`; false if that is impossible now.
    pub(crate) fn sign(&self, pair: &KeyPair, out: &mut [u8]) -> bool {
        pair.sign(&self.signed, out)
    }
}

/// Number of labels that RRSIG records have: without the root and a leading asterisk.
pub(crate) fn label_count(name: &[u8]) -> u8 {
    let (mut place, mut count) = (0, 0);
    while let Some(len) = name.get(place).copied().filter(|len| *len > 0) {
        place += 1 + usize::from(len);
        count += 1;
    }
    count - u8::from(name.starts_with(b"\x01*"))
}

/// A part of RDATA before or at a name.
#[derive(Clone, Copy)]
enum Part {
    Bytes(usize),
    Text,
    /// The length of a prefix in bits, and the rest of an IPv6 address.
    Prefix,
    Name,
}

/// Turns the names in RDATA to lower case, in the types whose canonical form wants that (RFC 4034
/// §6.2, RFC 6840 §5.1). The names are not compressed.
pub(crate) fn canonical_data(rtype: u16, data: &mut [u8]) {
    use Part::{Bytes, Name, Prefix, Text};
    let parts: &[Part] = match rtype {
        // NS MD MF CNAME MB MG MR PTR DNAME
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => &[Name],
        // SOA MINFO RP
        6 | 14 | 17 => &[Name, Name],
        // MX AFSDB RT KX
        15 | 18 | 21 | 36 => &[Bytes(2), Name],
        // PX
        26 => &[Bytes(2), Name, Name],
        // SIG RRSIG
        24 | 46 => &[Bytes(RRSIG_HEAD), Name],
        // NXT
        30 => &[Name],
        // SRV
        33 => &[Bytes(6), Name],
        // A6
        38 => &[Prefix, Name],
        // NAPTR
        35 => &[Bytes(4), Text, Text, Text, Name],
        _ => return,
    };
    let mut place = 0;
    for part in parts {
        match part {
            Bytes(len) => place += len,
            Text => place += 1 + data.get(place).copied().map_or(0, usize::from),
            Prefix => {
                let len = data.first().map_or(0, |len| usize::from((*len).min(128)));
                place += 1 + (128 - len).div_ceil(8);
            }
            Name => {
                while let Some(len) = data.get(place).copied().filter(|len| *len > 0) {
                    let end = (place + 1 + usize::from(len)).min(data.len());
                    data[place + 1..end].make_ascii_lowercase();
                    place = end;
                }
                place += 1;
            }
        }
    }
}
