//! The data of a record in presentation format, for zone files that this server writes.
//!
//! The opposite of [`super::fields`], by the same table. Types with fields that are rare, or data
//! that do not consist of the fields of their type, are written as `\# LENGTH HEX` (RFC 3597 §5),
//! which every server reads for any type.

use super::fields::{Field, fields, is_made_of, take};
use crate::config::{MASTER_FILE, RecordType, TEXT_LEN_MAX, spell_as_asked};
use crate::moment::date;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Digits of base64 (RFC 4648 §4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Type CAA, whose tag must not be quoted (RFC 8659 §4.1.1).
const CAA: u16 = 257;

/// Appends the data of a record of type `rtype`. Names in it are not compressed.
pub(crate) fn write_data(rtype: u16, data: &[u8], out: &mut String) {
    let known = fields(rtype).filter(|known| {
        !known.is_empty() && known.iter().all(|field| is_plain(*field)) && is_made_of(known, data)
    });
    let Some(known) = known else { return write_generic(data, out) };
    let (begin, mut rest) = (out.len(), data);
    for (number, field) in known.iter().enumerate() {
        let before = rest;
        let is_taken = take(*field, &mut rest).is_some();
        let own = &before[..before.len() - rest.len()];
        let is_tag = rtype == CAA && *field == Field::Text;
        let has_no_word = match field {
            Field::Hex | Field::Base64 => own.is_empty(),
            _ => is_tag && !own.get(1..).is_some_and(is_word),
        };
        if !is_taken || has_no_word {
            out.truncate(begin);
            return write_generic(data, out);
        }
        if number > 0 {
            out.push(' ');
        }
        if is_tag {
            own.iter().skip(1).for_each(|byte| out.push(char::from(*byte)));
        } else {
            write_field(*field, own, out);
        }
    }
}

/// Appends an owner or another name with its trailing dot. Lines that begin with it are no
/// directives.
pub(crate) fn write_name(name: &[u8], out: &mut String) {
    out.push_str(spell_as_asked(name, &MASTER_FILE, &mut [0; TEXT_LEN_MAX]));
}

/// Returns true if the bytes are letters and digits.
fn is_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_alphanumeric)
}

fn is_plain(field: Field) -> bool {
    !matches!(
        field,
        Field::Params
            | Field::Eui(_)
            | Field::Locator
            | Field::CertKind
            | Field::Location
            | Field::Prefixes
            | Field::Gateway
            | Field::Relay
            | Field::Identity
    )
}

fn write_generic(data: &[u8], out: &mut String) {
    push(out, format_args!("\\# {}", data.len()));
    if !data.is_empty() {
        out.push(' ');
        write_hex(data, out);
    }
}

fn write_field(field: Field, data: &[u8], out: &mut String) {
    let number = || data.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    match field {
        Field::Name => write_name(data, out),
        Field::V4 => {
            let octets = data.first_chunk::<4>().copied().unwrap_or_default();
            push(out, format_args!("{}", Ipv4Addr::from(octets)));
        }
        Field::V6 => {
            let octets = data.first_chunk::<16>().copied().unwrap_or_default();
            push(out, format_args!("{}", Ipv6Addr::from(octets)));
        }
        Field::Text => write_string(data.get(1..).unwrap_or_default(), out),
        Field::Texts => {
            let mut rest = data;
            while let Some((len, behind)) = rest.split_first() {
                let (text, behind) = behind.split_at(usize::from(*len).min(behind.len()));
                if rest.len() < data.len() {
                    out.push(' ');
                }
                write_string(text, out);
                rest = behind;
            }
        }
        Field::Bytes => write_string(data, out),
        Field::Hex => write_hex(data, out),
        Field::Base64 => write_base64(data, out),
        Field::RecordType => push(out, format_args!("{}", RecordType(number() as u16))),
        Field::Kinds => write_types(data, out),
        Field::Time => write_time(number(), out),
        _ => push(out, format_args!("{}", number())),
    }
}

