//! Cores: interrupts of cards, placement of workers, frequency, and stolen time.
//!
//! Cards without known interrupts and queues are not judged.

use super::super::facts::{Facts, Wanted};
use super::Finding;
use crate::topology::{Card, FAR, cores as list, steering};
use std::collections::BTreeSet;

/// Stolen ticks per thousand above which latency suffers.
const STEAL_PER_MILLE: u64 = 10;
/// Governors that do not let a busy core run slowly.
const FAST: [&str; 2] = ["performance", "schedutil"];

/// Returns the findings about cores.
pub(super) fn judge(facts: &Facts, wanted: Option<&Wanted>) -> Vec<Finding> {
    let cards = facts.topology.cards.iter();
    let mut findings: Vec<Finding> =
        cards.clone().filter_map(|card| intake(card, wanted)).collect();
    findings.extend(cards.filter_map(|card| node(card, facts, wanted)));
    findings.extend(governor(facts, wanted));
    findings.extend(steal(facts));
    findings
}

/// Compares the cores that receive a card's packets with those of the workers.
fn intake(card: &Card, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "packet intake";
    if card.interrupts.is_empty() && card.queues.is_empty() {
        return None;
    }
    let hardware = card.interrupted();
    let software: BTreeSet<usize> = card.queues.iter().flatten().copied().collect();
    let cores = if software.is_empty() { &hardware } else { &software };
    let name = &card.name;
    let queues = card.queues.len();
    if cores.is_empty() {
        let found = format!("{name} has {queues} queues; their interrupts are unknown");
        return Some(Finding::fine(TOPIC, found));
    }
    let by = if software.is_empty() { "interrupts" } else { "RPS" };
    let found = format!("{name} has {queues} queues; {by} deliver packets to {}", list(cores));
    let Some(workers) = wanted.map(|wanted| &wanted.cores).filter(|cores| !cores.is_empty()) else {
        return Some(Finding::fine(TOPIC, found));
    };
    let workers: BTreeSet<usize> = workers.iter().copied().collect();
    let steered = wanted.is_some_and(|wanted| wanted.steer_by_core);
    let (idle, foreign): (Vec<_>, Vec<_>) =
        (workers.difference(cores).collect(), cores.difference(&workers).collect());
    if idle.is_empty() && foreign.is_empty() {
        return Some(Finding::fine(TOPIC, format!("{found}, the cores of the workers")));
    }
    if !steered && cores.len() > 1 {
        let found = format!("{found}; workers have {}, and not --steer cpu", list(&workers));
        return Some(Finding::fine(TOPIC, found));
    }
    let why = if steered {
        "with --steer cpu a worker gets the packets that its core receives: other workers are \
         idle, and packets received on other cores move between cores"
    } else {
        "one core receives all packets and is the first bottleneck"
    };
    Some(
        Finding::advice(TOPIC, format!("{found}; workers have {}", list(&workers)))
            .because(why)
            .mend(steering(&workers, name)),
    )
}

/// Returns true if a card and the workers are on one NUMA node.
fn node(card: &Card, facts: &Facts, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "NUMA";
    let place = facts.topology.place(card, &wanted?.cores)?;
    if place.is_near() {
        return Some(Finding::fine(TOPIC, place.to_string()));
    }
    let mut finding = Finding::advice(TOPIC, place.to_string()).because(FAR);
    if let Some(cores) = place.better_cores() {
        finding = finding.mend(format!("# {cores}"));
    }
    Some(match place.steering() {
        Some(command) => finding.mend(command),
        None => finding,
    })
}

fn governor(facts: &Facts, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "frequency";
    let workers = wanted.map(|wanted| &wanted.cores).filter(|cores| !cores.is_empty());
    let ours = |core: &usize| workers.is_none_or(|cores| cores.contains(core));
    let ours = facts.governors.iter().filter(|(core, _)| ours(core));
    let slow = ours.clone().filter(|(_, governor)| !FAST.contains(&governor.as_str()));
    let slow: BTreeSet<usize> = slow.map(|(core, _)| *core).collect();
    let names: BTreeSet<&str> = ours.map(|(_, governor)| governor.as_str()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    if facts.governors.is_empty() {
        return Some(Finding::fine(TOPIC, "not controlled by this system"));
    }
    if slow.is_empty() {
        return Some(Finding::fine(TOPIC, format!("the governor is {names}")));
    }
    Some(
        Finding::advice(TOPIC, format!("the governor of {} is {names}", list(&slow)))
            .because("a core is slow for the first packets after an idle period")
            .mend("cpupower frequency-set -g performance"),
    )
}

fn steal(facts: &Facts) -> Option<Finding> {
    const TOPIC: &str = "steal time";
    let (stolen, all) = facts.watched.steal;
    if all == 0 {
        return None;
    }
    let found = format!("the hypervisor took {:.1} %", stolen as f64 * 100.0 / all as f64);
    if stolen * 1_000 <= all * STEAL_PER_MILLE {
        return Some(Finding::fine(TOPIC, found));
    }
    Some(
        Finding::advice(TOPIC, found)
            .because("while the core runs other virtual machines, packets wait and buffers fill")
            .mend("# ask the operator of the hypervisor for dedicated cores"),
    )
}
