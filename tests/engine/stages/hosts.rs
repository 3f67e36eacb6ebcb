//! `hosts`: the rows of `hosts.txt`, and behaviour that rows cannot express.
//!
//! Tables are built from text without a file, and installed in their slots as a worker does it.

use super::over_udp_and_tcp;
use crate::common::wire::Ask;
use crate::world::{World, corefile, shown, world};
use ahash::RandomState;
use onward::config::Config;
use onward::engine::data::Contents;
use onward::engine::hosts::{Builder, Skipped, Table};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

const CASES: &str = include_str!("hosts.txt");

/// The table of a file with this text, with the inline entries of `config`.
fn table(config: &Config, text: &[u8]) -> (Table, Skipped) {
    let source = config.hosts_sources()[0];
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut builder = Builder::new(hasher, source.reverse, text.len());
    text.chunks(7).for_each(|piece| builder.read(piece).expect("it is small"));
    let skipped = builder.end();
    source.inline.iter().for_each(|line| builder.add(line));
    (builder.finish(), skipped)
}

/// A worker whose first table is built from a file with this text.
fn world_with(directives: &str, text: &[u8]) -> World {
    let config = corefile(directives);
    let mut world = World::new(&config);
    world.engine.data.set(0, Contents::Hosts(Arc::new(table(&config, text).0)));
    world
}

/// The bytes of a case's text, with its escapes resolved.
fn unescaped(text: &str) -> Vec<u8> {
    let long = |count| vec!["x"; count].concat();
    let text = text.replace("{x64}", &long(64)).replace("{x70000}", &long(70_000));
    let text = text.replace("‹U+FEFF›", "\u{feff}").replace("‹U+FC›", "\u{fc}");
    text.replace('⏎', "\r").into_bytes()
}

fn rtype(word: &str) -> u16 {
    match word {
        "A" => 1,
        "PTR" => 12,
        "MX" => 15,
        "AAAA" => 28,
        "HTTPS" => 65,
        "ANY" => 255,
        other => panic!("the type {other} is not known here"),
    }
}

fn ask_of(question: &str) -> Ask {
    let mut words = question.split(' ');
    let (name, what) = (words.next().unwrap(), rtype(words.next().expect("a type")));
    let name = if name == "." { "" } else { name };
    let mut ask = Ask { rtype: what, ..Ask::new(7, name) };
    for word in words {
        match word {
            "CH" => ask.class = 3,
            "+e" => ask = ask.with_edns(1_232),
            "+nord" => ask.flags &= !0x0100,
            other => panic!("{other} is not known here"),
        }
    }
    ask
}

