//! Warnings about the files that a running server depends on.
//!
//! Certificates out of their time are told at the start and after each reload; files that the
//! process could not read again are told at the start, before a reload fails for them.

use super::watch::Watch;
use super::{ONWARD, RELOAD};
use crate::cli::{Serve, Source};
use crate::clock::Clock;
use crate::log::{Event, Level, Log};
use crate::server::Server;

/// Certificates that are no longer, or not yet, valid.
pub(super) fn of_certificates(server: &Server, log: Log) {
    let now = Clock::calendar();
    for trouble in server.certificates().iter().filter_map(|entry| entry.trouble(now)) {
        log.event(&Event::new(Level::Warning, ONWARD, &trouble));
    }
}

/// Files that the account that the process runs as may not read, and so cannot read again: the
/// Corefile, what it imports, certificates and keys.
pub(super) fn of_unreadable(options: &Serve, watch: &Watch, log: Log) {
    let Some(user) = options.user.as_deref().filter(|_| options.source != Source::Stdin) else {
        return;
    };
    let read = options.source.load().map_err(|error| error.to_string());
    if let Err(error) = read.and_then(|(name, text)| watch.has_changed(&text, &name)) {
        let text = format_args!("{user} will not be able to read the configuration again: {error}");
        log.event(&Event::new(Level::Warning, RELOAD, &text));
    }
    for (file, error) in watch.unreadable() {
        let text = format_args!(
            "{user} will not be able to read {} again, so that no reload will succeed: {error}; \
             let its group read it (chgrp, chmod g+r)",
            file.place.display()
        );
        log.event(&Event::new(Level::Warning, RELOAD, &text));
    }
}
