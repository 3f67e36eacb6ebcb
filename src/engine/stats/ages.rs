//! Ages of upstream connections when they were closed, by the reason for closing.
//!
//! The pool counts each connection once, when it closes it. The metrics and the tests compare the
//! sums with the pool's other counters.

use crate::engine::histogram::add_each;
use std::time::Duration;

/// Reason why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Reason {
    /// Idle for `expire`.
    Expired,
    /// As old as `max_age` allows.
    Aged,
    /// Idle beyond `max_idle_conns`.
    Spare,
    /// The pool was larger than it needed to be.
    Surplus,
    /// A query on it timed out.
    Silent,
    /// The socket failed, or the upstream closed the connection.
    Failed,
    /// The pools were stopped.
    Stopped,
    /// Others failed, so it may lead to a failed backend.
    Distrusted,
    /// Renewed by `rebalance` because of its age.
    Rebalanced,
    /// A burst of responses on it matched no query.
    Mismatched,
}

pub(crate) const REASONS: usize = Reason::Mismatched as usize + 1;
/// Names of the reasons in metrics.
pub(crate) const REASON_NAMES: [&str; REASONS] = [
    "expire",
    "max_age",
    "max_idle_conns",
    "surplus",
    "timeout",
    "error",
    "stop",
    "distrust",
    "rebalance",
    "mismatch",
];
/// Upper edges of the classes of age, in seconds.
pub(crate) const AGES: [u32; 11] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600];

/// Ages of connections when they were closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Number by [`AGES`], and of older ones.
    pub counts: [u64; AGES.len() + 1],
    /// Sum in milliseconds.
    pub(crate) sum_ms: u64,
}

impl Ages {
    /// Counts one connection.
    pub(crate) fn add(&mut self, age: Duration) {
        let place = AGES.partition_point(|edge| Duration::from_secs((*edge).into()) < age);
        self.counts[place] += 1;
        self.sum_ms += age.as_millis() as u64;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add_each(&mut self.counts, &other.counts);
        self.sum_ms += other.sum_ms;
    }
}
