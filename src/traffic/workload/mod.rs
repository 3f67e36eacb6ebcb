//! Queries, recorded or generated.
//!
//! A [`Source`] describes them and is shared by all threads; a [`Workload`] is one thread's part of
//! it and writes one query after the other into a caller's buffer. [`Recorded`] queries are packets
//! already, so that a run copies and never parses. [`names`] generates names, [`style`] writes
//! queries. Pure; nothing is allocated per query.

pub mod names;
pub mod style;
pub mod zipf;

use super::wire::{TYPE_A, TYPE_AAAA};
use names::{NameMaker, Names};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use style::{Style, TypeShares};

/// Queries that were read from a file, as packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Number of clients.
    pub clients: u32,
    /// Number of packets in the capture that were left out.
    pub left_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    start: usize,
    length: u16,
    client: u32,
    /// Time since the first query of the file.
    instant: Duration,
}

impl Recorded {
    /// Adds a query; `client` and `instant` matter to captures.
    pub fn push(&mut self, packet: &[u8], client: u32, instant: Duration) {
        let (start, length) = (self.bytes.len(), packet.len() as u16);
        self.bytes.extend_from_slice(packet);
        self.entries.push(Entry { start, length, client, instant });
        self.clients = self.clients.max(client + 1);
    }

    /// Returns the instant of the last query, since the first one.
    pub fn last_instant(&self) -> Duration {
        self.entries.last().map_or(Duration::ZERO, |entry| entry.instant)
    }

    /// Returns the number of queries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the query with this number.
    pub fn packet(&self, number: usize) -> &[u8] {
        let Entry { start, length, .. } = self.entries[number];
        &self.bytes[start..start + usize::from(length)]
    }

    /// Returns the client of the query with this number, and its instant since the first one.
    pub fn origin(&self, number: usize) -> (u32, Duration) {
        let Entry { client, instant, .. } = self.entries[number];
        (client, instant)
    }
}

/// Source of queries.
#[derive(Clone, Debug)]
pub enum Source {
    /// Names are generated.
    Made {
        /// Distribution of names.
        names: Names,
        /// The share of queries for names that were queried before; the others are new.
        hit_ratio: Option<f64>,
        /// Suffix of all names, in wire form.
        zone: Vec<u8>,
        /// Types and their weights.
        types: TypeShares,
        /// Style of queries.
        style: Style,
    },
    /// Queries of a file; at its end it starts again.
    File(Arc<Recorded>),
}

impl Source {
    /// Queries for names of `demo.example.` that were never queried before: three in four for A,
    /// the others for AAAA.
    pub fn unique() -> Self {
        Self::Made {
            names: Names::Unique,
            hit_ratio: None,
            zone: b"\x04demo\x07example\0".to_vec(),
            types: TypeShares::new(&[(TYPE_A, 3), (TYPE_AAAA, 1)]).expect("weights are above zero"),
            style: Style::default(),
        }
    }

    /// Returns the length of its longest query.
    pub(crate) fn length_max(&self) -> usize {
        match self {
            Self::Made { zone, style, .. } => names::ROOM + zone.len() + style.room(),
            Self::File(recorded) => {
                let lengths = recorded.entries.iter().map(|entry| usize::from(entry.length));
                lengths.max().unwrap_or(0)
            }
        }
    }
}

/// One thread's part of a source.
pub struct Workload {
    source: Source,
    maker: Option<NameMaker>,
    random: ChaCha8Rng,
    /// The number of the next query, among those of all parts.
    next: u64,
    parts: u64,
    /// Number of queries of all parts.
    limit: u64,
    random_case: bool,
}

impl Workload {
    /// Takes every `parts`-th query of `source`, beginning with number `part`, up to `limit`
    /// queries of all parts together. `random_case`: each query has random letter case.
    pub fn new(
        source: Source,
        seed: u64,
        part: usize,
        parts: usize,
        limit: Option<u64>,
        random_case: bool,
    ) -> Self {
        let (part, parts) = (part as u64, parts as u64);
        let maker = match &source {
            Source::Made { names, hit_ratio, zone, .. } => {
                Some(NameMaker::new(*names, *hit_ratio, zone, seed, part, parts))
            }
            Source::File(_) => None,
        };
        let random = ChaCha8Rng::seed_from_u64(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let limit = limit.unwrap_or(u64::MAX);
        Self { source, maker, random, next: part, parts, limit, random_case }
    }

    /// Returns true if all queries have been made.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.next >= self.limit
    }

