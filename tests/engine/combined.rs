//! Random combinations of directives that need answers to further queries, from a seed.
//!
//! A block has some of `dns64`, `rewrite name`, `rewrite cname`, `template` with aliases, `cache`
//! and `acl`; aliases may form loops. The upstream answers, fails, truncates, corrupts bytes or
//! stays silent, with reloads in between. Each query gets one reply, with its original question, or
//! is dropped for a reason, and in the end nothing is left.

use crate::common::{Dice, for_seeds};
use crate::stages::rewrite_zone::respond;
use crate::stages::template::ask_of;
use crate::world::{World, client, corefile};
use std::sync::atomic::{AtomicU64, Ordering};

const PARTS: [&str; 9] = [
    "dns64 {\n allow_ipv4\n }\n",
    "dns64 {\n allow_ipv4\n translate_all\n prefix 2001:db8::/32\n prefix 64:ff9b::/96\n }\n",
    "rewrite continue edns0 local set 0xffee {qname}\nrewrite edns0 subnet set 24 56\n",
    "rewrite continue name suffix .cl .up.test answer auto\n",
    "rewrite continue cname regex ^a[.](.*) both.{1}\n",
    "rewrite cname regex .* c.up.test\n",
    "template IN ANY t {\n match ^(?P<x>[a-z0-9]+)[.]t[.]$
     answer \"{{ .Name }} 60 IN CNAME {{ .Group.x }}.up.test.\"\n fallthrough\n }
     template IN ANY o {\n answer \"{{ .Name }} 60 IN CNAME x.q.\"\n }
     template IN ANY q {\n answer \"{{ .Name }} 60 IN CNAME x.o.\"\n }\n",
    "cache {\n serve_stale\n }\n",
    "acl rf.up.test {\n block\n }\n",
];
const NAMES: [&str; 14] = [
    "a.up.test",
    "both.up.test",
    "c.up.test",
    "C2.up.test",
    "cv6.up.test",
    "cdn.up.test",
    "sf.up.test",
    "rf.up.test",
    "nx.cl",
    "c.cl",
    "A.cl",
    "c2.t",
    "x.o",
    "mixed.up.test",
];
const TYPES: [&str; 5] = ["A", "AAAA", "AAAA +do", "AAAA +e", "MX"];

fn directives(dice: &mut Dice) -> String {
    let mut text = String::from("prometheus\n errors\n");
    for (number, part) in PARTS.iter().enumerate() {
        // A later `dns64` directive would override the first.
        if dice.below(2) == 0 && !(number == 1 && text.contains("dns64")) {
            text += part;
        }
    }
    text + "forward . 192.0.2.250 {\n max_connect_attempts 1\n }\n"
}

/// Handles every query that reached the upstream, in a random way.
fn answer(dice: &mut Dice, world: &mut World) {
    for sent in world.take_sent() {
        let mut response = respond(&sent.bytes);
        match dice.below(12) {
            0 => continue,
            1 => response[2] |= 2,
            2 => response[3] = response[3] & 0xf0 | dice.pick(&[1, 2, 4, 5]),
            3 => {
                let place = 12 + dice.below(response.len() - 12);
                response[place] ^= 1 << dice.below(8);
            }
            _ => {}
        }
        world.respond(sent.connection, &response);
    }
}

#[test]
fn every_query_gets_its_reply_under_any_combination() {
    let asked = AtomicU64::new(0);
    for_seeds(0..40, |dice| {
        let mut world = World::new(&corefile(&directives(dice)));
        for number in 0..60 {
            let ask = format!("{} {}", dice.pick(&NAMES), dice.pick(&TYPES));
            let mut ask = ask_of(&ask);
            ask.id = number;
            world.ask_as(client(usize::from(number % 7)), &ask);
            world.settle();
            match dice.below(8) {
                0 => world.pass(0.1),
                1 => world.pass(6.0),
                2 => world.reload(&corefile(&directives(dice))),
                _ => {}
            }
            answer(dice, &mut world);
        }
        while !world.sent.is_empty() {
            answer(dice, &mut world);
        }
        world.pass(30.0);
        let stats = world.finish();
        assert!(stats.parked.asked <= 32 * 60, "{:?}", stats.parked);
        asked.fetch_add(stats.parked.asked, Ordering::Relaxed);
    });
    assert!(asked.into_inner() > 1_000, "the server has hardly asked itself");
}
