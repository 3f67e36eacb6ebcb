//! Client queries, and the upstream queries made from them.
//!
//! The expected result for a packet follows from the documented rules of `Query::parse`, applied to
//! the fields that the `domain` crate parses.

use crate::common::for_seeds;
use crate::common::wire::{Ask, word_at};
use crate::oracle::{OPT, has_pointer, options_of, read};
use crate::random::{COOKIE, ECS, KEEPALIVE, NSID, PADDING, TSIG, mutate, random_query};
use domain::base::Message;
use domain::base::iana::{Opcode, OptionCode};
use domain::base::name::ToName;
use onward::engine::key::Way;
use onward::engine::message::query::{Edns, Query, Rejection, UPSTREAM_LEN_MAX, add_options};
use onward::engine::message::{HEADER_LEN, Question, Rcode};

/// Expected result for a query, with the fields that `domain` parses.
#[derive(Debug, PartialEq)]
enum Verdict {
    TooShort,
    IsResponse,
    Refused {
        rcode: Rcode,
        question: bool,
    },
    Taken {
        /// Without its cookie.
        edns: Option<Edns>,
        has_cookie: bool,
        subnet: Vec<u8>,
    },
    /// Names with compression pointers, which `Query` and `domain` treat differently.
    Compressed,
}

fn verdict(packet: &[u8]) -> Verdict {
    let refused = |rcode, question| Verdict::Refused { rcode, question };
    let Ok(message) = Message::from_octets(packet) else { return Verdict::TooShort };
    let (header, counts) = (message.header(), message.header_counts());
    if header.qr() {
        return Verdict::IsResponse;
    }
    if header.opcode() != Opcode::QUERY {
        return refused(Rcode::NotImp, false);
    }
    if counts.qdcount() != 1 {
        // Queries for a cookie alone have a test of their own.
        let is_cookie = |rcode: &Rcode| matches!(rcode, Rcode::NoError | Rcode::BadVers);
        let found = match Query::parse(packet, false) {
            Err(Rejection::Refusal { rcode, .. }) if counts.qdcount() == 0 => rcode,
            _ => Rcode::FormErr,
        };
        return refused(if is_cookie(&found) { found } else { Rcode::FormErr }, false);
    }
    match message.first_question() {
        None => return refused(Rcode::FormErr, false),
        Some(_) if has_pointer(&packet[HEADER_LEN..]) => return Verdict::Compressed,
        Some(_) => {}
    }
    if counts.ancount() > 1 || counts.nscount() > 1 || counts.arcount() > 2 {
        return refused(Rcode::FormErr, true);
    }
    let Some((_, records)) = read(packet) else { return Verdict::Compressed };
    if records.iter().any(|record| record.compressed) {
        return Verdict::Compressed;
    }
    let mut opts = records.iter().filter(|record| record.rtype == OPT);
    let opt = opts.next();
    let misplaced = opt.is_some_and(|opt| opt.section != 2 || !opt.owner.is_root());
    if opts.next().is_some() || misplaced {
        return refused(Rcode::FormErr, true);
    }
    let Some(options) = options_of(opt.map_or(&[], |opt| &opt.data)) else {
        return refused(Rcode::FormErr, true);
    };
    let keepalive = options.iter().any(|(code, _)| *code == KEEPALIVE);
    let nsid = options.iter().any(|(code, _)| *code == NSID);
    let padding = options.iter().any(|(code, _)| *code == PADDING);
    let cookie = options.iter().find(|(code, _)| *code == COOKIE);
    if cookie.is_some_and(|(_, data)| data.len() != 8 && !(16..=40).contains(&data.len())) {
        return refused(Rcode::FormErr, true);
    }
    let has_cookie = cookie.is_some();
    let subnets: Vec<_> = options.into_iter().filter(|(code, _)| *code == ECS).collect();
    if subnets.iter().any(|(_, data)| data.len() > 20) {
        return refused(Rcode::FormErr, true);
    }
    if opt.is_some_and(|opt| opt.ttl >> 16 & 0xff > 0) {
        return refused(Rcode::BadVers, true);
    }
    if records.iter().any(|record| record.rtype == TSIG) {
        return refused(Rcode::Refused, true);
    }
    if message.is_xfr() {
        return refused(Rcode::NotImp, true);
    }
    let edns = opt.map(|opt| Edns {
        udp_size: opt.class,
        dnssec_ok: opt.ttl & 0x8000 != 0,
        compact_ok: opt.ttl & 0x4000 != 0,
        keepalive,
        nsid,
        padding,
        cookie: None,
    });
    let subnet = subnets.last().map_or(Vec::new(), |(_, data)| data.clone());
    Verdict::Taken { edns, has_cookie, subnet }
}

#[test]
fn a_query_is_parsed_as_by_domain() {
    for_seeds(0..60, |dice| {
        let mut taken = 0;
        for _ in 0..500 {
            let mut packet = random_query(dice);
            if dice.one_in(2) {
                mutate(dice, &mut packet);
            }
            taken += u32::from(check_query(&packet));
        }
        assert!(taken > 100, "a lame run: {taken} of 500 taken");
    });
}

