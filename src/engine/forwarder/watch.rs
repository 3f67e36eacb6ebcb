//! Most frequent names, clients, and failing names.
//!
//! The lists are for the status page and `top`, and kept only if they are enabled. Queries are
//! sampled, so that under load the cost is that of some thousand per second; sketches have a fixed
//! size. The shell reads and clears them from time to time.

use crate::config::Config;
use crate::engine::sketch::{Sampler, Sketch};
use crate::moment::Moment;
use ahash::RandomState;
use std::net::IpAddr;

/// The sketches, if they are enabled.
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
    /// Creates sketches for `config`. `hasher` is keyed.
    pub(super) fn new(config: &Config, hasher: &RandomState) -> Self {
        let sketches = || {
            let sketch = || Sketch::new(hasher.clone());
            let (names, clients, failing) = (sketch(), sketch(), sketch());
            let (queries, failures) = (Sampler::default(), Sampler::default());
            Box::new(Sketches { names, clients, failing, queries, failures })
        };
        Self(config.is_shown().then(sketches))
    }

    /// Replaces the sketches by `new`, unless both are enabled: then the old counts are kept.
    pub(super) fn reload(&mut self, new: &mut Self) {
        if self.0.is_some() != new.0.is_some() {
            std::mem::swap(self, new);
        }
    }

    /// Counts a query of `client` for `name`, in lower case, if the sketches are enabled.
    #[inline(always)]
    pub(super) fn asked(&mut self, now: Moment, client: IpAddr, name: &[u8]) {
        if let Some(sketches) = &mut self.0 {
            sketches.count(now, client, name);
        }
    }

    /// Counts a SERVFAIL reply to a query for `name`.
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

    /// Returns the sketches, if they are enabled.
    pub fn sketches(&mut self) -> Option<&mut Sketches> {
        self.0.as_deref_mut()
    }

    /// Returns the bytes that the sketches have reserved.
    pub(super) fn reserved(&self) -> usize {
        let of = |sketches: &Sketches| {
            let all = [&sketches.names, &sketches.clients, &sketches.failing];
            size_of::<Sketches>() + all.iter().map(|sketch| sketch.reserved()).sum::<usize>()
        };
        self.0.as_deref().map_or(0, of)
    }
}

impl Sketches {
    /// Counts a query of `client` for `name`.
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

    /// Clears the sketches.
    pub fn clear(&mut self) {
        for sketch in [&mut self.names, &mut self.clients, &mut self.failing] {
            sketch.clear();
        }
    }
}
