//! Messages of transfers: good ones, and each way in which one can be wrong.
//!
//! Messages are written by hand, so that no test shares a mistake with the reader; each is also cut
//! and changed at every place.

use super::{Incoming, Progress};
use crate::engine::authority::difference::{Chain, Difference, Differences};
use crate::engine::authority::train::Train;
use crate::engine::authority::{Builder, Zone};
use crate::engine::message::query::Asked;
use ahash::RandomState;
use std::sync::Arc;

const APEX: &[u8] = b"\x01z\0";
const SOA: u16 = 6;
const A: u16 = 1;

type Row<'r> = (&'r [u8], u16, Vec<u8>);

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

fn soa(serial: u32) -> Row<'static> {
    (APEX, SOA, [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat())
}

fn a(owner: &[u8], last: u8) -> Row<'_> {
    (owner, A, vec![192, 0, 2, last])
}

/// A message with these records.
fn message(rows: &[Row<'_>]) -> Vec<u8> {
    let mut bytes = vec![0, 7, 0x84, 0, 0, 1, 0, rows.len() as u8, 0, 0, 0, 0];
    bytes.extend([APEX, &[0, 252, 0, 1]].concat());
    for (owner, rtype, data) in rows {
        bytes.extend_from_slice(owner);
        bytes.extend(rtype.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 60]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

/// Takes messages; the last one has to end the transfer.
fn zone(base: Option<&Zone>, messages: &[Vec<Row<'_>>]) -> Result<(Zone, bool), String> {
    let mut incoming = Incoming::new(APEX, 7, base, hasher());
    for (number, rows) in messages.iter().enumerate() {
        let progress = incoming.take(&message(rows))?;
        let is_last = number + 1 == messages.len();
        assert_eq!(progress == Progress::Done, is_last, "message {number}: {progress:?}");
    }
    incoming.finish().map(|(built, is_incremental)| (built.zone, is_incremental))
}

/// The zone with this serial and these addresses of names of one letter.
fn built(serial: u32, names: &[(&str, u8)]) -> Zone {
    let mut builder = Builder::new(APEX, 0, hasher());
    let (_, rtype, data) = soa(serial);
    builder.add(APEX, rtype, 60, &data, (0, 0)).unwrap();
    for (name, last) in names {
        let owner = [&[1], name.as_bytes(), APEX].concat();
        builder.add(&owner, A, 60, &[192, 0, 2, *last], (0, 0)).unwrap();
    }
    builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
}

const AZ: &[u8] = b"\x01a\x01z\0";
const BZ: &[u8] = b"\x01B\x01z\0";
const CZ: &[u8] = b"\x01c\x01z\0";

#[test]
fn a_whole_zone_is_between_two_equal_soa_records_in_any_number_of_messages() {
    let expected = built(3, &[("a", 1), ("b", 2)]);
    let rows = [soa(3), a(AZ, 1), a(BZ, 2), soa(3)];
    let one = vec![rows.to_vec()];
    let many: Vec<_> = rows.iter().map(|row| vec![row.clone()]).collect();
    for messages in [one, many] {
        let (zone, is_incremental) = zone(None, &messages).unwrap();
        assert!(zone.is_same(&expected) && !is_incremental);
    }
    // A whole zone also answers a query for differences.
    let base = built(2, &[("a", 1)]);
    let (whole, is_incremental) = zone(Some(&base), &[rows.to_vec()]).unwrap();
    assert!(whole.is_same(&expected) && !is_incremental);
}

#[test]
fn a_zone_without_its_first_or_last_soa_record_is_refused() {
    for (messages, what) in [
        (vec![vec![a(AZ, 1)]], "first record is not SOA"),
        (vec![vec![soa(3), a(AZ, 1), soa(4)]], "the last SOA record differs"),
        (vec![vec![soa(3), a(AZ, 1), soa(3), a(BZ, 2)]], "behind the last SOA"),
        (vec![vec![soa(3)], vec![]], "without records"),
        (vec![vec![soa(3), soa(3)]], "nothing but its SOA"),
        (vec![vec![soa(3), (AZ, SOA, soa(3).2)]], "another name"),
        (vec![vec![soa(3), (AZ, 50, vec![0; 9])]], "NSEC3"),
        (vec![vec![soa(3), (AZ, 41, vec![])]], "type that no zone has"),
        (vec![vec![soa(3), (AZ, A, vec![1, 2])]], "malformed"),
        (vec![vec![soa(3), (AZ, 5, b"\x01x\0".to_vec()), a(AZ, 1), soa(3)]], "CNAME"),
    ] {
        let error = match zone(None, &messages) {
            Err(error) => error,
            Ok((zone, _)) => panic!("{what}: {zone:?}"),
        };
        assert!(error.contains(what), "{what}: {error}");
    }
    let mut incoming = Incoming::new(APEX, 7, None, hasher());
    assert_eq!(incoming.take(&message(&[soa(3), a(AZ, 1)])), Ok(Progress::More));
    assert!(incoming.finish().is_err(), "the primary has ended early");
}

#[test]
fn differences_lead_from_our_version_to_the_new_one() {
    let base = built(1, &[("a", 1), ("b", 2)]);
    let two_steps = [
        soa(3),
        soa(1),
        a(AZ, 1),
        soa(2),
        a(AZ, 9),
        a(CZ, 3),
        soa(2),
        a(CZ, 3),
        soa(3),
        a(AZ, 1),
        soa(3),
    ];
    let one: Vec<_> = vec![two_steps.to_vec()];
    let many: Vec<_> = two_steps.iter().map(|row| vec![row.clone()]).collect();
    for messages in [one, many] {
        let (zone, is_incremental) = zone(Some(&base), &messages).unwrap();
        assert!(is_incremental);
        let names: Vec<_> = ["a", "b"].map(|name| [&[1], name.as_bytes(), APEX].concat()).to_vec();
        assert!(zone.has_record(&names[0], A, &[192, 0, 2, 1]));
        assert!(zone.has_record(&names[0], A, &[192, 0, 2, 9]));
        assert!(zone.has_record(&names[1], A, &[192, 0, 2, 2]) && zone.records() == 4);
        assert_eq!(zone.serial(), 3);
    }
    let mut incoming = Incoming::new(APEX, 7, Some(&base), hasher());
    assert_eq!(incoming.take(&message(&[soa(1)])), Ok(Progress::Current));
}

#[test]
fn differences_that_do_not_fit_are_refused() {
    let base = built(1, &[("a", 1), ("b", 2)]);
    for (rows, what) in [
        (vec![soa(2), soa(1), a(CZ, 1), soa(2), soa(2)], "does not have"),
        (vec![soa(2), soa(1), a(AZ, 1), a(AZ, 1), soa(2), soa(2)], "does not have"),
        (vec![soa(2), soa(1), soa(2), a(AZ, 1), soa(2)], "that the zone has"),
        (vec![soa(2), soa(1), soa(2), a(CZ, 1), a(CZ, 1), soa(2)], "that the zone has"),
        (vec![soa(3), soa(1), soa(2), soa(1), soa(3), soa(3)], "do not follow each other"),
        (vec![soa(3), soa(1), soa(2), soa(3)], "do not follow each other"),
        (vec![soa(2), soa(1), soa(1), soa(1)], "do not rise"),
        (vec![soa(2), soa(1), soa(0), soa(0)], "do not rise"),
        (vec![soa(2), soa(1), soa(3), soa(3)], "do not rise"),
        (vec![soa(2), soa(1), soa(2), soa(2), a(CZ, 1)], "behind the last SOA"),
        // From another version than ours: read as a whole zone, whose end is wrong.
        (vec![soa(3), soa(2), soa(3), soa(3)], "the last SOA record differs"),
    ] {
        let error = match zone(Some(&base), std::slice::from_ref(&rows)) {
            Err(error) => error,
            Ok((zone, _)) => panic!("{what}: {zone:?}"),
        };
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[test]
fn messages_that_answer_nothing_of_ours_are_refused() {
    let good = message(&[soa(3), soa(3)]);
    for (place, value, what) in [
        (1, 8, "another query"),
        (2, 0x04, "another query"),
        (2, 0x86, "truncated"),
        (2, 0xa4, "another query"),
        (3, 5, "REFUSED"),
        (5, 2, "several questions"),
        (13, b'y', "another query"),
    ] {
        let mut packet = good.clone();
        packet[place] = value;
        let error = Incoming::new(APEX, 7, None, hasher()).take(&packet).unwrap_err();
        assert!(error.contains(what), "{what}: {error}");
    }
    for len in 0..good.len() {
        assert!(Incoming::new(APEX, 7, None, hasher()).take(&good[..len]).is_err(), "cut at {len}");
    }
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut packet = good.clone();
            packet[place] ^= 1 << bit;
            // It must not panic, whatever the result.
            let mut incoming = Incoming::new(APEX, 7, None, hasher());
            if incoming.take(&packet) == Ok(Progress::Done) {
                let _ = incoming.finish();
            }
        }
    }
}

#[test]
fn the_differences_that_this_server_sends_are_those_that_it_takes() {
    let letters = (b'a'..=b'z').chain(b'0'..=b'9');
    let names: Vec<String> = letters.map(|letter| char::from(letter).to_string()).collect();
    // Each version has other addresses, and other names are missing; most stay.
    let versions: Vec<_> = (1..=6_u8)
        .map(|serial| {
            let numbered = (0_u8..).zip(&names);
            let own = numbered.filter(|(number, _)| number % 4 != serial % 3 || *number > 9);
            let own = own.map(|(number, name)| (&**name, if number < 3 { serial } else { 9 }));
            let own: Vec<_> = own.collect();
            Arc::new(built(serial.into(), &own))
        })
        .collect();
    let differences: Differences = versions
        .windows(2)
        .map(|pair| Arc::new(Difference::between(&pair[0], &pair[1], usize::MAX).unwrap()))
        .collect();
    let last = &versions[5];
    let asked = Asked { id: 7, flags: 0, edns: None };
    let question = [APEX, &[0, 251, 0, 1]].concat();
    let mut room = vec![0; 65_535];
    for base in &versions[2..5] {
        let chain = Chain::from(&differences, base.serial(), last).unwrap();
        let mut train = Train::new(Arc::clone(last), Some(chain), asked, &question);
        let mut incoming = Incoming::new(APEX, 7, Some(base), hasher());
        let mut progress = Progress::More;
        // Short messages, so that the differences take several.
        while let Some(len) = train.next(&mut room, 16_384 - 120) {
            assert_eq!(progress, Progress::More);
            progress = incoming.take(&room[..len]).unwrap();
        }
        assert!(train.is_done() && progress == Progress::Done, "{progress:?}");
        let (built, is_incremental) = incoming.finish().unwrap();
        assert!(is_incremental && built.zone.is_same(last), "from {}", base.serial());
    }
}
