//! Upgrade: a new process takes over the sockets of this one.
//!
//! The new process runs the binary that is now at the path where this program was started, with the
//! same arguments. It gets copies of the listening sockets, so that from its first turn on each
//! query is read by one of the two and none is lost. It also gets the secret of the keys for
//! clients and the entries of the caches, over a socket that only the two processes have. When it
//! reports that it serves, this process reads no more and finishes its outstanding queries. If the
//! new process ends before that, or reports nothing for too long, it is killed and nothing has
//! changed. A stop signal meanwhile stops both processes.

use crate::server::Server;
use crate::sys::inherit::{PASSED, READY};
use crate::warm::handover::Sender;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// Maximum time until the new process serves: it may have to look up names.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Interval of checks for a stop signal meanwhile.
const SLICE: Duration = Duration::from_millis(100);

/// Program of the new process.
pub(super) struct Handover {
    program: PathBuf,
}

/// A new process that serves.
pub(super) struct Successor {
    /// Its process ID.
    pub(super) process: u32,
    /// The caches that it has, and the socket to it.
    sending: Option<(Sender, UnixStream)>,
}

impl Successor {
    /// Sends the cache entries that have changed since it serves; this process serves no more.
    pub(super) fn send_changes(self) {
        if let Some((mut sender, mut to)) = self.sending {
            // Without them their names are misses.
            let _ = sender.send_changes(&mut to);
        }
    }
}

impl Handover {
    /// Describes this program at the path where it was started: the file may be new by then.
    ///
    /// # Errors
    /// The path is unknown to the kernel.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()? })
    }

    /// Starts the new process and waits until it serves; returns it, or `None` if `stop`, which is
    /// polled meanwhile, returns true.
    ///
    /// # Errors
    /// The new process could not be started, or does not serve; it has been killed then.
    pub(super) fn begin(
        &self,
        server: &Server,
        stop: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<Option<Successor>> {
        let mut passed = server.pass_sockets()?;
        let sockets = passed.list();
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(server.secret())?;
        Sender::announce(&mut ours)?;
        let ready = passed.add(&theirs)?;
        let mut child = Command::new(&self.program)
            .args(std::env::args_os().skip(1))
            .env(PASSED, sockets)
            .env(READY, ready.to_string())
            // They applied to this process.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("WATCHDOG_PID")
            .spawn()?;
        drop((passed, theirs));
        let mut sender = server.sender();
        let is_over = AtomicBool::new(false);
        let (served, sent) = std::thread::scope(|scope| {
            let to = ours.try_clone();
            let (sender, is_over) = (&mut sender, &is_over);
            // Without a thread, the new process begins with empty caches.
            let sending = std::thread::Builder::new()
                .spawn_scoped(scope, move || sender.send(&mut to?, || !is_over.load(Relaxed)));
            let served = wait(&mut ours, stop);
            is_over.store(true, Relaxed);
            if !matches!(served, Ok(true)) {
                end(&mut child);
            }
            (served, sending.map(ScopedJoinHandle::join))
        });
        // A process of another version reads no entries.
        let sending = matches!(sent, Ok(Ok(Ok(())))).then_some((sender, ours));
        Ok(served?.then(|| Successor { process: child.id(), sending }))
    }
}

/// Waits for the message that the new process serves; false: `stop` returned true.
fn wait(ours: &mut UnixStream, mut stop: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    ours.set_read_timeout(Some(SLICE))?;
    for _ in 0..TIMEOUT.as_millis() / SLICE.as_millis() {
        let outcome = ours.read(&mut [0]);
        if stop()? {
            return Ok(false);
        }
        match outcome {
            Ok(1) => return Ok(true),
            Ok(_) => return Err(io::Error::other("the new process exited before it served")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let what = format!("the new process did not serve within {TIMEOUT:?}");
    Err(io::Error::new(io::ErrorKind::TimedOut, what))
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}
