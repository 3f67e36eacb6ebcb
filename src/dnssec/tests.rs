//! Key tags, DS records, canonical forms and signed data, by the examples of the RFCs.
//!
//! Keys from files, and signatures of each algorithm, are tested in `config::dnskey`.

use super::draft::{canonical_data, label_count};
use super::{Algorithm, Draft, Owner, PublicKey};

/// The example of RFC 6605 §6.1.
#[test]
fn tag_and_ds_of_a_known_key() {
    let key = [
        0x1a, 0x88, 0xc8, 0x86, 0x15, 0xd4, 0x37, 0xfb, 0xb8, 0xbf, 0x9e, 0x19, 0x42, 0xa1, 0x92,
        0x9f, 0x28, 0x56, 0x27, 0x06, 0xae, 0x6c, 0x2b, 0xd3, 0x99, 0xe7, 0xb1, 0xbf, 0xb6, 0xd1,
        0xe9, 0xe7, 0x5b, 0x92, 0xb4, 0xaa, 0x42, 0x91, 0x7a, 0xe1, 0xc6, 0x1b, 0x70, 0x1e, 0xf0,
        0x35, 0xc3, 0xfe, 0x7b, 0xe3, 0x00, 0x9c, 0xba, 0xfe, 0x5a, 0x2f, 0x71, 0x31, 0x6c, 0x90,
        0x2d, 0xcf, 0x0d, 0x00,
    ];
    let key = PublicKey { flags: 257, algorithm: Algorithm::EcdsaP256, key: key.to_vec().into() };
    assert_eq!(key.tag(), 55648);
    let ds = key.ds(b"\x07example\x03net\x00");
    assert_eq!(ds[..4], [0xd9, 0x60, 13, 2]);
    assert_eq!(ds[4..8], [0xb4, 0xc8, 0xc1, 0xfe]);
}

#[test]
fn names_in_data_are_folded_in_the_types_of_the_rfcs_only() {
    let folded = |rtype: u16, data: &[u8]| {
        let mut data = data.to_vec();
        canonical_data(rtype, &mut data);
        data
    };
    assert_eq!(folded(15, b"AB\x02MX\x00"), b"AB\x02mx\x00");
    assert_eq!(folded(6, b"\x01A\x00\x01B\x00NUMBERS"), b"\x01a\x00\x01b\x00NUMBERS");
    assert_eq!(folded(35, b"ABCD\x01S\x01T\x00\x01N\x00"), b"ABCD\x01S\x01T\x00\x01n\x00");
    assert_eq!(folded(33, b"ABCDEF\x01N\x00"), b"ABCDEF\x01n\x00");
    assert_eq!(folded(17, b"\x01A\x00\x01B\x00"), b"\x01a\x00\x01b\x00");
    assert_eq!(folded(38, b"\x40ABCDEFGH\x01N\x00"), b"\x40ABCDEFGH\x01n\x00");
    assert_eq!(folded(38, b"\x00ABCDEFGHIJKLMNOP"), b"\x00ABCDEFGHIJKLMNOP");
    assert_eq!(folded(38, b"\x80\x01N\x00"), b"\x80\x01n\x00");
    assert_eq!(folded(16, b"\x01A"), b"\x01A");
    assert_eq!(folded(47, b"\x01A\x00"), b"\x01A\x00");
    // RDATA that ends too early does not panic.
    for rtype in 0..70 {
        for data in [&b""[..], b"\x09A", b"ABCDEFGHIJKLMNOPQRSTUVW", b"\xff\xff\xff"] {
            folded(rtype, data);
        }
    }
}

#[test]
fn signed_bytes_are_canonical() {
    let mut draft = Draft::default();
    let owner = Owner { name: b"\x01*\x01a\x00", rtype: 15, class: 1 };
    let compose = |draft: &mut Draft, all: &[&[u8]]| {
        draft.clear();
        all.iter().for_each(|data| draft.add(15, data));
        draft.compose(&owner, 300, (13, 7), b"\x01a\x00");
        draft.set_times(1, 2);
        draft.bytes().to_vec()
    };
    let one = compose(&mut draft, &[b"\x00\x0a\x01B\x00", b"\x00\x05\x01c\x00"]);
    let head = b"\x00\x0f\x0d\x01\x00\x00\x01\x2c\x00\x00\x00\x02\x00\x00\x00\x01\x00\x07\x01a\x00";
    assert_eq!(draft.head(), head);
    let record = b"\x01*\x01a\x00\x00\x0f\x00\x01\x00\x00\x01\x2c\x00\x05";
    let records = [&record[..], b"\x00\x05\x01c\x00", record, b"\x00\x0a\x01b\x00"].concat();
    assert_eq!(one, [&head[..], &records].concat());
    // Order and duplicates do not matter.
    let again = [&b"\x00\x05\x01C\x00"[..], b"\x00\x0a\x01b\x00", b"\x00\x05\x01c\x00"];
    assert_eq!(compose(&mut draft, &again), one);
}

#[test]
fn labels_are_counted_without_the_root_and_an_asterisk() {
    for (name, count) in [
        (&b"\x00"[..], 0),
        (b"\x01a\x00", 1),
        (b"\x01*\x01a\x00", 1),
        (b"\x02*b\x01a\x00", 2),
        (b"\x01a\x01*\x00", 2),
    ] {
        assert_eq!(label_count(name), count);
    }
}
