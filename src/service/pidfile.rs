//! The file that says which process serves.
//!
//! For scripts from before there were service managers. Written once we serve, so whoever takes
//! over writes its own number over ours; removed at the end if it still has ours. A file that
//! cannot be written is no reason not to serve.

use crate::log::{Event, Level, Log};
use std::fs;
use std::path::{Path, PathBuf};

/// A file with our number, until this is dropped.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes our number to `path`; `None`, and a line for the operator, if that fails.
    pub(super) fn write(path: &Path, log: Log) -> Option<Self> {
        match fs::write(path, ours()) {
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
        if fs::read_to_string(&self.0).is_ok_and(|text| text == ours()) {
            // Whoever has removed it meanwhile meant to.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn ours() -> String {
    format!("{}\n", std::process::id())
}
