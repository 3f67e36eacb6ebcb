//! The data of each record type, field by field.
//!
//! A type is a list of fields. Each field reads one word, or all that are left, and appends its
//! value to the output: `values` has those of many types, `rare` and `svcb` those of few. Data of
//! any type can be written as `\# LENGTH HEX` (RFC 3597 §5).

use super::values::{address, base64, bytes, hex, name, number, period, push, text};
use super::words::Words;
use super::{Data, RecordError, rare, svcb};
use std::net::{Ipv4Addr, Ipv6Addr};

/// One field of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    U8,
    U16,
    U32,
    /// Seconds, with or without units.
    Period,
    Name,
    V4,
    V6,
    /// A character string.
    Text,
    /// One or several of them, to the end.
    Texts,
    /// The bytes of one word, without their length.
    Bytes,
    /// Hexadecimal digits, to the end.
    Hex,
    /// Base64, to the end.
    Base64,
    /// Service parameters, to the end.
    Params,
    RecordType,
    /// Record types, to the end, as a bitmap (RFC 4034 §4.1.2).
    Kinds,
    /// Seconds since 1970, or a date and time.
    Time,
    /// Bytes as hexadecimal digits with hyphens between them (RFC 7043).
    Eui(usize),
    /// 64 bits as four groups of hexadecimal digits (RFC 6742).
    Locator,
    /// A type of certificate (RFC 4398 §2.1).
    CertKind,
    /// All of a LOC record (RFC 1876).
    Location,
    /// Address prefixes, to the end (RFC 3123).
    Prefixes,
    /// A gateway behind its type, with an algorithm before it (RFC 4025), then base64.
    Gateway,
    /// A relay behind its type, with the discovery bit before it (RFC 8777).
    Relay,
    /// All of a HIP record (RFC 8005).
    Identity,
}

/// The fields of a type's data; `None`: they are not known here.
pub(super) fn fields(rtype: u16) -> Option<&'static [Field]> {
    use Field::{
        Base64, Bytes, CertKind, Eui, Gateway, Hex, Identity, Kinds, Location, Locator, Name,
        Params, Period, Prefixes, RecordType, Relay, Text, Texts, Time, U8, U16, U32, V4, V6,
    };
    Some(match rtype {
        1 => &[V4],
        28 => &[V6],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NSAP-PTR, DNAME.
        2..=5 | 7..=9 | 12 | 23 | 39 => &[Name],
        6 => &[Name, Name, U32, Period, Period, Period, Period],
        13 => &[Text, Text],
        // MINFO, RP, TALINK.
        14 | 17 | 58 => &[Name, Name],
        // MX, AFSDB, RT, KX, LP.
        15 | 18 | 21 | 36 | 107 => &[U16, Name],
        // TXT, ISDN, NINFO, SPF, AVC, RESINFO, WALLET.
        16 | 20 | 56 | 99 | 258 | 261 | 262 => &[Texts],
        // X25, UINFO.
        19 | 100 => &[Text],
        // SIG, RRSIG.
        24 | 46 => &[RecordType, U8, U8, U32, Time, Time, U16, Name, Base64],
        26 => &[U16, Name, Name],
        27 => &[Text, Text, Text],
        29 => &[Location],
        // EID, NIMLOC.
        31 | 32 => &[Hex],
        33 => &[U16, U16, U16, Name],
        35 => &[U16, U16, Text, Text, Text, Name],
        37 => &[CertKind, U16, U8, Base64],
        42 => &[Prefixes],
        // DS, CDS, TA, DLV.
        43 | 59 | 32_768 | 32_769 => &[U16, U8, U8, Hex],
        44 => &[U8, U8, Hex],
        45 => &[U8, Gateway],
        47 => &[Name, Kinds],
        // KEY, DNSKEY, RKEY, CDNSKEY.
        25 | 48 | 57 | 60 => &[U16, U8, U8, Base64],
        49 => &[Base64],
        // TLSA, SMIMEA.
        52 | 53 => &[U8, U8, U8, Hex],
        55 => &[Identity],
        61 => &[Base64],
        62 => &[U32, U16, Kinds],
        63 => &[U32, U8, U8, Hex],
        // SVCB, HTTPS.
        64 | 65 => &[U16, Name, Params],
        // UID, GID.
        101 | 102 => &[U32],
        // NID, L64.
        104 | 106 => &[U16, Locator],
        105 => &[U16, V4],
        108 => &[Eui(6)],
        109 => &[Eui(8)],
        256 => &[U16, U16, Bytes],
        257 => &[U8, Text, Bytes],
        260 => &[U8, Relay],
        _ => return None,
    })
}

