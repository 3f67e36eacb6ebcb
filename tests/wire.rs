//! Message views compared with the `domain` crate, on random and on broken messages.
//!
//! For accepted and rejected messages, for queries that go upstream and for replies to clients,
//! `domain` reads the same bytes and both must agree. Where the views are stricter on purpose (no
//! compression pointer in a question, none into the header) the test says so. No input of any kind
//! may make them panic.

mod common;
#[path = "wire/oracle.rs"]
mod oracle;
#[path = "wire/queries.rs"]
mod queries;
#[path = "wire/random.rs"]
mod random;
#[path = "wire/remembered.rs"]
mod remembered;

use common::wire::{Ask, Writer, random_name, word_at};
use common::{Dice, for_seeds};
use domain::base::iana::Opcode;
use domain::base::name::{ToLabelIter, ToName};
use domain::base::{Message, ParsedName};
use domain::rdata::AllRecordData;
use onward::engine::message::compose::write_error;
use onward::engine::message::query::{Asked, Query, UPSTREAM_LEN_MAX};
use onward::engine::message::reply::{ERROR_LEN_MAX, ExtendedError, Finish, ReplyTo, write_answer};
use onward::engine::message::response::{Response, answers, is_response};
use onward::engine::message::{HEADER_LEN, Question, Rcode, names_equal};
use oracle::{OPT, Seen, has_pointer, options_of, read};
use random::{mutate, random_asked, random_case_of_question, random_query, random_response};

#[test]
fn a_response_is_laid_out_as_domain_says() {
    for_seeds(0..40, |dice| {
        for _ in 0..100 {
            let packet = random_response(dice);
            let (questions, records) = read(&packet).expect("the writer writes what can be read");
            let response = Response::parse(&packet).expect("and so do we");
            let opt = records.iter().position(|record| record.rtype == OPT);
            let kept = &records[..opt.unwrap_or(records.len())];
            let count = |section| kept.iter().filter(|seen| seen.section == section).count() as u16;
            assert_eq!(response.counts, [count(0), count(1), count(2)]);
            assert_eq!(response.start, HEADER_LEN + usize::from(questions[0].0.compose_len()) + 4);
            assert_eq!(response.end, kept.last().map_or(response.start, |last| last.end));
            let high = opt.map(|place| (records[place].ttl >> 24) as u8);
            assert_eq!(response.opt.map(|opt| opt.rcode_high), high);
            assert!(is_response(&packet) == (word_at(&packet, 2) & 0xf800 == 0x8000));
        }
    });
}

#[test]
fn broken_responses_are_rejected_as_domain_rejects_them() {
    for_seeds(0..40, |dice| {
        let (mut accepted, mut rejected) = (0, 0);
        for _ in 0..250 {
            let mut packet = random_response(dice);
            mutate(dice, &mut packet);
            if dice.one_in(8) && packet.len() >= HEADER_LEN {
                add_opt(dice, &mut packet);
            }
            let Some(response) = Response::parse(&packet) else {
                rejected += 1;
                check_rejection(&packet);
                continue;
            };
            accepted += 1;
            assert!(response.start <= response.end && response.end <= packet.len());
            // The number of questions is checked first.
            if word_at(&packet, 4) == 1 {
                assert!(can_be_read(&packet, &[2, 5, 6, 15]), "{packet:x?}");
            }
            if let Some((_, records)) = read(&packet) {
                let opts: Vec<_> = records.iter().filter(|record| record.rtype == OPT).collect();
                assert!(opts.len() <= 1 && opts.iter().all(|opt| opt.section == 2), "{opts:?}");
                let kept: u16 = response.counts.iter().sum();
                assert!(usize::from(kept) <= records.len());
                let last = records.iter().take(kept.into()).next_back();
                assert_eq!(response.end, last.map_or(response.start, |last| last.end));
            }
        }
        assert!(accepted > 50 && rejected > 25, "a lame run: {accepted} and {rejected}");
    });
}

/// Appends another OPT, wherever that falls, and counts it in the header.
fn add_opt(dice: &mut Dice, packet: &mut Vec<u8>) {
    let place = 6 + 2 * dice.below(3);
    let count = word_at(packet, place).wrapping_add(1);
    packet[place..place + 2].copy_from_slice(&count.to_be_bytes());
    let mut writer = Writer { bytes: std::mem::take(packet) };
    writer.opt(1_232, 0, 0, false, &[]);
    *packet = writer.bytes;
}

