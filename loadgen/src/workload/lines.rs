//! Query files in dnsperf's text format: a name and a type a line.
//!
//! `example.com AAAA`, with blanks or tabs between the two. Empty lines and those that begin with
//! `;` are skipped. Names are absolute with or without the last dot, and may contain escapes (RFC
//! 1035 §5.1); types are mnemonics or `TYPE65`. Errors have line and column. Pure.

use super::BadInput;
use crate::units::Words;
use domain::base::Name;
use domain::base::iana::Rtype;
use onward::traffic::workload::Recorded;
use onward::traffic::workload::style::Style;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::str::FromStr;
use std::time::Duration;

/// Maximum length of a query of a file.
const QUERY_LEN_MAX: usize = 512;

/// Reads the queries of `text`, and writes them in `style`.
///
/// # Errors
/// A line is not a name and a type, or there is no query at all.
pub fn read(text: &[u8], style: &Style, seed: u64) -> Result<Recorded, BadInput> {
    let mut recorded = Recorded::default();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut buffer = [0; QUERY_LEN_MAX];
    let mut lines = 0;
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        lines = number;
        let line = std::str::from_utf8(line).map_err(|error| BadInput {
            line: number,
            column: error.valid_up_to() + 1,
            text: "the file is not UTF-8 text".into(),
        })?;
        let mut words = Words::new(line, number);
        let Some(first) = words.next() else { continue };
        if first.starts_with(';') {
            continue;
        }
        let name = Name::<Vec<u8>>::from_str(first)
            .map_err(|error| words.bad(first, format!("invalid name `{first}`: {error}")))?;
        let Some(word) = words.next() else {
            return Err(words.missing(format!("the type is missing after `{first}`")));
        };
        let rtype = Rtype::from_str(word)
            .map_err(|_| words.bad(word, format!("unknown record type `{word}`")))?;
        if let Some(more) = words.next() {
            let text = format!("unexpected `{more}`: expected a name and a type");
            return Err(words.bad(more, text));
        }
        let length = style
            .write(name.as_slice(), rtype.to_int(), &mut random, &mut buffer)
            .expect("a name has at most 255 bytes");
        recorded.push(&buffer[..length], 0, Duration::ZERO);
    }
    if recorded.is_empty() {
        return Err(BadInput { line: lines, column: 1, text: "the file has no query".into() });
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::read;
    use domain::base::Message;
    use onward::traffic::workload::style::Style;

    fn questions(text: &str) -> Vec<String> {
        let recorded = read(text.as_bytes(), &Style::default(), 1).unwrap();
        (0..recorded.len())
            .map(|number| {
                let message = Message::from_octets(recorded.packet(number)).unwrap();
                let question = message.sole_question().unwrap();
                format!("{} {}", question.qname(), question.qtype())
            })
            .collect()
    }

    #[test]
    fn lines_are_read_and_comments_left_out() {
        let text = "; two queries\n\nexample.com A\r\n\t a.Example.\tTYPE65 \n;x\n. NS";
        assert_eq!(questions(text), ["example.com A", "a.Example HTTPS", " NS"]);
    }

    #[test]
    fn escapes_are_octets() {
        let recorded = read(b"a\\.b\\032c.test TXT\n", &Style::default(), 1).unwrap();
        assert_eq!(&recorded.packet(0)[12..24], b"\x05a.b c\x04test\0");
    }

    #[test]
    fn errors_have_line_and_column() {
        let long = format!("{}.test A", "a".repeat(64));
        let cases = [
            ("ok.test A\n  a..b A\n", "2:3: invalid name `a..b`"),
            ("a.test", "1:7: the type is missing after `a.test`"),
            ("a.test  BOGUS\n", "1:9: unknown record type `BOGUS`"),
            ("a.test A\nb.test A x\n", "2:10: unexpected `x`"),
            (&long, "1:1: invalid name `aaaa"),
            ("", "1:1: the file has no query"),
            ("; nothing\n", "2:1: the file has no query"),
        ];
        for (text, expected) in cases {
            let error = read(text.as_bytes(), &Style::default(), 1).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let error = read(b"ok.test A\nab\xff A", &Style::default(), 1).unwrap_err();
        assert_eq!(error.to_string(), "2:3: the file is not UTF-8 text");
    }
}
