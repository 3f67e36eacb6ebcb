//! Single rules applied to names and reversed.
//!
//! Whole replies are tested in `tests/engine/rewriting.rs`, against answers observed from the
//! reference.

use super::{Invalid, Reversal, Rules, Texts, Way, presentation};
use crate::config::{Config, Host, Name};
use crate::engine::message::name::{WireName, WireQuestion};
use crate::engine::message::rename::Renaming;
use crate::engine::message::{class, rtype};
use std::sync::Arc;

/// The rules of a server block with these directives.
fn rules(directives: &str) -> Arc<Rules> {
    let text = format!(". {{\n{directives}\nforward . 192.0.2.1\n}}\n");
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    Rules::new(&config.blocks[0]).unwrap()
}

fn wire(name: &str) -> WireName {
    WireName::new(Name::parse(name).unwrap().as_wire())
}

fn text(name: &WireName) -> String {
    let mut text = String::new();
    presentation(name.as_bytes(), &mut text);
    text
}

/// A question for `name`, A and IN, on its way through the rules.
fn way(rules: &Rules, name: &str) -> (bool, Way) {
    let mut way = Way::default();
    let asked = WireQuestion { name: wire(name), rtype: rtype::A, class: class::IN };
    let matched = rules.apply(asked, &mut way, None).unwrap();
    (matched, way)
}

/// Returns the new QNAME of a question for `name`, if a rule matches.
fn becomes(directives: &str, name: &str) -> Option<String> {
    let (matched, way) = way(&rules(directives), name);
    matched.then(|| text(&way.now.name))
}

/// Returns an owner name and a name in RDATA, reversed in the reply to a question for `asked`.
fn back(directives: &str, asked: &str, name: &str) -> [String; 2] {
    let rules = rules(directives);
    let (_, way) = way(&rules, asked);
    let mut texts = Texts::default();
    let mut reversal = Reversal::new(&rules, &way, &mut texts, 0);
    let (mut owner, mut value) = (wire(name), wire(name));
    reversal.owner(&mut owner);
    reversal.value(&mut value);
    [text(&owner), text(&value)]
}

/// A name, and the name that a matching rule makes of it.
type Becomes = (&'static str, Option<&'static str>);

#[test]
fn a_name_is_replaced_as_its_match_type_says() {
    let rows: [(&str, &[Becomes]); 13] = [
        ("rewrite name a.cl a.up", &[("A.CL", Some("a.up.")), ("x.a.cl", None)]),
        ("rewrite name suffix .cl .up", &[("a.cl", Some("a.up.")), ("cl", None)]),
        ("rewrite name suffix cl up", &[("a.cl", Some("a.up.")), ("cl", Some("up."))]),
        ("rewrite name suffix cl up", &[("a.xcl", None)]),
        ("rewrite name suffix . up", &[("a", Some("a.up.")), ("b.c", Some("b.c.up."))]),
        ("rewrite name prefix foo a", &[("foo.x", Some("a.x.")), ("foobar.x", None)]),
        (
            "rewrite name substring .mid. .up.",
            &[("both.mid.test", Some("both.up.test.")), ("b.mid.mid.t", Some("b.up.mid.t."))],
        ),
        ("rewrite name substring foo a", &[("xfoo.t", Some("xa.t.")), ("foobar.t", None)]),
        (
            "rewrite name regex (.*)[.]svc[.]cl[.]$ {1}.up.test",
            &[("a.svc.cl", Some("a.up.test.")), ("a.cl", None)],
        ),
        ("rewrite name regex ^(.*)[.]x[.]$ {1}.{1}.t.", &[("q.x", Some("q.q.t."))]),
        ("rewrite name regex ^u[.]$ A.Up", &[("u", Some("a.up."))]),
        ("rewrite name regex (a)[.]t[.]$ {2}.up", &[("a.t", Some("{2}.up."))]),
        ("rewrite name regex (a) {0}b{x}{", &[("a", Some("ab{x}{."))]),
    ];
    for (directives, names) in rows {
        for (name, expected) in names {
            assert_eq!(becomes(directives, name).as_deref(), *expected, "{directives}: {name}");
        }
    }
}

#[test]
fn stop_ends_the_rules_and_continue_goes_on_with_the_new_name() {
    let chain = "rewrite continue name a b\nrewrite continue name b c\nrewrite name c d";
    assert_eq!(becomes(chain, "a").as_deref(), Some("d."));
    assert_eq!(becomes("rewrite name a b\nrewrite name b c", "a").as_deref(), Some("b."));
    assert_eq!(back(chain, "a", "d"), ["a.", "a."]);
    assert_eq!(back(chain, "a", "e"), ["e.", "e."]);
}

#[test]
fn type_and_class_are_replaced() {
    let rules = rules("rewrite continue type A TXT\nrewrite class IN CH");
    let (matched, way) = way(&rules, "a");
    assert!(matched);
    assert_eq!((way.now.rtype, way.now.class), (rtype::TXT, class::CH));
    let mut texts = Texts::default();
    let reversal = Reversal::new(&rules, &way, &mut texts, 0);
    assert_eq!(reversal.class(class::CH), class::IN);
    let owner = wire("a");
    assert!(!reversal.keeps(0, rtype::TXT, owner.as_bytes()), "nobody asked for it");
    assert!(reversal.keeps(0, rtype::CNAME, owner.as_bytes()));
    assert!(reversal.keeps(1, rtype::TXT, owner.as_bytes()));
}

