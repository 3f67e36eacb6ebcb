//! Proof that the simulator can fail: each law against something broken on purpose.
//!
//! The shell, the attacker or the keeper is corrupted, and the run must end with the law that was
//! broken, by name. And a seed is a whole history: run twice, it is the same.

use super::plan::{Plan, Sabotage};
use super::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds until the damage shows at the latest.
const SEEDS_MAX: u64 = 24;

/// What breaks, and which law must notice.
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
fn whatever_is_broken_on_purpose_is_noticed_by_its_law() {
    for (sabotage, law) in CASES {
        let noticed = (0..SEEDS_MAX).find_map(|seed| {
            let text = outcome(seed, sabotage).err()?;
            text.contains(law).then_some(seed)
        });
        assert!(noticed.is_some(), "{sabotage:?} is not noticed by: {law}");
    }
}

#[test]
fn a_seed_is_a_whole_history() {
    for seed in [0, 1, 2, 3] {
        let run = || World::new(&Plan::new(seed), 0).run();
        assert_eq!(run(), run(), "seed {seed}");
    }
}
