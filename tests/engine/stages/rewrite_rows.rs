//! More rows of `rewrite`, each over UDP and over TCP.
//!
//! A case is a configuration and its questions in order: each with the name and type of the
//! upstream query, `-` for none, and the reply. Numbered rows are the observed behaviour of the
//! reference; a remark says where ours is better.

use crate::common::wire::{Ask, question_of, word_at};
use crate::stages::rewrite::ask_of;
use crate::stages::rewrite_zone::{name_of, respond};
use crate::world::{World, client, shown, world};
use onward::engine::{Client, Via};

const F: &str = "\n forward . 192.0.2.250";

/// Number, question, upstream query, reply.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Asks, lets the upstream answer if it is queried, and returns the upstream query and the reply.
fn outcome(world: &mut World, asker: Client, ask: &Ask) -> (String, String) {
    world.ask_as(asker, ask);
    world.settle();
    let sent = world.take_sent();
    let up = sent.first().map_or("-".to_owned(), |sent| {
        assert!(world.respond(sent.connection, &respond(&sent.bytes)));
        let question = question_of(&sent.bytes);
        format!("{} {}", name_of(question), word_at(question, question.len() - 4))
    });
    (up, shown(&world.only_got()))
}

/// Checks the cases over UDP and over TCP.
fn check_in(directives: &str, cases: &[Case<'_>]) {
    for is_tcp in [false, true] {
        let mut world = world(directives);
        let mut asker = client(1);
        if is_tcp {
            let admitted = world.engine.admit(world.now, 0, asker.peer.ip()).unwrap();
            asker.via = Via::Connection(admitted.0);
        }
        for (number, ask, up, reply) in cases {
            let (asked, got) = outcome(&mut world, asker, &ask_of(ask));
            let found = (asked.as_str(), got.as_str());
            assert_eq!(found, (*up, *reply), "{number}: {ask}, connection {is_tcp}\n{directives}");
        }
        if let Some(connection) = asker.via.connection() {
            world.engine.clients.close(connection);
        }
        world.finish();
    }
}

fn check(directives: &str, cases: &[Case<'_>]) {
    check_in(&format!("{directives}{F}"), cases);
}

fn a(owner: &str, ttl: u32, last: u8) -> String {
    format!("NOERROR rd ra\nAN {owner} {ttl} A 192.0.2.{last}")
}

#[test]
fn a_suffix_is_mapped_back_by_default() {
    check(
        "rewrite name suffix .cl .up.test",
        &[
            // Improved: `answer auto` is the default.
            ("R10", "a.cl A", "a.up.test 1", &a("a.cl", 300, 10)),
            (
                "R11",
                "c.cl A",
                "c.up.test 1",
                "NOERROR rd ra\nAN c.cl 300 CNAME a.cl.\nAN a.cl 200 A 192.0.2.10",
            ),
            ("R12", "cl A", "cl 1", &a("cl", 300, 99)),
            (
                "R13",
                "nx1.cl A",
                "nx1.up.test 1",
                "NXDOMAIN rd ra\nAU cl 100 SOA ns.cl. h.cl. 1 2 3 4 50",
            ),
        ],
    );
}

#[test]
fn a_substring_and_a_pattern_have_their_limits() {
    check(
        "rewrite name substring foo a",
        &[
            ("R40", "xfoo.up.test A", "xa.up.test 1", &a("xfoo.up.test", 300, 99)),
            ("R41", "foobar.up.test A", "foobar.up.test 1", &a("foobar.up.test", 300, 99)),
        ],
    );
    check(
        "rewrite name regex (.*)[.]svc[.]cl[.]$ {1}.up.test",
        &[("R42", "a.svc.cl A", "a.up.test 1", &a("a.svc.cl", 300, 10))],
    );
    check(
        "rewrite name regex (.*)[.]svc[.]cl[.]$ {1}.up.test answer auto",
        &[
            ("R44", "a.svc.cl A", "a.up.test 1", &a("a.svc.cl", 300, 10)),
            (
                "R46",
                "c.svc.cl A",
                "c.up.test 1",
                "NOERROR rd ra\nAN c.svc.cl 300 CNAME a.up.test.\nAN a.up.test 200 A 192.0.2.10",
            ),
        ],
    );
    check(
        "rewrite name regex ^(.*)[.]x[.]cl[.]$ {1}.{1}.up.test.
         rewrite name regex ^u[.]cl[.]$ A.Up.Test",
        &[
            ("R52", "q.x.cl A", "q.q.up.test 1", &a("q.x.cl", 300, 99)),
            ("R53", "u.cl A", "a.up.test 1", &a("u.cl", 300, 10)),
        ],
    );
    check(
        "rewrite name regex (a)[.]t[.]$ {2}.up.test",
        &[("R142", "a.t A", "{2}.up.test 1", &a("a.t", 300, 99))],
    );
    check(
        "rewrite name regex ^(.*)$ {1}up.test answer auto",
        &[("R149", "a A", "a.up.test 1", &a("a", 300, 10))],
    );
}

#[test]
fn rules_follow_one_another_until_one_stops() {
    check(
        "rewrite continue name a.cl b.cl\nrewrite continue name b.cl a.up.test",
        &[("R55", "b.cl A", "a.up.test 1", &a("b.cl", 300, 10))],
    );
    check(
        "rewrite continue type AAAA A\nrewrite name a.t both.up.test",
        &[
            // Improved: an address of another type than asked for is no answer.
            ("R144", "a.t AAAA", "both.up.test 1", "NOERROR rd ra"),
        ],
    );
    check(
        "rewrite stop type MX A\nrewrite name a.t both.up.test",
        &[("R145", "a.t MX", "a.t 1", "NOERROR rd ra")],
    );
}

#[test]
fn ttls_are_clamped_and_nothing_else() {
    check(
        "rewrite ttl suffix b.up.test 10-20\nrewrite ttl substring ult 0
         rewrite ttl a.up.test 0\nrewrite ttl both.up.test 86400\nrewrite ttl priv.up.test 20000000
         rewrite ttl mx.up.test 40000",
        &[
            ("R62", "b.up.test A", "b.up.test 1", &a("b.up.test", 20, 99)),
            ("R69", "a.up.test A +do", "a.up.test 1", &a("a.up.test", 0, 10)),
            ("R70", "both.up.test A +do", "both.up.test 1", &a("both.up.test", 86_400, 11)),
            (
                "R71",
                "priv.up.test A +do",
                "priv.up.test 1",
                "NOERROR rd ra\nAN priv.up.test 20000000 A 10.1.2.3",
            ),
            (
                "R68",
                "mx.up.test MX +do",
                "mx.up.test 15",
                "NOERROR rd ra\nAN mx.up.test 40000 MX 10 mail.up.test.\n\
                 AU up.test 40000 NS ns.up.test.\nAD mail.up.test 40000 A 192.0.2.25",
            ),
        ],
    );
}

#[test]
fn the_cache_keeps_the_upstreams_answer() {
    check(
        "rewrite name suffix .cl .up.test answer auto\ncache",
        &[
            ("R113", "both.up.test A", "both.up.test 1", &a("both.up.test", 300, 11)),
            ("R114", "both.cl A", "-", &a("both.cl", 300, 11)),
            ("R115", "both.up.test A", "-", &a("both.up.test", 300, 11)),
            ("R118", "A.cl A", "a.up.test 1", &a("A.cl", 300, 10)),
            ("R119", "a.CL A", "-", &a("a.CL", 300, 10)),
        ],
    );
    check(
        "cache\nrewrite ttl suffix up.test 5",
        &[
            ("R152", "a.up.test A", "a.up.test 1", &a("a.up.test", 5, 10)),
            ("R153", "a.up.test A", "-", &a("a.up.test", 5, 10)),
        ],
    );
    check(
        "cache {\n serve_stale\n }\nrewrite name a.t a.up.test",
        &[
            ("R154", "a.t A +do", "a.up.test 1", &a("a.t", 300, 10)),
            ("R155", "a.t A", "a.up.test 1", &a("a.t", 300, 10)),
        ],
    );
}

#[test]
fn answers_of_the_server_itself_are_rewritten_too() {
    check_in(
        "hosts {\n 192.0.2.1 x.t\n }\nrewrite rcode regex .* SERVFAIL NXDOMAIN",
        &[
            ("K41 K43", "y.t A", "-", "NXDOMAIN rd ra"),
            ("K42", "y.t A +do", "-", "NXDOMAIN rd ra"),
            ("K44", "x.t A", "-", "NOERROR aa rd\nAN x.t 3600 A 192.0.2.1"),
        ],
    );
    check_in(
        "template IN A t {\n rcode REFUSED\n }\nrewrite ttl suffix t 5",
        // Improved: one reply.
        &[("R132", "x.t A", "-", "REFUSED aa rd")],
    );
}
