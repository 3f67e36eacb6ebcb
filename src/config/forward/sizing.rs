//! Sizes of pools: `spread`, `max_conns`, `max_inflight`; and the distribution of their ages.
//!
//! Sizes that are not written follow from the host: each pool gets its share of the ephemeral
//! ports. A quarter of the range is ours, because other programs and connections in TIME_WAIT need
//! the rest; it is divided among all pools, of which each worker has one for each upstream. A host
//! that grants few descriptors makes the share smaller still.

use super::super::error::DirectiveError;
use super::super::{Host, Sizing, numbers};
use crate::corefile::{Cursor, ParseError, Token};

/// Maximum: with more, some connections would be closed almost at once.
const MAX_AGE_JITTER_MAX: u8 = 50;

/// Ports a pool rotates through, unless its share is larger (RFC 5452 §9.2).
const SPREAD_MIN: usize = 4;
/// Maximum: more source ports add sockets but almost no security.
const SPREAD_MAX: usize = 128;
/// Many source ports protect datagrams only: a connection is filled before another is dialled.
const TCP_SPREAD: usize = 1;
/// More connections of one pool than this mean that the upstream is too slow, not too busy.
const CONNECTIONS_MAX: usize = 1024;
/// Queries of one batch of a worker's turn, and those on one connection at once.
const INFLIGHT: (usize, usize) = (64, 32);
/// No size is larger: there are no more ports, and no more query ids on a connection.
const WRITTEN_MAX: i64 = 65_535;

/// The sizes that a stanza's options state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) spread: Option<usize>,
    pub(super) stream_spread: Option<usize>,
    pub(super) max_conns: Option<usize>,
    /// For datagrams and for connections.
    pub(super) max_inflight: Option<(usize, usize)>,
}

impl Written {
    /// Returns the message for the operator when the sizes exclude one another.
    pub(super) fn contradiction(self) -> Option<String> {
        let max_conns = self.max_conns?;
        let written = [("spread", self.spread), ("stream_spread", self.stream_spread)];
        let (name, spread) = written
            .into_iter()
            .filter_map(|(name, spread)| Some((name, spread?)))
            .find(|(_, spread)| *spread > max_conns)?;
        Some(format!(
            "{name} ({spread}) must not be more than max_conns ({max_conns}): \
             a pool cannot spread over more connections than its maximum"
        ))
    }

    /// All sizes, `share` being the connections that one pool may have.
    pub(super) fn resolve(self, share: usize) -> Sizing {
        let default_spread = share.clamp(SPREAD_MIN, SPREAD_MAX);
        let spread = self
            .spread
            .unwrap_or_else(|| default_spread.min(self.max_conns.unwrap_or(default_spread)));
        let stream_spread = self.stream_spread.unwrap_or(TCP_SPREAD);
        let largest = spread.max(stream_spread);
        let default_max_conns = share.clamp(SPREAD_MIN, CONNECTIONS_MAX).max(largest);
        let (max_inflight, tcp_inflight) = self.max_inflight.unwrap_or(INFLIGHT);
        Sizing {
            spread,
            stream_spread,
            max_conns: self.max_conns.unwrap_or(default_max_conns),
            max_inflight,
            tcp_inflight,
        }
    }
}

/// The connections that each pool may have if all of them are as large as they can be.
pub(in super::super) fn share(host: &Host, upstreams: usize) -> usize {
    host.ephemeral_ports / 4 / (host.workers * upstreams).max(1)
}

/// The argument of one of these options.
pub(super) fn read(property: &Token, cursor: &mut Cursor<'_>) -> Result<usize, DirectiveError> {
    number(property, cursor.expect_arg()?)
}

/// The arguments of an option that holds for datagrams and for connections: one for both, or one
/// each.
pub(super) fn read_pair(
    property: &Token,
    cursor: &mut Cursor<'_>,
) -> Result<(usize, usize), DirectiveError> {
    let first = read(property, cursor)?;
    let second = cursor.arg().map_or(Ok(first), |argument| number(property, argument))?;
    Ok((first, second))
}

