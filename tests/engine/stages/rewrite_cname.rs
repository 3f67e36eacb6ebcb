//! `rewrite cname`: replaced targets of aliases in replies, and the lookup of the new targets.
//!
//! Numbered rows are the observed behaviour of the reference; a remark says where ours is better.

use crate::parked::{answered, check_in};
use crate::stages::rewrite_zone::respond;
use crate::stages::template::ask_of;
use crate::world::{shown, world};

const F: &str = "\n forward . 192.0.2.250";

fn check(directives: &str, cases: &[(&str, &str, &str, &str)]) {
    check_in(world(&format!("{directives}{F}")), cases);
}

const SOA: &str = "\nAU up.test 100 SOA ns.up.test. h.up.test. 1 2 3 4 50";

#[test]
fn an_exact_target_is_replaced_and_looked_up() {
    let both = "NOERROR rd ra\nAN c.up.test 300 CNAME both.up.test.\n\
                AN both.up.test 300 A 192.0.2.11";
    let chain = "NOERROR rd ra\nAN c2.up.test 300 CNAME c.up.test.\n\
                 AN c.up.test 250 CNAME both.up.test.\nAN both.up.test 300 A 192.0.2.11";
    let untouched = format!("NOERROR rd ra\nAN cv6.up.test 300 CNAME both.up.test.{SOA}");
    let aaaa = format!(
        "NOERROR rd ra\nAN c.up.test 300 CNAME both.up.test.\n\
         AN both.up.test 300 AAAA 2001:db8::11{SOA}"
    );
    check(
        "rewrite cname exact a.up.test. both.up.test.",
        &[
            ("R81", "c.up.test A", "c.up.test 1, both.up.test 1", both),
            ("R82", "c2.up.test A", "c2.up.test 1, both.up.test 1", chain),
            ("R83", "cv6.up.test A", "cv6.up.test 1", &untouched),
            ("R84", "c.up.test AAAA", "c.up.test 28, both.up.test 28", &aaaa),
            ("R85", "a.up.test A", "a.up.test 1", "NOERROR rd ra\nAN a.up.test 300 A 192.0.2.10"),
            ("case", "C.up.test A", "C.up.test 1, both.up.test 1", &both.replace("AN c", "AN C")),
        ],
    );
    check(
        "rewrite cname a.up.test both.up.test",
        &[("short", "c.up.test A", "c.up.test 1, both.up.test 1", both)],
    );
}

#[test]
fn targets_are_matched_as_names_are() {
    check(
        "rewrite cname regex (.*)[.]up[.]test[.]$ {1}.new.test.",
        &[
            (
                "R86",
                "c.up.test A",
                "c.up.test 1, a.new.test 1",
                "NOERROR rd ra\nAN c.up.test 300 CNAME a.new.test.\nAN a.new.test 300 A 192.0.2.99",
            ),
            // Improved: the first alias is replaced, so the records behind its old target are
            // omitted.
            (
                "R87",
                "c2.up.test A",
                "c2.up.test 1, c.new.test 1",
                "NOERROR rd ra\nAN c2.up.test 300 CNAME c.new.test.\n\
                 AN c.new.test 300 A 192.0.2.99",
            ),
        ],
    );
    let zz = "NOERROR rd ra\nAN c.up.test 300 CNAME a.zz.\nAN a.zz 300 A 192.0.2.99";
    let nx = "NXDOMAIN rd ra\nAN cdn.up.test 300 CNAME nx.zz.".to_owned() + SOA;
    check(
        "rewrite cname suffix up.test. zz.\n rewrite cname prefix nx. mail.",
        &[
            ("R88", "c.up.test A", "c.up.test 1, a.zz 1", zz),
            ("R89", "cdn.up.test A", "cdn.up.test 1, nx.zz 1", &nx),
        ],
    );
    // Improved: the response code is that of the new target.
    check(
        "rewrite cname prefix nx. mail.",
        &[(
            "R89",
            "cdn.up.test A",
            "cdn.up.test 1, mail.up.test 1",
            &("NOERROR rd ra\nAN cdn.up.test 300 CNAME mail.up.test.\n\
               AN mail.up.test 300 A 192.0.2.25"
                .to_owned()
                + SOA),
        )],
    );
    let substring = "NOERROR rd ra\nAN c.up.test 300 CNAME a.up.zz.\nAN a.up.zz 300 A 192.0.2.99";
    check(
        "rewrite cname substring test zz",
        &[("substring", "c.up.test A", "c.up.test 1, a.up.zz 1", substring)],
    );
}

