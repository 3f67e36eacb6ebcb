//! Names as text and as bytes, and what rules make of them.
//!
//! Everything works on buffers that the caller lends and reuses; a regular expression that matches
//! is the one thing that allocates, for its groups.

use crate::config::{PRESENTATION, TEXT_LEN_MAX, spell};
use crate::engine::message::NAME_LEN_MAX;
use crate::engine::message::rename::WireName;
use regex::Regex;

/// Writes `wire`, a name in wire format, in lower-cased presentation format into `text`, which is
/// emptied first; with a closing dot.
pub fn presentation(wire: &[u8], text: &mut String) {
    let mut room = [0; TEXT_LEN_MAX];
    text.clear();
    text.push_str(spell(wire, &PRESENTATION, &mut room));
}

/// Appends `text` to `out` with every `from` replaced by `to`, from the left, without overlap.
pub(super) fn replace_all(text: &str, from: &str, to: &str, out: &mut String) {
    let mut rest = text;
    while let Some(place) = rest.find(from) {
        out.push_str(&rest[..place]);
        out.push_str(to);
        rest = &rest[place + from.len()..];
    }
    out.push_str(rest);
}

/// Appends `to` to `out`, with `{N}` replaced by group N of `pattern` in `text`, in lower case and
/// with a closing dot. A group that the pattern does not have stays as it is written. False, and
/// nothing is appended, if the pattern is not found.
pub(super) fn expand(pattern: &Regex, to: &str, text: &str, out: &mut String) -> bool {
    let Some(groups) = pattern.captures(text) else { return false };
    let mut rest = to;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let number = rest[1..].split_once('}').and_then(|(number, _)| {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<usize>().ok().filter(|group| digits && *group < groups.len())
        });
        match number {
            Some(group) => {
                out.push_str(groups.get(group).map_or("", |found| found.as_str()));
                rest = &rest[rest.find('}').map_or(rest.len(), |close| close + 1)..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out.make_ascii_lowercase();
    if !out.ends_with('.') {
        out.push('.');
    }
    true
}

/// Returns where in `name` the labels of `suffix` begin, regardless of letter case; both in wire
/// format.
/// `None` if it does not end with them.
pub(super) fn suffix_start(name: &[u8], suffix: &[u8]) -> Option<usize> {
    let mut start = 0;
    while name.len() - start > suffix.len() {
        start += 1 + usize::from(name[start]);
    }
    name.get(start..).filter(|end| end.eq_ignore_ascii_case(suffix)).map(|_| start)
}

/// Replaces the labels of `name` from `start` on by those of `to`, in wire format, and lower-cases
/// it. False, and the name stays, if it would become too long.
pub(super) fn replace_suffix(name: &mut WireName, start: usize, to: &[u8]) -> bool {
    let mut bytes = [0; NAME_LEN_MAX];
    let len = start + to.len();
    if len > NAME_LEN_MAX {
        return false;
    }
    bytes[..start].copy_from_slice(&name.as_bytes()[..start]);
    bytes[start..len].copy_from_slice(to);
    bytes[..len].make_ascii_lowercase();
    name.set(&bytes[..len]);
    true
}
