//! `dnssec`: the rows of `dnssec.txt`, and behaviour that rows cannot express.
//!
//! Each signature is verified, over the canonical form that the `domain` crate writes.

use super::file::world_of;
use super::over_tls;
use crate::common::wire::{Ask, Writer, question_of, word_at};
use crate::world::{Got, World};
use domain::base::iana::{Class, Rtype};
use domain::base::name::FlattenInto;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, Name, Record, ToName};
use domain::rdata::{AllRecordData, Rrsig};
use onward::config::{Config, Host};
use onward::dnssec::{PublicKey, verify};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/keys");
const KSK: &str = "Kexample.org.+013+54570";
const ZSK: &str = "Kexample.org.+013+51642";
/// Seconds since 1970.
const NOW: u32 = 1_800_000_000;
const ZONE: &str = "\
$TTL 3600
@ SOA ns1 hostmaster 1 7200 3600 1209600 300
@ NS ns1
ns1 A 192.0.2.1
www CNAME Web
web A 192.0.2.82
web A 192.0.2.81
web TXT \"text\"
*.wild MX 10 Mail
mail A 192.0.2.25
a.ent A 192.0.2.9
away CNAME target.other.test.
gone CNAME nothing
deleg NS ns.deleg
ns.deleg A 192.0.2.50
safe NS ns.deleg
safe DS 12345 13 2 0000000000000000000000000000000000000000000000000000000000000000
srv SRV 1 2 3 Mail
astray CNAME x.deleg
";

fn config(directives: &str) -> Config {
    load(&format!("example.org other.test {{\n bind 127.0.0.1\n {directives}\n}}\n"))
}

fn load(text: &str) -> Config {
    let mut host = Host::plain();
    host.sources.working_directory = KEYS.into();
    // The engine needs no certificate.
    let is_pem = |path: &Path| path.extension().is_some_and(|end| end == "pem");
    host.sources.read =
        Box::new(move |path| if is_pem(path) { Ok(Vec::new()) } else { fs::read(path) });
    let loaded = Config::load(text.as_bytes(), "Corefile", &host);
    loaded.unwrap_or_else(|error| panic!("{error}")).0
}

fn world(directives: &str) -> World {
    let mut world = world_of(&config(directives), &HashMap::from([("db", ZONE)]));
    world.engine.on_calendar(NOW);
    world
}

/// The keys of all tests.
pub(super) fn keys() -> Vec<PublicKey> {
    let config = config(&format!("dnssec example.org {{\n key file {KSK} {ZSK}\n }}"));
    let dnssec = config.blocks[0].stages.dnssec.as_ref().unwrap();
    dnssec.keys.iter().map(|key| key.public.clone()).collect()
}

type Any = Record<Name<Vec<u8>>, AllRecordData<Vec<u8>, Name<Vec<u8>>>>;

fn records(got: &Got) -> Vec<(&'static str, Any)> {
    let message = Message::from_octets(got.bytes.clone()).unwrap();
    let (_, answer, authority, additional) = message.sections().unwrap();
    let mut all = Vec::new();
    for (name, section) in [("AN", answer), ("AU", authority), ("AD", additional)] {
        for record in section.map(Result::unwrap).filter(|record| record.rtype() != Rtype::OPT) {
            let record = record.to_any_record::<AllRecordData<_, _>>().unwrap();
            let owner = record.owner().to_name::<Vec<u8>>();
            let (class, ttl) = (record.class(), record.ttl());
            let data: Result<AllRecordData<_, Name<_>>, _> = record.into_data().try_flatten_into();
            all.push((name, Record::new(owner, class, ttl, data.unwrap())));
        }
    }
    all
}

