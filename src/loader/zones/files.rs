//! Watches the files that a zone is read from.
//!
//! Files have changed when two checks at least [`SETTLE`] apart find the same new modification
//! time, size and inode, so that a half-written file is left alone, and a read of them counts only
//! if nothing changed during the read.

use crate::loader::file::Signature;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Minimum time between two checks with equal results, before a changed file is read.
pub(in crate::loader) const SETTLE: Duration = Duration::from_millis(100);

/// Files with their signatures; `None`: the file is missing.
pub(in crate::loader) type Files = Vec<(PathBuf, Option<Signature>)>;

/// The files of a zone.
#[derive(Default)]
pub(in crate::loader) struct Watch {
    /// The files at the last read, successful or not.
    seen: Files,
    /// The files at the last check, if they had changed.
    candidate: Option<Files>,
}

impl Watch {
    /// Returns true if a change was found once, and the next check decides.
    pub(in crate::loader) fn is_waiting(&self) -> bool {
        self.candidate.is_some()
    }

    /// Makes the file be read as soon as two checks agree.
    pub(in crate::loader) fn expect(&mut self, place: &Path) {
        (self.seen, self.candidate) = (vec![(place.to_owned(), None)], None);
    }

    /// Returns true if the files have signatures other than at the last read.
    pub(in crate::loader) fn differs(&mut self) -> bool {
        let found = self.found();
        self.candidate = None;
        !self.is_as_seen(&found)
    }

    /// Checks the files. Returns true if they have changed and two checks agree.
    pub(in crate::loader) fn has_changed(&mut self) -> bool {
        let found = self.found();
        if self.is_as_seen(&found) {
            self.candidate = None;
            return false;
        }
        if self.candidate.as_ref() != Some(&found) {
            self.candidate = Some(found);
            return false;
        }
        self.candidate = None;
        true
    }

    /// Adopts the files that were read. Returns false if one of them has changed during the read,
    /// which then is repeated. `now`: when the read began; `is_first`: the result counts anyway.
    pub(in crate::loader) fn adopt(
        &mut self,
        mut files: Files,
        now: Duration,
        is_first: bool,
    ) -> bool {
        let is_stable =
            files.iter().all(|(path, signature)| Signature::of(path).ok() == *signature);
        if !is_stable && !is_first {
            self.candidate = Some(Vec::new());
            return false;
        }
        for (_, signature) in &mut files {
            *signature = signature.map(|signature| signature.seen_at(now));
        }
        self.seen = files;
        true
    }

    fn found(&self) -> Files {
        self.seen.iter().map(|(path, _)| (path.clone(), Signature::of(path).ok())).collect()
    }

    fn is_as_seen(&self, found: &Files) -> bool {
        self.seen.iter().zip(found).all(|(seen, found)| match (&seen.1, &found.1) {
            (Some(seen), Some(found)) => seen.stands_for(found),
            (None, None) => true,
            _ => false,
        })
    }
}