/// Appends a time of a signature, `YYYYMMDDHHmmSS` (RFC 4034 §3.2).
fn write_time(seconds: u32, out: &mut String) {
    let (year, month, day) = date(u64::from(seconds / 86_400));
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    push(out, format_args!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"));
}

/// Appends the types of a bitmap.
fn write_types(data: &[u8], out: &mut String) {
    let mut rest = data;
    let mut is_first = true;
    while let Some(([window, len], behind)) = rest.split_first_chunk::<2>() {
        let (bits, behind) = behind.split_at(usize::from(*len).min(behind.len()));
        for (place, byte) in bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
                let rtype = u16::from(*window) << 8 | (8 * place as u16 + bit);
                let space = if is_first { "" } else { " " };
                push(out, format_args!("{space}{}", RecordType(rtype)));
                is_first = false;
            }
        }
        rest = behind;
    }
}

/// Appends a character string in quotes.
fn write_string(text: &[u8], out: &mut String) {
    out.push('"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => push(out, format_args!("\\{byte:03}")),
        }
    }
    out.push('"');
}

fn write_hex(data: &[u8], out: &mut String) {
    data.iter().for_each(|byte| push(out, format_args!("{byte:02x}")));
}

fn write_base64(data: &[u8], out: &mut String) {
    for part in data.chunks(3) {
        let bits = part.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - part.len()));
        for digit in 0..4 {
            let is_digit = digit <= part.len();
            let place = (bits >> (18 - 6 * digit) & 63) as usize;
            out.push(if is_digit { char::from(BASE64[place]) } else { '=' });
        }
    }
}

/// Appends formatted text.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string never fails.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::fields::{fields, is_made_of};
    use super::{write_data, write_name};
    use crate::config::record::{Data, Words, read_data};
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    fn read(rtype: u16, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut words = Words::of_line(text.as_bytes());
        let mut data = Data::new(&mut bytes, 65_535, b"\x01z\0");
        let read = read_data(rtype, &mut words, &mut data);
        read.unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        assert!(words.next().unwrap().is_none(), "{text}");
        bytes
    }

    #[test]
    fn data_are_written_as_people_write_them() {
        for (rtype, text) in [
            (1, "192.0.2.1"),
            (28, "2001:db8::1"),
            (6, "Ns.z. h\\.m.z. 4294967295 1 2 3 4"),
            (15, "10 mail.z."),
            (16, "\"a b\" \"\" \"\\\"\\\\;\\007\\195\""),
            (33, "1 2 3 ."),
            (43, "1 13 2 00ff"),
            (46, "TYPE1234 13 2 300 20261130093000 20261030093000 7 z. AAE="),
            (47, "b.z. A TXT RRSIG NSEC TYPE1234"),
            (48, "257 3 13 AAEC"),
            (256, "1 2 \"https://z/\""),
            (257, "0 issue \"a; b\""),
            (257, "\\# 4 00012d61"),
            (65, "\\# 3 000000"),
            (99, "\"x\""),
            (1234, "\\# 2 0102"),
            (1234, "\\# 0"),
            (60, "\\# 4 00000300"),
        ] {
            let data = read(rtype, text);
            let mut written = String::new();
            write_data(rtype, &data, &mut written);
            assert_eq!(written, text);
        }
        let mut name = String::new();
        write_name(b"\x04$TTL\x03a b\x01.\x00", &mut name);
        assert_eq!(name, "\\$TTL.a\\032b.\\..");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn any_data_are_read_as_they_were(rtype in 1_u16..300, data in vec(any::<u8>(), 0..40)) {
            let mut written = String::new();
            write_data(rtype, &data, &mut written);
            // Data that are not of their type are not accepted in a zone file either.
            if fields(rtype).is_none_or(|known| is_made_of(known, &data)) {
                prop_assert_eq!(read(rtype, &written), data, "{} {}", rtype, written);
            }
        }
    }
}
