//! `rewrite`, case by case: the observed behaviour of the reference, in its order.
//!
//! A case is a configuration and its questions in order: each with the upstream query's name, `-`
//! for none, and the reply. Where the reference is wrong and nothing can depend on it, our
//! behaviour is expected, and a remark says so.

use crate::common::wire::{Ask, question_of, word_at};
use crate::stages::rewrite_zone::{name_of, respond};
use crate::world::{World, shown, world};

const F: &str = "\n forward . 192.0.2.250";

/// `NAME TYPE [CLASS] [+do]`.
pub(crate) fn ask_of(text: &str) -> Ask {
    let mut words = text.split(' ');
    let mut ask = Ask::new(7, words.next().unwrap());
    for word in words {
        match word {
            "+do" => ask.edns = Some((1_232, 0, true, Vec::new())),
            "CH" => ask.class = 3,
            rtype => {
                let known = domain::base::iana::Rtype::from_bytes(rtype.as_bytes());
                ask.rtype = known.unwrap_or_else(|| panic!("type {rtype}")).to_int();
            }
        }
    }
    ask
}

/// Asks, lets the upstream answer if it is queried, and returns the upstream query and the reply.
fn outcome(world: &mut World, ask: &str) -> (String, String) {
    world.ask(1, &ask_of(ask));
    let sent = world.take_sent();
    let up = sent.first().map_or("-".to_owned(), |sent| {
        assert!(world.respond(sent.connection, &respond(&sent.bytes)));
        let question = question_of(&sent.bytes);
        let rtype = word_at(question, question.len() - 4);
        format!("{} {rtype}", name_of(question))
    });
    (up, shown(&world.only_got()))
}

fn check(directives: &str, cases: &[(&str, &str, &str, &str)]) {
    let mut world = world(&format!("{directives}{F}"));
    for (number, ask, up, reply) in cases {
        let (asked, got) = outcome(&mut world, ask);
        assert_eq!((asked.as_str(), got.as_str()), (*up, *reply), "{number}: {ask}\n{directives}");
    }
    world.finish();
}

/// The upstream's denial, with the names in its SOA.
fn denial(rcode: &str, zone: &str, below: &str) -> String {
    format!("{rcode} rd ra\nAU {zone} 100 SOA ns.{below}. h.{below}. 1 2 3 4 50")
}

