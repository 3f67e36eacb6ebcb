//! Topology of a host: nodes of network cards, their interrupts and cores, and their distance from
//! workers.
//!
//! [`Topology::read`] reads the kernel's files under a given root; unknown facts are empty or
//! `None`, and are no fault of the host. [`Topology::place`] is the judgement, and pure: it
//! compares each card with the cores of the workers by the host's NUMA nodes. `onward doctor` and
//! `onward check` both report it in these words.

mod read;

pub(crate) use read::entries;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Cost of a card on another node.
pub(crate) const FAR: &str = "each packet crosses between NUMA nodes, about 100 ns per cache line";

/// Nodes and cards of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The cores of each NUMA node, by its number.
    pub(crate) nodes: BTreeMap<usize, Vec<usize>>,
    /// Network cards that are up and are hardware.
    pub(crate) cards: Vec<Card>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Card {
    /// Interface name.
    pub(crate) name: String,
    /// The NUMA node that it is plugged into.
    pub(crate) node: Option<usize>,
    /// For each receive queue the cores to which RPS steers packets.
    pub(crate) queues: Vec<Vec<usize>>,
    /// For each interrupt of a receive queue its number and the cores it may go to.
    pub(crate) interrupts: Vec<(u32, Vec<usize>)>,
}

/// Distance of a card from the workers, on a host of several nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    card: &'a Card,
    /// Nodes near the card: its own node, or if unknown, those of its interrupts.
    near: BTreeSet<usize>,
    /// The cores of these nodes.
    near_cores: BTreeSet<usize>,
    workers: BTreeSet<usize>,
    /// Workers on other nodes.
    far_workers: BTreeSet<usize>,
    /// Interrupted cores on nodes without a worker.
    far_interrupts: BTreeSet<usize>,
}

impl Card {
    /// Returns the cores that are interrupted when packets arrive.
    pub(crate) fn interrupted(&self) -> BTreeSet<usize> {
        self.interrupts.iter().flat_map(|(_, cores)| cores.iter().copied()).collect()
    }
}

impl Topology {
    /// Returns the place of `card` relative to workers on these cores. `None`: a host with one
    /// node, workers that are not pinned, or a card without a node.
    pub(crate) fn place<'a>(&self, card: &'a Card, workers: &[usize]) -> Option<Place<'a>> {
        if self.nodes.len() < 2 || workers.is_empty() {
            return None;
        }
        let interrupted = card.interrupted();
        let near: BTreeSet<usize> = match card.node.filter(|node| self.nodes.contains_key(node)) {
            Some(node) => BTreeSet::from([node]),
            None => interrupted.iter().filter_map(|core| self.node_of(*core)).collect(),
        };
        if near.is_empty() {
            return None;
        }
        let near_cores: BTreeSet<usize> =
            near.iter().flat_map(|node| self.nodes[node].iter().copied()).collect();
        let workers: BTreeSet<usize> = workers.iter().copied().collect();
        let homes: BTreeSet<usize> =
            workers.iter().filter_map(|core| self.node_of(*core)).collect();
        let is_far = |core: &usize| self.node_of(*core).is_some_and(|node| !homes.contains(&node));
        let far_workers = workers.difference(&near_cores).copied().collect();
        let far_interrupts = interrupted.into_iter().filter(is_far).collect();
        Some(Place { card, near, near_cores, workers, far_workers, far_interrupts })
    }

    /// Returns warnings about cards on other nodes than the workers.
    pub(crate) fn notes(&self, workers: &[usize]) -> Vec<String> {
        let places = self.cards.iter().filter_map(|card| self.place(card, workers));
        let note = |place: Place<'_>| {
            let mend = [place.better_cores(), place.steering()].into_iter().flatten();
            format!("{place}: {FAR}; {}", mend.collect::<Vec<_>>().join("; "))
        };
        places.filter(|place| !place.is_near()).map(note).collect()
    }

    fn node_of(&self, core: usize) -> Option<usize> {
        self.nodes.iter().find(|(_, cores)| cores.contains(&core)).map(|(node, _)| *node)
    }
}

impl Place<'_> {
    /// Returns true if workers and interrupts are all near the card.
    pub(crate) fn is_near(&self) -> bool {
        self.far_workers.is_empty() && self.far_interrupts.is_empty()
    }

    /// Returns the advice for moving far workers to the card's node.
    pub(crate) fn better_cores(&self) -> Option<String> {
        let near: Vec<String> = self.near.iter().map(|node| format!("node{node}")).collect();
        let (near, cores) = (near.join(","), cores(&self.near_cores));
        let text = format!("start onward with --cores {near}, or with some of the {cores}");
        (!self.far_workers.is_empty()).then_some(text)
    }

    /// Returns the command that moves far interrupts to the workers' nodes.
    pub(crate) fn steering(&self) -> Option<String> {
        let command = || steering(&self.workers, &self.card.name);
        (!self.far_interrupts.is_empty()).then(command)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, near) = (&self.card.name, named("node", &self.near));
        if self.is_near() {
            return write!(f, "{name} and the workers are on {near}");
        }
        write!(f, "{name} is on {near}")?;
        if !self.far_workers.is_empty() {
            write!(f, ", workers on {} are not", cores(&self.far_workers))?;
        }
        if !self.far_interrupts.is_empty() {
            let far = cores(&self.far_interrupts);
            write!(f, ", its receive interrupts go to {far}, whose node has no worker")?;
        }
        Ok(())
    }
}

