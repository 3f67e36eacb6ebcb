//! Data that changes while a configuration holds: numbered slots, each with a snapshot.
//!
//! A snapshot is immutable and shared by all workers; a slot is filled whole, between two turns.
//! Stages keep a slot's number and look into it with each query. A new snapshot comes from a
//! loader, which keeps the old one until the last worker has let go of it, so that none of them
//! frees a million records. Until the first one comes, a table holds what the configuration says.

use super::hosts::{Builder, Table};
use crate::config::Config;
use ahash::RandomState;
use std::sync::Arc;

/// The snapshots that one worker works by.
pub struct Data {
    /// For each of the configuration's sources of `hosts`.
    hosts: Vec<Arc<Table>>,
}

impl Data {
    /// Without anything but what `config` says itself. `hasher` is keyed.
    pub fn new(config: &Config, hasher: &RandomState) -> Self {
        let own = config.hosts_sources().into_iter().map(|source| {
            let mut builder = Builder::new(hasher.clone(), source.reverse, 0);
            source.inline.iter().for_each(|line| builder.add(line));
            Arc::new(builder.finish())
        });
        Self { hosts: own.collect() }
    }

    /// Fills a slot; one that is not the configuration's stays as it is not.
    pub fn set(&mut self, slot: usize, table: Arc<Table>) {
        if let Some(own) = self.hosts.get_mut(slot) {
            *own = table;
        }
    }

    /// Returns what is in a slot of the configuration.
    pub fn hosts(&self, slot: usize) -> &Table {
        &self.hosts[slot]
    }
}