/// The bytes that a signature covers, as the `domain` crate writes them.
fn covered(signature: &Rrsig<Vec<u8>, Name<Vec<u8>>>, set: &[&Any]) -> Vec<u8> {
    let mut bytes = Vec::new();
    signature.compose_canonical_rdata(&mut bytes).unwrap();
    bytes.truncate(bytes.len() - signature.signature().len());
    let mut lines: Vec<_> = set
        .iter()
        .map(|record| {
            let mut data = Vec::new();
            record.data().compose_canonical_rdata(&mut data).unwrap();
            data
        })
        .collect();
    lines.sort();
    for data in lines {
        set[0].owner().compose_canonical(&mut bytes).unwrap();
        bytes.extend(set[0].rtype().to_int().to_be_bytes());
        bytes.extend(Class::IN.to_int().to_be_bytes());
        bytes.extend(signature.original_ttl().as_secs().to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

/// The reply, a line for each record; of a signature its type, the tag of its key, and whether it
/// is valid.
pub(super) fn told(got: &Got, keys: &[PublicKey]) -> String {
    let message = Message::from_octets(&got.bytes[..]).unwrap();
    let mut text = message.header().rcode().to_string();
    text += if message.header().aa() { " aa" } else { "" };
    text += if message.header().tc() { " tc" } else { "" };
    let records = records(got);
    for (section, record) in &records {
        let owner = record.owner().to_string();
        let owner =
            if owner == "example.org" { "@".into() } else { owner.replace(".example.org", "") };
        text += &format!("\n{section} {owner} ");
        let AllRecordData::Rrsig(signature) = record.data() else {
            let ttl = record.ttl().as_secs();
            let data = record.data().to_string();
            let data = data.replace(".example.org.", "");
            text += &format!("{ttl} {} {data}", record.rtype());
            continue;
        };
        let set: Vec<_> = records
            .iter()
            .filter(|(of, other)| of == section && other.owner() == record.owner())
            .map(|(_, other)| other)
            .filter(|other| other.rtype() == signature.type_covered())
            .collect();
        assert!(!set.is_empty(), "a signature covers nothing:\n{text}");
        assert!(set.iter().all(|other| other.ttl() == record.ttl()));
        assert!(record.ttl() <= signature.original_ttl());
        let key = keys.iter().find(|key| key.tag() == signature.key_tag()).expect("a key");
        let (begin, end) = (signature.inception().into_int(), signature.expiration().into_int());
        assert_eq!(begin, NOW - 3 * 3_600);
        assert!((NOW + 7 * 86_400..=NOW + 8 * 86_400).contains(&end), "{end}");
        let is_good = verify(key, &covered(signature, &set), signature.signature());
        text += &format!("SIG {} {}", signature.type_covered(), if is_good { "" } else { "BAD " });
        text += &format!("{}", signature.key_tag());
    }
    text
}

fn ask(world: &mut World, question: &str) -> Got {
    ask_over(world, false, question)
}

/// The reply over UDP or on a connection.
fn ask_over(world: &mut World, is_tcp: bool, question: &str) -> Got {
    let (name, rtype) = question.split_once(' ').unwrap();
    let rtype = rtype.parse::<Rtype>().expect("a type").to_int();
    let mut ask = Ask { rtype, ..Ask::new(7, name) };
    ask.edns = Some((1_232, 0, true, Vec::new()));
    if is_tcp {
        let connection = world.ask_over_tcp(1, &ask);
        world.engine.clients.close(connection);
    } else {
        world.ask(1, &ask);
    }
    world.got.pop().expect("a reply")
}

/// Directives of a zone that is signed with the key-signing key.
const SIGNED: &str = "file db example.org\n dnssec example.org {\n key file \
                      Kexample.org.+013+54570\n }";

/// A world with such a zone behind a TLS listener.
fn secure_zone() -> World {
    let text = format!("example.org other.test {{\n bind 127.0.0.1\n {SIGNED}\n}}\n");
    let mut world = world_of(&load(&over_tls(&text)), &HashMap::from([("db", ZONE)]));
    world.engine.on_calendar(NOW);
    world
}

/// A world with the zone, signed with the key-signing key.
pub(super) fn signed_zone() -> World {
    world(SIGNED)
}

/// The tags of the keys that signed, of each section.
fn tags(got: &Got) -> Vec<(Rtype, u16)> {
    let signatures = records(got).into_iter().filter_map(|(_, record)| match record.into_data() {
        AllRecordData::Rrsig(signature) => Some((signature.type_covered(), signature.key_tag())),
        _ => None,
    });
    signatures.collect()
}

fn expiration(got: &Got) -> u32 {
    let mut ends = records(got).into_iter().filter_map(|(_, record)| match record.into_data() {
        AllRecordData::Rrsig(signature) => Some(signature.expiration().into_int()),
        _ => None,
    });
    ends.next_back().expect("a signature")
}

#[test]
fn every_row_holds() {
    let mut worlds = [signed_zone(), signed_zone(), secure_zone()];
    let keys = keys();
    let rows = include_str!("dnssec.txt").split("\n\n").skip(1);
    let mut count = 0;
    for row in rows {
        let (question, reply) = row.trim_end().split_once(": ").unwrap();
        // Over UDP, TCP and TLS, each twice: the second time the signatures are those that were
        // kept.
        for number in [0, 0, 1, 1, 2, 2] {
            let got = ask_over(&mut worlds[number], number > 0, question);
            let told = told(&got, &keys);
            let told = told.replace(&"0".repeat(64), "00");
            let told = told.lines().map(|line| match line.split_once("DNSKEY 257 ") {
                Some((before, _)) => format!("{before}DNSKEY 257"),
                None => line.to_owned(),
            });
            assert_eq!(told.collect::<Vec<_>>().join("\n"), reply, "{question}");
        }
        count += 1;
    }
    assert_eq!(count, 23);
    for world in &worlds {
        let stats = world.engine.stats().dnssec[0];
        assert!(stats.hits > stats.misses && stats.entries == stats.misses && stats.refused == 0);
    }
}

#[test]
fn without_do_nothing_changes_but_keys_are_answered() {
    let mut signed = signed_zone();
    let mut plain = world("file db example.org");
    for question in ["web.example.org 1", "nope.example.org 1", "deleg.example.org 1"] {
        let (name, rtype) = question.split_once(' ').unwrap();
        let ask = Ask { rtype: rtype.parse().unwrap(), ..Ask::new(7, name) }.with_edns(1_232);
        let replies = [&mut signed, &mut plain].map(|world| {
            world.ask(1, &ask);
            world.got.pop().unwrap().bytes
        });
        assert_eq!(replies[0], replies[1], "{question}");
    }
    let ask = Ask { rtype: 48, ..Ask::new(7, "Example.ORG") };
    signed.ask(1, &ask);
    let got = signed.got.pop().unwrap();
    assert!(
        told(&got, &keys()).starts_with("NOERROR aa\nAN Example.ORG 3600 DNSKEY 257 3 13 oGAF")
    );
    assert_eq!(records(&got).len(), 1);
    assert_eq!(signed.engine.stats().dnssec[0].misses, 0);
}

#[test]
fn keys_of_both_kinds_divide_the_work() {
    let directives =
        format!("file db example.org\n dnssec example.org {{\n key file {KSK} {ZSK}\n }}");
    let mut split = world(&directives);
    let keys = keys();
    let (web, own) =
        (ask(&mut split, "web.example.org TXT"), ask(&mut split, "example.org DNSKEY"));
    assert_eq!(tags(&web), [(Rtype::TXT, 51642), (Rtype::NS, 51642)]);
    assert_eq!(tags(&own), [(Rtype::DNSKEY, 54570)]);
    for got in [web, own] {
        assert!(!told(&got, &keys).contains("BAD"));
    }
    let both = directives.replace(ZSK, "Kexample.org.+015+64733.private");
    let mut both = world(&both);
    let web = ask(&mut both, "web.example.org TXT");
    let tags = tags(&web);
    assert_eq!(tags[..2], [(Rtype::TXT, 54570), (Rtype::TXT, 64733)]);
}

#[test]
fn every_algorithm_signs() {
    for path in fs::read_dir(KEYS).unwrap() {
        let name = path.unwrap().file_name().into_string().unwrap();
        let Some(base) = name.strip_suffix(".key") else { continue };
        let directives =
            format!("file db example.org\n dnssec example.org {{\n key file {base}\n }}");
        let config = config(&directives);
        let key = config.blocks[0].stages.dnssec.as_ref().unwrap().keys[0].public.clone();
        let mut world = world(&directives);
        let told = told(&ask(&mut world, "nope.example.org A"), &[key]);
        assert!(told.contains("AU nope SIG NSEC") && !told.contains("BAD"), "{base}: {told}");
    }
}

/// Answers the query that was sent upstream last with an address of this TTL.
fn respond(world: &mut World, ttl: u32) {
    let sent = world.take_sent().pop().expect("a query");
    let mut packet = sent.bytes[..12].to_vec();
    packet[2] |= 0x80;
    packet[7] = 1;
    packet[11] = 0;
    let question = crate::common::wire::question_of(&sent.bytes);
    packet.extend(question);
    packet.extend(b"\xc0\x0c\0\x01\0\x01");
    packet.extend(ttl.to_be_bytes());
    packet.extend(b"\0\x04\xc0\0\x02\x07");
    world.respond(sent.connection, &packet);
}

#[test]
fn answers_of_upstreams_and_of_the_cache_are_signed_once() {
    let directives =
        format!("cache\n dnssec example.org {{\n key file {KSK}\n }}\n forward . 192.0.2.250");
    let mut world = world(&directives);
    let keys = keys();
    for shown in [3_600, 1_800, 1_700] {
        let mut ask = Ask::new(7, "a.example.org");
        ask.edns = Some((1_232, 0, true, Vec::new()));
        world.ask(1, &ask);
        if shown == 3_600 {
            assert!(world.got.is_empty());
            respond(&mut world, 7_200);
        }
        let got = world.got.pop().expect("a reply");
        let reply = format!("NOERROR\nAN a {shown} A 192.0.2.7\nAN a SIG A 54570");
        assert_eq!(told(&got, &keys), reply);
        world.pass(if shown == 3_600 { 1_800.0 } else { 100.0 });
    }
    let stats = world.engine.stats().dnssec[0];
    assert_eq!((stats.misses, stats.hits, stats.entries), (1, 2, 1));
    // A zone that is not signed.
    let mut ask = Ask::new(7, "a.other.test");
    ask.edns = Some((1_232, 0, true, Vec::new()));
    world.ask(1, &ask);
    respond(&mut world, 60);
    assert_eq!(told(&world.got.pop().unwrap(), &keys), "NOERROR\nAN a.other.test 60 A 192.0.2.7");
}

#[test]
fn signatures_are_renewed_before_they_end() {
    let mut world = signed_zone();
    let first = expiration(&ask(&mut world, "web.example.org TXT"));
    let mut now = NOW;
    for _ in 0..40 {
        now += 6 * 3_600;
        world.engine.on_calendar(now);
        let end = expiration(&ask(&mut world, "web.example.org TXT"));
        assert!(end > now + 2 * 86_400, "{end} {now}");
        let is_kept = first > now + 2 * 86_400;
        assert_eq!(end == first, is_kept);
    }
    // After a step back of the clock no signature begins in the future.
    world.engine.on_calendar(NOW);
    let got = ask(&mut world, "web.example.org TXT");
    assert!(expiration(&got) <= NOW + 8 * 86_400);
}

#[test]
fn a_flood_of_new_names_gets_servfail_and_no_more_time_than_its_share() {
    let mut world = signed_zone();
    let (mut signed, mut failed) = (0, 0);
    let mut flood = |world: &mut World, round: u32| {
        for number in 0..2_000 {
            match ask(world, &format!("n{round}-{number}.example.org A")).rcode() {
                0 => signed += 1,
                2 => failed += 1,
                other => panic!("{other}"),
            }
        }
        (signed, failed)
    };
    // Half of 8 ms at 20 us each, with one signature for the SOA.
    let (first, refused) = flood(&mut world, 0);
    assert_eq!((first, refused), (199, 1_801));
    let existing = ask(&mut world, "web.example.org A");
    assert_eq!(existing.rcode(), 0, "names that exist have the other half");
    let known = ask(&mut world, "n0-0.example.org A");
    assert_eq!(known.rcode(), 0, "what is kept needs no time");
    assert_eq!(flood(&mut world, 1).0, first, "in the same turn");
    // A quarter of 8 ms.
    world.pass(0.008);
    let (second, _) = flood(&mut world, 2);
    assert!((95..=100).contains(&(second - first)), "{second} {first}");
    let refused = 1_801 + 2_000 + 2_000 - (second - first);
    assert_eq!(world.engine.stats().dnssec[0].refused, refused);
}

#[test]
fn kept_signatures_are_bounded() {
    let mut world = signed_zone();
    for number in 0..20_000 {
        if number % 100 == 0 {
            world.pass(1.0);
        }
        assert_eq!(ask(&mut world, &format!("n{number}.example.org A")).rcode(), 0);
    }
    let stats = world.engine.stats().dnssec[0];
    assert!((9_000..=10_000).contains(&stats.entries), "{}", stats.entries);
    assert!(stats.misses >= 20_001);
}

#[test]
fn a_reload_keeps_signatures_of_unchanged_keys() {
    let mut world = signed_zone();
    ask(&mut world, "example.org DNSKEY");
    let directives = format!("dnssec example.org {{\n key file {KSK}\n }}\n whoami");
    world.reload(&config(&directives));
    ask(&mut world, "example.org DNSKEY");
    let stats = world.engine.stats().dnssec[0];
    assert_eq!((stats.misses, stats.hits), (1, 1));
    world.reload(&config(&directives.replace(KSK, ZSK)));
    assert_eq!(tags(&ask(&mut world, "example.org DNSKEY")), [(Rtype::DNSKEY, 51642)]);
    assert_eq!(world.engine.stats().dnssec[0].misses, 1);
    world.reload(&config("whoami"));
    assert_eq!(world.engine.stats().dnssec, []);
}

#[test]
fn a_signed_reply_that_is_too_long_is_truncated() {
    let key = "Kexample.org.+008+55784";
    let mut world =
        world(&format!("file db example.org\n dnssec example.org {{\n key file {key}\n }}"));
    let mut ask = Ask { rtype: 1, ..Ask::new(7, "www.example.org") };
    ask.edns = Some((512, 0, true, Vec::new()));
    world.ask(1, &ask);
    let got = world.got.pop().unwrap();
    assert!(got.bytes.len() <= 512);
    assert!(Message::from_octets(&got.bytes[..]).unwrap().header().tc());
}

#[test]
fn a_reply_with_too_many_sets_is_refused() {
    let directives = format!("dnssec example.org {{\n key file {KSK}\n }}\n forward . 192.0.2.250");
    let mut world = world(&directives);
    let mut ask = Ask { rtype: 255, ..Ask::new(7, "a.example.org") };
    ask.edns = Some((1_232, 0, true, Vec::new()));
    for (sets, rcode) in [(64_u16, 0), (65, 2)] {
        world.ask(1, &ask);
        let sent = world.take_sent().pop().expect("a query");
        let mut packet = sent.bytes[..12].to_vec();
        packet[2] |= 0x80;
        packet[7] = sets as u8;
        packet[11] = 0;
        packet.extend(crate::common::wire::question_of(&sent.bytes));
        for rtype in 0..sets {
            packet.extend(b"\xc0\x0c");
            packet.extend((0xff00 + rtype).to_be_bytes());
            packet.extend(b"\0\x01\0\0\0\x3c\0\0");
        }
        world.respond(sent.connection, &packet);
        assert_eq!(world.got.pop().unwrap().rcode(), rcode, "{sets}");
    }
}

#[test]
fn a_query_that_waits_while_a_reload_shortens_the_signatures_harms_no_other() {
    let directives =
        |key| format!("dnssec example.org {{\n key file {key}\n }}\n forward . 192.0.2.250");
    let mut world = world(&directives("Kexample.org.+008+55784"));
    let mut query = Ask { rtype: 1, ..Ask::new(7, "a.example.org") };
    query.edns = Some((1_232, 0, true, Vec::new()));
    world.ask(1, &query);
    world.reload(&config(&directives("Kexample.org.+015+64733")));
    respond(&mut world, 60);
    assert_eq!(world.got.pop().unwrap().rcode(), 2, "its keys are gone");
    world.ask(1, &query);
    respond(&mut world, 60);
    assert_eq!(tags(&world.got.pop().unwrap()), [(Rtype::A, 64733)]);
}

#[test]
fn the_zone_above_denies_ds_records_of_an_own_zone() {
    let head =
        "$TTL 3600\n@ SOA ns1 hostmaster 1 7200 3600 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n";
    let above = format!("{head}sub NS ns1.sub\nns1.sub A 192.0.2.2\n");
    let directives = format!(
        "file db example.org\n file sub sub.example.org\n \
         dnssec example.org sub.example.org {{\n key file {KSK}\n }}"
    );
    let files = HashMap::from([("db", &above[..]), ("sub", head)]);
    let mut world = world_of(&config(&directives), &files);
    world.engine.on_calendar(NOW);
    let told = told(&ask(&mut world, "sub.example.org DS"), &keys());
    let denial = "AU sub 300 NSEC \\000.sub NS RRSIG NSEC\nAU sub SIG NSEC 54570";
    assert!(told.ends_with(denial), "{told}");
}

#[test]
fn types_of_names_that_fall_through_to_an_upstream_are_not_denied() {
    let mut world = world(&format!(
        "file db example.org {{\n fallthrough\n }}\n dnssec example.org {{\n key file {KSK}\n \
         }}\n forward . 192.0.2.250"
    ));
    let mut query = Ask { rtype: 28, ..Ask::new(7, "host.example.org") };
    query.edns = Some((1_232, 0, true, Vec::new()));
    world.ask(1, &query);
    let sent = world.take_sent().pop().expect("a query");
    let mut writer = Writer::new([word_at(&sent.bytes, 0), 0x8180, 1, 0, 1, 0]);
    writer.bytes.extend_from_slice(question_of(&sent.bytes));
    // The owner is example.org, behind the first label of the question.
    let soa = [&[0, 0][..], &[0; 16], &300_u32.to_be_bytes()].concat();
    writer.record(&[0xc0, 17], 6, 1, 300, &soa);
    world.respond(sent.connection, &writer.bytes);
    let told = told(&world.got.pop().unwrap(), &keys());
    assert!(told.contains("AU host 300 NSEC \\000.host A "), "{told}");
}
