//! Compression of fields (QPACK, RFC 9204) without a dynamic table.
//!
//! The capacity of the dynamic table is 0 in both directions, which is the default of the protocol.
//! So a field section stands alone: it names entries of the static table, or has names and values
//! as text, which may be in the Huffman code.

use super::huffman;
use super::static_table::FIELDS;

/// Bytes of a number behind the first: it has at most 32 bits.
const NUMBER_LEN_MAX: u32 = 5;
/// Bit of an entry of the static table, in lines of four kinds.
const STATIC_INDEXED: u8 = 0x40;
const STATIC_NAMED: u8 = 0x10;

/// The field section cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// Decodes a field section. `take` gets each name and value, and returns false to end it.
///
/// # Errors
/// [`Undecodable`]: the section is cut, breaks the rules, or needs a dynamic table.
pub(super) fn decode(
    section: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), Undecodable> {
    decode_section(section, &mut take).ok_or(Undecodable)
}

fn decode_section(section: &[u8], take: &mut impl FnMut(&[u8], &[u8]) -> bool) -> Option<()> {
    let (mut name_room, mut value_room) = (Vec::new(), Vec::new());
    let mut rest = section;
    // The required insert count, and the base relative to it (RFC 9204 §4.5.1). A sign would make
    // the base negative.
    let count = take_number(&mut rest, 8)?;
    let is_negative = rest.first()? & 0x80 != 0;
    take_number(&mut rest, 7)?;
    if count != 0 || is_negative {
        return None;
    }
    while let Some(first) = rest.first().copied() {
        let (name, value) = match first {
            // An entry.
            0x80.. if first & STATIC_INDEXED != 0 => {
                let (name, value) = entry(take_number(&mut rest, 6)?)?;
                (name.as_bytes(), value.as_bytes())
            }
            // A value, whose name is that of an entry.
            0x40..0x80 if first & STATIC_NAMED != 0 => {
                let (name, _) = entry(take_number(&mut rest, 4)?)?;
                (name.as_bytes(), take_text(&mut rest, 7, &mut value_room)?)
            }
            // A name and a value.
            0x20..0x40 => {
                let name = take_text(&mut rest, 3, &mut name_room)?;
                (name, take_text(&mut rest, 7, &mut value_room)?)
            }
            // The dynamic table is empty.
            _ => return None,
        };
        if !take(name, value) {
            break;
        }
    }
    Some(())
}

/// Returns an entry of the static table.
fn entry(index: u64) -> Option<(&'static str, &'static str)> {
    FIELDS.get(usize::try_from(index).ok()?).copied()
}

/// Takes a number whose first byte has this many bits of it (RFC 7541 §5.1).
pub(super) fn take_number(bytes: &mut &[u8], bits: u32) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    let most = (1 << bits) - 1;
    let mut number = u64::from(*first) & most;
    if number < most {
        return Some(number);
    }
    for place in 0..NUMBER_LEN_MAX {
        let (next, rest) = bytes.split_first()?;
        *bytes = rest;
        number += u64::from(next & 0x7f) << (7 * place);
        if next & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a text behind its length, whose first byte has this many bits of it. The bit before them
/// says whether the text is in the Huffman code; then it is decoded in `room`.
fn take_text<'r, 'a: 'r>(
    bytes: &mut &'a [u8],
    bits: u32,
    room: &'r mut Vec<u8>,
) -> Option<&'r [u8]> {
    let is_coded = bytes.first()? >> bits & 1 == 1;
    let len = usize::try_from(take_number(bytes, bits)?).ok()?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    if !is_coded {
        return Some(text);
    }
    room.clear();
    huffman::decode(text, room)?;
    Some(room)
}

/// Appends the beginning of a field section.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends a field.
pub(super) fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let is_named = |(known, _): &(&str, &str)| known.as_bytes() == name;
    let Some(first) = FIELDS.iter().position(is_named) else {
        put_text(out, 0x20, 3, name);
        return put_text(out, 0, 7, value);
    };
    let is_same = |field: &(&str, &str)| is_named(field) && field.1.as_bytes() == value;
    match FIELDS.iter().position(is_same) {
        Some(place) => put_number(out, 0x80 | STATIC_INDEXED, 6, place),
        None => {
            put_number(out, 0x40 | STATIC_NAMED, 4, first);
            put_text(out, 0, 7, value);
        }
    }
}

