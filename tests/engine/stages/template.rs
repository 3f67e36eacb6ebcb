//! `template`, case by case: the observed behaviour of the reference, in its order.
//!
//! A case is a configuration and its questions in order. The expectation is the reply as formatted
//! by [`shown`], followed by our OPT if there is one, or that the query is forwarded. Where the
//! reference is wrong and nothing can depend on it, our behaviour is expected, and a remark says
//! so.

use crate::common::wire::{Ask, answer};
use crate::world::{Got, World, shown, world};
use domain::base::Message;
use domain::base::opt::AllOptData;
use onward::config::{Config, Host};

/// Outcome of a query that is sent upstream.
const FORWARDED: &str = "forwarded";
pub(crate) const F: &str = "\n forward . 192.0.2.250";

/// `NAME TYPE [CLASS] [+e] [+do] [+nord]`.
pub(crate) fn ask_of(text: &str) -> Ask {
    let mut words = text.split(' ');
    let mut ask = Ask::new(7, words.next().unwrap());
    for word in words {
        match word {
            "+e" => ask.edns = Some((1_232, 0, false, Vec::new())),
            "+do" => ask.edns = Some((1_232, 0, true, Vec::new())),
            "+nord" => ask.flags = 0,
            "CH" => ask.class = 3,
            "CLASSANY" => ask.class = 255,
            rtype => {
                let known = domain::base::iana::Rtype::from_bytes(rtype.as_bytes());
                ask.rtype = known.unwrap_or_else(|| panic!("type {rtype}")).to_int();
            }
        }
    }
    ask
}

/// The reply and our OPT: `OPT SIZE [do] [EDE CODE TEXT]`.
fn shown_with_opt(got: &Got) -> String {
    let mut text = shown(got);
    let message = Message::from_octets(&got.bytes[..]).expect("a message");
    if let Some(opt) = message.opt() {
        text += &format!("\nOPT {}", opt.udp_payload_size());
        text += if opt.dnssec_ok() { " do" } else { "" };
        let rcode = message.opt_rcode();
        text += &if rcode.to_int() > 15 { format!(" {rcode}") } else { String::new() };
        for option in opt.opt().iter::<AllOptData<_, _>>() {
            if let AllOptData::ExtendedError(error) = option.expect("an option") {
                let said = error.text().map_or("", |text| text.expect("text"));
                text += &format!(" EDE {} {said}", error.code().to_int());
            }
        }
    }
    text.trim_end().to_owned()
}

/// Asks, lets the upstream answer if it is queried, and returns the outcome.
pub(crate) fn outcome(world: &mut World, ask: &str) -> String {
    world.ask(1, &ask_of(ask));
    if let Some(sent) = world.take_sent().first() {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
        world.only_got();
        return FORWARDED.to_owned();
    }
    shown_with_opt(&world.only_got())
}

/// Checks cases of one configuration, each with number, question and expectation.
pub(crate) fn check(directives: &str, cases: &[(&str, &str, &str)]) {
    let mut world = world(directives);
    for (number, ask, expected) in cases {
        assert_eq!(outcome(&mut world, ask), *expected, "{number}: {ask}\n{directives}");
    }
    world.finish();
}

#[test]
fn groups_of_the_pattern_make_records_of_all_sections() {
    let whole = |owner: &str, rest: &str| {
        format!(
            "NOERROR aa{rest}\nAN {owner} 60 A 10.0.1.2\nAN {owner} 60 A 10.2.1.1\n\
             AU {} 30 NS ns.x.t.\nAD {owner} 30 A 192.0.2.53",
            owner.rsplit('.').next().unwrap()
        )
    };
    let lower = whole("ip-1-2.x.t", " rd");
    check(
        r#"template IN A t {
            match "^ip-(\d+)-(?P<b>\d+)[.](?P<d>[a-z]*)[.]t[.]$"
            answer "{{ .Name }} 60 IN A 10.0.{{ index .Match 1 }}.{{ .Group.b }}"
            answer "{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ index .Match 1 }}.1"
            authority "t. 30 IN NS ns.{{ .Group.d }}.t."
            additional "{{ .Name }} 30 IN A 192.0.2.53"
        }"#,
        &[
            ("T1", "ip-1-2.x.t A", &lower),
            // Improved: the owner is spelt as the client spelt it.
            ("T2", "IP-1-2.X.T A", &whole("IP-1-2.X.T", " rd")),
            ("T3", "ip-1-2.x.t AAAA", "SERVFAIL rd ra"),
            ("T4", "ip-1-2.x.t ANY", &lower),
            ("T5", "foo.t A", "SERVFAIL rd ra"),
            ("T6", "ip-1-2.x.u A", "SERVFAIL rd ra"),
            ("T7", "ip-1-2.x.t A +do", &format!("{lower}\nOPT 1232 do")),
            ("T8", "ip-999-2.x.t A", "SERVFAIL rd ra"),
            ("T9", "ip-1-2.x.t A +nord", &whole("ip-1-2.x.t", "")),
            ("T10", "ip-1-2.x.t A CH", "REFUSED rd ra"),
        ],
    );
}

