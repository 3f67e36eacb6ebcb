//! Sources of queries to an upstream: ports and IDs.
//!
//! An attacker must guess both (RFC 5452). For each port the number of queries and the first and
//! last time are kept; for IDs, the frequency of each value of either octet. From that follow the
//! facts of interest about a resolver: the number of its ports, the time it uses each, and whether
//! its IDs are as even as chance would make them. Ports of different addresses are not
//! distinguished. Pure; sized once.

use crate::moment::Moment;
use crate::traffic::chi_square::ChiSquare;
use std::time::Duration;

/// Number of UDP ports.
const PORTS: usize = 65_536;
/// Values of an octet.
const OCTETS: usize = 256;

/// Silence after which a port counts as a new socket: a forwarder that rotates through a pool
/// returns to a port sooner.
const FLOW_GAP: Duration = Duration::from_secs(5);

/// Use of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortUse {
    /// Number of queries.
    pub queries: u64,
    /// Time of the first query.
    pub first: Moment,
    /// Time of the last query.
    pub last: Moment,
}

impl PortUse {
    /// Returns the time for which the port was in use.
    pub fn life(&self) -> Duration {
        self.last.since(self.first)
    }
}

/// Sources of all queries.
#[derive(Clone, Debug)]
pub struct Sources {
    ports: Vec<PortUse>,
    /// Number of ports in use.
    port_count: u64,
    high: Vec<u64>,
    low: Vec<u64>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            ports: vec![PortUse::default(); PORTS],
            port_count: 0,
            high: vec![0; OCTETS],
            low: vec![0; OCTETS],
        }
    }
}

/// Statistics of the sources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropy {
    /// Number of ports.
    pub ports: usize,
    /// Queries from the busiest port.
    pub busiest: u64,
    /// Median of the queries per port.
    pub median: u64,
    /// Median of the times for which ports were used.
    pub life_median: Duration,
    /// Maximum of these times.
    pub life_max: Duration,
    /// Test of the first octet of IDs.
    pub high: Option<ChiSquare>,
    /// Test of the second octet.
    pub low: Option<ChiSquare>,
}

impl Sources {
    /// Records a query with this ID from this port. Returns true if it begins a flow: the port is
    /// new, or was silent for longer than `FLOW_GAP`.
    pub fn note(&mut self, port: u16, id: u16, now: Moment) -> bool {
        let port = &mut self.ports[usize::from(port)];
        let begins = port.queries == 0 || now.since(port.last) > FLOW_GAP;
        if port.queries == 0 {
            port.first = now;
            self.port_count += 1;
        }
        port.queries += 1;
        port.last = now;
        let [high, low] = id.to_be_bytes();
        self.high[usize::from(high)] += 1;
        self.low[usize::from(low)] += 1;
        begins
    }

    /// Adds the sources of another thread.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (mine, theirs) in self.ports.iter_mut().zip(&other.ports) {
            *mine = match (mine.queries, theirs.queries) {
                (_, 0) => *mine,
                (0, _) => *theirs,
                (a, b) => PortUse {
                    queries: a + b,
                    first: mine.first.min(theirs.first),
                    last: mine.last.max(theirs.last),
                },
            };
        }
        self.port_count = self.ports().count() as u64;
        let add = |(mine, theirs): (&mut u64, &u64)| *mine += theirs;
        self.high.iter_mut().zip(&other.high).for_each(add);
        self.low.iter_mut().zip(&other.low).for_each(add);
    }

    /// Returns the number of ports in use.
    pub(crate) fn port_count(&self) -> u64 {
        self.port_count
    }

    /// Returns the ports in use, ascending.
    pub fn ports(&self) -> impl Iterator<Item = (u16, PortUse)> {
        let numbered = self.ports.iter().zip(0u16..=u16::MAX);
        numbered.filter(|(port, _)| port.queries > 0).map(|(port, number)| (number, *port))
    }

    /// Returns the statistics of all sources.
    pub fn entropy(&self) -> Entropy {
        let mut queries: Vec<u64> = self.ports().map(|(_, port)| port.queries).collect();
        let mut lives: Vec<Duration> = self.ports().map(|(_, port)| port.life()).collect();
        queries.sort_unstable();
        lives.sort_unstable();
        Entropy {
            ports: queries.len(),
            busiest: queries.last().copied().unwrap_or(0),
            median: queries.get(queries.len() / 2).copied().unwrap_or(0),
            life_median: lives.get(lives.len() / 2).copied().unwrap_or_default(),
            life_max: lives.last().copied().unwrap_or_default(),
            high: ChiSquare::of(&self.high),
            low: ChiSquare::of(&self.low),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sources;
    use crate::moment::Moment;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn the_time_of_use_of_ports_is_measured() {
        let (mut first, mut second) = (Sources::default(), Sources::default());
        first.note(1_000, 1, at(1));
        first.note(1_000, 2, at(4));
        first.note(2_000, 3, at(5));
        second.note(1_000, 4, at(9));
        second.note(65_535, 4, at(9));
        first.absorb(&second);
        let ports: Vec<_> = first.ports().map(|(port, seen)| (port, seen.queries)).collect();
        assert_eq!(ports, [(1_000, 3), (2_000, 1), (65_535, 1)]);
        let entropy = first.entropy();
        assert_eq!((entropy.ports, entropy.busiest, entropy.median), (3, 3, 1));
        assert_eq!(
            (entropy.life_max, entropy.life_median),
            (8 * Duration::from_secs(1), Duration::ZERO)
        );
        assert_eq!(entropy.high, None, "too few to say");
        assert_eq!(Sources::default().entropy().ports, 0);
    }

    #[test]
    fn a_flow_begins_with_a_new_port_or_after_a_silence() {
        let mut sources = Sources::default();
        let begins = [(7, 1), (7, 5), (8, 5), (7, 10), (7, 16)];
        let begins = begins.map(|(port, seconds)| sources.note(port, 1, at(seconds)));
        assert_eq!(begins, [true, false, true, false, true]);
    }

    #[test]
    fn counted_ids_are_not_random_and_random_ones_are() {
        let (mut counted, mut random) = (Sources::default(), Sources::default());
        let mut state = 1u32;
        for id in 0..20_000u16 {
            counted.note(1, id, at(0));
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random.note(1, (state >> 16) as u16, at(0));
        }
        assert!(counted.entropy().high.unwrap().p < 1e-6);
        let entropy = random.entropy();
        assert!(entropy.high.unwrap().p > 0.001 && entropy.low.unwrap().p > 0.001, "{entropy:?}");
    }
}
