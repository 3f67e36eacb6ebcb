//! Cores: where packets come in, where workers run, how fast, and who else has them.
//!
//! Cards that the kernel tells no interrupts and no queues of are not judged.

use super::super::facts::{Card, Facts, Wanted};
use super::Finding;
use std::collections::BTreeSet;

/// More than so many in a thousand ticks taken by the hypervisor are felt as latency.
const STEAL_PER_MILLE: u64 = 10;
/// Governors that do not let a busy core run slowly.
const FAST: [&str; 2] = ["performance", "schedutil"];

/// All of it.
pub(super) fn judge(facts: &Facts, wanted: Option<&Wanted>) -> Vec<Finding> {
    let cards = facts.cards.iter();
    let mut findings: Vec<Finding> =
        cards.clone().filter_map(|card| intake(card, wanted)).collect();
    findings.extend(cards.filter_map(|card| node(card, facts, wanted)));
    findings.extend(governor(facts, wanted));
    findings.extend(steal(facts));
    findings
}

/// On which cores the packets of a card are taken in.
fn intake(card: &Card, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "packet intake";
    if card.interrupts.is_empty() && card.queues.is_empty() {
        return None;
    }
    let hardware = card.interrupts.iter().flat_map(|(_, cores)| cores.iter().copied());
    let hardware: BTreeSet<usize> = hardware.collect();
    let software: BTreeSet<usize> = card.queues.iter().flatten().copied().collect();
    let cores = if software.is_empty() { &hardware } else { &software };
    let name = &card.name;
    let queues = card.queues.len();
    if cores.is_empty() {
        let found = format!("{name} has {queues} queues; their interrupts are not to be known");
        return Some(Finding::fine(TOPIC, found));
    }
    let by = if software.is_empty() { "interrupts" } else { "RPS" };
    let found = format!("{name} has {queues} queues; by {by} packets come in on {}", list(cores));
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
        "with --steer cpu a worker gets what its core takes in: the others wait, and what comes in \
         elsewhere changes cores"
    } else {
        "one core takes in every packet, and is the first to be full"
    };
    let cores = list(&workers).replace("cores ", "").replace("core ", "").replace(", ", ",");
    Some(
        Finding::advice(TOPIC, format!("{found}; workers have {}", list(&workers)))
            .because(why)
            .mend(format!("tuning/steer-interrupts --dry-run --cores {cores} {name}")),
    )
}

/// Whether a card and the workers are on one NUMA node.
fn node(card: &Card, facts: &Facts, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "NUMA";
    if facts.nodes.len() < 2 {
        return None;
    }
    let (own, workers) = (card.node?, &wanted?.cores);
    let near = facts.nodes.get(own)?;
    let far: BTreeSet<usize> =
        workers.iter().copied().filter(|core| !near.contains(core)).collect();
    let name = &card.name;
    if far.is_empty() {
        return Some(Finding::fine(TOPIC, format!("{name} and the workers are on node {own}")));
    }
    let near: BTreeSet<usize> = near.iter().copied().collect();
    let found = format!("{name} is on node {own}, workers on {} are not", list(&far));
    Some(
        Finding::advice(TOPIC, found)
            .because("each packet crosses from one processor to the other, about 100 ns a line")
            .mend(format!("# name cores of node {own} with --cores: {}", list(&near))),
    )
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
        return Some(Finding::fine(TOPIC, "not this system's to set"));
    }
    if slow.is_empty() {
        return Some(Finding::fine(TOPIC, format!("the governor is {names}")));
    }
    Some(
        Finding::advice(TOPIC, format!("the governor of {} is {names}", list(&slow)))
            .because("a core that was idle for a moment is slow for the next packets")
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
            .because("while others have the core, packets wait and buffers fill")
            .mend("# of whoever runs the hypervisor: dedicated cores"),
    )
}

/// Cores as in «core 3» or «cores 0, 1, 2».
fn list(cores: &BTreeSet<usize>) -> String {
    let numbers: Vec<String> = cores.iter().map(usize::to_string).collect();
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!("{noun} {}", numbers.join(", "))
}
