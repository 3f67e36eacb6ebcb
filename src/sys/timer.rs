//! A timer that wakes a poll, to the microsecond.
//!
//! `epoll_wait` takes whole milliseconds, and a sleeping thread is woken with up to 50 µs of slack;
//! a `timerfd` has neither limit. It is armed with a delay from now, becomes readable once, and
//! arming it anew replaces the old delay. Its purpose is up to the owner.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::cvt;

/// A one-shot timer with a descriptor, readable from its expiry until it is armed again.
pub(crate) struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// Creates a timer that is not armed.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        let fd = cvt(|| {
            // SAFETY: the call takes two integers and returns a new descriptor or −1.
            unsafe {
                libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
            }
        })?;
        // SAFETY: the descriptor is new, so it has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
        Ok(Self { fd })
    }

    /// Arms the timer to expire `delay` from now, at once if that is zero.
    ///
    /// # Errors
    /// The kernel refuses the delay, because it is too long to be represented.
    pub(crate) fn arm(&self, delay: Duration) -> io::Result<()> {
        // All zero would disarm it.
        let delay = delay.max(Duration::from_nanos(1));
        let value = libc::timespec {
            tv_sec: delay.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: delay.subsec_nanos().into(),
        };
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval: never, it_value: value };
        cvt(|| {
            // SAFETY: `setting` outlives the call; the pointer for the old setting may be null.
            unsafe {
                libc::timerfd_settime(
                    self.fd.as_raw_fd(),
                    0,
                    &raw const setting,
                    std::ptr::null_mut(),
                )
            }
        })
        .map(drop)
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::Timer;
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    #[test]
    fn a_timer_wakes_a_poll_once_for_each_time_it_is_armed() {
        let timer = Timer::new().unwrap();
        let mut poll = Poll::new().unwrap();
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(7), Interest::READABLE).unwrap();
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "it was not armed");
        for delay in [Duration::ZERO, Duration::from_micros(300)] {
            timer.arm(delay).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(7)]);
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty(), "it went off twice");
        }
    }
}