fn number(property: &Token, argument: &Token) -> Result<usize, DirectiveError> {
    let number = numbers::signed(&argument.text)
        .map_err(|message| DirectiveError::value(argument, message))?;
    let in_range = (1..=WRITTEN_MAX).contains(&number);
    usize::try_from(number).ok().filter(|_| in_range).ok_or_else(|| {
        let message = format!("{} must be 1 to {WRITTEN_MAX}: {number}", property.text);
        DirectiveError::value(argument, message)
    })
}

/// Returns the jitter after a `max_age`: `jitter N%`, or `jitter 0` for none.
pub(super) fn read_jitter(cursor: &mut Cursor<'_>) -> Result<Option<u8>, DirectiveError> {
    let Some(word) = cursor.arg() else { return Ok(None) };
    if &*word.text != "jitter" {
        let message =
            format!("'{}' after max_age: expected 'jitter N%' or the end of the line", word.text);
        return Err(ParseError::at(word, message).into());
    }
    let share = cursor.expect_arg()?;
    cursor.expect_no_arg()?;
    let number = share.text.strip_suffix('%').or((&*share.text == "0").then_some("0"));
    let percent = number.and_then(|number| number.parse::<u8>().ok());
    let percent = percent.filter(|percent| *percent <= MAX_AGE_JITTER_MAX);
    percent.map(Some).ok_or_else(|| {
        let message =
            format!("jitter must be a percentage from 0% to {MAX_AGE_JITTER_MAX}%: {}", share.text);
        DirectiveError::value(share, message)
    })
}

#[cfg(test)]
mod tests {
    use super::{Sizing, Written, share};
    use crate::config::Host;

    fn sizes(written: Written, share: usize) -> (usize, usize) {
        let Sizing { spread, max_conns, max_inflight, tcp_inflight, .. } = written.resolve(share);
        assert_eq!((max_inflight, tcp_inflight), (64, 32), "unless written otherwise");
        (spread, max_conns)
    }

    #[test]
    fn a_quarter_of_the_ports_is_shared_by_all_pools() {
        let host = Host { workers: 4, ephemeral_ports: 28_232, ..Host::plain() };
        assert_eq!(share(&host, 2), 882);
        assert_eq!(share(&host, 0), 7_058);
    }

    #[test]
    fn sizes_that_are_not_written_follow_the_share() {
        assert_eq!(sizes(Written::default(), 0), (4, 4));
        assert_eq!(sizes(Written::default(), 100), (100, 100));
        assert_eq!(sizes(Written::default(), 882), (128, 882));
        assert_eq!(sizes(Written::default(), 7_058), (128, 1_024));
    }

    #[test]
    fn one_written_size_pulls_the_other_along() {
        assert_eq!(
            sizes(Written { spread: Some(2_000), ..Written::default() }, 100),
            (2_000, 2_000)
        );
        assert_eq!(
            sizes(Written { stream_spread: Some(2_000), ..Written::default() }, 100),
            (100, 2_000)
        );
        assert_eq!(sizes(Written { max_conns: Some(2), ..Written::default() }, 100), (2, 2));
        assert_eq!(sizes(Written { max_conns: Some(300), ..Written::default() }, 100), (100, 300));
    }

    #[test]
    fn a_spread_above_max_conns_is_a_contradiction_that_names_both() {
        let written = Written { spread: Some(9), max_conns: Some(8), ..Written::default() };
        let message = written.contradiction().unwrap();
        assert!(message.starts_with("spread (9) must not be more than max_conns (8)"));
        assert_eq!(Written { max_conns: Some(9), ..written }.contradiction(), None);
        let on_streams = Written { spread: None, stream_spread: Some(9), ..written };
        assert_eq!(on_streams.contradiction(), Some(format!("stream_{message}")));
    }
}
