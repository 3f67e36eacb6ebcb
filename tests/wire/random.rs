//! Random messages of clients and upstreams, valid and corrupted.
//!
//! Names repeat, owners and RDATA point back to them, RRsets have several members in several
//! spellings, and an OPT is somewhere or missing.

use crate::common::Dice;
use crate::common::wire::{Writer, random_case, random_name};
use crate::oracle::has_pointer;
use onward::engine::message::HEADER_LEN;
use onward::engine::message::query::{Asked, Edns};

/// Type of TSIG records.
pub(crate) const TSIG: u16 = 250;
/// Option code of client subnets.
pub(crate) const ECS: u16 = 8;
/// Option code of edns-tcp-keepalive (RFC 7828).
pub(crate) const COOKIE: u16 = 10;
pub(crate) const KEEPALIVE: u16 = 11;
pub(crate) const NSID: u16 = 3;
pub(crate) const PADDING: u16 = 12;

/// A client's query, valid or nearly so.
pub(crate) fn random_query(dice: &mut Dice) -> Vec<u8> {
    let flags = if dice.one_in(4) { dice.word() } else { dice.word() & 0x07ff };
    let extras = if dice.one_in(8) { dice.below(4) } else { usize::from(dice.one_in(2)) };
    let soas = usize::from(dice.one_in(16));
    let questions = if dice.one_in(16) { dice.below(3) } else { 1 };
    let header = [dice.word(), flags, questions as u16, 0, soas as u16, extras as u16];
    let mut writer = Writer::new(header);
    for _ in 0..questions {
        writer.question(&random_name(dice), dice.word() % 300, 1 + dice.word() % 4);
    }
    for _ in 0..soas {
        writer.record(&random_name(dice), 6, 1, 60, &dice.bytes(30));
    }
    for number in 0..extras {
        if number > 0 && dice.one_in(2) {
            let rtype = if dice.one_in(2) { TSIG } else { dice.word() % 300 };
            let owner = random_name(dice);
            let length = dice.below(40);
            writer.record(&owner, rtype, 255, 0, &dice.bytes(length));
        } else {
            let version = if dice.one_in(8) { dice.word() as u8 } else { 0 };
            let options = random_options(dice);
            writer.opt(dice.word() % 5_000, 0, version, dice.one_in(2), &options);
            if dice.one_in(16) {
                // Replaces the OPT's root owner.
                let at = writer.bytes.len() - options.len() - 11;
                writer.bytes.splice(at..=at, *b"\x01x\0");
            }
        }
    }
    writer.bytes
}

pub(crate) fn random_options(dice: &mut Dice) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..dice.below(4) {
        let code = if dice.one_in(2) { ECS } else { dice.word() % 20 };
        let length = if dice.one_in(8) { dice.below(40) } else { dice.below(21) };
        options.extend(code.to_be_bytes());
        options.extend((length as u16).to_be_bytes());
        options.extend(dice.bytes(length));
    }
    options
}

/// Changes a few bytes, or the length.
pub(crate) fn mutate(dice: &mut Dice, packet: &mut Vec<u8>) {
    for _ in 0..=dice.below(3) {
        let length = packet.len();
        match dice.below(8) {
            0 => packet.truncate(dice.below(length + 1)),
            1 => packet.extend(dice.bytes(3)),
            2 if length >= HEADER_LEN => packet[2 + dice.below(10)] ^= 1 << dice.below(8),
            3 if length > 0 => packet[dice.below(length)] = 0xc0,
            _ if length > 0 => packet[dice.below(length)] = dice.word() as u8,
            _ => {}
        }
    }
}

/// A response with RRsets of several records, pointers everywhere, and an OPT somewhere.
pub(crate) fn random_response(dice: &mut Dice) -> Vec<u8> {
    let question = random_name(dice);
    let mut counts = [0u16; 3];
    let mut writer = Writer::new([dice.word(), 0x8000 | dice.word() & 0x07ff, 1, 0, 0, 0]);
    writer.question(&question, dice.word() % 300, 1);
    let mut spots = vec![(HEADER_LEN, question.len())];
    let generous = dice.one_in(2);
    for (section, count) in counts.iter_mut().enumerate() {
        for _ in 0..dice.below(if generous { 12 } else { 3 }) {
            if writer.bytes.len() > 4_000 {
                break;
            }
            *count += random_set(dice, &mut writer, &mut spots);
        }
        if section == 2 && !dice.one_in(4) {
            *count += 1;
            let rcode_high = if dice.one_in(8) { 1 + dice.word() as u8 % 9 } else { 0 };
            writer.opt(dice.word(), rcode_high, 0, dice.one_in(2), &random_options(dice));
            if dice.one_in(8) {
                *count += random_set(dice, &mut writer, &mut spots);
            }
        }
    }
    for (section, count) in counts.into_iter().enumerate() {
        writer.bytes[6 + 2 * section..8 + 2 * section].copy_from_slice(&count.to_be_bytes());
    }
    writer.bytes
}

