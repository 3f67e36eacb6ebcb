//! Fields of a query's log line: numbers, addresses, names, flags.
//!
//! Thousands of lines a second consist of these, so the standard library's formatting is used only
//! for rare values: IPv6 addresses, and types and codes without a name. The output is plain ASCII,
//! whatever bytes a name contains.

use super::interfaces::Interfaces;
use crate::config::{PRESENTATION, RecordType, TEXT_LEN_MAX, rcode_mnemonic, spell};
use crate::engine::journal::{Event, Record};
use crate::engine::key::Transport;
use crate::engine::message::flags;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

/// Sign for a missing value.
pub(super) const NOTHING: &str = "-";
/// UDP payload size of a client without EDNS.
const PLAIN: u16 = 512;
/// Flags of a reply in their order; the unnamed one is reserved.
const FLAGS: [(u16, &str); 8] = [
    (flags::QR, "qr"),
    (flags::AA, "aa"),
    (flags::TC, "tc"),
    (flags::RD, "rd"),
    (flags::RA, "ra"),
    (0x0040, "z"),
    (flags::AD, "ad"),
    (flags::CD, "cd"),
];

/// One field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Type,
    Name,
    Class,
    Proto,
    Remote,
    Local,
    Port,
    Size,
    Rcode,
    ReplySize,
    Duration,
    Id,
    Opcode,
    DnssecOk,
    BufferSize,
    ReplyFlags,
    /// The upstream that was queried last.
    Upstream,
    ReplyClass,
    ReplyOutcome,
    /// A label that is never set.
    Label,
}

impl Field {
    /// Returns the field of the placeholder `{word}`. `labelled`: the server block has `metadata`,
    /// so labels are set.
    pub(super) fn of(word: &str, labelled: bool) -> Option<Self> {
        Some(match word {
            "type" => Self::Type,
            "name" => Self::Name,
            "class" => Self::Class,
            "proto" => Self::Proto,
            "remote" => Self::Remote,
            "local" => Self::Local,
            "port" => Self::Port,
            "size" => Self::Size,
            "rcode" => Self::Rcode,
            "rsize" => Self::ReplySize,
            "duration" => Self::Duration,
            ">id" => Self::Id,
            ">opcode" => Self::Opcode,
            ">do" => Self::DnssecOk,
            ">bufsize" => Self::BufferSize,
            ">rflags" => Self::ReplyFlags,
            "/forward/upstream" if labelled => Self::Upstream,
            "/log/class" if labelled => Self::ReplyClass,
            "/log/type" if labelled => Self::ReplyOutcome,
            _ if word.starts_with('/') => Self::Label,
            _ => return None,
        })
    }

    /// Appends the field of `record`, whose name is `name`.
    pub(super) fn push(
        self,
        out: &mut String,
        record: &Record,
        name: &[u8],
        interfaces: &mut Interfaces,
    ) {
        let asking = &record.asking;
        let has_ended = matches!(record.event, Event::Ended(_));
        match self {
            Self::Type => push_type(out, asking.rtype),
            Self::Name => push_name(out, name),
            Self::Class => push_class(out, asking.class),
            Self::Proto => out.push_str(proto(record)),
            Self::Remote => match asking.peer {
                Some(peer) => push_address(out, peer.ip(), interfaces.of(peer)),
                None => out.push_str(NOTHING),
            },
            Self::Local => push_address(out, asking.local, None),
            Self::Port => match asking.peer {
                Some(peer) => push_number(out, peer.port().into()),
                None => out.push_str(NOTHING),
            },
            Self::Size => push_number(out, asking.size.into()),
            Self::Rcode => match record.reply {
                Some(reply) if has_ended => push_rcode(out, reply.rcode),
                _ => out.push_str(NOTHING),
            },
            Self::ReplySize | Self::Duration if !has_ended => out.push_str(NOTHING),
            Self::ReplySize => push_number(out, record.reply.map_or(0, |reply| reply.size.into())),
            Self::Duration => {
                push_seconds(out, record.at.since(asking.since));
                out.push('s');
            }
            Self::Id => push_number(out, asking.asked.id.into()),
            Self::Opcode => push_number(out, u64::from((asking.asked.flags & flags::OPCODE) >> 11)),
            Self::DnssecOk => out.push_str(if dnssec_ok(record) { "true" } else { "false" }),
            Self::BufferSize => push_number(out, buffer_size(record).into()),
            Self::ReplyFlags => match record.reply {
                Some(reply) if has_ended => push_flags(out, reply.flags),
                _ => out.push_str(NOTHING),
            },
            Self::Upstream => match record.labels.and_then(|labels| labels.upstream) {
                Some(upstream) => {
                    push_address(out, upstream.ip(), None);
                    out.push(':');
                    push_number(out, upstream.port().into());
                }
                None => out.push_str(NOTHING),
            },
            Self::ReplyClass | Self::ReplyOutcome => match record.labels.map(|said| said.outcome) {
                Some(outcome) if self == Self::ReplyClass => out.push_str(outcome.class_name()),
                Some(outcome) => out.push_str(outcome.name()),
                None => out.push_str(NOTHING),
            },
            Self::Label => out.push_str(NOTHING),
        }
    }
}

