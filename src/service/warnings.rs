//! Warnings about the files that a running server depends on.
//!
//! Certificates outside their validity are reported at the start and after each reload; files that
//! the process could not read again are reported at the start, before a reload fails for them.

use super::loading;
use super::watch::Seen;
use super::{ONWARD, RELOAD};
use crate::blocking::Steps;
use crate::clock::Clock;
use crate::host;
use crate::log::{Event, Level, Log};
use crate::options::Source;
use crate::server::Server;

/// Warns of certificates that are no longer, or not yet, valid.
pub(super) fn of_certificates(server: &Server, log: Log) {
    let now = Clock::calendar();
    for trouble in server.certificates().iter().filter_map(|entry| entry.trouble(now)) {
        log.event(&Event::new(Level::Warning, ONWARD, &trouble));
    }
}

/// Warns of files that the process's account may not read, so that a reload would fail: the
/// Corefile, its imports, certificates and keys. For a thread that may block.
pub(super) fn of_unreadable(source: &Source, user: &str, seen: &Seen, steps: &Steps, log: Log) {
    if let Err(error) = loading::read_tree(source, steps) {
        let text = format_args!(
            "user {user} cannot read the configuration, so the next reload will fail: {error}"
        );
        log.event(&Event::new(Level::Warning, RELOAD, &text));
    }
    let Ok(sources) = host::sources(steps) else { return };
    for (file, error) in seen.unreadable(&sources) {
        let text = format_args!(
            "user {user} cannot read {}, so the next reload will fail: {error}; give the user's \
             group read permission (chgrp, chmod g+r)",
            file.place.display()
        );
        log.event(&Event::new(Level::Warning, RELOAD, &text));
    }
}
