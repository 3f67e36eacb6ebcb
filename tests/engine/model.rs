//! Combinations of a block's directives, compared with a model of their documented meaning.
//!
//! One or two server blocks have some of `rewrite`, `dns64`, `cache`, `template` and `hosts` before
//! `forward`; the second block gets the queries that do not match the first one's view. The model
//! applies the directives in their order, without packets, waiting or time. Replies must have the
//! model's response code and records, and exactly the model's queries must reach upstreams. Failing
//! cases are shrunk to few directives and queries.

use crate::common::wire::{Ask, question_of, word_at};
use crate::stages::rewrite_zone::{name_of, respond};
use crate::world::{World, client};
use domain::base::Message;
use domain::rdata::AllRecordData;
use onward::config::{Config, Host};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, proptest};
use std::collections::BTreeSet;

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
/// Names queried by clients. Those below `cl` go upstream below `up.test` if there is a `rewrite`.
const NAMES: [&str; 12] = [
    "a.up.test",
    "A.cl",
    "both.cl",
    "both.up.test",
    "h.cl",
    "h.up.test",
    "nx.cl",
    "sf.up.test",
    "t.cl",
    "v6.cl",
    "x.tp",
    "other.zone",
];

/// Directives of one block.
#[derive(Clone, Debug)]
struct Block {
    rewrite: bool,
    dns64: bool,
    cache: bool,
    template: bool,
    /// Fallthrough for unknown names, if there is a `hosts`.
    hosts: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
enum View {
    OddPorts,
    AddressesOfIpv6,
    LongNames,
}

#[derive(Clone, Debug)]
struct Plan {
    /// View of the first block; the second one gets all other queries.
    view: Option<View>,
    blocks: [Block; 2],
}

/// A query: the client's number, a name and a type.
type Query = (usize, usize, usize);

/// Response code and answer, each record as owner, type and data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reply {
    rcode: u16,
    answer: BTreeSet<(String, u16, String)>,
}

impl Block {
    fn text(&self) -> String {
        let fallthrough = if self.hosts == Some(true) { "fallthrough\n" } else { "" };
        let hosts = format!(
            "hosts {{\n 192.0.2.5 h.up.test both.up.test\n 2001:db8::5 both.up.test\n \
             {fallthrough} }}\n"
        );
        let template = "template IN A tp {\n answer \"{{ .Name }} 60 IN A 192.0.2.77\"\n }\n";
        let parts = [
            (self.rewrite, "rewrite name suffix .cl .up.test answer auto\n"),
            (self.dns64, "dns64 {\n allow_ipv4\n }\n"),
            (self.cache, "cache\n"),
            (self.template, template),
            (self.hosts.is_some(), &hosts),
        ];
        let written = parts.into_iter().filter(|(is_there, _)| *is_there);
        let written: String = written.map(|(_, text)| text).collect();
        written + "forward . 192.0.2.250\n"
    }
}

impl Plan {
    fn config(&self) -> Config {
        let view = self.view.map(|view| match view {
            View::OddPorts => "int(port()) % 2 == 1",
            View::AddressesOfIpv6 => "type() == 'AAAA'",
            View::LongNames => "len(split(trimSuffix(name(), '.'), '.')) > 2",
        });
        let block = |view: &str, block: &Block| {
            format!(". {{\n bind 127.0.0.1\n {view}{}}}\n", block.text())
        };
        let text = match view {
            Some(view) => {
                let view = format!("view v {{\n expr {view}\n }}\n");
                block(&view, &self.blocks[0]) + &block("", &self.blocks[1])
            }
            None => block("", &self.blocks[0]),
        };
        let loaded = Config::load(text.as_bytes(), "Corefile", &Host::plain());
        loaded.unwrap_or_else(|error| panic!("{error}\n{text}")).0
    }
}

/// The model of a server with these blocks.
struct Model<'a> {
    plan: &'a Plan,
    /// Block, name and type of each cached answer.
    cached: BTreeSet<(usize, String, u16)>,
    /// Names and types that this query has sent upstream.
    asked: Vec<(String, u16)>,
}

