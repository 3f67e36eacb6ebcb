//! Signing and verification against each other, with messages that are truncated, changed or late.
//!
//! `tests/engine/stages/tsig.rs` tests signed queries through the engine, with a client of another
//! implementation.

use super::{
    FUDGE, Failure, Fields, Keys, Malformed, Signature, Signer, TsigError, Unproven, lower,
    name_of, truncate,
};
use crate::config::{Config, Host, TsigAlgorithm, TsigKey};
use crate::engine::message::u16_at;
use ahash::RandomState;
use std::sync::Arc;

/// Time of signing, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn keys() -> Keys {
    let text = ". {\n tsig example.org {\n secret a.key. c2VjcmV0c2VjcmV0\n \
                secret pinned. c2VjcmV0 hmac-sha512\n require_opcode UPDATE\n }\n}\n";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    Keys::new(&config.blocks[0], &RandomState::with_seeds(1, 2, 3, 4)).unwrap()
}

fn key(name: &[u8]) -> Arc<TsigKey> {
    Arc::clone(keys().key(name).unwrap().1)
}

/// A query for `x A` with room for a signature, and its length.
fn query() -> (Vec<u8>, usize) {
    let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x01x\x00\x00\x01\x00\x01");
    let len = message.len();
    message.resize(len + 300, 0);
    (message, len)
}

/// A signed query, and its signer.
fn signed(name: &[u8], at: u64) -> (Vec<u8>, Signer) {
    let (mut message, len) = query();
    let mut signer = Signer::of_request(key(name));
    let end = signer.sign(&mut message, len, at).unwrap();
    assert_eq!(end - len, signer.room());
    message.truncate(end);
    (message, signer)
}

fn verify(packet: &[u8], now: u64) -> Result<Signer, Option<TsigError>> {
    let signature = Signature::find(packet).unwrap().unwrap();
    let verified = keys().verify(packet, &signature, now);
    verified.map_err(|failure| failure.map(|failure: Box<Failure>| failure.error))
}

/// The reply to `packet` with `filler` bytes of records, signed by the server.
fn reply(packet: &[u8], server: &mut Signer, filler: u8) -> Vec<u8> {
    let signature = Signature::find(packet).unwrap().unwrap();
    let mut message = vec![0; packet.len() + 400];
    let len = signature.strip(packet, 0x0707, &mut message);
    (message[2], message[7]) = (0x80, 1);
    let record = [&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, 3, 2][..], &[filler; 2]].concat();
    message[len..len + record.len()].copy_from_slice(&record);
    let end = server.sign(&mut message, len + record.len(), NOW).unwrap();
    message.truncate(end);
    message
}

#[test]
fn each_side_accepts_the_signatures_of_the_other() {
    for name in [&b"\x01a\x03key\0"[..], b"\x06pinned\0"] {
        let (packet, mut client) = signed(name, NOW);
        let mut server = verify(&packet, NOW + 299).unwrap();
        // A sequence of messages, each signed with the previous MAC.
        for filler in 0..3 {
            let answer = reply(&packet, &mut server, filler);
            assert_eq!(client.verify(&answer, NOW), Ok(()), "message {filler}");
            assert!(client.is_complete());
        }
    }
}

#[test]
fn a_change_of_any_byte_but_the_id_is_detected() {
    let (packet, client) = signed(b"\x01a\x03key\0", NOW);
    let answer = reply(&packet, &mut verify(&packet, NOW).unwrap(), 1);
    for place in 2..packet.len() {
        let mut changed = packet.clone();
        changed[place] ^= 0x11;
        let found = Signature::find(&changed);
        let believed = found.is_ok_and(|found| {
            found.is_some_and(|found| keys().verify(&changed, &found, NOW).is_ok())
        });
        assert!(!believed, "byte {place} of the query");
    }
    // The MAC covers the original ID, because a forwarder may change that of the header.
    let mut changed = packet.clone();
    changed[0] = 99;
    assert!(verify(&changed, NOW).is_ok());
    for place in 2..answer.len() {
        let mut changed = answer.clone();
        changed[place] ^= 0x11;
        assert!(client.clone().verify(&changed, NOW).is_err(), "byte {place} of the answer");
    }
}

