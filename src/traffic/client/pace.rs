//! Wait of a thread for the next send time and for responses.
//!
//! A sleeping thread is woken some ten microseconds late, more on a virtual machine. So it sleeps
//! until shortly before the send time ([`Pacer`] arms a timer that wakes its poll) and busy-polls
//! the clock and the sockets for the rest: the shorter that rest, the lower are the processor time
//! and the precision.

use crate::moment::Moment;
use crate::sys::timer::Timer;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Events per call of `epoll_wait`; more wait for the next.
const EVENTS: usize = 256;
/// The token of the timer: no socket has such a high number.
const TIMER: Token = Token(usize::MAX);
/// Maximum sleep, and so the interval of checks for timed-out queries.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The poll of a thread and its timer.
pub(super) struct Pacer {
    poll: Poll,
    events: Events,
    timer: Timer,
    spin: Duration,
    /// Last setting of the timer.
    armed: Option<Moment>,
}

impl Pacer {
    /// Creates a pacer that stops sleeping `spin` before a send time.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(spin: Duration) -> io::Result<Self> {
        let (poll, timer) = (Poll::new()?, Timer::new()?);
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS), timer, spin, armed: None })
    }

    /// Returns the registry for sockets.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for an event on a socket, but not beyond the time `next`, if there is one, nor longer
    /// than [`TICK`], nor at all if the caller is `busy`.
    ///
    /// # Errors
    /// Polling failed, which is not the fault of any socket.
    pub(super) fn wait(&mut self, now: Moment, next: Option<Moment>, busy: bool) -> io::Result<()> {
        let gap = next.map(|next| next.since(now));
        let awake = busy || gap.is_some_and(|gap| gap <= self.spin);
        if let Some(gap) = gap.filter(|_| !awake && self.armed != next) {
            self.timer.arm(gap - self.spin)?;
            self.armed = next;
        }
        let patience = if awake { Duration::ZERO } else { TICK };
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the numbers of the sockets that the last wait has found ready.
    pub(super) fn ready(&self) -> impl Iterator<Item = usize> {
        self.events.iter().map(|event| event.token()).filter(|&token| token != TIMER).map(|t| t.0)
    }
}