/// Types whose RDATA `domain` parses too.
const FORMS: [u16; 20] = [2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 33, 35, 39, 46, 47, 64, 65];
/// Types whose RDATA is opaque to `domain`.
const FORMS_APART: [u16; 10] = [17, 18, 19, 20, 21, 24, 26, 30, 36, 99];

/// `domain` rejects every message that the views reject, except for the deliberate differences.
fn check_rejection(packet: &[u8]) {
    let Some((questions, records)) = read(packet) else { return };
    let opts: Vec<_> = records.iter().filter(|record| record.rtype == OPT).collect();
    let on_purpose = questions.is_empty()
        || !can_be_read(packet, &FORMS)
        || records.iter().any(|record| FORMS_APART.contains(&record.rtype))
        || has_pointer(&packet[HEADER_LEN..])
        || questions.len() > 1
        || opts.len() > 1
        || opts.iter().any(|opt| opt.section != 2)
        || records.iter().any(|record| points_into_header(&packet[record.start..]))
        || records.iter().any(|record| {
            (record.start..record.end).any(|place| points_into_itself(packet, place))
        });
    assert!(on_purpose, "{packet:x?}");
}

/// Returns true if the name at `start` has a pointer to a name that has not ended before the
/// pointer: to one of its own labels. `domain` follows such pointers (RFC 1035 §4.1.4: a prior
/// name).
fn points_into_itself(packet: &[u8], start: usize) -> bool {
    let (mut place, mut piece) = (start, start);
    for _ in 0..256 {
        match packet.get(place) {
            None | Some(0) => return false,
            Some(length @ 1..=63) => place += 1 + usize::from(*length),
            Some(0xc0..) if place + 1 < packet.len() => {
                let target = usize::from(word_at(packet, place) & 0x3fff);
                if target >= piece {
                    return true;
                }
                (place, piece) = (target, target);
            }
            Some(_) => return false,
        }
    }
    true
}

/// Returns true if `domain` can read all owners, the RDATA of addresses, and that of these types.
fn can_be_read(packet: &[u8], kinds: &[u16]) -> bool {
    let message = Message::from_octets(packet).expect("a header");
    message.iter().all(|parsed| {
        let Ok((record, _)) = parsed else { return false };
        let (rtype, class) = (record.rtype().to_int(), record.class().to_int());
        let is_known = kinds.contains(&rtype) || class == 1 && [1, 28].contains(&rtype);
        !is_known || record.to_any_record::<AllRecordData<&[u8], ParsedName<&[u8]>>>().is_ok()
    })
}

fn points_into_header(owner: &[u8]) -> bool {
    let mut place = 0;
    while (1..64).contains(&owner[place]) {
        place += 1 + usize::from(owner[place]);
    }
    owner[place] >= 0xc0 && usize::from(word_at(owner, place) & 0x3fff) < HEADER_LEN
}

#[test]
fn a_client_gets_the_upstreams_answer() {
    for_seeds(0..60, |dice| {
        let (mut whole, mut cut) = (0, 0);
        for _ in 0..100 {
            let packet = random_response(dice);
            let asked = random_asked(dice);
            if check_answer(dice, &packet, &asked) {
                whole += 1;
            } else {
                cut += 1;
            }
        }
        assert!(whole > 10 && cut > 10, "a lame run: {whole} whole, {cut} cut");
    });
}

/// The client of `asked`.
fn to<'a>(asked: &'a Asked, question: &'a [u8]) -> ReplyTo<'a> {
    ReplyTo { asked, question, limit: asked.udp_limit(), finish: Finish::PLAIN }
}

