//! Signals, taken synchronously: a thread waits for them, no handler ever runs.
//!
//! The set is blocked in the main thread before any other starts, so that all inherit it and none
//! is interrupted; then one thread calls [`Signals::wait`]. Other threads wake it with a
//! [`SignalWaker`] when they have news. A started program inherits the blocked set, and blocks it
//! again anyway.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::cvt;

/// A signal that onward handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish outstanding queries and exit.
    Stop,
    /// SIGHUP or SIGUSR1: reload the configuration.
    Reload,
    /// SIGUSR2: upgrade to the installed binary.
    Upgrade,
}

/// Meaning of each signal.
const MEANINGS: [(libc::c_int, Signal); 5] = [
    (libc::SIGTERM, Signal::Stop),
    (libc::SIGINT, Signal::Stop),
    (libc::SIGHUP, Signal::Reload),
    (libc::SIGUSR1, Signal::Reload),
    (libc::SIGUSR2, Signal::Upgrade),
];

/// The blocked set, and the stop signals in it.
pub struct Signals {
    all: Set,
    stops: Set,
    waker: SignalWaker,
}

/// Signals, and a descriptor that is readable while one of them is pending.
struct Set {
    signals: libc::sigset_t,
    pending: OwnedFd,
}

/// Wakes the thread that waits for signals.
#[derive(Clone, Debug)]
pub(crate) struct SignalWaker(Arc<OwnedFd>);

impl SignalWaker {
    fn new() -> io::Result<Self> {
        let fd = cvt(|| {
            // SAFETY: the call takes two integers and returns a new descriptor or −1.
            unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }
        })?;
        // SAFETY: the descriptor is new, so no other owner exists.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })))
    }

    /// Makes [`Signals::wait`] return, now or as soon as it is called.
    pub(crate) fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of a live integer are read. The call fails only after 2^64 rings,
        // when the waker is ringing anyway.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    fn silence(&self) {
        let mut rung = 0u64;
        // SAFETY: eight bytes of a live integer are written. The call fails if the waker was not
        // rung.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut rung).cast(), size_of::<u64>()) };
    }
}

impl Signals {
    /// Blocks the signals in the calling thread and in all that it starts from now on.
    ///
    /// # Errors
    /// The kernel refused the set, which no known kernel does.
    pub fn block() -> io::Result<Self> {
        let all = Set::of(|_| true)?;
        let stops = Set::of(|meaning| meaning == Signal::Stop)?;
        let signals = &raw const all.signals;
        // SAFETY: the set is initialised; the pointer for the old set may be null.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals, std::ptr::null_mut()) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(Self { all, stops, waker: SignalWaker::new()? })
    }

    /// Returns a handle with which other threads wake [`Signals::wait`].
    pub(crate) fn waker(&self) -> SignalWaker {
        self.waker.clone()
    }

    /// Waits for the next signal, for at most `timeout`; `None`: there was none, or the waker was
    /// rung.
    ///
    /// # Errors
    /// The set is invalid, which [`Signals::block`] excludes.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<Signal>> {
        self.wait_for(&self.all, timeout)
    }

    /// Waits for a stop signal; others stay pending for [`Signals::wait`].
    ///
    /// # Errors
    /// As [`Signals::wait`].
    pub(crate) fn wait_for_stop(&self, timeout: Option<Duration>) -> io::Result<bool> {
        Ok(self.wait_for(&self.stops, timeout)?.is_some())
    }

    /// Takes a pending stop signal and returns true if there was one; others stay pending for
    /// [`Signals::wait`].
    ///
    /// # Errors
    /// As [`Signals::wait`].
    pub(crate) fn take_stop(&self) -> io::Result<bool> {
        Ok(self.stops.take()?.is_some())
    }

    fn wait_for(&self, set: &Set, timeout: Option<Duration>) -> io::Result<Option<Signal>> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let readable =
            |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polled = [readable(&set.pending), readable(&self.waker.0)];
        let (place, count) = (polled.as_mut_ptr(), polled.len() as libc::nfds_t);
        // SAFETY: `place` points to `count` live entries, `limit` is null or points to a timespec
        // that outlives the call, and the mask stays as it is.
        let code = unsafe { libc::ppoll(place, count, limit, std::ptr::null()) };
        if code < 0 {
            let error = io::Error::last_os_error();
            // Interrupted by a signal outside the set.
            let is_passing = error.kind() == io::ErrorKind::Interrupted;
            return if is_passing { Ok(None) } else { Err(error) };
        }
        if polled[1].revents != 0 {
            self.waker.silence();
        }
        set.take()
    }
}

impl Set {
    /// Creates the set of the signals whose meaning is `wanted`.
    fn of(wanted: impl Fn(Signal) -> bool) -> io::Result<Self> {
        let signals = set_of(wanted)?;
        let fd = cvt(|| {
            // SAFETY: the set is initialised and only read; −1 asks for a new descriptor.
            unsafe {
                libc::signalfd(-1, &raw const signals, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
            }
        })?;
        // SAFETY: the descriptor is new, so no other owner exists.
        let pending = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
        Ok(Self { signals, pending })
    }

    /// Takes a pending signal, if there is one.
    fn take(&self) -> io::Result<Option<Signal>> {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let set = &raw const self.signals;
        // SAFETY: the set is initialised, the pointer for details may be null, and `now` outlives
        // the call.
        let signal = unsafe { libc::sigtimedwait(set, std::ptr::null_mut(), &raw const now) };
        if signal < 0 {
            let error = io::Error::last_os_error();
            // Interrupted by a signal outside the set, or none is pending.
            let nothing = [Some(libc::EAGAIN), Some(libc::EINTR)];
            return if nothing.contains(&error.raw_os_error()) { Ok(None) } else { Err(error) };
        }
        Ok(MEANINGS.iter().find(|(number, _)| *number == signal).map(|(_, meaning)| *meaning))
    }
}

/// Returns the set of the signals whose meaning is `wanted`.
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

#[cfg(test)]
mod tests {
    use super::Signals;
    use std::time::Duration;

    #[test]
    fn a_ring_wakes_the_waiting_thread_once() {
        let signals = Signals::block().unwrap();
        let waker = signals.waker();
        let long = Some(Duration::from_secs(20));
        std::thread::scope(|scope| {
            scope.spawn(|| waker.ring());
            assert_eq!(signals.wait(long).unwrap(), None);
        });
        waker.ring();
        waker.ring();
        assert!(!signals.wait_for_stop(long).unwrap());
        // Its ring has been consumed: this waits until the time-out.
        assert_eq!(signals.wait(Some(Duration::from_millis(1))).unwrap(), None);
    }
}
