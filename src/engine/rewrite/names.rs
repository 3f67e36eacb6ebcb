//! Names as text and as bytes, and what rules make of them.
//!
//! Everything works on buffers that the caller lends and reuses, or that belong to a [`Pattern`].

use crate::config::{PRESENTATION, TEXT_LEN_MAX, spell};
use crate::engine::message::NAME_LEN_MAX;
use crate::engine::message::rename::WireName;
use regex::{CaptureLocations, Regex};
use std::sync::{Mutex, PoisonError};

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

/// A regular expression with room for what its groups match.
pub(super) struct Pattern {
    regex: Regex,
    /// One worker uses it, so nothing ever waits for the lock.
    groups: Mutex<CaptureLocations>,
}

impl Pattern {
    /// Compiles `text`. `None`: it is no regular expression.
    pub(super) fn new(text: &str) -> Option<Self> {
        let regex = Regex::new(text).ok()?;
        let groups = Mutex::new(regex.capture_locations());
        Some(Self { regex, groups })
    }

    /// Returns whether the pattern is found in `text`.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Appends `to` to `out`, with `{N}` replaced by group N of the pattern in `text`, in lower
    /// case and with a closing dot. A group that the pattern does not have stays as it is written.
    /// Returns false, and appends nothing, if the pattern is not found.
    pub(super) fn expand(&self, to: &str, text: &str, out: &mut String) -> bool {
        // A name that does not match needs no groups, which cost more to find.
        if !self.is_match(text) {
            return false;
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if self.regex.captures_read(&mut groups, text).is_none() {
            return false;
        }
        replace_groups(&groups, to, text, out);
        true
    }
}

fn replace_groups(groups: &CaptureLocations, to: &str, text: &str, out: &mut String) {
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
                out.push_str(groups.get(group).map_or("", |(start, end)| &text[start..end]));
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