/// A name to point to: its offset, and its uncompressed length.
pub(crate) type Spot = (usize, usize);

/// One to five records with one owner, which is uncompressed, a pointer, or a mixture.
pub(crate) fn random_set(dice: &mut Dice, writer: &mut Writer, spots: &mut Vec<Spot>) -> u16 {
    let rtype = dice.pick(&[1, 2, 5, 6, 15, 16, 28, 43, 46, 64, 65_280]);
    let class = if dice.one_in(20) { 3 } else { 1 };
    let ttl = dice.below(1 << 31) as u32;
    let (mut owner, length) = random_owner(dice, spots);
    let count = 1 + dice.below(5);
    for _ in 0..count {
        let start = writer.bytes.len();
        let data = random_data(dice, spots, rtype);
        writer.record(&owner, rtype, class, ttl, &data);
        spots.push((start, length));
        if dice.one_in(2) {
            owner = pointer(start);
        } else if dice.one_in(2) {
            owner = random_case_of_name(dice, &owner);
        }
    }
    count as u16
}

/// Random RDATA in the format of this type.
fn random_data(dice: &mut Dice, spots: &[Spot], rtype: u16) -> Vec<u8> {
    let length = dice.below(60);
    let name = random_owner(dice, spots).0;
    match rtype {
        1 => dice.bytes(4),
        28 => dice.bytes(16),
        2 | 5 => name,
        6 => [name, random_owner(dice, spots).0, dice.bytes(20)].concat(),
        15 => [dice.bytes(2), name].concat(),
        16 => [vec![length as u8], dice.bytes(length), vec![1, b'x']].concat(),
        46 => [dice.bytes(18), name, dice.bytes(length)].concat(),
        64 => [dice.bytes(2), name].concat(),
        _ => dice.bytes(length),
    }
}

/// A name in wire format, possibly compressed, and its uncompressed length.
pub(crate) fn random_owner(dice: &mut Dice, spots: &[Spot]) -> (Vec<u8>, usize) {
    let (spot, length) = dice.pick(spots);
    match dice.below(4) {
        0 => {
            let name = random_name(dice);
            let length = name.len();
            (name, length)
        }
        1 if length <= 253 => ([b"\x01S".to_vec(), pointer(spot)].concat(), length + 2),
        _ => (pointer(spot), length),
    }
}

pub(crate) fn pointer(spot: usize) -> Vec<u8> {
    (0xc000 | spot as u16).to_be_bytes().to_vec()
}

/// Length octets are not letters and stay unchanged, and so do names with pointers.
pub(crate) fn random_case_of_name(dice: &mut Dice, name: &[u8]) -> Vec<u8> {
    if has_pointer(name) { name.to_vec() } else { random_case(dice, name) }
}

/// A client that gets an answer.
pub(crate) fn random_asked(dice: &mut Dice) -> Asked {
    let udp_size = dice.pick(&[0, 511, 512, 513, 600, 800, 1_231, 1_232, 1_233, 4_096, 65_535]);
    let edns = Edns {
        udp_size,
        dnssec_ok: dice.one_in(2),
        compact_ok: false,
        keepalive: dice.one_in(4),
        nsid: dice.one_in(4),
        padding: false,
        cookie: None,
    };
    let edns = (!dice.one_in(3)).then_some(edns);
    Asked { id: dice.word(), flags: dice.word() & 0x07ff, edns }
}

pub(crate) fn random_case_of_question(dice: &mut Dice, question: &[u8]) -> Vec<u8> {
    let (name, rest) = question.split_at(question.len() - 4);
    [random_case_of_name(dice, name), rest.to_vec()].concat()
}