impl Model<'_> {
    /// The whole server: the block selected by the views, and its directives in their order.
    fn answer(&mut self, client: usize, name: &str, rtype: u16) -> Reply {
        let is_first = self.plan.view.is_none_or(|view| match view {
            // The first client has port 1.
            View::OddPorts => client.is_multiple_of(2),
            View::AddressesOfIpv6 => rtype == AAAA,
            View::LongNames => name.split('.').count() > 2,
        });
        let number = usize::from(!is_first);
        let block = &self.plan.blocks[number];
        let reply = self.rewritten(number, name, rtype);
        let has_addresses = reply.answer.iter().any(|(_, rtype, _)| *rtype == AAAA);
        if !block.dns64 || rtype != AAAA || reply.rcode == NXDOMAIN || has_addresses {
            return reply;
        }
        let plain = self.answer(client, name, A);
        let addresses = plain.answer.iter().filter(|(_, rtype, _)| *rtype == A);
        let made = addresses.map(|(owner, _, address)| {
            let octets = address.parse::<std::net::Ipv4Addr>().unwrap().octets();
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&[0, 0x64, 0xff, 0x9b]);
            bytes[12..].copy_from_slice(&octets);
            (owner.clone(), AAAA, std::net::Ipv6Addr::from(bytes).to_string())
        });
        let answer: BTreeSet<_> = made.collect();
        if answer.is_empty() { reply } else { Reply { rcode: 0, answer } }
    }

    /// `rewrite` around the following directives: the client sees its own names.
    fn rewritten(&mut self, block: usize, name: &str, rtype: u16) -> Reply {
        let inner = name.strip_suffix(".cl").filter(|_| self.plan.blocks[block].rewrite);
        let Some(label) = inner else { return self.kept(block, name, rtype) };
        let inner = format!("{label}.up.test");
        let mut reply = self.kept(block, &inner, rtype);
        let answer = reply.answer.into_iter().map(|(owner, rtype, data)| {
            let owner = if owner == inner { name.to_owned() } else { owner };
            (owner, rtype, data)
        });
        reply.answer = answer.collect();
        reply
    }

    /// `cache`, `template`, `hosts` and `forward`. No question goes upstream twice, because no time
    /// passes.
    fn kept(&mut self, block: usize, name: &str, rtype: u16) -> Reply {
        let Block { cache, template, hosts, .. } = self.plan.blocks[block];
        let one = |rtype, data: &str| {
            let answer = BTreeSet::from([(name.to_owned(), rtype, data.to_owned())]);
            Reply { rcode: 0, answer }
        };
        if template && rtype == A && name.ends_with(".tp") {
            return one(A, "192.0.2.77");
        }
        match (hosts, name, rtype) {
            (Some(_), "h.up.test" | "both.up.test", A) => return one(A, "192.0.2.5"),
            (Some(_), "both.up.test", AAAA) => return one(AAAA, "2001:db8::5"),
            (Some(_), "h.up.test" | "both.up.test", _) => {
                return Reply { rcode: 0, answer: BTreeSet::new() };
            }
            (Some(false), ..) => return Reply { rcode: SERVFAIL, answer: BTreeSet::new() },
            _ => {}
        }
        if !cache || self.cached.insert((block, name.to_owned(), rtype)) {
            self.asked.push((name.to_owned(), rtype));
        }
        let ask = Ask { rtype, ..Ask::new(7, name) };
        read(&respond(&ask.bytes()))
    }
}

/// A message in the form of the model, with names in lower case.
fn read(bytes: &[u8]) -> Reply {
    let message = Message::from_octets(bytes).expect("a message");
    let records = message.answer().expect("an answer").map(|record| {
        let record = record.expect("a record");
        let rtype = record.rtype().to_int();
        let record = record.to_any_record::<AllRecordData<_, _>>().expect("data");
        let owner = record.owner().to_string().to_ascii_lowercase();
        (owner, rtype, record.data().to_string())
    });
    Reply { rcode: word_at(bytes, 2) & 15, answer: records.collect() }
}

/// Sends a query, plays the upstream, and returns the reply and the questions of upstream queries.
fn ask(world: &mut World, number: usize, ask: &Ask) -> (Reply, Vec<(String, u16)>) {
    world.ask_as(client(number), ask);
    world.settle();
    let mut asked = Vec::new();
    loop {
        let sent = world.take_sent();
        if sent.is_empty() {
            break;
        }
        for sent in sent {
            let question = question_of(&sent.bytes);
            let rtype = word_at(question, question.len() - 4);
            asked.push((name_of(question).to_ascii_lowercase(), rtype));
            world.respond(sent.connection, &respond(&sent.bytes));
        }
    }
    (read(&world.only_got().bytes), asked)
}

fn plan() -> impl Strategy<Value = Plan> {
    let block = || {
        let hosts = proptest::option::of(any::<bool>());
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (flags, hosts).prop_map(|((rewrite, dns64, cache, template), hosts)| Block {
            rewrite,
            dns64,
            cache,
            template,
            hosts,
        })
    };
    let view = proptest::sample::select(vec![
        None,
        Some(View::OddPorts),
        Some(View::AddressesOfIpv6),
        Some(View::LongNames),
    ]);
    (view, block(), block()).prop_map(|(view, one, other)| Plan { view, blocks: [one, other] })
}

fn queries() -> impl Strategy<Value = Vec<Query>> {
    proptest::collection::vec((0..4_usize, 0..NAMES.len(), 0..3_usize), 1..24)
}

/// A fixed seed makes all runs equal.
fn cases() -> ProptestConfig {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(21);
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(400) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn directives_together_do_what_each_means(plan in plan(), queries in queries()) {
        let mut world = World::new(&plan.config());
        let mut model = Model { plan: &plan, cached: BTreeSet::new(), asked: Vec::new() };
        for (id, (number, name, rtype)) in queries.into_iter().enumerate() {
            let (name, rtype) = (NAMES[name], [A, AAAA, TXT][rtype]);
            let query = Ask { rtype, ..Ask::new(id as u16, name) };
            let found = ask(&mut world, number, &query);
            let expected = model.answer(number, &name.to_ascii_lowercase(), rtype);
            let expected = (expected, std::mem::take(&mut model.asked));
            prop_assert_eq!(found, expected, "{} {} of client {}", name, rtype, number);
        }
        world.finish();
    }
}
