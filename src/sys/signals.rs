//! Signals, taken synchronously: a thread waits for them, no handler ever runs.
//!
//! The set is blocked in the main thread before any other starts, so that all inherit it and
//! none is interrupted; then one thread calls [`Signals::wait`]. A program that is started
//! inherits the blocked set, and blocks it again anyway.

use std::io;
use std::time::Duration;

use super::cvt;

/// A signal that onward acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is outstanding and leave.
    Stop,
    /// SIGHUP or SIGUSR1: read the configuration again.
    Reload,
    /// SIGUSR2: hand over to the program as it is installed now.
    Upgrade,
}

/// What each signal asks for.
const MEANINGS: [(libc::c_int, Signal); 5] = [
    (libc::SIGTERM, Signal::Stop),
    (libc::SIGINT, Signal::Stop),
    (libc::SIGHUP, Signal::Reload),
    (libc::SIGUSR1, Signal::Reload),
    (libc::SIGUSR2, Signal::Upgrade),
];

/// The blocked set, and those of it that say stop.
pub struct Signals {
    set: libc::sigset_t,
    stops: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in the calling thread and in all that it starts from now on.
    ///
    /// # Errors
    /// The kernel refused the set, which no kernel we know does.
    pub fn block() -> io::Result<Self> {
        let set = set_of(|_| true)?;
        let stops = set_of(|meaning| meaning == Signal::Stop)?;
        // SAFETY: `set` is initialised; the old set is not asked for.
        let code =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if code == 0 { Ok(Self { set, stops }) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    /// Waits for the next signal, for at most so long; `None`: none has come.
    ///
    /// # Errors
    /// The set is invalid, which [`Signals::block`] excludes.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<Signal>> {
        wait_for(&self.set, timeout)
    }

    /// Whether one that says stop has come; it is taken, others stay for [`Signals::wait`].
    ///
    /// # Errors
    /// As [`Signals::wait`].
    pub fn take_stop(&self) -> io::Result<bool> {
        Ok(wait_for(&self.stops, Some(Duration::ZERO))?.is_some())
    }
}

/// The set of those whose meaning is `wanted`.
fn set_of(wanted: impl Fn(Signal) -> bool) -> io::Result<libc::sigset_t> {
    // SAFETY: a sigset_t is made of integers; sigemptyset initialises it properly below.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    cvt(|| {
        // SAFETY: `set` is a live sigset_t.
        unsafe { libc::sigemptyset(&raw mut set) }
    })?;
    for (signal, _) in MEANINGS.iter().filter(|(_, meaning)| wanted(*meaning)) {
        cvt(|| {
            // SAFETY: `set` is initialised and `signal` is a valid number.
            unsafe { libc::sigaddset(&raw mut set, *signal) }
        })?;
    }
    Ok(set)
}

/// Waits for the next signal of `set`, which is blocked, for at most `timeout`.
fn wait_for(set: &libc::sigset_t, timeout: Option<Duration>) -> io::Result<Option<Signal>> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let limit = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the set is initialised, nothing is asked about the signal but its number, and
    // `limit` is null or points to a timespec that outlives the call.
    let signal =
        unsafe { libc::sigtimedwait(std::ptr::from_ref(set), std::ptr::null_mut(), limit) };
    if signal < 0 {
        let error = io::Error::last_os_error();
        // A signal outside the set, or the end of the wait: either way nothing has come.
        let nothing = [Some(libc::EAGAIN), Some(libc::EINTR)];
        return if nothing.contains(&error.raw_os_error()) { Ok(None) } else { Err(error) };
    }
    Ok(MEANINGS.iter().find(|(number, _)| *number == signal).map(|(_, meaning)| *meaning))
}