#[test]
fn an_exact_name_is_mapped_back_and_nothing_else() {
    check(
        "rewrite name a.cl a.up.test
         rewrite name c.cl c.up.test
         rewrite name p.cl p.up.test
         rewrite name nx.cl nx1.up.test
         rewrite name d.cl dn.up.test",
        &[
            ("R1", "a.cl A", "a.up.test 1", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10"),
            // Improved: the owner is spelt as the client spelt it.
            ("R2", "A.CL A", "a.up.test 1", "NOERROR rd ra\nAN A.CL 300 A 192.0.2.10"),
            ("R3", "x.a.cl A", "x.a.cl 1", "NOERROR rd ra\nAN x.a.cl 300 A 192.0.2.99"),
            ("R4", "a.cl AAAA", "a.up.test 28", &denial("NOERROR", "up.test", "up.test")),
            (
                "R6",
                "c.cl A",
                "c.up.test 1",
                "NOERROR rd ra\nAN c.cl 300 CNAME a.up.test.\nAN a.up.test 200 A 192.0.2.10",
            ),
            ("R7", "p.cl PTR", "p.up.test 12", "NOERROR rd ra\nAN p.cl 300 PTR a.up.test."),
            // Improved: a SOA that is not above the name denies nothing.
            ("R8", "nx.cl A", "nx1.up.test 1", "NXDOMAIN rd ra"),
            ("R9", "d.cl DNAME", "dn.up.test 39", "NOERROR rd ra\nAN d.cl 300 DNAME a.up.test."),
        ],
    );
}

/// Improved throughout: a suffix without a rule for answers behaves as with `answer auto`.
#[test]
fn a_suffix_is_mapped_back_wherever_it_ends_a_name() {
    for answer in ["", " answer auto"] {
        check(
            &format!("rewrite name suffix .cl .up.test{answer}"),
            &[
                ("R14", "a.cl A", "a.up.test 1", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10"),
                ("R15", "A.cL A", "a.up.test 1", "NOERROR rd ra\nAN A.cL 300 A 192.0.2.10"),
                (
                    "R16",
                    "c.cl A",
                    "c.up.test 1",
                    "NOERROR rd ra\nAN c.cl 300 CNAME a.cl.\nAN a.cl 200 A 192.0.2.10",
                ),
                (
                    "R17",
                    "c2.cl A",
                    "c2.up.test 1",
                    "NOERROR rd ra\nAN c2.cl 300 CNAME c.cl.\nAN c.cl 250 CNAME a.cl.\n\
                     AN a.cl 200 A 192.0.2.10",
                ),
                // Improved: the zone's own name is mapped as well, as for R28.
                (
                    "R18",
                    "mx.cl MX",
                    "mx.up.test 15",
                    "NOERROR rd ra\nAN mx.cl 300 MX 10 mail.cl.\nAU cl 300 NS ns.cl.\n\
                     AD mail.cl 300 A 192.0.2.25",
                ),
                (
                    "R19",
                    "srv.cl SRV",
                    "srv.up.test 33",
                    "NOERROR rd ra\nAN srv.cl 300 SRV 1 2 80 a.cl\nAU cl 300 NS ns.cl.\n\
                     AD a.cl 300 A 192.0.2.10",
                ),
                ("R20", "p.cl PTR", "p.up.test 12", "NOERROR rd ra\nAN p.cl 300 PTR a.cl."),
                // Improved: targets of HTTPS and SVCB, too.
                (
                    "R21",
                    "h.cl HTTPS",
                    "h.up.test 65",
                    "NOERROR rd ra\nAN h.cl 300 HTTPS 1 a.cl. alpn=h2",
                ),
                (
                    "R23",
                    "na.cl NAPTR",
                    "na.up.test 35",
                    "NOERROR rd ra\nAN na.cl 300 NAPTR 1 1 \"u\" \"x\" \"\" a.cl.",
                ),
                ("R24", "ns.cl NS", "ns.up.test 2", "NOERROR rd ra\nAN ns.cl 300 NS a.cl."),
                ("R25", "dn.cl DNAME", "dn.up.test 39", "NOERROR rd ra\nAN dn.cl 300 DNAME a.cl."),
                // Improved: RNAME, too.
                (
                    "R26",
                    "s.cl SOA",
                    "s.up.test 6",
                    "NOERROR rd ra\nAN s.cl 300 SOA a.cl. h.cl. 1 2 3 4 5",
                ),
                (
                    "R27",
                    "t.cl TXT",
                    "t.up.test 16",
                    "NOERROR rd ra\nAN t.cl 300 TXT \"a.up.test.\"",
                ),
                ("R28", "nx1.cl A", "nx1.up.test 1", &denial("NXDOMAIN", "cl", "cl")),
                ("R29", "both.cl ANY", "both.up.test 255", &denial("NOERROR", "cl", "cl")),
                ("R30", "a.cl A +do", "a.up.test 1", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10"),
                ("R12", "cl A", "cl 1", "NOERROR rd ra\nAN cl 300 A 192.0.2.99"),
            ],
        );
    }
}

#[test]
fn a_suffix_is_made_of_labels() {
    check(
        "rewrite name suffix cl up.test answer auto",
        &[
            ("R31", "nx1.cl A", "nx1.up.test 1", &denial("NXDOMAIN", "cl", "cl")),
            // Improved: a suffix begins with a label.
            ("R33", "a.xcl A", "a.xcl 1", "NOERROR rd ra\nAN a.xcl 300 A 192.0.2.99"),
        ],
    );
    check(
        "rewrite name suffix . .up.test",
        &[
            ("R146", "a A", "a.up.test 1", "NOERROR rd ra\nAN a 300 A 192.0.2.10"),
            ("R147", "b.c A", "b.c.up.test 1", "NOERROR rd ra\nAN b.c 300 A 192.0.2.99"),
        ],
    );
}

#[test]
fn other_match_types_map_the_whole_name_back() {
    check(
        "rewrite name prefix foo a",
        &[
            (
                "R34",
                "foo.x.up.test A",
                "a.x.up.test 1",
                "NOERROR rd ra\nAN foo.x.up.test 300 A 192.0.2.99",
            ),
            (
                "R35",
                "foobar.up.test A",
                "foobar.up.test 1",
                "NOERROR rd ra\nAN foobar.up.test 300 A 192.0.2.99",
            ),
        ],
    );
    check(
        "rewrite name prefix foo. a. answer auto
         rewrite name substring .mid. .up. answer auto",
        &[
            (
                "R36",
                "foo.up.test A",
                "a.up.test 1",
                "NOERROR rd ra\nAN foo.up.test 300 A 192.0.2.10",
            ),
            (
                "R37",
                "both.mid.test A",
                "both.up.test 1",
                "NOERROR rd ra\nAN both.mid.test 300 A 192.0.2.11",
            ),
            (
                "R38",
                "both.mid.mid.test A",
                "both.up.mid.test 1",
                "NOERROR rd ra\nAN both.mid.mid.test 300 A 192.0.2.99",
            ),
            (
                "R39",
                "c.mid.test A",
                "c.up.test 1",
                "NOERROR rd ra\nAN c.mid.test 300 CNAME a.up.test.\nAN a.up.test 200 A 192.0.2.10",
            ),
        ],
    );
    check(
        "rewrite name regex (.*)[.]svc[.]cl[.]$ {1}.up.test answer auto",
        &[
            ("R44", "a.svc.cl A", "a.up.test 1", "NOERROR rd ra\nAN a.svc.cl 300 A 192.0.2.10"),
            (
                "R45",
                "mx.svc.cl MX",
                "mx.up.test 15",
                "NOERROR rd ra\nAN mx.svc.cl 300 MX 10 mail.up.test.\n\
                 AU up.test 300 NS ns.up.test.\nAD mail.up.test 300 A 192.0.2.25",
            ),
        ],
    );
}

#[test]
fn explicit_rules_replace_names_in_answers() {
    check(
        "rewrite stop {
            name regex (.*)[.]svc[.]cl[.]$ {1}.up.test
            answer name (.*)[.]up[.]test {1}.svc.cl
            answer value (.*)[.]up[.]test {1}.svc.cl
        }",
        &[
            ("R47", "a.svc.cl A", "a.up.test 1", "NOERROR rd ra\nAN a.svc.cl 300 A 192.0.2.10"),
            (
                "R48",
                "mx.svc.cl MX",
                "mx.up.test 15",
                "NOERROR rd ra\nAN mx.svc.cl 300 MX 10 mail.svc.cl.\nAU up.test 300 NS ns.svc.cl.\n\
                 AD mail.svc.cl 300 A 192.0.2.25",
            ),
            (
                "R49",
                "c2.svc.cl A",
                "c2.up.test 1",
                "NOERROR rd ra\nAN c2.svc.cl 300 CNAME c.svc.cl.\nAN c.svc.cl 250 CNAME a.svc.cl.\n\
                 AN a.svc.cl 200 A 192.0.2.10",
            ),
            (
                "R51",
                "both.up.test A",
                "both.up.test 1",
                "NOERROR rd ra\nAN both.up.test 300 A 192.0.2.11",
            ),
        ],
    );
    check(
        "rewrite name exact a.cl a.up.test answer name (.*) z.cl
         rewrite name exact mx.cl mx.up.test answer value (.*)[.]up[.]test[.] {1}.cl.",
        &[
            ("R130", "a.cl A", "a.up.test 1", "NOERROR rd ra\nAN z.cl 300 A 192.0.2.10"),
            (
                "R131",
                "mx.cl MX",
                "mx.up.test 15",
                "NOERROR rd ra\nAN mx.cl 300 MX 10 mail.cl.\nAU up.test 300 NS ns.cl.\n\
                 AD mail.up.test 300 A 192.0.2.25",
            ),
        ],
    );
}

#[test]
fn rules_go_on_or_stop() {
    let a = "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10";
    check(
        "rewrite continue name a.cl b.cl\nrewrite continue name b.cl a.up.test",
        &[("R54", "a.cl A", "a.up.test 1", a)],
    );
    check(
        "rewrite name a.cl b.cl\nrewrite name b.cl a.up.test",
        &[("R56", "a.cl A", "b.cl 1", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.99")],
    );
    check(
        "rewrite continue name suffix .cl .b answer auto
         rewrite name suffix .b .up.test answer auto
         rewrite ttl suffix .up.test 5",
        &[("R57", "a.cl A", "a.up.test 1", a)],
    );
    check(
        "rewrite continue name a.cl a.up.test\nrewrite ttl a.up.test 5",
        &[("R58", "a.cl A", "a.up.test 1", "NOERROR rd ra\nAN a.cl 5 A 192.0.2.10")],
    );
    check(
        "rewrite {\n name exact a.t a.up.test\n }\nrewrite continue {\n ttl a.up.test 5\n }",
        &[("R151", "a.t A", "a.up.test 1", "NOERROR rd ra\nAN a.t 300 A 192.0.2.10")],
    );
}

#[test]
fn ttls_are_bounded_in_all_sections() {
    check(
        "rewrite ttl a.up.test 7
         rewrite ttl prefix long 100-
         rewrite ttl prefix mid -1000
         rewrite ttl suffix b.up.test 10-20
         rewrite ttl regex ^nx.* 9
         rewrite ttl mx.up.test 11",
        &[
            ("R59", "a.up.test A", "a.up.test 1", "NOERROR rd ra\nAN a.up.test 7 A 192.0.2.10"),
            (
                "R60",
                "long.up.test A",
                "long.up.test 1",
                "NOERROR rd ra\nAN long.up.test 100 A 192.0.2.31",
            ),
            (
                "R61",
                "mid.up.test A",
                "mid.up.test 1",
                "NOERROR rd ra\nAN mid.up.test 1000 A 192.0.2.32",
            ),
            ("R62", "b.up.test A", "b.up.test 1", "NOERROR rd ra\nAN b.up.test 20 A 192.0.2.99"),
            (
                "R64",
                "nx1.up.test A",
                "nx1.up.test 1",
                "NXDOMAIN rd ra\nAU up.test 9 SOA ns.up.test. h.up.test. 1 2 3 4 50",
            ),
            (
                "R66",
                "mx.up.test MX +do",
                "mx.up.test 15",
                "NOERROR rd ra\nAN mx.up.test 11 MX 10 mail.up.test.\n\
                 AU up.test 11 NS ns.up.test.\nAD mail.up.test 11 A 192.0.2.25",
            ),
            (
                "R67",
                "both.up.test A",
                "both.up.test 1",
                "NOERROR rd ra\nAN both.up.test 300 A 192.0.2.11",
            ),
        ],
    );
}

#[test]
fn response_codes_are_replaced_those_of_our_own_as_well() {
    check(
        "rewrite rcode nx1.up.test NXDOMAIN NOERROR
         rewrite rcode sf1.up.test SERVFAIL NXDOMAIN
         rewrite rcode prefix rf1 5 0
         rewrite rcode a.up.test 0 REFUSED",
        &[
            ("R72", "nx1.up.test A", "nx1.up.test 1", &denial("NOERROR", "up.test", "up.test")),
            ("R73", "sf1.up.test A", "sf1.up.test 1", "NXDOMAIN rd ra"),
            ("R74", "rf1.up.test A", "rf1.up.test 1", "NOERROR rd ra"),
            ("R75", "a.up.test A", "a.up.test 1", "REFUSED rd ra\nAN a.up.test 300 A 192.0.2.10"),
        ],
    );
    let mut silent = world(&format!("rewrite rcode drop.up.test SERVFAIL NXDOMAIN{F}"));
    silent.ask(1, &ask_of("drop.up.test A"));
    silent.pass(6.0);
    assert_eq!(shown(&silent.only_got()), "NXDOMAIN rd ra", "R76");
    silent.take_sent();
    silent.finish();
    let mut denied = world("acl {\n block\n }\nrewrite rcode suffix t REFUSED NXDOMAIN");
    denied.ask(1, &ask_of("x.t A"));
    assert_eq!(shown(&denied.only_got()), "NXDOMAIN rd ra", "R133");
    denied.finish();
}

#[test]
fn types_and_classes_are_replaced_and_put_back() {
    check(
        "rewrite type AAAA A",
        &[
            // Improved: an A record answers no question for AAAA.
            ("R77", "a.up.test AAAA", "a.up.test 1", "NOERROR rd ra"),
            ("R78", "nx.up.test AAAA", "nx.up.test 1", &denial("NXDOMAIN", "up.test", "up.test")),
        ],
    );
    check(
        "rewrite type ANY TXT\nrewrite class CH IN",
        &[
            ("R79", "a.up.test ANY", "a.up.test 16", &denial("NOERROR", "up.test", "up.test")),
            // Improved: the record's class is the question's.
            (
                "R80",
                "a.up.test A CH",
                "a.up.test 1",
                "NOERROR rd ra\nAN a.up.test 300 A 192.0.2.10",
            ),
        ],
    );
}

#[test]
fn names_that_are_rewritten_to_one_share_its_answer() {
    check(
        "cache
         rewrite name x.cl both.up.test
         rewrite name y.cl both.up.test
         rewrite ttl z.up.test 5",
        &[
            ("R120", "x.cl A", "both.up.test 1", "NOERROR rd ra\nAN x.cl 300 A 192.0.2.11"),
            ("R121", "y.cl A", "-", "NOERROR rd ra\nAN y.cl 300 A 192.0.2.11"),
            ("R115", "both.up.test A", "-", "NOERROR rd ra\nAN both.up.test 300 A 192.0.2.11"),
            ("R122", "z.up.test A", "z.up.test 1", "NOERROR rd ra\nAN z.up.test 5 A 192.0.2.99"),
            ("R123", "z.up.test A", "-", "NOERROR rd ra\nAN z.up.test 5 A 192.0.2.99"),
        ],
    );
    check(
        "cache\nrewrite name suffix .cl .up.test answer auto",
        &[
            (
                "R116",
                "nx1.cl A",
                "nx1.up.test 1",
                "NXDOMAIN rd ra\nAU cl 50 SOA ns.cl. h.cl. 1 2 3 4 50",
            ),
            (
                "R117",
                "nx1.up.test A",
                "-",
                "NXDOMAIN rd ra\nAU up.test 50 SOA ns.up.test. h.up.test. 1 2 3 4 50",
            ),
        ],
    );
}

#[test]
fn coalesced_clients_each_get_the_name_they_asked_for() {
    let mut world = world(&format!("rewrite name x.cl a.up.test\nrewrite name y.cl a.up.test{F}"));
    for (client, name) in [(1, "X.cl"), (2, "y.CL"), (3, "a.up.test")] {
        world.ask(client, &Ask::new(client as u16, name));
    }
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &respond(&sent.bytes)));
    let mut replies: Vec<_> = world.take_got().iter().map(shown).collect();
    replies.sort();
    let owners = ["X.cl", "a.up.test", "y.CL"];
    let expected = owners.map(|owner| format!("NOERROR rd ra\nAN {owner} 300 A 192.0.2.10"));
    assert_eq!(replies, expected);
    world.finish();
}

#[test]
fn a_rewrite_to_an_invalid_name_fails_without_an_upstream_query() {
    let long = "x".repeat(63);
    check(
        &format!(
            "rewrite name regex ^(.*)[.]cl[.]$ {{1}}..bad
             rewrite name exact l.t {long}.{long}.{long}.{long}.up.test"
        ),
        &[("R126", "a.cl A", "-", "SERVFAIL rd ra"), ("R128", "l.t A", "-", "SERVFAIL rd ra")],
    );
}

#[test]
fn acl_sees_the_rewritten_name() {
    let mut world = world(&format!("acl x.t {{\n block\n }}\nrewrite name y.t x.t{F}"));
    world.ask(1, &ask_of("y.t A"));
    assert_eq!(shown(&world.only_got()), "REFUSED rd ra", "K26");
    world.finish();
}

#[test]
fn waiting_clients_keep_their_rules_across_a_reload() {
    let with = |rule: &str| crate::world::corefile(&format!("{rule}{F}"));
    let mut world = World::new(&with("rewrite name x.cl a.up.test"));
    world.ask(1, &ask_of("x.cl A"));
    let sent = world.only_sent();
    world.reload(&with("rewrite name x.cl both.up.test"));
    let resent = world.take_sent();
    let sent = resent.first().unwrap_or(&sent);
    assert!(world.respond(sent.connection, &respond(&sent.bytes)));
    assert_eq!(shown(&world.only_got()), "NOERROR rd ra\nAN x.cl 300 A 192.0.2.10");
    world.finish();
}