#[test]
fn names_are_reversed_as_the_rule_says() {
    let suffix = "rewrite name suffix .cl .up.test";
    assert_eq!(back(suffix, "a.cl", "a.up.test"), ["a.cl.", "a.cl."]);
    assert_eq!(back(suffix, "a.cl", "mail.up.test"), ["mail.cl.", "mail.cl."]);
    assert_eq!(back(suffix, "a.cl", "up.test"), ["cl.", "cl."], "the zone itself, for its SOA");
    assert_eq!(back(suffix, "a.cl", "xup.test"), ["xup.test.", "xup.test."]);
    let whole = "rewrite name prefix foo. a. answer auto";
    assert_eq!(back(whole, "foo.t", "a.t"), ["foo.t.", "foo.t."]);
    assert_eq!(back(whole, "foo.t", "a.x"), ["a.x.", "a.x."]);
    let explicit = "rewrite name regex (.*)[.]cl[.]$ {1}.up answer name (.*)[.]up[.] {1}.cl \
                    answer value (.*)[.]up[.] {1}.value";
    assert_eq!(back(explicit, "a.cl", "b.up"), ["b.cl.", "b.value."]);
    let wins = "rewrite name exact a.cl a.up answer name (.*) z.cl";
    assert_eq!(back(wins, "a.cl", "a.up"), ["z.cl.", "a.cl."], "explicit before automatic");
}

#[test]
fn the_qname_gets_the_spelling_of_the_client() {
    let rules = rules("rewrite name suffix .cl .up");
    let asked = WireName::new(b"\x01A\x02cL\x00");
    let mut way = Way::default();
    rules
        .apply(WireQuestion { name: asked, rtype: rtype::A, class: class::IN }, &mut way, None)
        .unwrap();
    let mut owner = wire("a.up");
    Reversal::new(&rules, &way, &mut Texts::default(), 0).owner(&mut owner);
    assert_eq!(owner.as_bytes(), asked.as_bytes());
}

#[test]
fn an_invalid_name_is_an_error_with_its_text() {
    let long = "x".repeat(63);
    let rows = [
        ("rewrite name regex ^(.*)[.]cl[.]$ {1}..bad", "a.cl", "a..bad."),
        (&format!("rewrite name l.cl {long}.{long}.{long}.{long}.up"), "l.cl", ""),
    ];
    for (directives, name, expected) in rows {
        let rules = rules(directives);
        let mut way = Way::default();
        let asked = WireQuestion { name: wire(name), rtype: rtype::A, class: class::IN };
        assert_eq!(rules.apply(asked, &mut way, None), Err(Invalid::Name), "{directives}");
        assert!(way.text.contains(expected), "{}", way.text);
    }
    let rules = rules(&format!("rewrite name suffix .cl .{long}.{long}.{long}"));
    let mut way = Way::default();
    let name = format!("{long}.{long}.cl");
    let asked = WireQuestion { name: wire(&name), rtype: rtype::A, class: class::IN };
    assert_eq!(rules.apply(asked, &mut way, None), Err(Invalid::Name));
}

#[test]
fn ttls_and_response_codes_of_matching_names_change() {
    let rules = rules(
        "rewrite continue ttl a.t 7\nrewrite continue ttl prefix long 100-\n\
         rewrite continue ttl prefix mid -1000\nrewrite continue ttl suffix b.t 10-20\n\
         rewrite continue ttl substring ult 5\nrewrite rcode regex ^nx NXDOMAIN NOERROR",
    );
    let rows = [("a.t", 300, 7), ("long.t", 5, 100), ("long.t", 500, 500), ("mid.t", 2000, 1000)];
    let more = [("b.t", 300, 20), ("zb.t", 3, 10), ("multi.t", 300, 5), ("other.t", 300, 300)];
    for (name, before, after) in rows.into_iter().chain(more) {
        let (_, way) = way(&rules, name);
        assert_eq!(
            Reversal::new(&rules, &way, &mut Texts::default(), 0).ttl(before),
            after,
            "{name}"
        );
    }
    let (_, way) = way(&rules, "nx1.t");
    let mut texts = Texts::default();
    let reversal = Reversal::new(&rules, &way, &mut texts, 3);
    assert_eq!((reversal.rcode(3), reversal.rcode(2)), (0, 2));
}

#[test]
fn a_denial_keeps_only_a_soa_from_above_its_name() {
    let rules = rules("rewrite name nx.cl nx.up");
    let (_, way) = way(&rules, "nx.cl");
    let mut texts = Texts::default();
    let denial = Reversal::new(&rules, &way, &mut texts, 3);
    assert!(!denial.keeps(1, rtype::SOA, wire("up").as_bytes()));
    assert!(denial.keeps(1, rtype::SOA, wire("cl").as_bytes()));
    assert!(Reversal::new(&rules, &way, &mut Texts::default(), 0).keeps(
        1,
        rtype::SOA,
        wire("up").as_bytes()
    ));
}
