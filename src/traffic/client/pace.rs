//! Waiting of a thread for the next send time and for answers.
//!
//! A sleeping thread is woken some ten microseconds after its time, more on a virtual machine. So
//! it sleeps until shortly before the instant ([`Pacer`] arms a timer that wakes its poll) and
//! looks at the clock and the sockets in turn for the rest: the shorter that rest, the less
//! processor time and the less precision.

use crate::moment::Moment;
use crate::sys::timer::Timer;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Events a call of `epoll_wait`; more wait for the next.
const EVENTS: usize = 256;
/// The token of the timer: no socket has so high a number.
const TIMER: Token = Token(usize::MAX);
/// The longest sleep: so often a thread looks for queries that have timed out.
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
    /// A pacer that stops sleeping `spin` before an instant.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(spin: Duration) -> io::Result<Self> {
        let (poll, timer) = (Poll::new()?, Timer::new()?);
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS), timer, spin, armed: None })
    }

    /// To register sockets.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for an event on a socket, but not beyond the instant `next`, if there is one, nor
    /// longer than [`TICK`], nor at all if the caller is `busy`.
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

    /// The numbers of the sockets that the last wait has found ready.
    pub(super) fn ready(&self) -> impl Iterator<Item = usize> {
        self.events.iter().map(|event| event.token()).filter(|&token| token != TIMER).map(|t| t.0)
    }
}
