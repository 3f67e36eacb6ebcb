//! Signatures that a worker keeps, in a table of fixed size for each server block.
//!
//! A signature is found by a keyed hash of everything that it covers but its times, so that the
//! same RRset is signed once however often it is asked for. Four places are tried for each hash;
//! if all are taken, the oldest signature gives way that was not asked for again, so that the
//! signatures of many names that are asked for once do not displace the others.

use crate::config::{Config, Dnssec};
use ahash::RandomState;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Time in seconds before its end at which a signature is made anew.
const RENEWED_BEFORE: u32 = 2 * 86_400;
/// Places for each hash.
const WAYS: usize = 4;

/// Counters of a server block's signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnssecStats {
    /// Kept signatures.
    pub entries: u64,
    /// Signatures that were found.
    pub hits: u64,
    /// Signatures that were not found.
    pub misses: u64,
    /// Signatures that were not made because the worker's time for them was spent.
    pub refused: u64,
}

impl DnssecStats {
    /// Adds another's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.hits += other.hits;
        self.misses += other.misses;
        self.refused += other.refused;
    }
}

/// A place of the table.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// Hash of the signed data; 0: free.
    hash: u64,
    inception: u32,
    expiration: u32,
    /// [`Table::find`] has returned the signature since it was made, or since all places of its
    /// hash were last in use.
    is_used: bool,
}

/// The signatures of a server block.
pub(crate) struct Table {
    slots: Box<[Slot]>,
    signatures: Box<[u8]>,
    signature_len: usize,
    /// The counters.
    pub(crate) stats: DnssecStats,
}

impl Table {
    /// Creates a table for about `capacity` signatures of at most `signature_len` octets.
    pub(crate) fn new(capacity: usize, signature_len: usize) -> Self {
        let slots = capacity.div_ceil(WAYS).max(1) * WAYS;
        Self {
            slots: vec![Slot::default(); slots].into(),
            signatures: vec![0; slots * signature_len].into(),
            signature_len,
            stats: DnssecStats::default(),
        }
    }

    fn places(&self, hash: u64) -> std::ops::Range<usize> {
        let first = (hash % (self.slots.len() / WAYS) as u64) as usize * WAYS;
        first..first + WAYS
    }

    /// Returns the times of the signature for this hash, if it can still be used at `now`, in
    /// seconds since 1970: inception, and expiration.
    pub(crate) fn find(&mut self, hash: u64, now: u32) -> Option<(u32, u32)> {
        let is_good = |slot: &Slot| {
            slot.hash == hash
                && now.wrapping_sub(slot.inception) as i32 >= 0
                && slot.expiration.wrapping_sub(now) as i32 > RENEWED_BEFORE as i32
        };
        let place = self.places(hash).find(|place| is_good(&self.slots[*place]));
        let found = if place.is_some() { &mut self.stats.hits } else { &mut self.stats.misses };
        *found += 1;
        let slot = &mut self.slots[place?];
        slot.is_used = true;
        Some((slot.inception, slot.expiration))
    }

    /// Returns the signature for this hash.
    pub(crate) fn signature(&self, hash: u64, len: usize) -> Option<&[u8]> {
        if len > self.signature_len {
            return None;
        }
        let place = self.places(hash).find(|place| self.slots[*place].hash == hash)?;
        let begin = place * self.signature_len;
        self.signatures.get(begin..begin + len)
    }

    /// Returns the room for a new signature with this hash; [`Table::find`] finds it once it is
    /// written. `None`: it is longer than those of the table, which a reload has replaced.
    pub(crate) fn make_room(
        &mut self,
        hash: u64,
        len: usize,
        times: (u32, u32),
    ) -> Option<&mut [u8]> {
        if len > self.signature_len {
            return None;
        }
        let places = self.places(hash);
        let slots = &mut self.slots[places.clone()];
        if slots.iter().all(|slot| slot.is_used) {
            slots.iter_mut().for_each(|slot| slot.is_used = false);
        }
        let (newest, slots) = (times.0, &*slots);
        let age = |slot: &Slot| newest.wrapping_sub(slot.inception) as i32;
        let same = slots.iter().position(|slot| slot.hash == hash);
        let free = slots.iter().position(|slot| slot.hash == 0);
        let unused = (0..slots.len()).filter(|place| !slots[*place].is_used);
        let oldest = unused.max_by_key(|place| age(&slots[*place]));
        let place = places.start + same.or(free).or(oldest)?;
        self.stats.entries += u64::from(self.slots[place].hash == 0);
        let (inception, expiration) = times;
        self.slots[place] = Slot { hash, inception, expiration, is_used: false };
        let begin = place * self.signature_len;
        Some(&mut self.signatures[begin..begin + len])
    }

    /// Removes the signature with this hash, which could not be made.
    pub(crate) fn forget(&mut self, hash: u64) {
        for place in self.places(hash) {
            if self.slots[place].hash == hash {
                self.slots[place] = Slot::default();
                self.stats.entries -= 1;
            }
        }
    }

    fn reserved(&self) -> usize {
        size_of_val(&*self.slots) + self.signatures.len()
    }
}

/// Tables of all server blocks; `None` for those that sign nothing.
#[derive(Default)]
pub(crate) struct Signatures {
    tables: Vec<Option<Box<Table>>>,
    /// Fingerprints of their settings.
    prints: Vec<u64>,
}

impl Signatures {
    /// Creates empty tables. `signature_lens`: length of the longest signature of each block; 0: it
    /// signs nothing.
    pub(crate) fn new(config: &Config, signature_lens: impl Iterator<Item = usize>) -> Self {
        let settings = config.blocks.iter().map(|block| block.stages.dnssec.as_ref());
        let tables = settings.clone().zip(signature_lens).map(|(settings, len)| {
            let capacity = settings.filter(|_| len > 0)?.capacity as usize;
            Some(Box::new(Table::new(capacity, len)))
        });
        let fingerprint = |settings: Option<&Dnssec>| {
            let mut hasher = DefaultHasher::new();
            settings
                .map(|settings| (&settings.zones, &settings.keys, settings.capacity))
                .hash(&mut hasher);
            hasher.finish()
        };
        Self { tables: tables.collect(), prints: settings.map(fingerprint).collect() }
    }

    /// Takes over the tables of `new`, except for blocks whose settings are those of an earlier
    /// block, which keep their signatures. Leaves the discarded tables in `new`. `hasher` is keyed.
    pub(crate) fn reload(&mut self, new: &mut Self, hasher: &RandomState) {
        let mut by_print = HashMap::with_hasher(hasher.clone());
        for (number, table) in
            self.tables.iter_mut().enumerate().filter(|(_, table)| table.is_some())
        {
            by_print.insert(self.prints[number], table);
        }
        for (number, table) in
            new.tables.iter_mut().enumerate().filter(|(_, table)| table.is_some())
        {
            if let Some(own) = by_print.remove(&new.prints[number]) {
                std::mem::swap(own, table);
            }
        }
        drop(by_print);
        std::mem::swap(self, new);
    }

    /// Returns the table of a server block.
    pub(crate) fn of(&mut self, block: usize) -> Option<&mut Table> {
        self.tables.get_mut(block)?.as_deref_mut()
    }

    /// Returns the counters of the blocks that sign.
    pub(crate) fn stats(&self) -> impl Iterator<Item = DnssecStats> {
        self.tables.iter().flatten().map(|table| table.stats)
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.tables.iter().flatten().map(|table| table.reserved()).sum()
    }
}