#[test]
fn every_row_holds() {
    let mut rows = 0;
    let mut wrong = String::new();
    for case in CASES.split("\n=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (head, questions) = rest.split_once("--- rows\n").expect("rows");
        let (directives, file) = head.split_once("--- file\n").unwrap_or((head, ""));
        let questions = questions.replace("‹U+FC›", "\u{fc}");
        let mut world = world_with(&directives.replace("FILE", "hosts.file"), &unescaped(file));
        for row in questions.lines().filter(|line| !line.is_empty()) {
            let (number, row) = row.split_once(' ').unwrap();
            let (question, expected) = row.trim().split_once(" => ").expect("an answer");
            let expected = expected.split(" # ").next().unwrap();
            let found = over_udp_and_tcp(&mut world, &ask_of(question), |got| {
                shown(got).replace("\nAN ", " | ")
            });
            if found.iter().any(|found| found != expected) {
                wrong += &format!(
                    "{number} ({title}): {question}\n  expected {expected}\n  found {found:?}\n"
                );
            }
            rows += 1;
        }
        world.finish();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(rows > 90, "{rows} rows");
}

#[test]
fn an_answer_that_does_not_fit_is_cut_and_says_so() {
    let lines = (1..=40).map(|number| format!("192.0.0.{number} big.t\n"));
    let mut world =
        world_with("hosts f {\n 192.0.2.1 big.t\n}", lines.collect::<String>().as_bytes());
    let ask = Ask { rtype: 1, ..Ask::new(7, "big.t") };
    let first = |got: &str| got.lines().nth(1).map(str::to_owned);
    world.ask(1, &ask);
    let got = shown(&world.only_got());
    assert!(got.starts_with("NOERROR aa tc rd\n"), "{got}");
    assert_eq!(
        (got.lines().count(), first(&got).unwrap().as_str()),
        (31, "AN big.t 3600 A 192.0.0.1")
    );
    world.ask(1, &ask.clone().with_edns(4_096));
    let got = shown(&world.only_got());
    assert!(
        got.starts_with("NOERROR aa rd\n") && got.ends_with("\nAN big.t 3600 A 192.0.2.1"),
        "{got}"
    );
    assert_eq!(got.lines().count(), 42);
    world.finish();
}

#[test]
fn addresses_change_places_for_each_client() {
    let mut world =
        world("loadbalance\n hosts f {\n 192.0.2.1 x.t\n 192.0.2.2 x.t\n 192.0.2.3 x.t\n}");
    let mut first = BTreeSet::new();
    for _ in 0..40 {
        world.ask(1, &Ask { rtype: 1, ..Ask::new(7, "x.t") });
        first.insert(shown(&world.only_got()).lines().nth(1).unwrap().to_owned());
    }
    assert_eq!(first.len(), 3, "K33: {first:?}");
    world.finish();
}

#[test]
fn skipped_lines_are_counted_and_the_first_is_named() {
    let config = corefile("hosts f");
    let text = b"\n# x\n192.0.2.1 a.t\n192.0.2.2\nrubbish here\n192.0.2.3 b..t c.t\n\x00\xff\x00\n";
    let (table, skipped) = table(&config, text);
    assert_eq!((skipped.count, skipped.line), (3, 5));
    assert_eq!(skipped.reason, "'rubbish' is not an IP address");
    assert_eq!(table.entries(), 4, "two names and two reverse names");
}

#[test]
fn a_new_table_takes_effect_between_two_queries_and_counters_tell() {
    let mut world = world("hosts f {\n 192.0.2.9 inline.t\n fallthrough\n}\n forward . 192.0.2.53");
    let ask = |name: &str| Ask { rtype: 1, ..Ask::new(7, name) };
    world.ask(1, &ask("inline.t"));
    assert!(shown(&world.only_got()).ends_with("A 192.0.2.9"), "before anything is loaded");
    world.ask(1, &ask("a.t"));
    assert_eq!(world.take_sent().len(), 1);
    let config = corefile("hosts f {\n 192.0.2.9 inline.t\n fallthrough\n}\n forward . 192.0.2.53");
    for number in [1, 2] {
        let text = format!("192.0.2.{number} a.t\n");
        world.engine.data.set(0, Contents::Hosts(Arc::new(table(&config, text.as_bytes()).0)));
        world.ask(2, &ask("a.t"));
        assert!(shown(&world.only_got()).ends_with(&format!("A 192.0.2.{number}")));
        world.ask(2, &ask("inline.t"));
        assert!(shown(&world.only_got()).ends_with("A 192.0.2.9"));
    }
    world.engine.data.set(1, Contents::Hosts(Arc::new(table(&config, b"").0)));
    world.pass(6.0);
    world.take_got();
    assert_eq!(world.finish().stages.hosts.answered, 5);
}

#[test]
fn blocks_with_the_same_source_share_a_slot() {
    let text =
        "a {\n hosts f\n}\nb {\n hosts f {\n ttl 9\n}\n}\nc {\n hosts f {\n 192.0.2.1 x\n}\n}\n";
    let host = onward::config::Host::plain();
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &host).unwrap();
    let slots = config.blocks.iter().map(|block| block.stages.hosts.as_ref().unwrap().slot);
    assert_eq!(slots.collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(config.hosts_sources().len(), 2);
}

#[test]
fn any_address_of_many_leads_back_and_none_other() {
    let lines = (0..2_000_u32).map(|number| {
        let address = Ipv4Addr::from(0x0a00_0000 + number);
        format!("{address} n{number}.t alias{number}.t\n")
    });
    let mut world = world_with("hosts f", lines.collect::<String>().as_bytes());
    for number in [0_u32, 1, 999, 1_999] {
        let [_, b, c, d] = (0x0a00_0000 + number).to_be_bytes();
        let name = format!("{d}.{c}.{b}.10.in-addr.arpa");
        world.ask(1, &Ask { rtype: 12, ..Ask::new(7, &name) });
        let expected = format!(
            "NOERROR aa rd\nAN {name} 3600 PTR n{number}.t.\nAN {name} 3600 PTR alias{number}.t."
        );
        assert_eq!(shown(&world.only_got()), expected);
        world.ask(1, &Ask { rtype: 1, ..Ask::new(7, &format!("n{number}.t")) });
        assert!(shown(&world.only_got()).ends_with(&format!("A 10.{b}.{c}.{d}")));
    }
    world.ask(1, &Ask { rtype: 12, ..Ask::new(7, "0.0.1.10.in-addr.arpa") });
    assert_eq!(world.only_got().rcode(), 2);
    world.finish();
}
