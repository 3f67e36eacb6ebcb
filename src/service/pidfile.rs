//! The file that says which process serves.
//!
//! For scripts from before there were service managers. Written once we serve, so a script that
//! takes over writes its own number over ours; removed at the end if it still has ours. A file that
//! cannot be written is no reason not to serve.

use crate::corefile::read_file;
use crate::log::{Event, Level, Log};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file with our number, until this is dropped.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes our number to `path`; `None`, and a line for the operator, if that fails.
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
            // If it was removed meanwhile, that was on purpose.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Writes our number, unless there is something that could have its writer wait.
fn write(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    fs::write(path, ours())
}

fn ours() -> String {
    format!("{}\n", std::process::id())
}
