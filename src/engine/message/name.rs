//! Names and questions in wire format that outlive their message.
//!
//! A name is kept uncompressed in its own buffer, so that it can be changed, compared and written
//! into another message.

use super::{NAME_LEN_MAX, put_u16, u16_at};

/// A name in wire format, uncompressed, in its original letter case.
#[derive(Clone, Copy)]
pub(crate) struct WireName {
    bytes: [u8; NAME_LEN_MAX],
    pub(super) len: usize,
}

impl WireName {
    pub(crate) const ROOT: Self = Self { bytes: [0; NAME_LEN_MAX], len: 1 };

    /// The name spelt by `bytes`: 1 to 255 bytes that end with the root's zero.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut name = Self::ROOT;
        name.set(bytes);
        name
    }

    /// Replaces the name by the one spelt by `bytes`: 1 to 255 bytes that end with the root's zero.
    pub(crate) fn set(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len();
    }

    /// The name in wire format.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Reads the possibly compressed name at `start`. Returns it and its end. `None` if it is too
    /// long, has no end, or a pointer does not point backwards.
    pub(crate) fn read(packet: &[u8], start: usize) -> Option<(Self, usize)> {
        let mut name = Self { bytes: [0; NAME_LEN_MAX], len: 0 };
        let (mut place, mut behind) = (start, None);
        loop {
            let length = *packet.get(place)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = packet.get(place..=place + usize::from(length))?;
                    let end = name.len + label.len();
                    // One more byte for the root.
                    if end >= NAME_LEN_MAX {
                        return None;
                    }
                    name.bytes[name.len..end].copy_from_slice(label);
                    (name.len, place) = (end, place + label.len());
                }
                _ => {
                    let target = usize::from(u16_at(packet, place)? & 0x3fff);
                    if length < 0xc0 || target >= place {
                        return None;
                    }
                    behind = behind.or(Some(place + 2));
                    place = target;
                }
            }
        }
        name.bytes[name.len] = 0;
        name.len += 1;
        Some((name, behind.unwrap_or(place + 1)))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct WireQuestion {
    /// QNAME.
    pub(crate) name: WireName,
    /// QTYPE.
    pub(crate) rtype: u16,
    /// QCLASS.
    pub(crate) class: u16,
}

impl WireQuestion {
    /// Writes name, type and class in wire format into `out`; returns them.
    pub(crate) fn write<'a>(&self, out: &'a mut [u8; NAME_LEN_MAX + 4]) -> &'a [u8] {
        let name = self.name.as_bytes();
        out[..name.len()].copy_from_slice(name);
        put_u16(out, name.len(), self.rtype);
        put_u16(out, name.len() + 2, self.class);
        &out[..name.len() + 4]
    }
}