#[test]
fn a_type_can_be_switched_off() {
    check(
        &format!("template ANY AAAA {{\n rcode NOERROR\n }}{F}"),
        &[
            ("T11", "both.up.test AAAA", "NOERROR aa rd"),
            ("T12", "both.up.test A", FORWARDED),
            // Improved: an empty reply would deny all types.
            ("T13", "both.up.test ANY", FORWARDED),
        ],
    );
    check(
        &format!("template ANY AAAA {{\n }}{F}"),
        &[("empty body", "both.up.test AAAA +e", "NOERROR aa rd\nOPT 1232")],
    );
    check(
        &format!("template ANY AAAA{F}"),
        &[("no body", "both.up.test AAAA", "NOERROR aa rd"), ("no body", "a.t A", FORWARDED)],
    );
}

#[test]
fn a_zone_can_be_denied_in_every_class() {
    let denied = |owner: &str| {
        format!("NXDOMAIN aa rd\nAU {owner} 60 SOA ns.invalid. h.invalid. 1 60 60 60 60")
    };
    check(
        &format!(
            "template ANY ANY invalid {{
                rcode NXDOMAIN
                authority \"invalid. 60 {{{{ .Class }}}} SOA ns.invalid. h.invalid. (1 60
                    60 60 60)\"
            }}{F}"
        ),
        &[
            ("T14", "x.invalid A", &denied("invalid")),
            ("T15", "x.invalid ANY", &denied("invalid")),
            ("T16", "invalid TXT +e", &format!("{}\nOPT 1232", denied("invalid"))),
            ("T17", "x.invalid A CH", &denied("invalid")),
            // Improved: records are of class IN.
            ("T18", "x.invalid A CLASSANY", &denied("invalid")),
            ("T19", "a.up.test A", FORWARDED),
        ],
    );
}

#[test]
fn response_codes_are_given_once() {
    check(
        "template IN A t {\n rcode SERVFAIL\n }
         template IN MX t {\n rcode REFUSED\n }
         template IN TXT t {\n rcode NOTIMP\n authority \"t. 60 IN NS a.\"\n }
         template IN SRV t {\n rcode YXDOMAIN\n }
         template IN NS t {\n rcode FORMERR\n }
         template IN PTR t {\n rcode BADCOOKIE\n }",
        &[
            ("T20", "x.t A", "SERVFAIL rd ra"),
            ("T21", "x.t A +e", "SERVFAIL rd ra\nOPT 1232"),
            // Improved: one reply each; see also T76 to T81.
            ("T22", "x.t MX", "REFUSED aa rd"),
            ("T23", "x.t TXT", "NOTIMP aa rd\nAU t 60 NS a."),
            ("T24", "x.t SRV", "YXDOMAIN aa rd"),
            ("T25", "x.t NS", "FORMERR aa rd"),
            ("beyond 15", "x.t PTR +e", "YXRRSET aa rd\nOPT 1232 BADCOOKIE"),
            ("beyond 15", "x.t PTR", "SERVFAIL aa rd"),
        ],
    );
}

#[test]
fn extended_errors_go_to_clients_with_edns() {
    check(
        "template IN A t {\n ederror 21 \"Blocked by us\"\n rcode NXDOMAIN\n }
         template IN AAAA t {\n ederror 65000\n answer \"{{ .Name }} AAAA 2001:db8::1\"\n }
         template IN MX t {\n rcode SERVFAIL\n ederror 1\n }",
        &[
            // Improved: no OPT for a client that sent none.
            ("T26", "x.t A", "NXDOMAIN aa rd"),
            // Improved: DO is copied from the query.
            ("T27", "x.t A +e", "NXDOMAIN aa rd\nOPT 1232 EDE 21 Blocked by us"),
            (
                "T28",
                "x.t AAAA +do",
                "NOERROR aa rd\nAN x.t 3600 AAAA 2001:db8::1\nOPT 1232 do EDE 65000",
            ),
            // Improved: the reply is not lost.
            ("T29", "x.t MX +e", "SERVFAIL rd ra\nOPT 1232 EDE 1"),
        ],
    );
}

#[test]
fn queries_that_do_not_match_fall_through_or_fail() {
    check(
        &format!(
            "template IN A t {{
                match ^a
                answer \"{{{{ .Name }}}} 1 IN A 192.0.2.1\"
                fallthrough
            }}
            template IN A t {{
                match ^b ^c
                answer \"{{{{ .Name }}}} 2 IN A 192.0.2.2\"
                fallthrough x.t
            }}
            template IN A t {{
                answer \"{{{{ .Name }}}} 3 IN A 192.0.2.3\"
            }}{F}"
        ),
        &[
            ("T30", "a.t A", "NOERROR aa rd\nAN a.t 1 A 192.0.2.1"),
            ("T31", "b.t A", "NOERROR aa rd\nAN b.t 2 A 192.0.2.2"),
            ("T32", "c.t A", "NOERROR aa rd\nAN c.t 2 A 192.0.2.2"),
            ("T33", "d.t A", "SERVFAIL rd ra"),
            ("T34", "d.x.t A", "NOERROR aa rd\nAN d.x.t 3 A 192.0.2.3"),
            ("T35", "d.t MX", FORWARDED),
            ("T36", "d.u A", FORWARDED),
        ],
    );
    check(
        &format!(
            "template IN A . {{
                match ^a[.]t[.]$
                answer \"{{{{ .Name }}}} 60 IN A 192.0.2.1\"
            }}{F}"
        ),
        &[
            ("T91", "b.t A", "SERVFAIL rd ra"),
            ("T92", "b.t AAAA", FORWARDED),
            ("T91", "a.t A", "NOERROR aa rd\nAN a.t 60 A 192.0.2.1"),
        ],
    );
}

