//! `file`: the rows of `file.txt`, and behaviour that rows cannot express.
//!
//! Zones are built from text without a file, and installed in their slots as a worker does it.

use super::{over, over_tls, over_udp_and_tcp};
use crate::common::wire::Ask;
use crate::world::{Got, World, shown};
use ahash::RandomState;
use onward::config::{Config, DirectorySource, Host, RecordType};
use onward::engine::authority::table::{ZoneEntry, ZoneTable};
use onward::engine::authority::{Builder, Zone};
use onward::engine::data::Contents;
use onward::zonefile::{self, Consumer, Record};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const CASES: &str = include_str!("file.txt");

/// A builder that collects the records of a zone file.
struct Taking(Builder);

impl Consumer for Taking {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let Record { owner, rtype, ttl, data, place } = *record;
        self.0.add(owner, rtype, ttl, data, (place.file, place.line))
    }

    fn include(&mut self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is none".into())
    }
}

pub(super) fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// The zone with this name, or the reason why the text is invalid.
pub(crate) fn zone(origin: &[u8], text: &str) -> Result<Zone, String> {
    let mut taking = Taking(Builder::new(origin, text.len(), hasher()));
    zonefile::read(Path::new("zone"), text.as_bytes(), origin, &mut taking)
        .map_err(|error| error.to_string())?;
    taking.0.finish().map(|built| built.zone).map_err(|refused| refused.what)
}

/// A worker with this configuration, whose zones have these texts, by file name.
pub(crate) fn world_with(corefile: &str, files: &HashMap<&str, &str>) -> World {
    let mut host = Host::plain();
    // Of certificates and keys, which the engine does not need.
    host.sources.read = Box::new(|_| Ok(Vec::new()));
    let (config, _) = Config::load(corefile.as_bytes(), "Corefile", &host)
        .unwrap_or_else(|error| panic!("{error}"));
    world_of(&config, files)
}

/// A worker with this configuration, whose zones have these texts, by file name.
pub(crate) fn world_of(config: &Config, files: &HashMap<&str, &str>) -> World {
    let mut world = World::new(config);
    for (slot, source) in config.zone_sources().into_iter().enumerate() {
        let entries = source.files.iter().map(|file| {
            let text = files.get(&*file.label);
            let zone = text.map(|text| zone(file.zone.as_wire(), text));
            let zone = zone.transpose().unwrap_or_else(|error| panic!("{}: {error}", file.label));
            ZoneEntry::of_file(file.zone.clone(), file.stanza, zone.map(Arc::new))
        });
        let mut entries: Vec<_> = entries.collect();
        if let Some(directory) = &source.directory {
            entries.extend(entries_of(directory, files));
        }
        let table = ZoneTable::new(entries, hasher());
        world.engine.data.set(slot, Contents::Zones(Arc::new(table)));
    }
    world
}

/// The zones of a directory's files.
fn entries_of(directory: &DirectorySource, files: &HashMap<&str, &str>) -> Vec<ZoneEntry> {
    let path = &directory.directory.label;
    let entry = |(file, text): (&&str, &&str)| {
        let base = file.strip_prefix(&**path)?.strip_prefix('/')?;
        let name = directory.directory.naming.zone_of(base.as_bytes())?.unwrap();
        let zone = zone(name.as_wire(), text).unwrap_or_else(|error| panic!("{file}: {error}"));
        Some(ZoneEntry::of_file(name, directory.stanza, Some(Arc::new(zone))))
    };
    files.iter().filter_map(entry).collect()
}

/// The type with this mnemonic.
fn rtype(word: &str) -> u16 {
    (0..=u16::MAX).find(|rtype| RecordType(*rtype).to_string() == word).expect("a type")
}

fn ask_of(question: &str) -> Ask {
    let mut words = question.split(' ');
    let (name, what) = (words.next().unwrap(), rtype(words.next().expect("a type")));
    let long = [["l"; 60].concat(), ["m"; 57].concat()].join(".");
    let name = name.replace('~', ".example.org").replace("{long}", &long);
    let name = name.strip_prefix('.').unwrap_or(&name);
    let mut ask = Ask { rtype: what, ..Ask::new(7, name) };
    for word in words {
        match word {
            "CH" => ask.class = 3,
            "NOTIFY" => ask.flags |= 4 << 11,
            "+e" => ask = ask.with_edns(1_232),
            "+do" => ask.edns = Some((1_232, 0, true, Vec::new())),
            other => panic!("{other} is not known here"),
        }
    }
    ask
}

/// The reply in the notation of the rows.
fn told(reply: &str) -> String {
    const SOA: &str = " SOA ns1~. hostmaster~. 2024010101 7200 3600 1209600 300";
    let mut text = reply.replace("\n", " | ").replace(".example.org", "~");
    text = text.replace(" example.org", " ~");
    for ttl in [3_600, 300] {
        text = text.replace(&format!("AU ~ {ttl}{SOA}"), &format!("S{ttl}"));
    }
    let servers = "AU ~ 3600 NS ns1~. | AU ~ 3600 NS ns2.other.test.";
    text.replace(servers, "NS*").replace(" 3600 ", " ").replace("NOERROR aa rd", "ok")
}

