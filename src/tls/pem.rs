//! PEM, where a line-based parser would silently lose a block.
//!
//! Files that are concatenated without a last line break have an end and a beginning on one line
//! (`-----END CERTIFICATE----------BEGIN CERTIFICATE-----`); a line-based parser takes that for the
//! end alone and skips the block after it. Here such a line is split in two. Any other marker that
//! does not begin its line is an error with the line number, unless the line begins with `#`, which
//! is how certificates are disabled in a bundle.

use super::SetupError;
use crate::config::Pem;
use std::borrow::Cow;

const GLUE: &[u8] = b"----------BEGIN ";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// Returns the contents of `file`, each marker on a line of its own.
pub(super) fn lines(file: &Pem) -> Result<Cow<'_, [u8]>, SetupError> {
    let bytes = file.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&file.bytes);
    let mut parted: Cow<'_, [u8]> = Cow::Borrowed(bytes);
    let mut from = 0;
    while let Some(place) = find(&parted[from..], GLUE) {
        let middle = from + place + 5;
        parted.to_mut().insert(middle, b'\n');
        from = middle + 1;
    }
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if let Some(marker) = stray(line) {
            let marker = String::from_utf8_lossy(marker.trim_ascii_end());
            let message = format!(
                "'{marker}' is not at the start of a line and would be skipped: put it on a line \
                 of its own"
            );
            return Err(SetupError::new(&format!("{}:{}", file.path, number + 1), message));
        }
    }
    Ok(parted)
}

/// Returns a marker in `line` that is neither at its beginning nor joined to an end.
fn stray(line: &[u8]) -> Option<&'static [u8]> {
    if line.starts_with(b"#") {
        return None;
    }
    let is_stray = |place: &usize| {
        let before = &line[..*place];
        *place > 0 && !before.ends_with(b"-----") && !before.ends_with(b"\r")
    };
    [BEGIN, END].into_iter().find(|marker| find(line, marker).filter(is_stray).is_some())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::config::Pem;

    fn file(text: &str) -> Pem {
        Pem { path: "a.pem".into(), place: "/a.pem".into(), bytes: text.as_bytes().to_vec().into() }
    }

    #[test]
    fn an_end_and_a_beginning_on_one_line_are_two() {
        let glued = "-----BEGIN A-----\nx\n-----END A----------BEGIN B-----\ny\n-----END B-----";
        let parted = glued.replace("----------", "-----\n-----");
        for text in [glued, &parted, &format!("\u{feff}{glued}")] {
            assert_eq!(&*lines(&file(text)).unwrap(), parted.as_bytes(), "{text}");
        }
        assert!(lines(&file("#-----BEGIN A-----\nx\n")).is_ok());
        assert_eq!(&*lines(&file("text\r-----BEGIN A-----")).unwrap(), b"text\r-----BEGIN A-----");
    }

    #[test]
    fn a_marker_within_a_line_is_refused_with_its_line() {
        for text in ["a\n -----BEGIN A-----\n", "a\nMIIB-----END A-----\n"] {
            let refused = lines(&file(text)).unwrap_err().to_string();
            assert!(refused.starts_with("TLS: a.pem:2: '-----"), "{refused}");
        }
    }
}
