//! Limits that the other side has announced in the handshake.
//!
//! The library applies its transport parameters and keeps them to itself; a parameter is found in
//! their form on the wire (RFC 9000 §18): a number, a length, and a value.

use quinn_proto::Connection;
use std::time::Duration;

/// Number of the parameter `max_idle_timeout`, in milliseconds.
const MAX_IDLE_TIMEOUT: u64 = 0x01;
/// Number of the parameter `initial_max_streams_bidi`.
const INITIAL_MAX_STREAMS_BIDI: u64 = 0x08;

/// Limits of the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bidirectional streams that this side may open at first, which is how many are served at
    /// once.
    pub(super) streams: usize,
    /// Time without packets after which the other side forgets the connection.
    pub(super) silence: Option<Duration>,
}

/// Returns the limits of the other side of `connection`, whose handshake is complete.
pub(super) fn limits(connection: &Connection) -> Limits {
    let mut bytes = Vec::new();
    if let Ok(Some(parameters)) = connection.crypto_session().transport_parameters() {
        parameters.write(&mut bytes);
    }
    parse(&bytes)
}

fn parse(mut bytes: &[u8]) -> Limits {
    let mut limits = Limits::default();
    while let Some(number) = take_integer(&mut bytes)
        && let Some(len) = take_integer(&mut bytes)
        && let Some((mut value, rest)) = bytes.split_at_checked(len as usize)
    {
        bytes = rest;
        if number == INITIAL_MAX_STREAMS_BIDI {
            let streams = take_integer(&mut value).unwrap_or(0);
            limits.streams = usize::try_from(streams).unwrap_or(usize::MAX);
        } else if number == MAX_IDLE_TIMEOUT {
            let millis = take_integer(&mut value).filter(|millis| *millis > 0);
            limits.silence = millis.map(Duration::from_millis);
        }
    }
    limits
}

/// Takes an integer of variable length (RFC 9000 §16).
fn take_integer(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let (own, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    *bytes = rest;
    let value = own.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some(value & (u64::MAX >> (66 - 8 * own.len())))
}

#[cfg(test)]
mod tests {
    use super::{Limits, parse, take_integer};
    use std::time::Duration;

    #[test]
    fn integers_are_those_of_rfc_9000_appendix_a() {
        for (mut bytes, value) in [
            (&[0xC2, 0x19, 0x7C, 0x5E, 0xFF, 0x14, 0xE8, 0x8C][..], 151_288_809_941_952_652),
            (&[0x9D, 0x7F, 0x3E, 0x7D], 494_878_333),
            (&[0x7B, 0xBD], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(take_integer(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
        assert_eq!(take_integer(&mut &[0x40][..]), None);
    }

    #[test]
    fn limits_are_found_among_other_parameters() {
        let bytes = [0x04, 1, 9, 0x01, 2, 0x75, 0x30, 0x1B, 0, 0x08, 1, 7];
        let limits = Limits { streams: 7, silence: Some(Duration::from_millis(13_616)) };
        assert_eq!(parse(&bytes), limits);
        assert_eq!(parse(&[]), Limits::default());
        assert_eq!(parse(&[0x01, 1, 0]), Limits::default());
        // A value that ends too early ends the list.
        assert_eq!(parse(&[0x08, 9, 7]), Limits::default());
    }
}