/// Returns true if the query can be forwarded.
fn check_query(packet: &[u8]) -> bool {
    let parsed = Query::parse(packet, false);
    let expected = verdict(packet);
    let got = match &parsed {
        Err(Rejection::TooShort) => Verdict::TooShort,
        Err(Rejection::IsResponse) => Verdict::IsResponse,
        Err(Rejection::Refusal { rcode, asked, question }) => {
            assert_eq!((asked.id, asked.flags), (word_at(packet, 0), word_at(packet, 2)));
            Verdict::Refused { rcode: *rcode, question: question.is_some() }
        }
        Ok(query) => {
            let has_cookie = query.asked.edns.is_some_and(|edns| edns.cookie.is_some());
            let edns = query.asked.edns.map(|edns| Edns { cookie: None, ..edns });
            Verdict::Taken { edns, has_cookie, subnet: check_upstream(query, packet) }
        }
    };
    if expected != Verdict::Compressed {
        assert_eq!(got, expected, "{packet:x?}");
    }
    parsed.is_ok()
}

/// Checks the upstream query; returns the client subnet of the query.
fn check_upstream(query: &Query<'_>, packet: &[u8]) -> Vec<u8> {
    // Only header and question, because `domain` may reject the records.
    let mut head = packet[..query.question.end()].to_vec();
    head[6..HEADER_LEN].fill(0);
    let (questions, _) = read(&head).expect("a question that the view accepts");
    let (name, rtype, class) = (questions[0].0.to_vec(), questions[0].1, questions[0].2);
    assert_eq!(query.name(), name.as_slice(), "the client's spelling");
    assert_eq!((query.question.rtype, query.question.class), (rtype, class));
    assert_eq!((query.asked.id, query.asked.flags), (word_at(packet, 0), word_at(packet, 2)));

    let mut out = [0xaa; UPSTREAM_LEN_MAX];
    let length = query.write_upstream(&mut out, 1_232);
    let written = out;
    let over_tcp = add_options(&mut out, query.question.end(), length, Way::Tcp);
    let (_, records) = read(&out[..over_tcp]).expect("what we send on a stream");
    let options = options_of(&records[0].data).expect("our options");
    let asks = options.last().is_some_and(|(code, data)| *code == 11 && data.is_empty());
    assert!(asks && over_tcp == length + 4, "a stream's server is asked for how long it stays");
    let secure = add_options(&mut out, query.question.end(), length, Way::Secure);
    let (_, records) = read(&out[..secure]).expect("what we send over TLS");
    let options = options_of(&records[0].data).expect("our options");
    let (code, zeros) = options.last().expect("padding");
    assert!(*code == PADDING && zeros.iter().all(|zero| *zero == 0), "it says nothing");
    assert!(
        secure.is_multiple_of(128) && secure - over_tcp < 4 + 128,
        "{over_tcp} became {secure}"
    );
    assert_eq!(add_options(&mut out, query.question.end(), length, Way::Datagram), length);
    assert_eq!(out[..length], written[..length], "and that of a datagram is not");
    let out = &out[..length];
    assert_eq!(&out[HEADER_LEN..query.question.end()], &packet[HEADER_LEN..query.question.end()]);
    let (sent_questions, records) = read(out).expect("what we send");
    assert_eq!(sent_questions.len(), 1);
    let [opt] = &records[..] else { panic!("not one record: {records:?}") };
    assert_eq!((opt.rtype, opt.section, opt.class, opt.end), (OPT, 2, 1232, length));
    let dnssec_ok = query.asked.edns.is_some_and(|edns| edns.dnssec_ok);
    assert_eq!(opt.ttl, u32::from(dnssec_ok) << 15);
    let header = Message::from_octets(out).unwrap().header();
    assert_eq!((header.id(), header.qr(), header.opcode()), (0, false, Opcode::QUERY));
    let asked = Message::from_octets(packet).unwrap().header();
    let carried = |header: domain::base::Header| (header.rd(), header.ad(), header.cd());
    assert_eq!(carried(header), carried(asked));
    assert!(!header.aa() && !header.tc() && !header.ra() && !header.z());
    let options = options_of(&opt.data).expect("our options");
    match &options[..] {
        [] => Vec::new(),
        [(code, data)] => {
            assert_eq!(OptionCode::from_int(*code), OptionCode::CLIENT_SUBNET);
            data.clone()
        }
        more => panic!("more than a client subnet goes upstream: {more:?}"),
    }
}

#[test]
fn a_query_longer_than_the_buffer_is_a_format_error() {
    let packet = Ask::new(7, "www.example.org").bytes();
    assert!(Query::parse(&packet, false).is_ok());
    let rejected = Query::parse(&packet, true).unwrap_err();
    let Rejection::Refusal { rcode, question, .. } = rejected else { panic!("{rejected:?}") };
    assert_eq!((rcode, question), (Rcode::FormErr, Question::parse(&packet)));
    let nothing_left = Query::parse(&packet[..20], true).unwrap_err();
    assert!(matches!(nothing_left, Rejection::Refusal { question: None, .. }));
}