/// Checks the reply built from `packet`; returns true if it has the whole answer.
fn check_answer(dice: &mut Dice, packet: &[u8], asked: &Asked) -> bool {
    let response = Response::parse(packet).unwrap();
    let (_, records) = read(packet).unwrap();
    let upstream = Message::from_octets(packet).unwrap().header();
    let opt = records.iter().position(|record| record.rtype == OPT);
    let source = &records[..opt.unwrap_or(records.len())];
    let question = random_case_of_question(dice, &packet[HEADER_LEN..response.start]);
    let limit = asked.udp_limit();
    assert!((512..=1_232).contains(&limit));
    let mut out = [0xaa; 1_232];
    let length = write_answer(&mut out, packet, &response, &to(asked, &question));
    let out = &out[..length];
    assert!(length <= limit, "{length} bytes, at most {limit}");

    let (questions, mut got) = read(out).expect("what we write can be read");
    assert_eq!(questions.len(), 1);
    assert_eq!(&out[HEADER_LEN..response.start], question, "the client's spelling");
    assert_eq!(got.last().map_or(response.start, |last| last.end), length, "nothing lies behind");
    let extended_error = opt.and_then(|place| first_extended_error(&records[place].data));
    let options = check_opt(&mut got, asked, &response, extended_error.unwrap_or_default());

    // The longest run of whole RRsets that leaves room for the OPT, or a shorter one.
    let room = limit - if asked.edns.is_some() { 11 + options } else { 0 };
    let is_end = |end: usize| {
        let before = end.checked_sub(1).map(|before| &source[before]);
        let torn = before.zip(source.get(end)).is_some_and(|(before, next)| before.same_set(next));
        !torn && before.is_none_or(|before| before.end <= room)
    };
    let fitting = (0..=source.len()).rev().find(|end| is_end(*end)).unwrap();
    let (kept, required) = required_of(source, fitting, response.rcode());
    assert_eq!(got.len(), kept, "of {} records, in {room} bytes", source.len());
    for (got, source) in got.iter().zip(source) {
        assert!(got.same_record(source), "{got:?} is not {source:?}");
    }
    assert_eq!(
        display_data(out, kept),
        display_data(packet, kept),
        "pointers in data lead elsewhere"
    );

    let header = Message::from_octets(out).unwrap().header();
    let whole = kept == source.len();
    assert_eq!((header.id(), header.qr(), header.opcode()), (asked.id, true, Opcode::QUERY));
    assert_eq!(header.tc(), upstream.tc() || !required);
    assert_eq!((header.aa(), header.ra()), (upstream.aa(), upstream.ra()));
    let flag = |bit: u16| asked.flags & bit != 0;
    assert_eq!((header.rd(), header.cd()), (flag(0x0100), flag(0x0010)));
    let wants_ad = flag(0x0020) || asked.edns.is_some_and(|edns| edns.dnssec_ok);
    assert_eq!(header.ad(), upstream.ad() && wants_ad);
    let lost = asked.edns.is_none() && response.opt.is_some_and(|opt| opt.rcode_high > 0);
    let rcode = if lost { 2 } else { upstream.rcode().to_int() };
    assert_eq!(header.rcode().to_int(), rcode);
    whole
}

/// Returns the number of records kept of those that fit, and true if no record is missing.
fn required_of(source: &[Seen], fitting: usize, rcode: u16) -> (usize, bool) {
    let [answers, authorities] =
        [0, 1].map(|last| source.iter().filter(|record| record.section <= last).count());
    let authority = &source[answers..authorities];
    let has = |kinds: &[u16]| authority.iter().any(|record| kinds.contains(&record.rtype));
    if fitting < answers {
        return (fitting, false);
    }
    if fitting < authorities {
        let optional = rcode == 0 && answers > 0 && !has(&[6, 47, 50]);
        return if optional { (answers, true) } else { (fitting, false) };
    }
    let zone = authority.iter().find(|record| record.rtype == 2).map(|record| &record.owner);
    let zone = zone.filter(|_| rcode == 0 && answers == 0 && !has(&[6]));
    let is_glue = |record: &Seen| {
        [1, 28].contains(&record.rtype) && zone.is_some_and(|zone| record.owner.ends_with(zone))
    };
    (fitting, !source[fitting..].iter().any(is_glue))
}

/// The first extended error that can be read in an OPT's RDATA, code and length included, unless it
/// is too long to be passed on.
fn first_extended_error(mut data: &[u8]) -> Option<Vec<u8>> {
    while let [code, rtype, high, low, rest @ ..] = data {
        let end = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        if end - 4 > rest.len() {
            return None;
        }
        if (*code, *rtype) == (0, 15) && end >= 6 {
            return Some(data[..end].to_vec()).filter(|error| error.len() <= 128);
        }
        data = &data[end..];
    }
    None
}

