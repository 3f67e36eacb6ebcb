//! The kernel and the library of HTTP/2: the only module with `unsafe`.
//!
//! Each submodule is a thin, safe layer over one kernel facility: datagram batches ([`mmsg`]),
//! their socket addresses and control messages ([`address`], [`control`], [`pktinfo`]), sockets
//! ([`socket`]), the distribution of datagrams in a group of sockets ([`steer`]), inherited sockets
//! ([`inherit`]), accounts ([`account`]), the sandbox of threads ([`confine`]), network interfaces
//! ([`interfaces`]), cores ([`cpu`]), limits of the process and host ([`limits`]), signals
//! ([`signals`]), outputs ([`output`]), timers ([`timer`]), pages ([`memory`]), shared
//! words ([`words`]), the kernel's randomness ([`random`]), and sessions of HTTP/2 ([`nghttp2`]).
//! It knows nothing of DNS and uses no other module of the crate. `cvt` is the one place that turns
//! −1 into an [`std::io::Error`] and retries EINTR.

#![allow(unsafe_code, reason = "this room is where the kernel and C are called")]

pub mod account;
pub(crate) mod address;
pub(crate) mod confine;
pub(crate) mod control;
pub mod cpu;
pub mod inherit;
pub(crate) mod interfaces;
pub mod limits;
pub(crate) mod memory;
pub mod mmsg;
pub(crate) mod nghttp2;
pub(crate) mod output;
pub(crate) mod pktinfo;
pub(crate) mod process;
pub(crate) mod random;
pub mod signals;
pub mod socket;
pub(crate) mod steer;
pub(crate) mod thread;
#[cfg(feature = "traffic")]
pub(crate) mod timer;
pub(crate) mod words;

use std::io;

/// Turns a system call's −1 into the error in `errno`, and repeats the call after EINTR.
fn cvt<N>(mut call: impl FnMut() -> N) -> io::Result<usize>
where
    usize: TryFrom<N>,
{
    loop {
        if let Ok(value) = usize::try_from(call()) {
            return Ok(value);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cvt;
    use std::io;

    fn set_errno(value: i32) -> libc::c_int {
        // SAFETY: __errno_location returns this thread's errno, valid for the thread's life.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above; no other thread writes this thread's errno.
        unsafe { *errno = value };
        -1
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut calls = 0;
        let result = cvt(|| {
            calls += 1;
            if calls < 3 { set_errno(libc::EINTR) } else { 7 }
        });
        assert_eq!((result.unwrap(), calls), (7, 3));
    }

    #[test]
    fn minus_one_becomes_errno() {
        let error = cvt(|| set_errno(libc::EADDRINUSE)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