/// Returns the transport of the query.
pub(super) fn proto(record: &Record) -> &'static str {
    match (record.asking.protocol, record.asking.transport) {
        (protocol, _) if protocol.is_quic() => protocol.scheme(),
        (_, Transport::Udp) => "udp",
        (_, Transport::Tcp) => "tcp",
    }
}

/// Returns true if its client has set the DO bit.
pub(super) fn dnssec_ok(record: &Record) -> bool {
    record.asking.asked.edns.is_some_and(|edns| edns.dnssec_ok)
}

/// Returns the UDP payload size of its client.
pub(super) fn buffer_size(record: &Record) -> u16 {
    match record.asking.transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => record.asking.asked.edns.map_or(PLAIN, |edns| edns.udp_size.max(PLAIN)),
    }
}

pub(super) fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

pub(super) fn push_type(out: &mut String, rtype: u16) {
    match RecordType(rtype).mnemonic() {
        Some(mnemonic) => out.push_str(mnemonic),
        None => {
            out.push_str("TYPE");
            push_number(out, rtype.into());
        }
    }
}

pub(super) fn push_class(out: &mut String, class: u16) {
    match class {
        1 => out.push_str("IN"),
        2 => out.push_str("CS"),
        3 => out.push_str("CH"),
        4 => out.push_str("HS"),
        254 => out.push_str("NONE"),
        255 => out.push_str("ANY"),
        other => {
            out.push_str("CLASS");
            push_number(out, other.into());
        }
    }
}

pub(super) fn push_rcode(out: &mut String, rcode: u16) {
    match rcode_mnemonic(rcode) {
        Some(mnemonic) => out.push_str(mnemonic),
        None => push_number(out, rcode.into()),
    }
}

/// Appends an address, IPv6 in brackets, with its interface if it is link-local.
pub(super) fn push_address(out: &mut String, address: IpAddr, interface: Option<&str>) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            push_number(out, first.into());
            for octet in rest {
                out.push('.');
                push_number(out, octet.into());
            }
        }
        IpAddr::V6(address) => {
            // Writing to a string cannot fail.
            let _ = write!(out, "[{address}");
            if let Some(interface) = interface {
                out.push('%');
                out.push_str(interface);
            }
            out.push(']');
        }
    }
}

/// Appends seconds with all non-zero decimals.
pub(super) fn push_seconds(out: &mut String, time: Duration) {
    push_number(out, time.as_secs());
    let mut nanos = time.subsec_nanos();
    if nanos == 0 {
        return;
    }
    let mut digits = [b'0'; 10];
    digits[0] = b'.';
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (nanos % 10) as u8;
        nanos /= 10;
    }
    let end = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    out.push_str(std::str::from_utf8(&digits[..end]).unwrap_or_default());
}

pub(super) fn push_flags(out: &mut String, word: u16) {
    let mut comma = "";
    for (_, name) in FLAGS.iter().filter(|(flag, _)| word & flag != 0) {
        out.push_str(comma);
        out.push_str(name);
        comma = ",";
    }
}

/// Appends a name in wire format, in lower case and in the presentation format of messages.
pub(super) fn push_name(out: &mut String, wire: &[u8]) {
    out.push_str(spell(wire, &PRESENTATION, &mut [0; TEXT_LEN_MAX]));
}

#[cfg(test)]
mod tests {
    use super::{push_class, push_flags, push_rcode, push_seconds, push_type};
    use std::time::Duration;

    fn pushed(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn seconds_have_as_many_decimals_as_they_need() {
        for (nanos, expected) in [
            (0, "0"),
            (906_045, "0.000906045"),
            (1_000_000_000, "1"),
            (1_500_000_000, "1.5"),
            (12_000_000_001, "12.000000001"),
            (999_999_990, "0.99999999"),
        ] {
            assert_eq!(pushed(|out| push_seconds(out, Duration::from_nanos(nanos))), expected);
        }
    }

    #[test]
    fn unnamed_types_and_codes_are_written_as_numbers() {
        assert_eq!(pushed(|out| push_type(out, 28)), "AAAA");
        assert_eq!(pushed(|out| push_type(out, 65_280)), "TYPE65280");
        assert_eq!(pushed(|out| push_class(out, 3)), "CH");
        assert_eq!(pushed(|out| push_class(out, 7)), "CLASS7");
        assert_eq!(pushed(|out| push_rcode(out, 16)), "BADVERS");
        assert_eq!(pushed(|out| push_rcode(out, 3_841)), "3841");
        assert_eq!(pushed(|out| push_flags(out, 0xffff)), "qr,aa,tc,rd,ra,z,ad,cd");
        assert_eq!(pushed(|out| push_flags(out, 0x8180)), "qr,rd,ra");
    }
}
