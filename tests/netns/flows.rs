//! Disturbances of live UDP flows: forgotten by connection tracking, unreachable, moved.
//!
//! Each test makes one disturbance and checks the failed queries, the counters, and normal service
//! afterwards.

use super::lab::{Lab, inside, ip, nft, succeed};
use super::site::{BOUND, SPREAD, Site, backend, virtual_site};
use std::fs;
use std::process::Command;

/// The source port of one tracked flow to the virtual address.
fn one_flow() -> String {
    let flows = fs::read_to_string("/proc/net/nf_conntrack").expect("a list of flows");
    let flow = flows.lines().find(|flow| flow.contains("dst=10.96.0.10")).expect("there is one");
    let port = flow.split_whitespace().find_map(|word| word.strip_prefix("sport="));
    port.expect("it has a source port").to_owned()
}

#[test]
fn flows_forgotten_by_tracking_are_tracked_again() {
    inside("flows::flows_forgotten_by_tracking_are_tracked_again", |lab| {
        let site = virtual_site(lab, "forgotten");
        for _ in 0..5 {
            site.ask_well(4 * SPREAD);
            succeed(Command::new("conntrack").arg("-F"));
            let took = site.recover();
            assert!(took <= BOUND, "{took:?}");
        }
        site.is_at_rest();
    });
}

#[test]
fn a_flow_that_is_unreachable_costs_its_query_nothing_but_another_attempt() {
    inside(
        "flows::a_flow_that_is_unreachable_costs_its_query_nothing_but_another_attempt",
        |lab| {
            let site = virtual_site(lab, "unreachable");
            site.ask_well(4 * SPREAD);
            let port = one_flow();
            let rule = "table ip lab { chain in { type filter hook input priority 0; \
                    udp sport PORT reject with icmp type port-unreachable; }; }";
            succeed(lab.on("far", "nft").arg(rule.replace("PORT", &port)));
            site.ask_well(4 * SPREAD);
            assert_eq!(site.closed("error"), 1.0, "one connection fails");
            assert_eq!(site.metric("onward_upstream_failures_total", &[]), 1.0, "and one attempt");
            assert_eq!((site.closed("distrust"), site.closed("timeout")), (0.0, 0.0), "no trouble");
            site.is_at_rest();
        },
    );
}

/// Makes connection tracking refuse new flows, or accept them again.
fn fill_table(full: bool) {
    let limit = "/proc/sys/net/netfilter/nf_conntrack_max";
    if fs::write(limit, if full { "1" } else { "65536" }).is_ok() {
        return;
    }
    eprintln!("SAID: {limit} of a namespace is read-only: a rule drops new flows as a full table");
    match full {
        true => nft("table ip full { chain out { type filter hook output priority 0; \
                     ip daddr 10.96.0.0/12 ct state new drop; \
                     ip daddr 10.77.0.0/24 ct state new drop; }; }"),
        false => nft("delete table ip full"),
    }
}

#[test]
fn a_table_that_is_full_stops_new_flows_alone_and_nothing_is_stuck_after() {
    inside("flows::a_table_that_is_full_stops_new_flows_alone_and_nothing_is_stuck_after", |lab| {
        let site = virtual_site(lab, "full");
        site.ask_well(4 * SPREAD);
        fill_table(true);
        // Tracked flows continue.
        site.ask_well(4 * SPREAD);
        succeed(Command::new("conntrack").arg("-F"));
        assert_eq!(site.ask(), 2, "no flow, no answer: SERVFAIL, and not silence");
        fill_table(false);
        let took = site.recover();
        assert!(took <= BOUND, "{took:?}");
        site.is_at_rest();
    });
}

/// A host with the upstream's address, behind an address of its own.
fn move_to(lab: &Lab, host: &str, net: u8) -> super::process::Program {
    let theirs = format!("10.{net}.0.2/24");
    lab.host(host, &format!("10.{net}.0.1/24"), &[&theirs, "10.99.0.9/32"]);
    // Replies come from the upstream's address.
    succeed(lab.on(host, "ip").args(["route", "add", "default", "via", &format!("10.{net}.0.1")]));
    backend(lab, host, "moves", "10.99.0.9")
}

#[test]
fn an_upstream_that_moves_to_another_host_is_followed() {
    inside("flows::an_upstream_that_moves_to_another_host_is_followed", |lab| {
        let programs = vec![move_to(lab, "one", 78), move_to(lab, "two", 79)];
        ip("route add 10.99.0.9 via 10.78.0.2");
        let site = Site::new("moves", "10.99.0.9", programs);
        site.ask_well(4 * SPREAD);
        ip("route replace 10.99.0.9 via 10.79.0.2");
        site.ask_well(4 * SPREAD);
        assert_eq!(site.metric("onward_upstream_failures_total", &[]), 0.0, "sockets do not care");
        // For a while no host has the address.
        ip("route replace unreachable 10.99.0.9");
        assert_eq!(site.ask(), 2, "SERVFAIL, and not silence");
        assert!(site.metric("onward_upstream_failures_total", &[]) > 0.0);
        ip("route replace 10.99.0.9 via 10.78.0.2");
        let took = site.recover();
        assert!(took <= BOUND, "{took:?}");
        site.is_at_rest();
    });
}