    /// Returns the client of the next query in the capture, if it is from one.
    pub(crate) fn next_client(&self) -> Option<u32> {
        let Source::File(recorded) = &self.source else { return None };
        let index = (self.next % recorded.len() as u64) as usize;
        (recorded.clients > 1).then(|| recorded.origin(index).0)
    }

    /// Returns the instant of the next query in the capture, since its first one.
    pub(crate) fn next_instant(&self) -> Duration {
        let Source::File(recorded) = &self.source else { return Duration::ZERO };
        recorded.origin((self.next % recorded.len() as u64) as usize).1
    }

    /// Skips the next query.
    pub(crate) fn skip(&mut self) {
        self.next += self.parts;
    }

    /// Draws randomness for IDs.
    pub(crate) fn draw(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Writes the next query into `buffer`, which has room for the longest; returns its length.
    pub fn write(&mut self, buffer: &mut [u8]) -> usize {
        let number = self.next;
        self.next += self.parts;
        let random = &mut self.random;
        let length = match &self.source {
            Source::Made { types, style, .. } => {
                let maker = self.maker.as_mut().expect("names that are made up have a maker");
                let name = maker.next(random);
                let rtype = types.pick(random.next_u32());
                style.write(name, rtype, random, buffer).expect("length_max is room for any query")
            }
            Source::File(recorded) => {
                let index = (number % recorded.len() as u64) as usize;
                let packet = recorded.packet(index);
                buffer[..packet.len()].copy_from_slice(packet);
                packet.len()
            }
        };
        if self.random_case {
            style::mix_case(&mut buffer[..length], &mut self.random);
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::names::Names;
    use super::style::{Style, TypeShares};
    use super::{Recorded, Source, Workload};
    use std::sync::Arc;
    use std::time::Duration;

    fn all(source: &Source, parts: usize, limit: u64) -> Vec<Vec<u8>> {
        let part = |part| {
            let mut workload = Workload::new(source.clone(), 1, part, parts, Some(limit), false);
            let mut packets = Vec::new();
            while !workload.is_exhausted() {
                let mut buffer = vec![0; source.length_max()];
                let length = workload.write(&mut buffer);
                packets.push(buffer[..length].to_vec());
            }
            packets
        };
        let mut packets: Vec<_> = (0..parts).flat_map(part).collect();
        packets.sort();
        packets
    }

    #[test]
    fn a_file_is_read_round_and_round_by_all_parts_together() {
        let mut recorded = Recorded::default();
        for number in 0..5 {
            recorded.push(&[number; 20], 0, Duration::ZERO);
        }
        let source = Source::File(Arc::new(recorded));
        let packets = all(&source, 3, 12);
        let firsts: Vec<u8> = packets.iter().map(|packet| packet[0]).collect();
        assert_eq!(firsts, [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn names_of_parts_are_disjoint() {
        let source = Source::Made {
            names: Names::Unique,
            hit_ratio: None,
            zone: b"\x04test\0".to_vec(),
            types: TypeShares::default(),
            style: Style::default(),
        };
        let mut names: Vec<_> =
            all(&source, 4, 1_000).iter().map(|packet| packet[12..40].to_vec()).collect();
        names.dedup();
        assert_eq!(names.len(), 1_000);
    }

    #[test]
    fn letter_case_is_drawn_anew_each_time() {
        let mut recorded = Recorded::default();
        recorded.push(b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x08abcdefgh\0\0\x01\0\x01", 0, Duration::ZERO);
        let source = Source::File(Arc::new(recorded));
        let mut workload = Workload::new(source, 1, 0, 1, None, true);
        let (mut first, mut second) = ([0; 26], [0; 26]);
        workload.write(&mut first);
        workload.write(&mut second);
        assert_ne!(first, second);
        assert!(first.eq_ignore_ascii_case(&second));
    }
}