#[test]
fn records_have_the_data_of_their_texts() {
    check(
        r#"template IN A t {
            match ^d
            answer "{{ .Name }} 60 IN AAAA 2001:db8::1"
            fallthrough
        }
        template IN A t {
            match ^e
            answer "other.example. 60 IN A 192.0.2.1"
            fallthrough
        }
        template IN A t {
            match ^f
            answer "rel 60 IN A 192.0.2.1"
            fallthrough
        }
        template IN A t {
            match ^b ^(z)
            answer "{{ .Name }} 60 IN A 192.0.2.{{ index .Match 1 }}"
            fallthrough
        }
        template IN A t {
            match ^(?P<x>c) ^y
            answer "{{ .Name }} 60 IN A {{ .Group.x }}"
            fallthrough
        }
        template IN A t {
            match ^h(?P<more>x?)
            answer "{{ .Group.more }} ; {{ .Name }}"
        }"#,
        &[
            ("T47", "d.t A", "NOERROR aa rd\nAN d.t 60 AAAA 2001:db8::1"),
            ("T48", "e.t A", "NOERROR aa rd\nAN other.example 60 A 192.0.2.1"),
            ("T49", "f.t A", "NOERROR aa rd\nAN rel 60 A 192.0.2.1"),
            ("T45", "b.t A", "SERVFAIL rd ra"),
            ("T46", "c.t A", "SERVFAIL rd ra"),
            ("T46", "y.t A", "SERVFAIL rd ra"),
            // A record without text gets a reply and causes no panic.
            ("T51", "h.t A", "SERVFAIL rd ra"),
        ],
    );
}

#[test]
fn fields_of_the_query_are_known() {
    check(
        r#"template ANY ANY t {
            answer "{{.Name}} 60 {{.Class}} TXT (
                \"{{.Zone}} {{.Type}} {{.Remote}} {{parseInt `ff` 16 8}}\")"
        }"#,
        &[
            ("T55", "A.T TXT", "NOERROR aa rd\nAN A.T 60 TXT \"t. TXT 198.51.100.1 255\""),
            ("T56", "a.t TYPE65300", "NOERROR aa rd\nAN a.t 60 TXT \"t.  198.51.100.1 255\""),
            ("T57", "a.t A CH", "REFUSED rd ra"),
        ],
    );
    check(
        r#"template IN A t {
            match "^ip-(?P<a>[0-9a-f]{8})[.]"
            answer "{{ .Name }} 60 IN TXT {{ parseInt .Group.a 16 32 }}"
            additional "{{ .Name }} 60 IN TXT {{ parseInt (index .Match 1) 16 16 }}"
        }"#,
        &[
            (
                "number",
                "ip-0000ffff.t A",
                "NOERROR aa rd\nAN ip-0000ffff.t 60 TXT \"65535\"\n\
                 AD ip-0000ffff.t 60 TXT \"65535\"",
            ),
            ("too large", "ip-00010000.t A", "SERVFAIL rd ra"),
        ],
    );
}

