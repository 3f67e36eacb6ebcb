//! One resource record in presentation format (RFC 1035 §5.1), read into wire format.
//!
//! Owner, TTL and class in either order, type, data: the first record of a text, whose names are
//! absolute even without a trailing dot. Serves the records that `template` writes, when the
//! Corefile is read and, for those that depend on the query, per query: it allocates nothing where
//! `out` has room for [`RECORD_MAX`] bytes, and its work is linear in the text. [`words`] splits
//! the text, [`fields`] knows the data of each type, [`svcb`] the parameters of HTTPS and SVCB,
//! [`rare`] what only zone files have, whose reader ([`crate::zonefile`]) uses the same parts.
//! [`text`] writes data.

mod fields;
mod rare;
mod svcb;
mod text;
mod values;
mod words;

pub(crate) use fields::data as read_data;
pub(crate) use text::{write_data, write_name};
pub(crate) use values::{name as read_name, period as read_period};
pub(crate) use words::{Word, Words};

use super::RecordType;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Bytes of a record's owner and data together.
pub(crate) const RECORD_MAX: usize = 8_192;
/// The TTL of a record that names none, in seconds.
const TTL_DEFAULT: u32 = 3_600;
/// Bytes of a word that can be a class or type.
const MNEMONIC_MAX: usize = 16;

/// Output of a record's fields: bytes that may become `max`.
pub(crate) struct Data<'a> {
    bytes: &'a mut Vec<u8>,
    max: usize,
    /// Names without a trailing dot end with this name.
    origin: &'a [u8],
}

impl<'a> Data<'a> {
    /// Appends to `bytes`. `origin`: a name in wire format.
    pub(crate) fn new(bytes: &'a mut Vec<u8>, max: usize, origin: &'a [u8]) -> Self {
        Self { bytes, max, origin }
    }
}

impl Deref for Data<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        self.bytes
    }
}

impl DerefMut for Data<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        self.bytes
    }
}

/// The fixed part of a record. Owner and data are where [`read`] wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    /// Bytes of the owner, with which the output begins; the data follow.
    pub(crate) owner_len: usize,
    /// The type.
    pub rtype: u16,
    pub(crate) class: u16,
    /// The time to live, in seconds.
    pub ttl: u32,
    /// The text goes on behind the record.
    pub(crate) more: bool,
}

/// Reason why a text is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordError {
    /// The byte of the text at which reading stopped, counted from 1.
    pub(crate) column: usize,
    /// Error message.
    pub(crate) what: &'static str,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

impl std::error::Error for RecordError {}

/// The bytes that `text` says in base64 (RFC 4648 §4), all in one word.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    // Never moved, because it may be a private key.
    let mut bytes = Vec::with_capacity(text.len());
    let mut out = Data::new(&mut bytes, RECORD_MAX, &[0]);
    let word = Word { text: text.as_bytes(), column: 1, quoted: false };
    let mut decoder = values::Base64Decoder::default();
    decoder.take(&word, word.text, &mut out).ok()?;
    decoder.end(&word).ok()?;
    Some(bytes)
}

/// Reads the first record of `text` and leaves its owner and data in `out`, which is emptied first.
///
/// # Errors
/// The text is no record, its type's data are not known here, or it exceeds [`RECORD_MAX`].
pub(crate) fn read(text: &[u8], out: &mut Vec<u8>) -> Result<Record, RecordError> {
    out.clear();
    let out = &mut Data::new(out, RECORD_MAX, &[0]);
    let mut words = Words::new(text);
    let owner = words.expect("the record is empty")?;
    values::name(&owner, out)?;
    let owner_len = out.len();
    let (mut ttl, mut class) = (None, None);
    let rtype = loop {
        let word = words.expect("the record ends before its type")?;
        if class.is_none()
            && let Some(found) = class_of(&word)
        {
            class = Some(found);
        } else if ttl.is_none() && word.text.first().is_some_and(u8::is_ascii_digit) {
            ttl = Some(values::period(&word)?);
        } else {
            break rtype_of(&word).ok_or(word.wrong("expected a TTL, class or record type"))?;
        }
    };
    fields::data(rtype, &mut words, out)?;
    // The most significant bit of a TTL makes it zero (RFC 2181 §8).
    let ttl = ttl.map_or(TTL_DEFAULT, |ttl| if ttl > i32::MAX as u32 { 0 } else { ttl });
    let (class, more) = (class.unwrap_or(1), words.goes_on()?);
    Ok(Record { owner_len, rtype, class, ttl, more })
}

/// The class that a word of any letter case means.
pub(crate) fn class_of(word: &Word<'_>) -> Option<u16> {
    let mut buffer = [0; MNEMONIC_MAX];
    class(upper(word, &mut buffer)?)
}

/// The class with this mnemonic, or number as RFC 3597 §5 has it.
pub(super) fn class(mnemonic: &str) -> Option<u16> {
    match mnemonic {
        "IN" => Some(1),
        "CS" => Some(2),
        "CH" => Some(3),
        "HS" => Some(4),
        "NONE" => Some(254),
        "ANY" => Some(255),
        other => other.strip_prefix("CLASS")?.parse().ok(),
    }
}

/// The type that a word of any letter case means.
pub(crate) fn rtype_of(word: &Word<'_>) -> Option<u16> {
    let mut buffer = [0; MNEMONIC_MAX];
    Some(RecordType::parse(upper(word, &mut buffer)?)?.0)
}

fn upper<'b>(word: &Word<'_>, buffer: &'b mut [u8; MNEMONIC_MAX]) -> Option<&'b str> {
    let upper = buffer.get_mut(..word.text.len()).filter(|_| !word.quoted)?;
    upper.copy_from_slice(word.text);
    upper.make_ascii_uppercase();
    str::from_utf8(upper).ok()
}

#[cfg(test)]
mod tests;
