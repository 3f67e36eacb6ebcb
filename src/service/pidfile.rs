//! The PID file of the serving process.
//!
//! For scripts that work without a service manager. Written once we serve, so during an upgrade the
//! new process overwrites our PID; removed at the end if it still has ours. If it cannot be
//! written, onward serves all the same.

use crate::corefile::read_file;
use crate::log::{Event, Level, Log};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file with our PID, until this is dropped.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes our PID to `path`; if that fails, logs it and returns `None`.
    pub(super) fn write(path: &Path, log: Log) -> Option<Self> {
        match write(path) {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                let path = path.display();
                let text = format_args!("Could not write pidfile: {path}: {error}");
                log.event(&Event::new(Level::Error, "onward", &text).alone());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read_file(&self.0).is_ok_and(|text| text == ours().as_bytes()) {
            // An error means that it was removed meanwhile, which is no fault.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Writes our PID, unless the path is something on which a write could block.
fn write(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    fs::write(path, ours())
}

fn ours() -> String {
    format!("{}\n", std::process::id())
}
