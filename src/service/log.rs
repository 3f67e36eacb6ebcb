//! Log output: whole lines, on standard output.
//!
//! The reader may go away or stop reading, and the disk may fill up. None of this is a reason to
//! stop serving, so a line that cannot be written at once is lost, and no caller fails or waits as
//! with `println!`. Log lines are rare; messages about queries come only from the writer's thread,
//! which serves no queries. A file takes all lines at once, anything else as much at a time as a
//! pipe has room for.

use crate::sys::output::{PIECE_MAX, has_no_reader, takes_more};
use std::io::Write;
use std::os::fd::AsFd;

/// Writes `lines`, the last of which has no end yet, as far as the output takes them.
pub(super) fn say(lines: &str) {
    let text = [lines, "\n"].concat();
    let mut output = std::io::stdout().lock();
    let mut rest = text.as_bytes();
    if has_no_reader(output.as_fd()) {
        // Lines that do not fit on the disk are lost.
        let _ = output.write_all(rest).and_then(|()| output.flush());
        return;
    }
    while !rest.is_empty() && takes_more(output.as_fd()) {
        let (piece, behind) = rest.split_at(piece_len(rest));
        if output.write_all(piece).and_then(|()| output.flush()).is_err() {
            return;
        }
        rest = behind;
    }
}

/// Returns the length of as many whole lines as fit into a piece, or of a piece of a longer line.
fn piece_len(text: &[u8]) -> usize {
    let most = &text[..text.len().min(PIECE_MAX)];
    most.iter().rposition(|byte| *byte == b'\n').map_or(most.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::piece_len;
    use crate::sys::output::PIECE_MAX;

    #[test]
    fn a_piece_ends_with_a_line_if_it_can() {
        assert_eq!(piece_len(b"one\ntwo\n"), 8);
        let long = [&[b'x'; 3_000][..], b"\n", &[b'y'; 3_000], b"\n"].concat();
        assert_eq!((piece_len(&long), piece_len(&long[3_001..])), (3_001, 3_001));
        assert_eq!(piece_len(&[b'x'; 2 * PIECE_MAX]), PIECE_MAX);
    }
}
