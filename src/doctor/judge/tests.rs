//! Findings about made-up hosts: each topic as it should be, and as it should not.
//!
//! A finding is looked up by its topic and its text; its verdict and the command that fixes it are
//! compared.

use super::super::Verdict;
use super::super::facts::{Counters, Facts, Holder, Loss, Wanted};
use super::judge;
use crate::topology::{Card, Topology};
use std::collections::BTreeMap;

fn wanted() -> Wanted {
    Wanted {
        workers: 2,
        cores: vec![0, 1],
        steer_by_core: false,
        ports: 1_000,
        descriptors: 10_000,
        listeners: vec!["192.0.2.1:53".parse().unwrap()],
    }
}

/// Returns the verdict and the commands of the finding whose topic and text contain these words.
#[track_caller]
fn look(facts: &Facts, wanted: Option<&Wanted>, topic: &str, words: &str) -> (Verdict, String) {
    let findings = judge(facts, wanted);
    let found = findings.iter().find(|it| it.topic == topic && it.found.contains(words));
    let found = found.unwrap_or_else(|| panic!("no «{words}» in {findings:#?}"));
    assert_eq!(found.verdict == Verdict::Fine, found.mend.is_empty(), "{found:?}");
    assert_eq!(found.verdict == Verdict::Fine, found.why.is_empty(), "{found:?}");
    (found.verdict, found.mend.join("\n"))
}

