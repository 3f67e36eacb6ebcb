//! Query files in dnsperf's binary format: messages one after the other, as on a TCP connection.
//!
//! A message follows its length in two bytes (RFC 1035 §4.2.2) and is sent unchanged except for its
//! ID. Errors have the number of the record and of the byte within it. Pure.

use super::BadInput;
use onward::traffic::wire::HEADER_LEN;
use onward::traffic::workload::Recorded;
use std::time::Duration;

/// Reads the queries of `bytes`.
///
/// # Errors
/// A message is shorter than a header, the last message is truncated, or the file is empty.
pub fn read(bytes: &[u8]) -> Result<Recorded, BadInput> {
    let mut recorded = Recorded::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let line = recorded.len() + 1;
        let bad = |column, text: String| Err(BadInput { line, column, text });
        let Some((prefix, behind)) = rest.split_first_chunk::<2>() else {
            return bad(1, "truncated length: two bytes must precede each message".into());
        };
        let length = usize::from(u16::from_be_bytes(*prefix));
        if length < HEADER_LEN {
            return bad(1, format!("a message of {length} bytes: expected at least {HEADER_LEN}"));
        }
        let Some((message, next)) = behind.split_at_checked(length) else {
            let text =
                format!("truncated message: expected {length} bytes, found {}", behind.len());
            return bad(3, text);
        };
        recorded.push(message, 0, Duration::ZERO);
        rest = next;
    }
    if recorded.is_empty() {
        return Err(BadInput { line: 1, column: 1, text: "the file has no query".into() });
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn messages_are_read_unchanged() {
        let mut bytes = b"\0\x0c".to_vec();
        bytes.extend([7; 12]);
        bytes.extend(b"\0\x0d");
        bytes.extend([8; 13]);
        let recorded = read(&bytes).unwrap();
        assert_eq!(recorded.len(), 2);
        assert_eq!((recorded.packet(0), recorded.packet(1)), (&[7; 12][..], &[8; 13][..]));
    }

    #[test]
    fn a_truncated_file_is_an_error_with_its_record() {
        let mut bytes = b"\0\x0c".to_vec();
        bytes.extend([7; 12]);
        let with = |tail: &[u8]| [&bytes, tail].concat();
        let cases = [
            (Vec::new(), "1:1: the file has no query"),
            (with(b"\0"), "2:1: truncated length"),
            (with(b"\0\x03abc"), "2:1: a message of 3 bytes"),
            (with(b"\0\x0cabc"), "2:3: truncated message: expected 12 bytes, found 3"),
        ];
        for (bytes, expected) in cases {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
