//! The small directives of a server block: what each was told, as plain data.
//!
//! One file per directive: its type, its reader and how it is written. [`Stages`] holds them in
//! the order of the chain, which is the language's and not the file's; [`super::load`] says which
//! reader sees which directive. What they do to a query is the business of `engine::stages`.

pub(super) mod acl;
pub(super) mod bufsize;
pub(super) mod cache;
pub(super) mod cancel;
pub(super) mod chaos;
pub(super) mod errors;
pub(super) mod header;
pub(super) mod loadbalance;
pub(super) mod local;
pub(super) mod log;
pub(super) mod nsid;
pub(super) mod root;
pub(super) mod switches;
pub(super) mod timeouts;

pub use acl::{Acl, AclAction, AclLine};
pub use cache::{CACHED_BYTES, Cache, CacheClass, Prefetch, ServeStale, StaleMode};
pub use chaos::Chaos;
pub use errors::{Consolidation, Errors};
pub use header::{HeaderFlag, HeaderRule};
pub use loadbalance::LoadBalance;
pub use local::Local;
pub use log::LogRule;
pub use timeouts::Timeouts;

use super::error::Complaint;
use super::forward::show;
use super::word::Word;
use crate::corefile::Cursor;
use std::fmt;
use std::time::Duration;

/// The small directives of one server block, in the order in which a query meets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// What relative paths of other directives begin at. `None`: the working directory.
    pub root: Option<String>,
    /// What a query may take in all, where that is less than
    /// [`QUERY_TIMEOUT`](super::QUERY_TIMEOUT).
    pub cancel: Option<Duration>,
    /// How long clients' streams may take.
    pub timeouts: Timeouts,
    /// The name that clients get who ask which server answers.
    pub nsid: Option<String>,
    /// No UDP payload larger than this is asked for or sent.
    pub bufsize: Option<u16>,
    /// Said, and without effect.
    pub debug: bool,
    /// Errors of queries are logged.
    pub errors: Option<Errors>,
    /// Which queries are to be logged. Without effect.
    pub log: Vec<LogRule>,
    /// Names that mean this host are answered here.
    pub local: Option<Local>,
    /// Queries for every type are answered here.
    pub any: bool,
    /// Queries about the server itself are answered here.
    pub chaos: Option<Chaos>,
    /// Addresses in answers change places.
    pub loadbalance: Option<LoadBalance>,
    /// Who may ask what, in the order written.
    pub acl: Vec<Acl>,
    /// Answers are remembered.
    pub cache: Option<Cache>,
    /// Flags that are changed, in the order written.
    pub header: Vec<HeaderRule>,
    /// Positive answers are stripped of what was not asked for.
    pub minimal: bool,
    /// A forwarding loop is to be found.
    pub find_loops: bool,
    /// What is not forwarded is told who it is.
    pub whoami: bool,
}

impl Stages {
    /// Whether one of them makes its block answer: without any the block refuses every query.
    pub fn can_answer(&self) -> bool {
        self.cancel.is_some()
            || self.nsid.is_some()
            || self.bufsize.is_some()
            || self.errors.is_some()
            || !self.log.is_empty()
            || self.local.is_some()
            || self.any
            || self.chaos.is_some()
            || self.loadbalance.is_some()
            || !self.acl.is_empty()
            || self.cache.is_some()
            || !self.header.is_empty()
            || self.minimal
            || self.find_loops
            || self.whoami
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(root) = &self.root {
            writeln!(f, "    root {}", Word(root))?;
        }
        if let Some(cancel) = self.cancel {
            writeln!(f, "    cancel {}", show(cancel))?;
        }
        self.timeouts.fmt(f)?;
        if let Some(nsid) = &self.nsid {
            writeln!(f, "    nsid {}", Word(nsid))?;
        }
        if let Some(bufsize) = self.bufsize {
            writeln!(f, "    bufsize {bufsize}")?;
        }
        switch(f, "debug", self.debug)?;
        self.errors.iter().try_for_each(|errors| errors.fmt(f))?;
        self.log.iter().try_for_each(|rule| rule.fmt(f))?;
        self.local.iter().try_for_each(|local| local.fmt(f))?;
        switch(f, "any", self.any)?;
        self.chaos.iter().try_for_each(|chaos| chaos.fmt(f))?;
        self.loadbalance.iter().try_for_each(|loadbalance| loadbalance.fmt(f))?;
        self.acl.iter().try_for_each(|acl| acl.fmt(f))?;
        self.cache.iter().try_for_each(|cache| cache.fmt(f))?;
        header::write(f, &self.header)?;
        switch(f, "minimal", self.minimal)?;
        switch(f, "loop", self.find_loops)
    }
}

/// Writes `name` on a line of its own if it is `on`.
pub(super) fn switch(f: &mut fmt::Formatter<'_>, name: &str, on: bool) -> fmt::Result {
    if on { writeln!(f, "    {name}") } else { Ok(()) }
}

/// Nothing follows the stanza just read: of some directives a block can have only one.
fn once(cursor: &mut Cursor<'_>) -> Result<(), Complaint> {
    match cursor.stanza() {
        None => Ok(()),
        Some(second) => {
            Err(Complaint::value(second, "this plugin can only be used once per Server Block"))
        }
    }
}
