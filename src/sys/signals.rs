//! Signals, taken synchronously: a thread waits for them, no handler ever runs.
//!
//! The set is blocked in the main thread before any other starts, so that all inherit it and
//! none is interrupted; then one thread calls [`Signals::wait`].

use std::io;

use super::cvt;

/// A signal that onward acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is outstanding and leave.
    Stop,
}

/// The blocked set.
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in the calling thread and in all that it starts from now on.
    ///
    /// # Errors
    /// The kernel refused the set, which no kernel we know does.
    pub fn block() -> io::Result<Self> {
        // SAFETY: a sigset_t is made of integers; sigemptyset initialises it properly below.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        cvt(|| {
            // SAFETY: `set` is a live sigset_t.
            unsafe { libc::sigemptyset(&raw mut set) }
        })?;
        for signal in [libc::SIGTERM, libc::SIGINT] {
            cvt(|| {
                // SAFETY: `set` is initialised and `signal` is a valid number.
                unsafe { libc::sigaddset(&raw mut set, signal) }
            })?;
        }
        // SAFETY: `set` is initialised; the old set is not asked for.
        let code =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if code == 0 { Ok(Self { set }) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// The set is invalid, which [`Signals::block`] excludes.
    pub fn wait(&self) -> io::Result<Signal> {
        let mut signal = 0;
        // SAFETY: the set is initialised and `signal` is a live integer to fill.
        let code = unsafe { libc::sigwait(&raw const self.set, &raw mut signal) };
        if code == 0 { Ok(Signal::Stop) } else { Err(io::Error::from_raw_os_error(code)) }
    }
}