/// Removes the OPT from `got`, where it is the last record, and checks it; returns the length of
/// its options.
fn check_opt(
    got: &mut Vec<Seen>,
    asked: &Asked,
    response: &Response,
    extended_error: Vec<u8>,
) -> usize {
    let rcode_high = response.opt.map_or(0, |opt| opt.rcode_high);
    let opts = got.iter().filter(|record| record.rtype == OPT).count();
    assert_eq!(opts, usize::from(asked.edns.is_some()), "an OPT if and only if one was sent");
    let Some(edns) = asked.edns else { return 0 };
    let opt = got.pop().unwrap();
    let mut options = extended_error;
    if edns.keepalive {
        options.extend([0, 11, 0, 2, 0, 100]);
    }
    assert_eq!((opt.rtype, opt.section, opt.class), (OPT, 2, 1232));
    let ttl = u32::from(rcode_high) << 24 | u32::from(edns.dnssec_ok) << 15;
    assert_eq!((opt.ttl, &opt.data), (ttl, &options));
    options.len()
}

/// The names in the RDATA of the first `count` records, with their pointers followed.
fn display_data(packet: &[u8], count: usize) -> Vec<String> {
    let message = Message::from_octets(packet).unwrap();
    let named = message.iter().take(count).filter_map(|parsed| {
        let record = parsed.unwrap().0;
        let rtype = record.rtype().to_int();
        let data = record.to_any_record::<AllRecordData<&[u8], ParsedName<&[u8]>>>();
        (rtype == 2 || rtype == 5).then(|| format!("{}", data.unwrap().data()).to_lowercase())
    });
    named.collect()
}

#[test]
fn a_truncated_datagram_is_worth_its_question_and_tc() {
    for_seeds(0..20, |dice| {
        let packet = random_response(dice);
        let response = Response::of_truncated(&packet[..packet.len().min(600)]).unwrap();
        let asked = random_asked(dice);
        let mut out = [0; 1_232];
        let question = packet[HEADER_LEN..response.start].to_vec();
        let length = write_answer(&mut out, &packet, &response, &to(&asked, &question));
        let (questions, mut records) = read(&out[..length]).unwrap();
        check_opt(&mut records, &asked, &response, Vec::new());
        assert_eq!((questions.len(), records.len()), (1, 0));
        assert!(Message::from_octets(&out[..length]).unwrap().header().tc());
    });
}

#[test]
fn domain_reads_our_own_errors() {
    for_seeds(0..20, |dice| {
        for rcode in
            [Rcode::FormErr, Rcode::ServFail, Rcode::NotImp, Rcode::Refused, Rcode::BadVers]
        {
            let asked = Asked { flags: dice.word() & 0x7fff, ..random_asked(dice) };
            let ask = Ask::new(asked.id, "a.example");
            let question = if dice.one_in(4) { Vec::new() } else { ask.question() };
            let why = dice.pick(&[None, Some(ExtendedError::NoReachableAuthority)]);
            let mut out = [0xaa; ERROR_LEN_MAX];
            let length = write_error(&mut out, &asked, &question, rcode, why, Finish::PLAIN);
            let (questions, records) = read(&out[..length]).unwrap();
            assert_eq!(questions.len(), usize::from(!question.is_empty()));
            let message = Message::from_octets(&out[..length]).unwrap();
            let header = message.header();
            assert_eq!((header.id(), header.qr(), header.ra()), (asked.id, true, true));
            assert!(!header.aa() && !header.tc() && !header.ad());
            // Without an OPT the response code has four bits only.
            let is_told = asked.edns.is_some() || rcode as u16 <= 15;
            let code = if is_told { rcode as u8 & 15 } else { Rcode::ServFail as u8 };
            assert_eq!(header.rcode().to_int(), code);
            assert_eq!(word_at(&out, 2) & 0x7910, asked.flags & 0x7910, "opcode, RD and CD");
            assert_eq!(records.len(), usize::from(asked.edns.is_some()));
            if let [opt] = &records[..] {
                assert_eq!(message.opt_rcode().to_int(), rcode as u16);
                let options = options_of(&opt.data).unwrap();
                let error = why.map(|_| (15, vec![0, 22]));
                let keepalive = asked.edns.unwrap().keepalive.then(|| (11, vec![0, 100]));
                let expected: Vec<_> = error.into_iter().chain(keepalive).collect();
                assert_eq!(options, expected);
            }
        }
    });
}

