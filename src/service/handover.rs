//! One process hands over to the next, on the same sockets.
//!
//! The next is whatever stands now where this program was started from, with the same arguments.
//! It gets copies of the listening sockets, so that from its first turn on each query is read by
//! one of the two and none is lost; when it says that it serves, this one reads no more and
//! finishes what it has. If it ends before it says so, or says nothing for too long, it is ended
//! and nothing has changed.

use crate::server::Server;
use crate::sys::inherit::{PASSED, READY};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// How long the next process may take to serve: it may have names to look up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the next process is.
pub(super) struct Handover {
    program: PathBuf,
}

impl Handover {
    /// This program, where it was found when it was started: by then the file may be another one.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()? })
    }

    /// Starts the next process and waits until it serves; returns its number.
    ///
    /// # Errors
    /// It could not be started, or does not serve; it is gone then.
    pub(super) fn begin(&self, server: &Server) -> io::Result<u32> {
        let mut passed = server.pass_sockets()?;
        let sockets = passed.list();
        let (ours, theirs) = UnixStream::pair()?;
        let ready = passed.add(&theirs)?;
        let mut child = Command::new(&self.program)
            .args(std::env::args_os().skip(1))
            .env(PASSED, sockets)
            .env(READY, ready.to_string())
            // Those were for this process.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("WATCHDOG_PID")
            .spawn()?;
        drop((passed, theirs));
        match wait(ours) {
            Ok(()) => Ok(child.id()),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }
}

/// Waits for the word that it serves.
fn wait(mut ours: UnixStream) -> io::Result<()> {
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut word = [0];
    match ours.read(&mut word) {
        Ok(1) => Ok(()),
        Ok(_) => Err(io::Error::other("the new process ended before it served")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let what = format!("the new process did not serve within {PATIENCE:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        }
        Err(error) => Err(error),
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