#[test]
fn a_truncated_message_is_malformed() {
    let (packet, _) = signed(b"\x01a\x03key\0", NOW);
    for end in 0..packet.len() {
        assert_eq!(Signature::find(&packet[..end]).err(), Some(Malformed), "cut at {end}");
    }
}

#[test]
fn a_tsig_is_the_last_record_and_the_only_one() {
    let (packet, _) = signed(b"\x01a\x03key\0", NOW);
    let start = Signature::find(&packet).unwrap().unwrap().start;
    let twice = [&packet[..], &packet[start..]].concat();
    let behind = [&packet[..], b"\0\0\x29\x04\xd0\0\0\0\0\0\0"].concat();
    for mut wrong in [twice, behind] {
        wrong[11] = 2;
        assert_eq!(Signature::find(&wrong).err(), Some(Malformed));
    }
    let mut elsewhere = packet.clone();
    (elsewhere[11], elsewhere[7]) = (0, 1);
    assert_eq!(Signature::find(&elsewhere).err(), Some(Malformed));
}

#[test]
fn the_name_of_an_algorithm_is_not_compressed() {
    let (packet, _) = signed(b"\x01a\x03key\0", NOW);
    let found = Signature::find(&packet).unwrap().unwrap();
    let name = name_of(TsigAlgorithm::Sha256);
    let place = found.start + 7 + 10;
    assert_eq!(&packet[place..place + name.as_bytes().len()], name.as_bytes());
    // A pointer to the question's name.
    let end = place + name.as_bytes().len();
    let mut short = [&packet[..place], &[0xc0, 12], &packet[end..]].concat();
    let len = (short.len() - place) as u16;
    short[place - 2..place].copy_from_slice(&len.to_be_bytes());
    assert_eq!(Signature::find(&short).err(), Some(Malformed));
}

#[test]
fn a_reply_to_a_truncated_mac_has_the_time_of_the_server() {
    let (packet, _) = signed(b"\x01a\x03key\0", NOW);
    let found = Signature::find(&packet).unwrap().unwrap();
    let cut = Signature { mac: &found.mac[..16], ..found };
    let mut failure = keys().verify(&packet, &cut, NOW).err().unwrap().unwrap();
    assert_eq!(failure.error, TsigError::BadTrunc);
    let mut message = vec![0; 512];
    let len = found.strip(&packet, 0x0707, &mut message);
    message[2..4].copy_from_slice(&[0x80, 9]);
    let end = failure.append(&mut message, len, NOW + 7).unwrap();
    let reply = Signature::find(&message[..end]).unwrap().unwrap();
    assert_eq!((reply.time, reply.fudge, reply.other.len()), (NOW + 7, FUDGE, 0));
}

#[test]
fn each_failure_of_verification_has_its_error() {
    let (packet, _) = signed(b"\x01a\x03key\0", NOW);
    assert_eq!(verify(&packet, NOW + 301).err(), Some(Some(TsigError::BadTime)));
    assert_eq!(verify(&packet, NOW - 301).err(), Some(Some(TsigError::BadTime)));
    let other = |change: &dyn Fn(&mut TsigKey)| {
        let mut key = TsigKey::clone(&key(b"\x06pinned\0"));
        change(&mut key);
        let (mut message, len) = query();
        let end = Signer::of_request(Arc::new(key)).sign(&mut message, len, NOW).unwrap();
        verify(&message[..end], NOW).err()
    };
    assert_eq!(other(&|_| ()), None);
    let bad_key = Some(Some(TsigError::BadKey));
    assert_eq!(other(&|key| key.algorithm = crate::config::TsigAlgorithm::Sha256), bad_key);
    assert_eq!(other(&|key| key.name = crate::config::Name::parse("x").unwrap()), bad_key);
    assert_eq!(other(&|key| key.secret = b"x"[..].into()), Some(Some(TsigError::BadSig)));
}