#[test]
fn every_row_holds() {
    let (mut rows, mut wrong) = (0, String::new());
    for case in CASES.split("\n=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (head, questions) = rest.split_once("--- rows\n").expect("rows");
        let mut parts = head.split("--- file ");
        let corefile = parts.next().unwrap();
        let files = parts.map(|part| part.split_once('\n').unwrap()).collect();
        let mut world = world_with(corefile, &files);
        let mut secure = world_with(&over_tls(corefile), &files);
        for row in questions.lines().filter(|line| !line.is_empty()) {
            let (number, row) = row.split_once(' ').unwrap();
            let (question, expected) = row.trim().split_once(" => ").expect("an answer");
            let (expected, remark) = expected.split_once(" # ").unwrap_or((expected, ""));
            let expected = expected.trim();
            let [udp, tcp] =
                over_udp_and_tcp(&mut world, &ask_of(question), |got| told(&shown(got)));
            let tls = over(&mut secure, true, &ask_of(question), |got| told(&shown(got)));
            let whole = expected.replace(" tc ", " ").replace("NOERROR aa rd", "ok");
            let is_right = if remark.contains("whole over TCP") {
                tcp.len() > whole.len() && tcp.starts_with(&whole)
            } else {
                tcp == expected
            };
            if udp != expected || !is_right || tls != tcp {
                wrong += &format!(
                    "{number} ({title}): {question}\n  expected {expected}\n  found {udp}\n  \
                     over TCP {tcp}\n  over TLS {tls}\n"
                );
            }
            rows += 1;
        }
        // Replies are padded over TLS only (RFC 7830), which shows what the worlds' listeners are.
        if title == "base" {
            let mut padded = ask_of("web.example.org A");
            padded.edns = Some((1_232, 0, false, vec![0, 12, 0, 0]));
            let len = |got: &Got| (got.bytes.len() % 468).to_string();
            assert_eq!(over(&mut secure, true, &padded, len), "0");
            assert_ne!(over(&mut world, true, &padded, len), "0");
        }
        world.finish();
        secure.finish();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(rows > 90, "{rows} rows");
}

#[test]
fn blocks_with_the_same_zones_share_a_slot() {
    let text = "a {\n file f\n}\na:5353 {\n file f\n}\nb {\n file f\n}\n\
                a:54 {\n file f {\n reload 0\n}\n}\n";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let slots = config.blocks.iter().map(|block| block.own_zones.as_ref().unwrap().slot);
    assert_eq!(slots.collect::<Vec<_>>(), [0, 0, 1, 2]);
    assert_eq!(config.zone_sources().len(), 3);
}

#[test]
fn names_that_moved_to_a_zone_are_not_refreshed_from_an_upstream() {
    let corefile = ".:53 {\n bind 127.0.0.1\n cache {\n prefetch 1 1m 20%\n }\n \
                    file z z {\n fallthrough\n }\n forward . 192.0.2.1\n}\n";
    let text = "@ 3600 SOA n h 1 2 3 4 300\n";
    let mut world = world_with(corefile, &HashMap::from([("z", text)]));
    let ask = Ask::new(7, "a.z").with_edns(1_232);
    world.learn("a.z", 100);
    let found = zone(b"\x01z\0", &format!("{text}a A 192.0.2.9\n")).unwrap();
    let name = onward::config::Name::parse("z").unwrap();
    let entry = ZoneEntry::of_file(name, 0, Some(Arc::new(found)));
    let table = ZoneTable::new(vec![entry], hasher());
    world.engine.data.set(0, Contents::Zones(Arc::new(table)));
    world.pass(50.0);
    world.ask(1, &ask);
    assert!(!shown(&world.only_got()).contains("192.0.2.9"), "as long as it is fresh");
    world.pass(35.0);
    world.ask(1, &ask);
    assert!(shown(&world.only_got()).ends_with("A 192.0.2.9"));
    assert!(world.take_sent().is_empty());
    world.finish();
}

#[test]
fn aliases_stay_where_the_upstreams_of_their_end_fail_or_are_silent() {
    let corefile = "a:53 {\n bind 127.0.0.1\n file a\n}\n\
                    .:53 {\n bind 127.0.0.1\n forward . 192.0.2.1\n}\n";
    let text = "@ 3600 SOA n h 1 2 3 4 300\nx 60 CNAME y\ny 60 CNAME z.b.\n";
    let mut world = world_with(corefile, &HashMap::from([("a", text)]));
    let ask = Ask::new(7, "x.a").with_edns(1_232);
    world.ask(1, &ask);
    assert_eq!(world.take_sent().len(), 1);
    world.pass(6.0);
    let expected = "SERVFAIL aa rd\nAN x.a 60 CNAME y.a.\nAN y.a 60 CNAME z.b.";
    assert_eq!(shown(&world.only_got()), expected, "row 38");
    world.take_sent();
    world.ask(1, &ask);
    // The upstream answers each attempt with a failure.
    loop {
        let sent = world.take_sent();
        if sent.is_empty() {
            break;
        }
        for sent in sent {
            let mut failure = sent.bytes.clone();
            failure[2] |= 0x80;
            failure[3] = 2;
            world.respond(sent.connection, &failure);
        }
    }
    assert_eq!(shown(&world.only_got()), expected);
    world.finish();
}
