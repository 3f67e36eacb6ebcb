//! Files of keys as `dnssec-keygen` has written them, and files that are wrong.
//!
//! The keys of all algorithms sign, and their signatures are verified.

use super::{private_key, public_key};
use crate::config::{Config, Host};
use crate::corefile::Sources;
use crate::dnssec::{Algorithm, KeyPair, verify};
use std::collections::BTreeMap;

/// Keys made by `dnssec-keygen`: number of the algorithm, tag, public and private file.
macro_rules! key {
    ($number:literal, $name:literal, $tag:literal) => {
        (
            $number,
            $tag,
            include_bytes!(concat!("../../../tests/common/keys/", $name, ".key")),
            include_bytes!(concat!("../../../tests/common/keys/", $name, ".private")),
        )
    };
}

const KEYS: [(u8, u16, &[u8], &[u8]); 6] = [
    key!(8, "Kexample.org.+008+55784", 55784),
    key!(10, "Kexample.org.+010+25872", 25872),
    key!(13, "Kexample.org.+013+51642", 51642),
    key!(13, "Kexample.org.+013+54570", 54570),
    key!(14, "Kexample.org.+014+55143", 55143),
    key!(15, "Kexample.org.+015+64733", 64733),
];

#[test]
fn files_of_each_algorithm_are_read_and_sign() {
    for (number, tag, public, secret) in KEYS {
        let (owner, ttl, public) = public_key(public).unwrap();
        assert_eq!((owner.to_string().as_str(), ttl), ("example.org.", 3_600));
        assert_eq!((public.algorithm as u8, public.tag()), (number, tag));
        assert_eq!(public.is_entry_point(), tag != 51642);
        let secret = private_key(secret, public.algorithm).unwrap();
        let pair = KeyPair::new(&public, &secret).unwrap();
        let mut signature = vec![0; pair.signature_len()];
        assert!(pair.sign(b"data", &mut signature));
        assert!(verify(&public, b"data", &signature), "{number}");
        assert!(!verify(&public, b"date", &signature), "{number}");
        signature[9] ^= 1;
        assert!(!verify(&public, b"data", &signature), "{number}");
    }
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    for (place, other) in [(0, 1), (2, 3), (3, 2)] {
        let (_, _, public) = public_key(KEYS[place].2).unwrap();
        let secret = private_key(KEYS[other].3, Algorithm::of(KEYS[other].0).unwrap()).unwrap();
        let error = KeyPair::new(&public, &secret).unwrap_err();
        assert_eq!(error, "the private key does not belong to the public key");
    }
    let error = private_key(KEYS[5].3, Algorithm::EcdsaP256).unwrap_err();
    assert_eq!(error, "algorithm 15: the public key has 13");
}

#[test]
fn a_record_may_have_a_ttl_and_several_lines() {
    let text = "; comment\n\nExample.ORG. 600 IN DNSKEY 257 3 13 ( ; more\n oGAFAvkuITlemmxITE\n\
                Tf7cayG1SvasUTpapzNlmn4NmICwUaHhpchhglvGMaxdjR9HR7z874T4bEuv4t7vtfxw== ) ; end\n";
    let (owner, ttl, public) = public_key(text.as_bytes()).unwrap();
    assert_eq!((owner.to_string().as_str(), ttl, public.tag()), ("example.org.", 600, 54570));
}

#[test]
fn malformed_files_say_what_is_wrong() {
    for (text, message) in [
        ("", "no public key found"),
        ("; nothing\n", "no public key found"),
        ("a. IN A 192.0.2.1", "expected a DNSKEY record, found 'A'"),
        ("a. IN DNSKEY 257 3", "the record ends before its algorithm"),
        ("a. IN DNSKEY 257 2 13 AAAA", "invalid protocol '2': expected 3"),
        ("a. IN DNSKEY 257 3 13 !", "the public key is not base64"),
        ("a. IN DNSKEY 0 3 13 AAAA", "flags 0: not a key of a zone: expected 256 or 257"),
        (
            "a. IN DNSKEY 385 3 13 AAAA",
            "flags 385: the key is revoked (RFC 5011): no resolver trusts what it signs; use \
             another key",
        ),
        ("a. IN DNSKEY 65536 3 13 AAAA", "invalid flags '65536'"),
    ] {
        assert_eq!(public_key(text.as_bytes()).unwrap_err(), message, "{text}");
    }
    let old = public_key(b"a. IN DNSKEY 257 3 5 AAAA").unwrap_err();
    assert!(old.starts_with("dns: bad algorithm 5: expected one of 8 (RSASHA256), 10"), "{old}");
    for (text, message) in [
        ("", "no line 'Private-key-format'"),
        ("Private-key-format: v2.0\n", "unknown format 'v2.0': expected v1.3"),
        ("Private-key-format: v1.3\n", "algorithm none: the public key has 13"),
        ("Private-key-format: v1.3\nAlgorithm: 13\n", "no line 'PrivateKey'"),
        ("Private-key-format: v1.3\nAlgorithm: 13\nPrivateKey: ?\n", "'PrivateKey' is not base64"),
    ] {
        let error = private_key(text.as_bytes(), Algorithm::EcdsaP256).unwrap_err();
        assert_eq!(error, message, "{text}");
    }
}

#[test]
fn a_private_key_that_others_can_read_is_warned_of() {
    let files = [("/dir/K.key", KEYS[3].2), ("/dir/K.private", KEYS[3].3)];
    let files: BTreeMap<_, _> =
        files.into_iter().map(|(path, text)| (path.into(), text.to_vec())).collect();
    let warnings = |is_exposed| {
        let mut sources = Sources::fixed(files.clone(), BTreeMap::new());
        sources.is_exposed = Box::new(move |path| is_exposed && path.ends_with("K.private"));
        let host = Host { sources, ..Host::plain() };
        let text = "example.org {\n dnssec {\n  key file K\n }\n sign db {\n  key file K\n }\n}\n";
        let (_, warnings) = Config::load(text.as_bytes(), "f", &host).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(warnings(false), [""; 0]);
    let what = "K.private can be read by others than its owner: chmod 600";
    let expected = [(3, "dnssec"), (6, "sign")]
        .map(|(line, name)| format!("f:{line} - plugin/{name}: {what}"));
    assert_eq!(warnings(true), expected);
}
