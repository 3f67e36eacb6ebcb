//! `dns64`: IPv6 addresses for names that have IPv4 addresses only (RFC 6147).
//!
//! A query for AAAA is parked: the stage inspects the reply first, and if that has no address the
//! forwarder asks for A and [`Synthesis`] makes a reply of both. Validating clients, which set DO
//! and CD, get the reply unchanged. Reverse names of synthesised addresses are aliases of those of
//! the IPv4 addresses in them (§5.3.1), and `ipv4only.arpa`, by which clients discover the
//! prefixes, is answered here (RFC 8880).

mod synthesis;

pub(crate) use synthesis::{Judgement, Synthesis};

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use crate::engine::message::QNAME;
use crate::engine::message::compose::{NewRecord, Section};
use crate::engine::message::{Rcode, class, flags, rtype};
use ahash::RandomState;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Name with well-known IPv4 addresses.
const IPV4ONLY: &[u8] = b"\x08ipv4only\x04arpa\x00";
/// The addresses of [`IPV4ONLY`].
const IPV4ONLY_ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// TTL in seconds of their answers, and of reverse names.
const TTL: u32 = 600;
/// Suffix of reverse names of IPv6 addresses, below which are 32 labels with one digit each.
const REVERSE: &[u8] = b"\x03ip6\x04arpa\x00";
const DIGITS: usize = 32;
/// Maximum length of the reverse name of an IPv4 address.
const REVERSE_LEN_MAX: usize = b"\x03255\x03255\x03255\x03255\x07in-addr\x04arpa\x00".len();

/// The stage: its clients and prefixes.
pub(crate) struct Dns64(Arc<Synthesis>);

impl Stage for Dns64 {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        let synthesis = Arc::new(Synthesis::new(block.stages.dns64.as_ref()?));
        settings.dns64 = Some(synthesis.clone());
        Some(Self(synthesis))
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let question = context.query.question;
        let is_ipv6 = context.peer.ip().to_canonical().is_ipv6();
        if question.class != class::IN || !(is_ipv6 || self.0.allow_ipv4) {
            return None;
        }
        let asked = &context.query.asked;
        let validates =
            asked.flags & flags::CD != 0 && asked.edns.is_some_and(|edns| edns.dnssec_ok);
        match question.rtype {
            rtype::AAAA if validates => None,
            rtype::A | rtype::AAAA if context.name.as_bytes() == IPV4ONLY => {
                Some(self.ipv4only(context, question.rtype))
            }
            rtype::AAAA => Some(Step::Park),
            rtype::PTR => {
                let address = self.0.ipv4_in(address_of(context.name.as_bytes())?)?;
                Some(reverse(context, address))
            }
            _ => None,
        }
    }
}

impl Dns64 {
    /// Answers a query for the addresses of `ipv4only.arpa`.
    fn ipv4only(&self, context: &mut QueryContext<'_, '_>, rtype: u16) -> Step {
        let mut reply = context.reply();
        let mut record = |data: &[u8]| {
            let data: &[&[u8]] = &[data];
            let record = NewRecord { owner: &QNAME, rtype, class: class::IN, ttl: TTL, data };
            reply.record(Section::Answer, &record);
        };
        for address in IPV4ONLY_ADDRESSES {
            match rtype {
                rtype::A => record(&address.octets()),
                _ => self.0.addresses(address).for_each(|made| record(&made.octets())),
            }
        }
        Step::Replied(reply.end(0, Rcode::NoError))
    }
}

/// Answers a query for a reverse name with that of the IPv4 `address`.
fn reverse(context: &mut QueryContext<'_, '_>, address: Ipv4Addr) -> Step {
    let mut name = [0; REVERSE_LEN_MAX];
    let mut len = 0;
    for octet in address.octets().into_iter().rev() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
        let start = match octet {
            100.. => 0,
            10.. => 1,
            _ => 2,
        };
        let digits = &digits[start..];
        name[len] = digits.len() as u8;
        name[len + 1..len + 1 + digits.len()].copy_from_slice(digits);
        len += 1 + digits.len();
    }
    let above = b"\x07in-addr\x04arpa\x00";
    name[len..len + above.len()].copy_from_slice(above);
    len += above.len();
    let (owner, class) = (&QNAME, class::IN);
    let record = NewRecord { owner, rtype: rtype::CNAME, class, ttl: TTL, data: &[&name[..len]] };
    let mut reply = context.reply();
    reply.record(Section::Answer, &record);
    Step::Open(reply.end(0, Rcode::NoError))
}

/// Returns the address of a reverse name in wire format and lower case.
fn address_of(name: &[u8]) -> Option<Ipv6Addr> {
    let digits = name.strip_suffix(REVERSE).filter(|digits| digits.len() == 2 * DIGITS)?;
    let mut address = 0_u128;
    for (number, label) in digits.chunks_exact(2).enumerate() {
        let digit = char::from(label[1]).to_digit(16).filter(|_| label[0] == 1)?;
        address |= u128::from(digit) << (4 * number);
    }
    Some(address.into())
}

#[cfg(test)]
mod tests {
    use super::address_of;
    use crate::config::Name;

    #[test]
    fn a_reverse_name_is_an_address_only_if_it_is_whole() {
        let name = |text: &str| Name::parse(text).unwrap();
        let digits = "a.0.2.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0";
        let whole = name(&format!("{digits}.ip6.arpa"));
        assert_eq!(address_of(whole.as_wire()), Some("64:ff9b::c000:20a".parse().unwrap()));
        for other in ["0.ip6.arpa", "ip6.arpa", ".", "x.arpa"] {
            assert_eq!(address_of(name(other).as_wire()), None, "{other}");
        }
        let broken = name(&format!("{}.ip6.arpa", digits.replacen('a', "g", 1)));
        assert_eq!(address_of(broken.as_wire()), None);
        let longer = name(&format!("1.{digits}.ip6.arpa"));
        assert_eq!(address_of(longer.as_wire()), None);
    }
}
