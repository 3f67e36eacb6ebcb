//! A server block while the configuration is read.
//!
//! Readers of directives return settings; a [`Draft`] collects those of one server block until all
//! blocks are known, because listeners, sizes and some warnings depend on all of them.

use super::forward::Stanza;
use super::served::Key;
use super::stages::Places;
use super::{BindAddress, Stages};

/// A server block while the configuration is read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) keys: Vec<Key>,
    /// `None` without `bind`.
    pub(super) bind: Option<Vec<BindAddress>>,
    pub(super) stages: Stages,
    /// Places of the directives in `stages`.
    pub(super) places: Places,
    /// True if a directive reads labels of `metadata`.
    pub(super) reads_labels: bool,
    pub(super) forwards: Vec<Stanza>,
}
