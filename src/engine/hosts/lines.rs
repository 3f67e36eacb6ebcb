//! Lines of a text that is read in pieces, and the words of a line of a hosts file.
//!
//! A line within one piece is read in place; others are assembled in a bounded buffer. The
//! conversion of words to addresses and names is here too.

use crate::config::Name;
use crate::engine::message::NAME_LEN_MAX;
use std::net::{IpAddr, Ipv6Addr};

/// Maximum length of a line; the reference stops at the first one above 64 KiB.
pub(super) const LINE_MAX: usize = 1 << 20;
/// Maximum length of a label (RFC 1035 §3.1).
const LABEL_MAX: usize = 63;

/// Splitter of a text into lines.
#[derive(Default)]
pub(super) struct Lines {
    /// Beginning of an incomplete line.
    begun: Vec<u8>,
    /// The incomplete line is too long.
    is_too_long: bool,
}

pub(super) enum Line<'a> {
    /// A line without its line end.
    Whole(&'a [u8]),
    /// Longer than [`LINE_MAX`].
    TooLong,
}

impl Lines {
    /// Takes the next piece of the text; `take` gets each line that ends in it.
    pub(super) fn read(&mut self, piece: &[u8], mut take: impl FnMut(Line<'_>)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            rest = &behind[1..];
            if self.begun.is_empty() && !self.is_too_long && line.len() <= LINE_MAX {
                take(Line::Whole(line));
            } else {
                self.begin(line);
                self.end(&mut take);
            }
        }
        self.begin(rest);
    }

    /// Ends the text; `take` gets its last line.
    pub(super) fn end(&mut self, mut take: impl FnMut(Line<'_>)) {
        let line = if self.is_too_long { Line::TooLong } else { Line::Whole(&self.begun) };
        take(line);
        self.begun.clear();
        self.is_too_long = false;
    }

    fn begin(&mut self, part: &[u8]) {
        self.is_too_long |= self.begun.len() + part.len() > LINE_MAX;
        if self.is_too_long {
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

/// Returns the words of a line without its comment.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = line.iter().position(|byte| *byte == b'#').unwrap_or(line.len());
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    line[..end].split(is_space).filter(|word| !word.is_empty())
}

/// Parses an address; a zone behind `%` is dropped, and an IPv4-mapped IPv6 address becomes IPv4.
pub(super) fn address(word: &[u8]) -> Option<IpAddr> {
    let end = word.iter().position(|byte| *byte == b'%').unwrap_or(word.len());
    let text = std::str::from_utf8(&word[..end]).ok()?;
    let is_v6 = text.contains(':');
    if is_v6 {
        Some(IpAddr::from(text.parse::<Ipv6Addr>().ok()?).to_canonical())
    } else {
        text.parse().ok()
    }
}

/// Appends the name `word` to `bytes`, lower-cased and in wire format. Returns false and appends
/// nothing if it is no name or has bytes other than printable ASCII.
pub(super) fn append_name(bytes: &mut Vec<u8>, word: &[u8]) -> bool {
    let start = bytes.len();
    let is_name = append_labels(bytes, word) && bytes.len() - start <= NAME_LEN_MAX;
    if !is_name {
        bytes.truncate(start);
    }
    is_name
}

fn append_labels(bytes: &mut Vec<u8>, word: &[u8]) -> bool {
    if !word.iter().all(u8::is_ascii_graphic) {
        return false;
    }
    if word.contains(&b'\\') {
        let name = std::str::from_utf8(word).ok().and_then(|text| Name::parse(text).ok());
        name.iter().for_each(|name| bytes.extend_from_slice(name.as_wire()));
        return name.is_some();
    }
    let relative = word.strip_suffix(b".").unwrap_or(word);
    if !relative.is_empty() {
        for label in relative.split(|byte| *byte == b'.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return false;
            }
            bytes.push(label.len() as u8);
            bytes.extend(label.iter().map(u8::to_ascii_lowercase));
        }
    }
    bytes.push(0);
    true
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Line, Lines, address, append_name, words};

    fn lines(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut take = |line: Line<'_>| {
            found.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        };
        pieces.iter().for_each(|piece| lines.read(piece, &mut take));
        lines.end(&mut take);
        found
    }

