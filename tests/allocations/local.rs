//! Allocations for replies made by the server itself: hosts files, templates, rewritten names, and
//! for the choice of its views.
//!
//! None of them allocates once its block has answered a few queries.

use crate::ALLOCATIONS;
use crate::common::wire::Ask;
use onward::config::{Config, Host};
use onward::engine::health::HealthStates;
use onward::engine::message::reply::rcode;
use onward::engine::{Client, Forwarder, Via};
use onward::moment::Moment;
use std::net::SocketAddr;
use std::sync::Arc;

/// Queries before allocations count: each thread builds its state for a pattern once.
const WARM_UP: usize = 100;

/// Allocations for 10,000 queries for `names` in turn, of type `rtype`, to a server block with
/// `directives`. Each query is answered at once with `count` records.
fn allocations(directives: &str, names: &[&str], rtype: u16, count: u16) -> u64 {
    let text = format!("t {{\n bind 127.0.0.1\n{directives}\n}}\n");
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut engine = Forwarder::new(&config, [1; 32], Arc::new(HealthStates::new(&config)));
    let ask = |name: &&str| Ask { rtype, ..Ask::new(7, name).with_edns(1_232) }.bytes();
    let queries: Vec<_> = names.iter().map(ask).collect();
    let peer = SocketAddr::from(([198, 51, 100, 1], 1_000));
    let client = Client { listener: 0, peer, local: None, via: Via::Datagram };
    let mut out = [0; 1_232];
    let mut before = 0;
    for number in 0..WARM_UP + 10_000 {
        if number == WARM_UP {
            before = ALLOCATIONS.get();
        }
        let query = &queries[number % queries.len()];
        let len = engine.on_query(Moment::ZERO, client, query, false, &mut out);
        let reply = &out[..len.expect("it is answered at once")];
        assert_eq!((rcode(reply), reply[7]), (0, count as u8), "{directives}");
    }
    ALLOCATIONS.get() - before
}

const A: u16 = 1;
const AAAA: u16 = 28;

#[test]
fn hosts_are_found_without_an_allocation() {
    let hosts = "hosts {\n 192.0.2.1 one.t two.t *.wild.t\n 192.0.2.2 one.t\n}";
    assert_eq!(allocations(hosts, &["ONE.t"], A, 2), 0);
    assert_eq!(allocations(hosts, &["two.t", "a.wild.t"], A, 1), 0);
    assert_eq!(allocations(hosts, &["one.t", "two.t", "b.wild.t"], AAAA, 0), 0);
}

#[test]
fn templates_answer_without_an_allocation() {
    let off = "template IN AAAA {\n rcode NOERROR\n}";
    assert_eq!(allocations(off, &["a.t", "b.c.t"], AAAA, 0), 0);
    let fixed = "template IN A t {\n answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n}";
    assert_eq!(allocations(fixed, &["a.t", "b.c.t"], A, 1), 0);
    let varied = "template IN A t {\n match ^ip-([0-9]+)[.]t[.]$\n answer \"{{ .Name }} 60 IN A \
                  192.0.2.{{ index .Match 1 }}\"\n}";
    assert_eq!(allocations(varied, &["ip-1.t", "ip-77.t"], A, 1), 0);
}

#[test]
fn names_are_rewritten_without_an_allocation() {
    let exact = "rewrite name old.t one.t\n hosts {\n 192.0.2.1 one.t\n}";
    assert_eq!(allocations(exact, &["old.t"], A, 1), 0);
    let suffix = "rewrite name suffix .old.t .new.t answer auto\n hosts {\n 192.0.2.1 *.new.t\n}";
    assert_eq!(allocations(suffix, &["a.old.t", "b.old.t"], A, 1), 0);
    let other = "rewrite name regex (.*)[.]x[.]t {1}.new.t\n hosts {\n 192.0.2.1 a.t\n}";
    assert_eq!(allocations(other, &["a.t"], A, 1), 0, "a pattern that does not match");
    let groups = "rewrite name regex (.*)[.]x[.]t {1}.new.t answer name (.*)[.]new[.]t {1}.x.t
                  rewrite ttl regex ^[a-z] 60
                  hosts {\n 192.0.2.1 a.new.t b.new.t\n}";
    assert_eq!(allocations(groups, &["a.x.t", "b.x.t"], A, 1), 0, "a pattern that matches");
}

#[test]
fn views_are_chosen_without_an_allocation() {
    for expression in [
        "max(size(), 512) > 600 || min(1..size(), 1.5) > 2",
        "mean(1..size()) < 0 || median(size(), 1, 2.5, 3..9) < 0",
        "len(concat(split(name(), '.'), [type()])) > 99",
        "len(flatten([[name(), [type()]], [class()]])) > 99 || len(flatten([1..size()])) > 99",
        "sort(split(name(), '.'))[0] == 'x' || sortBy(split(name(), '.'), len(#))[0] == 'x'",
        "replace(name(), 't', 'u') contains repeat('t', 30) || trim(name(), 't.') == ''",
    ] {
        let view = format!("view v {{\n expr \"!({expression})\"\n}}\n");
        let hosts = "hosts {\n 192.0.2.1 one.t a.two.t\n}";
        assert_eq!(allocations(&(view + hosts), &["one.t", "a.two.t"], A, 1), 0, "{expression}");
    }
}