#[test]
fn a_client_learns_the_clock_of_the_server_from_a_signed_error() {
    let (packet, mut client) = signed(b"\x01a\x03key\0", NOW);
    let signature = Signature::find(&packet).unwrap().unwrap();
    let mut failure = keys().verify(&packet, &signature, NOW + 1_000).err().unwrap().unwrap();
    let mut message = vec![0; 512];
    let len = signature.strip(&packet, 0x0707, &mut message);
    message[2..4].copy_from_slice(&[0x80, 9]);
    let end = failure.append(&mut message, len, NOW + 1_000).unwrap();
    let found = Signature::find(&message[..end]).unwrap().unwrap();
    assert_eq!((found.time, found.error), (NOW, TsigError::BadTime as u16));
    assert_eq!(found.other, &(NOW + 1_000).to_be_bytes()[2..]);
    assert_eq!(client.clone().verify(&message[..end], NOW), Err(Unproven::Refused(18)));
    message[end - 1] ^= 1;
    assert_eq!(client.verify(&message[..end], NOW), Err(Unproven::WrongMac));
}

#[test]
fn a_truncated_mac_is_verified_and_then_rejected() {
    let (packet, _) = signed(b"\x01a\x03key\0", NOW);
    let signature = Signature::find(&packet).unwrap().unwrap();
    let mac_len = signature.mac.len();
    let place = packet.len() - 6 - mac_len;
    let cut = |len: usize| {
        let mut short = [&packet[..place + len], &packet[place + mac_len..]].concat();
        let data_len = packet.len() - signature.start - 7 - 10 - mac_len + len;
        let word = signature.start + 7 + 8;
        short[word..word + 2].copy_from_slice(&(data_len as u16).to_be_bytes());
        short[place - 2..place].copy_from_slice(&(len as u16).to_be_bytes());
        verify(&short, NOW).err()
    };
    assert_eq!(cut(mac_len), None);
    assert_eq!(cut(16), Some(Some(TsigError::BadTrunc)));
    assert_eq!(cut(15), Some(None), "less than half");
    assert_eq!(cut(0), Some(None));
}

#[test]
fn messages_between_two_signatures_are_covered_by_the_second() {
    let (packet, mut client) = signed(b"\x01a\x03key\0", NOW);
    let mut server = verify(&packet, NOW).unwrap();
    let first = reply(&packet, &mut server, 1);
    let mut bare = first[..Signature::find(&first).unwrap().unwrap().start].to_vec();
    bare[11] = 0;
    assert_eq!(client.clone().verify(&bare, NOW), Err(Unproven::Unsigned), "the first is signed");
    assert_eq!(client.verify(&first, NOW), Ok(()));
    for _ in 0..99 {
        assert_eq!(client.verify(&bare, NOW), Ok(()));
        assert!(!client.is_complete());
    }
    let hundredth = client.clone().verify(&bare, NOW);
    assert_eq!(hundredth, Err(Unproven::Unsigned));
    let after_one = reply(&packet, &mut server.clone(), 2);
    assert_eq!(client.clone().verify(&after_one, NOW), Err(Unproven::WrongMac));
    let mut mac = server.begin();
    (0..100).for_each(|_| mac.update(&bare));
    let (key, algorithm) = (lower(server.key.name.as_wire()), name_of(server.algorithm));
    let (key, algorithm) = (key.as_bytes(), algorithm.as_bytes());
    let fields = Fields { key, algorithm, time: NOW, fudge: 300, error: 0, other: &[] };
    fields.digest(&mut mac, true);
    let (mac, mut last) = (mac.finish(), bare.clone());
    last.resize(512, 0);
    let end = fields.append(&mut last, bare.len(), mac.as_bytes(), 0x0707).unwrap();
    assert_eq!(client.verify(&last[..end], NOW), Ok(()));
    assert!(client.is_complete());
}

#[test]
fn a_truncated_reply_keeps_its_question_and_its_opt() {
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let mut message = vec![7, 7, 0x81, 0xa0, 0, 1, 0, 1, 0, 0, 0, 1];
    message.extend(b"\x01x\x00\x00\x01\x00\x01");
    let question = message.len();
    message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x01\x02\x03\x04");
    message.extend(opt);
    let len = message.len();
    let end = truncate(&mut message, len);
    assert_eq!(&message[question..end], opt);
    let words: Vec<_> = (1..6).map(|word| u16_at(&message, 2 * word).unwrap()).collect();
    assert_eq!(words, [0x8380, 1, 0, 0, 1]);
}
