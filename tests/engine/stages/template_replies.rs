//! Interaction of `template` with `cache`, `header`, `minimal` and the client's buffer size.
//!
//! Also covers the counters of `template`.

use crate::stages::template::{F, ask_of, check, outcome};
use crate::world::{shown, world};

#[test]
fn a_cache_keeps_nothing_of_templates_and_they_count_what_they_match() {
    let mut world = world(
        "template IN A t {\n answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n }
         template IN AAAA t {\n rcode NXDOMAIN\n }
         template IN MX t u {\n rcode NXDOMAIN\n authority \"t. 9 IN SOA a. b. 1 2 3 4 5\"\n }
         template IN TXT t {\n match ^(.)\n answer \"{{ index .Match 1 }}\"\n fallthrough\n }
         cache",
    );
    let soa = "NXDOMAIN aa rd\nAU t 9 SOA a. b. 1 2 3 4 5";
    for (number, ask, expected) in [
        ("T61", "x.t A", "NOERROR aa rd\nAN x.t 60 A 192.0.2.1"),
        ("T62", "x.t A", "NOERROR aa rd\nAN x.t 60 A 192.0.2.1"),
        ("T63", "x.t AAAA", "NXDOMAIN aa rd"),
        ("T64", "x.t AAAA", "NXDOMAIN aa rd"),
        ("T65", "x.t MX", soa),
        ("T66", "x.t MX", soa),
        ("T54", "x.t TXT", "SERVFAIL rd ra"),
    ] {
        assert_eq!(outcome(&mut world, ask), expected, "{number}");
    }
    let stats = world.finish();
    let matches: Vec<Vec<u64>> = stats
        .templates
        .iter()
        .map(|one| one.matches.iter().map(|zone| zone.iter().sum()).collect())
        .collect();
    // The reference's cache hides the second queries for A and MX.
    assert_eq!(matches, [vec![2], vec![2], vec![2, 0], vec![1]]);
    assert_eq!(stats.templates[3].failures, [[0, 1]]);
}

#[test]
fn header_and_minimal_apply() {
    let template = "template IN A t {
        answer \"{{ .Name }} 60 IN A 192.0.2.1\"
        authority \"t. 60 IN NS ns.t.\"
        additional \"ns.t. 60 IN A 192.0.2.2\"
    }
    template IN MX t {\n match ^y\n rcode SERVFAIL\n }";
    check(
        &format!("{template}\n minimal{F}"),
        &[
            ("K5", "x.t A", "NOERROR aa rd\nAN x.t 60 A 192.0.2.1"),
            ("K6", "x.t MX", "SERVFAIL rd ra"),
            ("K7", "y.t MX", "SERVFAIL rd ra"),
        ],
    );
    check(
        &format!("{template}\n header {{\n response set ra\n response clear aa rd\n }}{F}"),
        &[(
            "K29",
            "x.t A",
            "NOERROR ra\nAN x.t 60 A 192.0.2.1\nAU t 60 NS ns.t.\nAD ns.t 60 A 192.0.2.2",
        )],
    );
    check(
        "any\n template ANY ANY t {\n answer \"{{ .Name }} 60 IN TXT x\"\n }",
        &[("K54", "h.t ANY", "NOERROR rd\nAN h.t 8482 HINFO \"ANY obsoleted\" \"See RFC 8482\"")],
    );
}

#[test]
fn optional_records_are_left_out_before_the_answer_is_cut() {
    let long = format!("\\\"{}\\\"", "x".repeat(200));
    let text = |texts: usize| {
        format!(
            "template IN TXT t {{
                answer \"{{{{ .Name }}}} 60 IN TXT {}\"
                authority \"t. 60 IN NS ns.t.\" \"t. 60 IN TXT {long}\"
                additional \"ns.t. 60 IN A 192.0.2.2\"
            }}",
            format!("{long} ").repeat(texts)
        )
    };
    let mut two = world(&text(2));
    two.ask(1, &ask_of("x.t TXT"));
    let reply = shown(&two.only_got());
    assert!(reply.starts_with("NOERROR aa rd\nAN x.t 60 TXT"), "{reply}");
    assert!(!reply.contains("\nAU") && reply.ends_with("\nAD ns.t 60 A 192.0.2.2"), "{reply}");
    two.ask(1, &ask_of("x.t TXT +e"));
    assert_eq!(shown(&two.only_got()).lines().count(), 5);
    two.finish();
    let mut three = world(&text(3));
    three.ask(1, &ask_of("x.t TXT"));
    assert_eq!(shown(&three.only_got()), "NOERROR aa tc rd");
    three.finish();
}