/// Reads the data of a record of type `rtype`.
///
/// # Errors
/// The words are no such data, or there are too many of them.
pub(crate) fn data(
    rtype: u16,
    words: &mut Words<'_>,
    out: &mut Data<'_>,
) -> Result<(), RecordError> {
    let mut ahead = *words;
    let first = ahead.expect("the record ends before its data")?;
    if first.text == b"\\#" && !first.quoted {
        *words = ahead;
        let start = out.len();
        generic(words, out)?;
        let fits = fields(rtype).is_none_or(|known| is_made_of(known, &out[start..]));
        return if fits {
            Ok(())
        } else {
            Err(first.wrong("the bytes are not valid data of this type"))
        };
    }
    let known = fields(rtype);
    let known = known.ok_or(first.wrong("data of this type must be written as \\# LENGTH HEX"))?;
    known.iter().try_for_each(|field| read(*field, words, out))
}

fn read(field: Field, words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    match field {
        Field::Params => {
            let start = out.len();
            while let Some(word) = words.next()? {
                svcb::parameter(&word, start, out)?;
            }
            return Ok(());
        }
        Field::Hex => return hex(words, out),
        Field::Base64 => return base64(words, out),
        Field::Kinds => return rare::kinds(words, out),
        Field::Location => return rare::location(words, out),
        Field::Prefixes => return rare::prefixes(words, out),
        Field::Gateway => return rare::gateway(words, out),
        Field::Relay => return rare::relay(words, out),
        Field::Identity => return rare::identity(words, out),
        _ => {}
    }
    let word = words.expect("the record ends within its data")?;
    match field {
        Field::U8 => push(&word, out, &[number(&word, u8::MAX.into())? as u8]),
        Field::U16 => push(&word, out, &(number(&word, u16::MAX.into())? as u16).to_be_bytes()),
        Field::U32 => push(&word, out, &number(&word, u32::MAX)?.to_be_bytes()),
        Field::Period => push(&word, out, &period(&word)?.to_be_bytes()),
        Field::Name => name(&word, out),
        Field::V4 => {
            push(&word, out, &address::<Ipv4Addr>(&word, "expected an IPv4 address")?.octets())
        }
        Field::V6 => {
            push(&word, out, &address::<Ipv6Addr>(&word, "expected an IPv6 address")?.octets())
        }
        Field::Text => text(&word, out),
        Field::Bytes => bytes(&word, out),
        Field::RecordType => rare::rtype(&word, out),
        Field::Time => rare::time(&word, out),
        Field::Eui(len) => rare::eui(&word, len, out),
        Field::Locator => rare::locator(&word, out),
        Field::CertKind => rare::cert_kind(&word, out),
        _ => {
            text(&word, out)?;
            while let Some(word) = words.next()? {
                text(&word, out)?;
            }
            Ok(())
        }
    }
}

/// `LENGTH HEX`, behind `\#`.
fn generic(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let word = words.expect("expected the number of bytes")?;
    let len = number(&word, u16::MAX.into())? as usize;
    let start = out.len();
    if len > 0 {
        hex(words, out)?;
    }
    let right = out.len() - start == len;
    if right { Ok(()) } else { Err(word.wrong("the number of bytes is not LENGTH")) }
}

/// Returns true if `data` consist of these fields, for data that were written as bytes.
pub(super) fn is_made_of(fields: &[Field], data: &[u8]) -> bool {
    let mut rest = data;
    fields.iter().all(|field| take(*field, &mut rest).is_some()) && rest.is_empty()
}

/// Takes a field off the front of `rest`.
pub(super) fn take(field: Field, rest: &mut &[u8]) -> Option<()> {
    let len = match field {
        Field::U8 => 1,
        Field::U16 | Field::RecordType | Field::CertKind => 2,
        Field::U32 | Field::Period | Field::Time | Field::V4 => 4,
        Field::Locator => 8,
        Field::V6 => 16,
        Field::Eui(len) => len,
        Field::Location => 16,
        Field::Text => 1 + usize::from(*rest.first()?),
        Field::Texts => {
            take(Field::Text, rest)?;
            while !rest.is_empty() {
                take(Field::Text, rest)?;
            }
            0
        }
        Field::Name => {
            let mut len = 0;
            while *rest.get(len)? != 0 {
                let label = rest[len];
                if label > 63 {
                    return None;
                }
                len += 1 + usize::from(label);
            }
            if len >= 255 {
                return None;
            }
            len + 1
        }
        Field::Params => {
            let mut before = None;
            while let Some(head) = rest.first_chunk::<4>() {
                let key = u16::from_be_bytes([head[0], head[1]]);
                if before.is_some_and(|before| before >= key) {
                    return None;
                }
                before = Some(key);
                let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
                *rest = rest.get(4 + len..)?;
            }
            0
        }
        Field::Kinds => {
            while let Some([_, len]) = rest.first_chunk::<2>() {
                let len = usize::from(*len);
                if len == 0 || len > rare::WINDOW_MAX {
                    return None;
                }
                *rest = rest.get(2 + len..)?;
            }
            0
        }
        Field::Bytes
        | Field::Hex
        | Field::Base64
        | Field::Prefixes
        | Field::Gateway
        | Field::Relay
        | Field::Identity => rest.len(),
    };
    *rest = rest.get(len..)?;
    Some(())
}
