//! Descriptors that are written to.
//!
//! A pipe that nobody reads fills up, and then a write waits for ever. Who must not wait asks
//! before. What is written, and what becomes of it otherwise, is the caller's business.

use super::cvt;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that a pipe takes at once if it takes any (POSIX: `PIPE_BUF`).
pub const PIECE_MAX: usize = 4096;

/// Whether a write of [`PIECE_MAX`] bytes at most would not wait. An error would not either.
pub fn takes_more(descriptor: BorrowedFd<'_>) -> bool {
    let mut asked = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `asked` is one entry, as is said, and lives until the call returns.
    let ready = cvt(|| unsafe { libc::poll(&mut asked, 1, 0) });
    ready.is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::{PIECE_MAX, takes_more};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_pipe_takes_pieces_until_it_is_full_and_again_when_it_was_read() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let mut written = 0;
        while takes_more(writer.as_fd()) {
            writer.write_all(&[b'x'; PIECE_MAX]).unwrap();
            written += PIECE_MAX;
        }
        assert!(written >= PIECE_MAX);
        reader.read_exact(&mut vec![0; written]).unwrap();
        assert!(takes_more(writer.as_fd()));
        drop(reader);
        assert!(takes_more(writer.as_fd()), "the error comes at once");
    }
}