    #[test]
    fn lines_are_the_same_wherever_the_text_is_cut() {
        let text = b"one\n\ntwo\r\nthree";
        let whole = lines(&[text]);
        let expected: [&[u8]; 4] = [b"one", b"", b"two\r", b"three"];
        assert!(whole.iter().map(|line| line.as_deref().unwrap()).eq(expected));
        for place in 0..=text.len() {
            assert_eq!(lines(&[&text[..place], &text[place..]]), whole, "{place}");
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(lines(&bytes), whole);
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_and_the_next_is_read() {
        let long = vec![b'a'; LINE_MAX];
        let longer = vec![b'a'; LINE_MAX + 1];
        assert_eq!(lines(&[&long, b"\nb"]), [Some(long.clone()), Some(b"b".to_vec())]);
        for pieces in [vec![&longer[..], b"\nb"], vec![&longer[..5], &longer[5..], b"\nb"]] {
            assert_eq!(lines(&pieces), [None, Some(b"b".to_vec())]);
        }
        assert_eq!(lines(&[&[&longer[..], b"\nb"].concat()]), [None, Some(b"b".to_vec())]);
    }

    #[test]
    fn words_end_at_white_space_and_comments() {
        let line = b" \t192.0.2.1\ta.test\x0b\x0c b.test \r";
        let found: Vec<&[u8]> = words(line).collect();
        assert_eq!(found, [&b"192.0.2.1"[..], b"a.test", b"b.test"]);
        assert_eq!(words(b"192.0.2.1#a.test").count(), 1);
        assert_eq!(words(b"# 192.0.2.1 a.test").count(), 0);
    }

    #[test]
    fn addresses_are_those_of_the_reference() {
        let shown = |word: &str| address(word.as_bytes()).map(|address| address.to_string());
        for (word, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.9", "192.0.2.9"),
            ("fe80::1%eth0", "fe80::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("::", "::"),
        ] {
            assert_eq!(shown(word).as_deref(), Some(expected));
        }
        let bad = ["", "192.0.2.256", "192.0.2.05", "127.1", "192.0.2.1:53", "192.0.2.0/24", "a"];
        for word in bad.into_iter().chain(["\u{feff}192.0.2.1", "[::1]", "%eth0"]) {
            assert_eq!(shown(word), None, "{word}");
        }
    }

    #[test]
    fn names_are_absolute_lower_case_and_as_long_as_names_may_be() {
        let wire = |word: &[u8]| {
            let mut bytes = b"before".to_vec();
            let is_name = append_name(&mut bytes, word);
            assert!(bytes.starts_with(b"before") && is_name == (bytes.len() > 6));
            is_name.then(|| bytes.split_off(6))
        };
        for (word, expected) in [
            (&b"A.Test"[..], &b"\x01a\x04test\0"[..]),
            (b"a.test.", b"\x01a\x04test\0"),
            (b"un_der-1", b"\x08un_der-1\0"),
            (b".", b"\0"),
            (b"*.t", b"\x01*\x01t\0"),
            (b"a\\.b", b"\x03a.b\0"),
        ] {
            assert_eq!(wire(word).as_deref(), Some(expected));
        }
        assert!(wire(&[b'x'; 63]).is_some() && wire(&[b'x'; 64]).is_none());
        assert_eq!(wire(&b"x.".repeat(127)).unwrap().len(), 255);
        for word in [&b"x.".repeat(128)[..], b"a..b", b".a", b"a..", b"b\xfccher.t", b"a\0b", b"\\"]
        {
            assert_eq!(wire(word), None, "{word:?}");
        }
    }
}
