//! The PID file of the serving process.
//!
//! Scripts use it where there is no service manager. It is written once this process serves, so
//! after an upgrade it has the new process's PID; at the end a process removes it only if it still
//! has its own PID. If the file cannot be written, onward logs that and serves.

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
        if read_file(&self.0).is_ok_and(|text| text == pid_line().as_bytes()) {
            // An error means that another process has removed it since, which is harmless.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Writes our PID, unless the path is something on which a write could block.
fn write(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    fs::write(path, pid_line())
}

fn pid_line() -> String {
    format!("{}\n", std::process::id())
}
