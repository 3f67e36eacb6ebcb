//! Most frequent names, clients, and failing names.
//!
//! For whoever looks at onward, and only where that is wanted. Queries are sampled, so under load
//! the cost is that of some thousand a second; sketches are of fixed size, whoever asks for what.
//! What is counted is drawn and forgotten by the shell from time to time.

use crate::config::Config;
use crate::engine::sketch::{Sampler, Sketch};
use crate::moment::Moment;
use ahash::RandomState;
use std::net::IpAddr;

/// The sketches, if they are wanted.
#[derive(Default)]
pub struct Watch(Option<Box<Sketches>>);

/// Most frequent keys since the last reset.
pub struct Sketches {
    /// Names that were asked for, in wire format and lower case.
    pub names: Sketch,
    /// Clients: the bytes of their addresses.
    pub clients: Sketch,
    /// Names whose reply was SERVFAIL, in wire format.
    pub failing: Sketch,
    queries: Sampler,
    failures: Sampler,
}

impl Watch {
    /// Sketches for `config`. `hasher` is keyed.
    pub(super) fn new(config: &Config, hasher: &RandomState) -> Self {
        let sketches = || {
            let sketch = || Sketch::new(hasher.clone());
            let (names, clients, failing) = (sketch(), sketch(), sketch());
            let (queries, failures) = (Sampler::default(), Sampler::default());
            Box::new(Sketches { names, clients, failing, queries, failures })
        };
        Self(config.is_shown().then(sketches))
    }

    /// Goes on as `new`, unless both count: then with what has been counted.
    pub(super) fn reload(&mut self, new: &mut Self) {
        if self.0.is_some() != new.0.is_some() {
            std::mem::swap(self, new);
        }
    }

    /// Counts that `client` asks for `name`, which is in lower case, if anything is counted.
    #[inline(always)]
    pub(super) fn asked(&mut self, now: Moment, client: IpAddr, name: &[u8]) {
        if let Some(sketches) = &mut self.0 {
            sketches.count(now, client, name);
        }
    }

    /// Somebody who asked for `name` was told SERVFAIL.
    pub(super) fn failed(&mut self, now: Moment, name: &[u8]) {
        let Some(sketches) = &mut self.0 else { return };
        if let Some(weight) = sketches.failures.next(now) {
            let mut folded = [0; 255];
            let folded = &mut folded[..name.len()];
            folded.copy_from_slice(name);
            folded.make_ascii_lowercase();
            sketches.failing.add(folded, weight);
        }
    }

    /// Returns the snapshot to be drawn.
    pub fn sketches(&mut self) -> Option<&mut Sketches> {
        self.0.as_deref_mut()
    }

    /// The bytes that it has reserved.
    pub(super) fn reserved(&self) -> usize {
        let of = |sketches: &Sketches| {
            let all = [&sketches.names, &sketches.clients, &sketches.failing];
            size_of::<Sketches>() + all.iter().map(|sketch| sketch.reserved()).sum::<usize>()
        };
        self.0.as_deref().map_or(0, of)
    }
}

impl Sketches {
    /// Counts that `client` asks for `name`.
    #[inline(never)]
    fn count(&mut self, now: Moment, client: IpAddr, name: &[u8]) {
        if let Some(weight) = self.queries.next(now) {
            self.names.add(name, weight);
            match client {
                IpAddr::V4(ip) => self.clients.add(&ip.octets(), weight),
                IpAddr::V6(ip) => self.clients.add(&ip.octets(), weight),
            }
        }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        for sketch in [&mut self.names, &mut self.clients, &mut self.failing] {
            sketch.clear();
        }
    }
}