fn with_settings(settings: &[(&'static str, u64)]) -> Facts {
    Facts { settings: settings.iter().copied().collect(), ..Facts::default() }
}

fn holder(address: &str, program: Option<&str>) -> Facts {
    let address = address.parse().unwrap();
    let program = program.map(str::to_owned);
    let holders = vec![Holder { address, protocol: "udp", program }];
    Facts { holders, ..Facts::default() }
}

#[test]
fn a_host_without_known_facts_is_fine() {
    let findings = judge(&Facts::default(), Some(&wanted()));
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
}

#[test]
fn buffers_are_compared_with_their_requested_sizes() {
    let facts = with_settings(&[("net/core/rmem_max", 212_992)]);
    let (verdict, mend) = look(&facts, None, "kernel settings", "rmem_max is 212992");
    assert_eq!(verdict, Verdict::Advice);
    assert!(mend.starts_with("sysctl -w net.core.rmem_max=4194304\n"), "{mend}");
    let facts = with_settings(&[("net/core/rmem_max", 4 << 20)]);
    assert_eq!(look(&facts, None, "kernel settings", "rmem_max").0, Verdict::Fine);
    // The kernel's own default has room for a batch.
    let facts = with_settings(&[("net/core/wmem_default", 212_992)]);
    assert_eq!(look(&facts, None, "kernel settings", "wmem_default").0, Verdict::Fine);
}

#[test]
fn ports_are_compared_with_the_pools() {
    let facts = Facts { ports: Some((32_768, 60_999)), ..Facts::default() };
    let with = |ports| Wanted { ports, ..wanted() };
    for (ports, expected) in
        [(14_116, Verdict::Fine), (14_117, Verdict::Advice), (28_233, Verdict::Broken)]
    {
        let (verdict, _) = look(&facts, Some(&with(ports)), "source ports", "32768 to 60999");
        assert_eq!(verdict, expected, "{ports}");
    }
}

#[test]
fn descriptors_are_compared_with_the_corefile_or_an_ordinary_one() {
    let facts = Facts { open_files: Some(20_000), ..Facts::default() };
    assert_eq!(look(&facts, Some(&wanted()), "open files", "20000").0, Verdict::Fine);
    assert_eq!(look(&facts, None, "open files", "20000").0, Verdict::Advice);
}

#[test]
fn the_conntrack_table_is_judged_by_its_fill_level() {
    let with = |count| {
        with_settings(&[
            ("net/netfilter/nf_conntrack_count", count),
            ("net/netfilter/nf_conntrack_max", 10_000),
        ])
    };
    let look = |count| look(&with(count), None, "connection tracking", "flows of at most 10000");
    assert_eq!(look(256).0, Verdict::Fine);
    let (verdict, mend) = look(7_000);
    assert_eq!(verdict, Verdict::Advice);
    assert!(mend.contains("onward.nft"), "{mend}");
    assert_eq!(look(7_001).0, Verdict::Broken);
}

#[test]
fn the_stub_of_systemd_is_named_with_its_remedy() {
    let facts = holder("127.0.0.53:53", Some("systemd-resolve"));
    assert_eq!(look(&facts, Some(&wanted()), "port 53", "127.0.0.53").0, Verdict::Fine);
    let everywhere = Wanted { listeners: vec!["0.0.0.0:53".parse().unwrap()], ..wanted() };
    let (verdict, mend) = look(&facts, Some(&everywhere), "port 53", "systemd-resolve");
    assert_eq!(verdict, Verdict::Broken);
    assert!(mend.contains("DNSStubListener=no") && mend.contains("restart systemd-resolved"));
    assert_eq!(look(&facts, None, "port 53", "127.0.0.53").0, Verdict::Advice);
}

#[test]
fn other_programs_on_the_port_are_named_and_onward_is_fine() {
    let facts = holder("192.0.2.1:53", Some("named"));
    let (verdict, mend) =
        look(&facts, Some(&wanted()), "port 53", "named listens on udp 192.0.2.1:53");
    assert_eq!(verdict, Verdict::Broken);
    assert!(mend.contains("systemctl disable --now named"), "{mend}");
    let (verdict, mend) = look(&holder("192.0.2.1:53", None), None, "port 53", "only root");
    assert_eq!(verdict, Verdict::Advice);
    assert!(mend.contains("ss -tulnp"), "{mend}");
    let facts = holder("192.0.2.1:53", Some("onward"));
    assert_eq!(look(&facts, Some(&wanted()), "port 53", "onward").0, Verdict::Fine);
    assert_eq!(look(&Facts::default(), None, "port 53", "not in use").0, Verdict::Fine);
}

fn card(interrupts: &[(u32, usize)], rps: &[usize]) -> Facts {
    let interrupts = interrupts.iter().map(|(number, core)| (*number, vec![*core])).collect();
    let (name, node) = ("eth0".to_owned(), Some(0));
    let card = Card { name, node, queues: vec![rps.to_vec()], interrupts };
    let topology = Topology { cards: vec![card], ..Topology::default() };
    Facts { topology, ..Facts::default() }
}

#[test]
fn packets_should_arrive_on_the_cores_of_the_workers() {
    let look = |facts: &Facts, wanted: &Wanted| look(facts, Some(wanted), "packet intake", "eth0");
    assert_eq!(look(&card(&[(24, 0), (25, 1)], &[]), &wanted()).0, Verdict::Fine);
    let (verdict, mend) = look(&card(&[(24, 0)], &[]), &wanted());
    assert_eq!(verdict, Verdict::Advice);
    assert_eq!(mend, "tuning/steer-interrupts --dry-run --cores 0,1 eth0");
    // RPS fixes it.
    assert_eq!(look(&card(&[(24, 0)], &[0, 1]), &wanted()).0, Verdict::Fine);
    // Other cores matter only if datagrams are steered by core.
    let elsewhere = card(&[(24, 2), (25, 3)], &[]);
    assert_eq!(look(&elsewhere, &wanted()).0, Verdict::Fine);
    let steered = Wanted { steer_by_core: true, ..wanted() };
    assert_eq!(look(&elsewhere, &steered).0, Verdict::Advice);
}

#[test]
fn workers_should_be_on_the_node_of_the_card() {
    let mut facts = card(&[(24, 0)], &[]);
    facts.topology.nodes = BTreeMap::from([(0, vec![0, 1]), (1, vec![2, 3])]);
    assert_eq!(look(&facts, Some(&wanted()), "NUMA", "node 0").0, Verdict::Fine);
    facts.topology.cards[0].node = Some(1);
    let (verdict, mend) = look(&facts, Some(&wanted()), "NUMA", "node 1");
    assert_eq!(verdict, Verdict::Advice);
    assert!(
        mend.starts_with("# start onward with --cores node1, or with some of the cores 2, 3"),
        "{mend}"
    );
    facts.topology.cards[0].interrupts = vec![(24, vec![2])];
    let (_, mend) = look(&facts, Some(&wanted()), "NUMA", "receive interrupts go to core 2");
    assert!(mend.ends_with("\ntuning/steer-interrupts --dry-run --cores 0,1 eth0"), "{mend}");
    let free = Wanted { cores: Vec::new(), ..wanted() };
    assert!(judge(&facts, Some(&free)).iter().all(|finding| finding.topic != "NUMA"));
}

#[test]
fn slow_governors_old_kernels_and_slow_clocks_are_found() {
    let governor = |name: &str| BTreeMap::from([(0, name.to_owned()), (7, "powersave".to_owned())]);
    let facts = |name| Facts { governors: governor(name), ..Facts::default() };
    assert_eq!(look(&facts("performance"), Some(&wanted()), "frequency", "").0, Verdict::Fine);
    assert_eq!(
        look(&facts("powersave"), Some(&wanted()), "frequency", "core 0").0,
        Verdict::Advice
    );
    for (refused, expected) in [(vec![], Verdict::Fine), (vec!["UDP GRO"], Verdict::Advice)] {
        let facts = Facts { kernel: Some((4, 19)), refused, ..Facts::default() };
        assert_eq!(look(&facts, None, "kernel", "Linux 4.19 has").0, expected);
    }
    for (source, expected) in [("tsc", Verdict::Fine), ("hpet", Verdict::Advice)] {
        let facts = Facts { clock_source: Some(source.into()), ..Facts::default() };
        assert_eq!(look(&facts, None, "clock source", source).0, expected);
    }
}

#[test]
fn new_losses_are_broken_and_old_ones_are_only_reported() {
    let lost = |count| Counters {
        lost: BTreeMap::from([(Loss::ReceiveBuffer, count), (Loss::Card("eth0".into()), 5)]),
        steal: (0, 1_000),
    };
    let before = Facts { counters: lost(70), seconds: 3, ..Facts::default() };
    assert_eq!(look(&before, None, "losses", "75 since boot").0, Verdict::Fine);
    let facts = Facts { watched: lost(70).since(&lost(69)), ..before };
    let (verdict, mend) = look(&facts, None, "losses", "1 packets in 3 s by full receive");
    assert_eq!(verdict, Verdict::Broken);
    assert!(mend.contains("rmem_max"), "{mend}");
    assert!(judge(&facts, None).iter().all(|finding| !finding.found.contains("eth0")));
}

#[test]
fn stolen_time_is_advice_from_one_percent_on() {
    let with = |stolen| {
        let watched = Counters { steal: (stolen, 1_000), ..Counters::default() };
        Facts { watched, ..Facts::default() }
    };
    assert_eq!(look(&with(10), None, "steal time", "1.0 %").0, Verdict::Fine);
    assert_eq!(look(&with(11), None, "steal time", "1.1 %").0, Verdict::Advice);
}