#[test]
fn a_response_answers_a_query_with_the_same_question_in_any_letter_case_only() {
    for_seeds(0..30, |dice| {
        let mut writer = Writer::new([dice.word(), 0x0100, 1, 0, 0, 0]);
        let name = random_name(dice);
        writer.question(&name, dice.word(), dice.word());
        let query = writer.bytes;
        let (head, question) = query.split_at(HEADER_LEN);
        let respelt = [head, &random_case_of_question(dice, question)].concat();
        assert!(answers(&respelt, &query, name.len()));
        for place in HEADER_LEN..query.len() {
            assert!(!answers(&respelt[..place], &query, name.len()), "cut at {place}");
            let mut other = respelt.clone();
            other[place] ^= 1 << dice.below(8);
            let question = |packet: &[u8]| {
                let (questions, _) = read(packet)?;
                let (name, rtype, class) = questions.first()?;
                Some((name.to_vec(), *rtype, *class))
            };
            let same = question(&other) == question(&query) && !has_pointer(&other[HEADER_LEN..]);
            assert_eq!(answers(&other, &query, name.len()), same, "{other:x?} {query:x?}");
        }
    });
}

#[test]
fn names_are_equal_where_domain_says_so() {
    for_seeds(0..40, |dice| {
        let (mut equal, mut different) = (0, 0);
        for _ in 0..20 {
            let packet = random_response(dice);
            let (_, records) = read(&packet).unwrap();
            for _ in 0..records.len() * 4 {
                let (a, b) =
                    (&records[dice.below(records.len())], &records[dice.below(records.len())]);
                let same = a.owner == b.owner;
                assert_eq!(names_equal(&packet, a.start, b.start), same, "{a:?} {b:?}");
                *(if same { &mut equal } else { &mut different }) += 1;
            }
        }
        assert!(equal > 20 && different > 20, "a lame run: {equal} and {different}");
    });
}

#[test]
fn no_bytes_make_the_views_panic() {
    for_seeds(0..50, |dice| {
        let mut cases = 0;
        while cases < 4_500 {
            let mut packet = match dice.below(4) {
                0 => {
                    let length = dice.below(300);
                    dice.bytes(length)
                }
                1 => random_query(dice),
                _ => random_response(dice),
            };
            if packet.len() >= HEADER_LEN && dice.one_in(2) {
                // Passes the first checks.
                packet[2..6].copy_from_slice(&[dice.pick(&[0, 0x80]), 0, 0, 1]);
            }
            for _ in 0..20 {
                let mut mutant = packet.clone();
                mutate(dice, &mut mutant);
                look_at(dice, &mutant);
                cases += 1;
            }
        }
    });
}

#[test]
fn no_cut_makes_the_views_panic() {
    for_seeds(0..20, |dice| {
        for packet in [random_query(dice), random_response(dice), random_response(dice)] {
            for cut in 0..packet.len().min(1_400) {
                look_at(dice, &packet[..cut]);
            }
        }
    });
}

/// Every operation of the engine on bytes from the network.
fn look_at(dice: &mut Dice, packet: &[u8]) {
    let mut out = [0; 1_232];
    if let Ok(query) = Query::parse(packet, false) {
        let length =
            query.write_upstream(out.first_chunk_mut::<UPSTREAM_LEN_MAX>().unwrap(), 1_232);
        assert!(read(&out[..length]).is_some());
    }
    is_response(packet);
    answers(packet, &[0; 300], dice.below(256));
    let asked = random_asked(dice);
    for response in [Response::parse(packet), Response::of_truncated(packet)].into_iter().flatten()
    {
        let question = Question::parse(packet).unwrap();
        let spelt = packet[HEADER_LEN..question.end()].to_vec();
        let length = write_answer(&mut out, packet, &response, &to(&asked, &spelt));
        assert!(length <= asked.udp_limit());
        assert!(Response::parse(&out[..length]).is_some(), "ours cannot be read: {packet:x?}");
    }
    if !packet.is_empty() {
        names_equal(packet, dice.below(packet.len()), dice.below(packet.len()));
    }
}