#[test]
fn zones_are_the_templates_own() {
    check(
        &format!(
            "template IN A {{
                match \"^[*][.]\"
                answer \"{{{{ .Name }}}} 60 IN A 192.0.2.1\"
                fallthrough
            }}
            template IN A a.t b.t {{
                answer \"{{{{ .Zone }}}} 60 IN A 192.0.2.2\"
            }}
            template IN A 10.0.0.0/8 {{
                answer \"{{{{ .Zone }}}} 60 IN A 192.0.2.3\"
            }}{F}"
        ),
        &[
            ("T69", "*.t A", "NOERROR aa rd\nAN *.t 60 A 192.0.2.1"),
            ("T70", "x.t A", FORWARDED),
            ("T71", "x.a.t A", "NOERROR aa rd\nAN a.t 60 A 192.0.2.2"),
            ("T72", "b.t A", "NOERROR aa rd\nAN b.t 60 A 192.0.2.2"),
            ("T73", "1.2.3.10.in-addr.arpa A", "NOERROR aa rd\nAN 10.in-addr.arpa 60 A 192.0.2.3"),
        ],
    );
}

#[test]
fn names_are_matched_in_lower_case_and_a_block_has_zones() {
    let text = "t {
        bind 127.0.0.1
        template IN A {
            match ^X
            answer \"{{ .Name }} 60 IN A 192.0.2.1\"
            fallthrough
        }
        template IN A {
            match (?i)^Y
            answer \"{{ .Name }} 60 IN A 192.0.2.1\"
            answer \"{{ .Zone }} 60 IN A 192.0.2.2\"
            fallthrough
        }
    }";
    let (config, warnings) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let mut world = World::new(&config);
    for (number, ask, expected) in [
        ("T74", "X.t A", "SERVFAIL rd ra"),
        ("T75", "Y.t A", "NOERROR aa rd\nAN Y.t 60 A 192.0.2.1\nAN t 60 A 192.0.2.2"),
        ("outside", "x.u A", "REFUSED rd ra"),
    ] {
        assert_eq!(outcome(&mut world, ask), expected, "{number}");
    }
    world.finish();
}

#[test]
fn groups_have_names_and_numbers() {
    check(
        r#"template IN A t {
            match (?P<x>[a-z]+)-(?P<x>[a-z]+)[.]
            answer "{{ .Name }} 60 IN CNAME {{.Group.x}}.{{index .Match 1}}.{{index .Group `0`}}zz."
        }"#,
        &[("T93", "a-b.t A", "NOERROR aa rd\nAN a-b.t 60 CNAME b.a.a-b.zz.")],
    );
    check(
        r#"template IN A t {
            match (?P<x>[a-z]+)-([a-z]+)[.]
            answer "{{ .Group.x }}.{{ index .Group `2` }}. 60 IN A 192.0.2.1"
        }"#,
        &[("T95", "a-b.t A", "NOERROR aa rd\nAN a.b 60 A 192.0.2.1")],
    );
}

#[test]
fn ttls_and_texts_have_their_defaults() {
    check(
        r#"template IN A t {
            answer "{{ .Name }} IN A 192.0.2.1"
            additional "{{ .Name }} 2147483648 IN A 192.0.2.2"
        }
        template IN TXT t {
            answer "{{ .Name }} 60 IN TXT {{ .Name }}"
        }
        template IN HTTPS t {
            answer "{{ .Name }} 60 IN HTTPS 1 . alpn=h2"
        }"#,
        &[
            ("T98", "a.t A", "NOERROR aa rd\nAN a.t 3600 A 192.0.2.1\nAD a.t 0 A 192.0.2.2"),
            ("T99", "a.t TXT", "NOERROR aa rd\nAN a.t 60 TXT \"a.t.\""),
            ("T100", "a.t HTTPS", "NOERROR aa rd\nAN a.t 60 HTTPS 1 . alpn=h2"),
        ],
    );
}

#[test]
fn labels_of_metadata_are_known() {
    let text = |zones: &str, view: &str| {
        format!(
            "{view}\nmetadata{zones}\ntemplate IN TXT t {{
                answer \"{{{{ .Name }}}} 60 IN TXT \\\"[{{{{ .Meta `view/name` }}}}]\\\"\"
            }}"
        )
    };
    let view = "view alpha {\n expr true\n }";
    let reply = |text: &str| format!("NOERROR aa rd\nAN a.t 60 TXT \"[{text}]\"");
    check(&text("", ""), &[("T97", "a.t TXT", &reply(""))]);
    check(&text("", view), &[("", "a.t TXT", &reply("alpha"))]);
    check(&text(" u", view), &[("", "a.t TXT", &reply(""))]);
}