/// Returns the command that sends a card's interrupts to these cores only.
pub(crate) fn steering(workers: &BTreeSet<usize>, card: &str) -> String {
    format!("tuning/steer-interrupts --dry-run --cores {} {card}", numbers(workers, ","))
}

/// Cores as in «core 3» or «cores 0-3, 8».
pub(crate) fn cores(cores: &BTreeSet<usize>) -> String {
    named("core", cores)
}

fn named(noun: &str, which: &BTreeSet<usize>) -> String {
    let plural = if which.len() == 1 { "" } else { "s" };
    format!("{noun}{plural} {}", numbers(which, ", "))
}

/// Joins numbers; three and more in a row become a range, because hosts of 64 cores have long
/// lists.
fn numbers(which: &BTreeSet<usize>, between: &str) -> String {
    let numbers: Vec<usize> = which.iter().copied().collect();
    let runs = numbers.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [first, _, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(usize::to_string).collect::<Vec<_>>().join(between),
    });
    runs.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::{Card, Topology};

    /// Two nodes of two cores, and a card that interrupts these.
    fn host(node: Option<usize>, interrupted: &[usize]) -> Topology {
        let interrupts = (24..).zip(interrupted.iter().map(|core| vec![*core])).collect();
        let card = Card { name: "eth0".to_owned(), node, interrupts, ..Card::default() };
        Topology { nodes: [(0, vec![0, 1]), (1, vec![2, 3])].into(), cards: vec![card] }
    }

    #[test]
    fn any_core_of_the_same_node_is_near() {
        for (host, workers) in [
            (host(Some(0), &[0, 1]), vec![0, 1]),
            (host(Some(0), &[1]), vec![0]),
            (host(Some(1), &[]), vec![2, 3]),
            (host(None, &[2]), vec![3]),
        ] {
            assert_eq!(host.notes(&workers), Vec::<String>::new(), "{host:?}");
            let place = host.place(&host.cards[0], &workers).unwrap();
            let node = workers[0] / 2;
            assert_eq!(place.to_string(), format!("eth0 and the workers are on node {node}"));
            assert_eq!((place.better_cores(), place.steering()), (None, None));
        }
    }

    #[test]
    fn workers_far_from_the_card_are_noted_with_its_node() {
        for host in [host(Some(1), &[2, 3]), host(Some(1), &[]), host(None, &[2])] {
            let notes = host.notes(&[0, 1, 2]);
            assert_eq!(
                notes,
                ["eth0 is on node 1, workers on cores 0, 1 are not: each packet crosses between \
                  NUMA nodes, about 100 ns per cache line; start onward with --cores \
                  node1, or with some of the cores 2, 3"]
            );
        }
    }

    #[test]
    fn interrupts_far_from_all_workers_are_noted_with_the_workers_nodes() {
        let host = host(Some(0), &[0, 2, 3]);
        let place = host.place(&host.cards[0], &[0, 1]).unwrap();
        assert!(!place.is_near());
        assert_eq!(
            place.to_string(),
            "eth0 is on node 0, its receive interrupts go to cores 2, 3, whose node has no worker"
        );
        let command = "tuning/steer-interrupts --dry-run --cores 0,1 eth0";
        assert_eq!((place.better_cores(), place.steering()), (None, Some(command.to_owned())));
        assert!(host.notes(&[0, 1])[0].ends_with(command));
    }

    #[test]
    fn many_cores_are_listed_as_ranges() {
        let told = |cores: &[usize]| super::cores(&cores.iter().copied().collect());
        assert_eq!(told(&[3]), "core 3");
        assert_eq!(told(&[0, 1]), "cores 0, 1");
        assert_eq!(told(&[0, 1, 2, 3, 8, 10, 11, 12]), "cores 0-3, 8, 10-12");
        let workers = (0..32).chain([40]).collect();
        assert!(super::steering(&workers, "eth0").ends_with(" --cores 0-31,40 eth0"));
    }

    #[test]
    fn workers_and_interrupts_may_both_be_far() {
        let host = host(Some(0), &[1]);
        let place = host.place(&host.cards[0], &[3]).unwrap();
        assert!(place.better_cores().is_some() && place.steering().is_some());
        assert_eq!(
            place.to_string(),
            "eth0 is on node 0, workers on core 3 are not, its receive interrupts go to core 1, \
             whose node has no worker"
        );
    }

    #[test]
    fn one_node_unpinned_workers_and_cards_without_a_node_are_not_judged() {
        let mut one = host(Some(0), &[1]);
        one.nodes.remove(&1);
        assert_eq!(one.place(&one.cards[0], &[7]), None);
        let two = host(Some(1), &[2]);
        assert_eq!(two.place(&two.cards[0], &[]), None);
        assert!(two.notes(&[]).is_empty());
        // No node, or one that the kernel lists nowhere, and no interrupt.
        for node in [None, Some(7)] {
            let nowhere = host(node, &[]);
            assert_eq!(nowhere.place(&nowhere.cards[0], &[0]), None);
        }
    }

    #[test]
    fn nodes_have_the_kernels_numbers() {
        let mut host = host(Some(8), &[]);
        host.nodes = [(0, vec![0, 1]), (8, vec![2, 3])].into();
        assert!(host.notes(&[3]).is_empty());
        assert!(host.notes(&[0])[0].starts_with("eth0 is on node 8, workers on core 0 are not"));
    }
}
