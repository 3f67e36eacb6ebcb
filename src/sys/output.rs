//! Writable descriptors.
//!
//! A pipe without a reader fills up, and then a write blocks for ever. Callers that must not block
//! check here first.

use super::cvt;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that a writable pipe accepts without blocking (POSIX: `PIPE_BUF`).
pub(crate) const PIECE_MAX: usize = 4096;

/// Returns true if a write of at most [`PIECE_MAX`] bytes would not block, which includes one that
/// fails.
pub(crate) fn takes_more(descriptor: BorrowedFd<'_>) -> bool {
    let mut asked = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `asked` is one entry and lives until the call returns.
    let ready = cvt(|| unsafe { libc::poll(&mut asked, 1, 0) });
    ready.is_ok_and(|ready| ready > 0)
}

/// Returns true for a regular file, where no write waits for a reader.
pub(crate) fn has_no_reader(descriptor: BorrowedFd<'_>) -> bool {
    // SAFETY: all-zero bytes are a valid `stat`, which is plain numbers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is a `stat` to be written, and lives until the call returns.
    let known = cvt(|| unsafe { libc::fstat(descriptor.as_raw_fd(), &mut status) });
    known.is_ok() && status.st_mode & libc::S_IFMT == libc::S_IFREG
}

#[cfg(test)]
mod tests {
    use super::{PIECE_MAX, has_no_reader, takes_more};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_file_has_no_reader_and_a_pipe_has_one() {
        let (_reader, writer) = std::io::pipe().unwrap();
        assert!(!has_no_reader(writer.as_fd()));
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(has_no_reader(file.as_fd()));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!has_no_reader(null.as_fd()));
    }

    #[test]
    fn a_pipe_takes_pieces_until_it_is_full_and_again_after_a_read() {
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