/// Appends a number whose first byte has this many bits of it, behind `flags`.
fn put_number(out: &mut Vec<u8>, flags: u8, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return out.push(flags | number as u8);
    }
    out.push(flags | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a text behind its length, in the shorter of its two forms.
fn put_text(out: &mut Vec<u8>, flags: u8, bits: u32, text: &[u8]) {
    let len = huffman::encoded_len(text);
    if len < text.len() {
        put_number(out, flags | 1 << bits, bits, len);
        huffman::encode(text, out);
    } else {
        put_number(out, flags, bits, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::{FIELDS, Undecodable, begin, decode, put, put_number, take_number};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn decoded(section: &[u8]) -> Result<Fields, Undecodable> {
        let mut all = Vec::new();
        decode(section, |name, value| {
            all.push((name.to_vec(), value.to_vec()));
            true
        })?;
        Ok(all)
    }

    fn encoded(fields: &Fields) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out);
        fields.iter().for_each(|(name, value)| put(&mut out, name, value));
        out
    }

    fn bytes(digits: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(digit).collect()
    }

    fn fields(all: &[(&str, &str)]) -> Fields {
        all.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect()
    }

    #[test]
    fn sections_of_other_encoders_are_decoded() {
        // RFC 9204 Appendix B.1.
        let first = bytes("0000510b2f696e6465782e68746d6c");
        assert_eq!(decoded(&first), Ok(fields(&[(":path", "/index.html")])));
        // Of ls-qpack.
        let request = "0000d1d7508692a42e92a13f51a5624a90b76b4b67aff24a910430c3761861bb0c30c30c30\
                       c30f2c18a4c5c7dc90c30c3b21bbde5f500178";
        let expected = fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "dns.test"),
            (":path", "/dns-query?dns=AAABAAABAAAAAAAAAWEGdGVzdAAAAQAB"),
            ("accept", "application/dns-message"),
            ("user-agent", "x"),
        ]);
        assert_eq!(decoded(&bytes(request)), Ok(expected));
        let response = bytes("0000d9ec5f1588a47e561cc5819003540234372ef2b26735537f05612062c3a4");
        let expected = [
            (":status", "200"),
            ("content-type", "application/dns-message"),
            ("cache-control", "max-age=300"),
            ("content-length", "47"),
            ("x-thing", "a bä"),
        ];
        assert_eq!(decoded(&response), Ok(fields(&expected)));
        // This encoder prefers the shorter form of each text.
        assert_eq!(encoded(&fields(&expected[..3])), response[..15]);
    }

    #[test]
    fn numbers_are_those_of_the_standard() {
        // RFC 7541 Appendix C.1.
        for (number, bits, bytes) in
            [(10, 5, &[10][..]), (1_337, 5, &[31, 154, 10]), (42, 8, &[42]), (127, 7, &[127, 0])]
        {
            let mut out = Vec::new();
            put_number(&mut out, 0, bits, number);
            assert_eq!(out, bytes);
            assert_eq!(take_number(&mut &bytes[..], bits), Some(number as u64));
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1], bits), None);
        }
        assert_eq!(take_number(&mut &[255; 20][..], 8), None);
    }

    #[test]
    fn what_needs_a_dynamic_table_or_breaks_the_rules_is_refused() {
        for (what, section) in [
            ("nothing", ""),
            ("a required insert count", "0100"),
            ("half a prefix", "00"),
            ("a negative base", "0080"),
            ("a dynamic entry", "000080"),
            ("a dynamic name", "0000400161"),
            ("an entry behind the base", "000010"),
            ("a name behind the base", "00000000"),
            ("an entry that does not exist", "0000ff24"),
            ("a name that does not exist", "00005f540161"),
            ("a number without end", "0000ffffffffffffffffffff"),
            ("a cut value", "0000500261"),
            ("a cut name", "00002361"),
            ("a name without a value", "00002161"),
            ("a value with bad padding", "0000508118"),
        ] {
            assert_eq!(decoded(&bytes(section)), Err(Undecodable), "{what}");
        }
        assert_eq!(decoded(&bytes("0000ff23")).unwrap()[0].1, b"sameorigin", "the last entry");
        assert_eq!(decoded(&[0, 0]), Ok(vec![]));
    }

    #[test]
    fn each_entry_is_one_or_two_bytes() {
        for (index, (name, value)) in FIELDS.into_iter().enumerate() {
            let all = fields(&[(name, value)]);
            let section = encoded(&all);
            assert_eq!(section.len(), if index < 63 { 3 } else { 4 }, "{name}");
            assert_eq!(decoded(&section), Ok(all));
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_decoded_from_their_section(
            all in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..40),
                 proptest::collection::vec(any::<u8>(), 0..300)),
                0..5),
        ) {
            prop_assert_eq!(decoded(&encoded(&all)), Ok(all));
        }

        #[test]
        fn random_bytes_do_no_harm(
            section in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let section = [&[0, 0], &section[..]].concat();
            if let Ok(all) = decoded(&section) {
                prop_assert_eq!(decoded(&encoded(&all)), Ok(all));
            }
        }
    }
}
