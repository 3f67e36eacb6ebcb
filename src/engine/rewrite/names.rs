//! Conversion of names to text, and replacement of their parts.
//!
//! All functions use buffers that the caller lends and reuses. Regular expressions are in
//! `super::pattern`.

use crate::config::{PRESENTATION, TEXT_LEN_MAX, spell};
use crate::engine::message::NAME_LEN_MAX;
use crate::engine::message::name::WireName;

/// Replaces `text` by `wire`, a name in wire format, in lower-cased presentation format with a
/// closing dot.
pub(crate) fn presentation(wire: &[u8], text: &mut String) {
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

/// Returns the offset of the labels of `suffix` in `name`, regardless of letter case; both in wire
/// format. `None` if `name` does not end with them.
pub(super) fn suffix_start(name: &[u8], suffix: &[u8]) -> Option<usize> {
    let mut start = 0;
    while name.len() - start > suffix.len() {
        start += 1 + usize::from(name[start]);
    }
    name.get(start..).filter(|end| end.eq_ignore_ascii_case(suffix)).map(|_| start)
}

/// Replaces the labels of `name` from `start` on by those of `to`, in wire format, and lower-cases
/// it. Returns false and changes nothing if it would become too long.
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