#[test]
fn invalid_and_failing_new_targets() {
    let chain = "NOERROR rd ra\nAN c.up.test 300 CNAME a.up.test.\nAN a.up.test 200 A 192.0.2.10";
    check(
        "rewrite cname exact a.up.test a.up.test",
        &[("same", "c.up.test A", "c.up.test 1", chain)],
    );
    check("rewrite cname regex (.*) {1}..x", &[("no name", "c.up.test A", "c.up.test 1", chain)]);
    for (to, up, reply) in [
        ("sf1.up.test", "sf1.up.test 1", "SERVFAIL rd ra"),
        ("rf1.up.test", "rf1.up.test 1", "NOERROR rd ra\nAN c.up.test 300 CNAME rf1.up.test."),
    ] {
        check(
            &format!("rewrite cname exact a.up.test {to}"),
            &[("fails", "c.up.test A", &format!("c.up.test 1, {up}"), reply)],
        );
    }
}

#[test]
fn a_loop_of_targets_ends() {
    let mut world = world(&format!("rewrite cname regex .* c.up.test{F}"));
    world.ask(1, &ask_of("cv6.up.test A"));
    let (asked, got) = answered(&mut world);
    // The new target is itself an alias, whose new target is its own name.
    assert!(asked.split(", ").count() <= 32, "{asked}");
    assert_eq!(shown(&got), "SERVFAIL rd ra");
    let stats = world.finish();
    assert!(stats.parked.asked <= 32 && stats.parked.too_deep > 0, "{:?}", stats.parked);
}

#[test]
fn it_works_with_cache_and_hosts() {
    let hosts = "hosts {\n 192.0.2.5 h.t\n fallthrough\n }\n cache\n";
    let reply = "NOERROR rd ra\nAN c.up.test 300 CNAME h.t.\nAN h.t 3600 A 192.0.2.5";
    check(
        &format!("rewrite cname exact a.up.test. h.t.\n{hosts}"),
        &[
            ("K49", "c.up.test A", "c.up.test 1", reply),
            ("K50", "c.up.test A", "", reply),
            ("h", "h.t A", "", "NOERROR aa rd\nAN h.t 3600 A 192.0.2.5"),
        ],
    );
}

#[test]
fn it_works_with_rules_for_names_and_ttls() {
    check(
        "rewrite continue name suffix .cl .up.test
         rewrite continue ttl suffix up.test 5
         rewrite cname exact a.up.test both.up.test",
        &[
            (
                "put back whole",
                "c.cl A",
                "c.up.test 1, both.up.test 1",
                "NOERROR rd ra\nAN c.cl 5 CNAME both.cl.\nAN both.cl 5 A 192.0.2.11",
            ),
            ("nothing to change", "a.cl A", "a.up.test 1", "NOERROR rd ra\nAN a.cl 5 A 192.0.2.10"),
        ],
    );
    check(
        "rewrite continue cname exact a.up.test both.up.test
         rewrite rcode sf1.up.test SERVFAIL NXDOMAIN",
        &[("rcode", "sf1.up.test A", "sf1.up.test 1", "NXDOMAIN rd ra")],
    );
    // A rule matches every query, so without `continue` it is the last.
    check(
        "rewrite cname exact a.up.test both.up.test\n rewrite name a.cl a.up.test",
        &[("stop", "a.cl A", "a.cl 1", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.99")],
    );
}

#[test]
fn clients_with_and_without_the_alias_wait_together() {
    let mut world = world(&format!("rewrite cname exact a.up.test both.up.test{F}"));
    world.ask(1, &ask_of("c.up.test A"));
    world.ask(2, &ask_of("C.UP.test A"));
    let sent = world.only_sent();
    world.respond(sent.connection, &respond(&sent.bytes));
    let sent = world.only_sent();
    world.respond(sent.connection, &respond(&sent.bytes));
    let mut replies: Vec<_> =
        world.take_got().iter().map(|got| shown(got).to_lowercase()).collect();
    replies.sort();
    assert_eq!(replies.len(), 2);
    let end = "an both.up.test 300 a 192.0.2.11";
    assert!(replies.iter().all(|reply| reply.ends_with(end)), "{replies:?}");
    let stats = world.finish();
    assert_eq!((stats.coalesced, stats.parked.queries, stats.parked.asked), (2, 2, 2));
}

#[test]
fn an_upstream_that_is_silent_fails_the_query_as_ever() {
    let mut world = world(&format!("errors\n rewrite cname exact a.up.test both.up.test{F}"));
    world.ask(1, &ask_of("c.up.test A +e"));
    world.pass(6.0);
    let got = world.only_got();
    assert_eq!((got.rcode(), got.extended_error()), (2, Some(22)));
    world.take_sent();
    world.finish();
}
