//! Tests of the simulator: each law must detect a deliberate fault.
//!
//! The shell, the attacker or the keeper is sabotaged, and the run must end with the name of the
//! violated law. Also, two runs of one seed are identical.

use super::plan::{Plan, Sabotage};
use super::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Maximum number of seeds until the fault is detected.
const SEEDS_MAX: u64 = 24;

/// Each fault and the law that must detect it.
const CASES: [(Sabotage, &str); 15] = [
    (Sabotage::ReplyTwice, "a reply goes to who asked, once"),
    (Sabotage::ReplyLost, "queries = replies + drops + outstanding"),
    (Sabotage::LetterChanged, "a reply goes to who asked, once"),
    (Sabotage::WrongPeer, "a reply goes to who asked, once"),
    (Sabotage::WrongId, "a reply goes to who asked, once"),
    (Sabotage::IdsKnown, "nothing forged is believed"),
    (Sabotage::KeeperAsleep, "idle connections do not outlive expire"),
    (Sabotage::TimeUntold, "every query gets a reply within five seconds"),
    (Sabotage::SocketKept, "what the engine closes is closed"),
    (Sabotage::YoungerThanConfigured, "beyond max_age no query is sent"),
    (Sabotage::FewerThanConfigured, "a pool has at most max_conns"),
    (Sabotage::SameIds, "ids on a connection are unique"),
    (Sabotage::AnswerLost, "on a calm day every query is answered"),
    (Sabotage::NobodyProbes, "what is down is probed"),
    (Sabotage::StartedAfresh, "an upstream that stays keeps what it has counted"),
];

fn outcome(seed: u64, sabotage: Sabotage) -> Result<(), String> {
    let plan = Plan { sabotage, ..Plan::new(seed) };
    let run = AssertUnwindSafe(|| World::new(&plan, 0).run());
    let panic = catch_unwind(run).map(drop).err();
    panic.map_or(Ok(()), |panic| {
        Err(panic.downcast::<String>().map_or_else(|_| "another panic".into(), |text| *text))
    })
}

#[test]
fn each_deliberate_fault_is_detected_by_its_law() {
    for (sabotage, law) in CASES {
        let noticed = (0..SEEDS_MAX).find_map(|seed| {
            let text = outcome(seed, sabotage).err()?;
            text.contains(law).then_some(seed)
        });
        assert!(noticed.is_some(), "{sabotage:?} is not noticed by: {law}");
    }
}

#[test]
fn two_runs_of_a_seed_are_identical() {
    for seed in [0, 1, 2, 3] {
        let run = || World::new(&Plan::new(seed), 0).run();
        assert_eq!(run(), run(), "seed {seed}");
    }
}
