//! Synthesis of replies for AAAA from replies for A. PURE.
//!
//! Addresses are embedded as in RFC 6052 §2.2. Loopback, link-local, multicast and reserved IPv4
//! addresses are never embedded, because no NAT64 can reach them, nor private ones in the
//! well-known prefix (§3.1). IPv4-mapped addresses (::ffff:0:0/96) do not count as IPv6 addresses.

use crate::config::{self, Nat64Prefix};
use crate::engine::message::join::{Joiner, owner, records};
use crate::engine::message::response::Response;
use crate::engine::message::{Rcode, Record, class, flags, rtype, u16_at, u32_at};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Maximum TTL in seconds of a synthesised address if no SOA limits the denial of AAAA (RFC 6147
/// §5.1.7).
const TTL_MAX: u32 = 600;
/// The octet of an address that is always zero (RFC 6052 §2.2).
const ZERO_OCTET: usize = 8;

/// Parameters of the synthesis.
pub(crate) struct Synthesis {
    prefixes: Box<[Nat64Prefix]>,
    /// Clients over IPv4 are served as well.
    pub(crate) allow_ipv4: bool,
    translate_all: bool,
}

/// Decision on a reply for AAAA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The client gets the reply.
    Passes,
    /// The client gets the reply without its IPv4-mapped addresses.
    Thinned,
    /// The reply has no address, so the IPv4 addresses are needed.
    Lacks,
}

impl Synthesis {
    /// Builds the synthesis from the directive's settings.
    pub(crate) fn new(told: &config::Dns64) -> Self {
        let config::Dns64 { prefixes, allow_ipv4, translate_all } = told;
        let (allow_ipv4, translate_all) = (*allow_ipv4, *translate_all);
        Self { prefixes: prefixes.as_slice().into(), allow_ipv4, translate_all }
    }

    /// Returns the synthesised addresses for `address`.
    pub(crate) fn addresses(&self, address: Ipv4Addr) -> impl Iterator<Item = Ipv6Addr> {
        self.prefixes.iter().map(move |prefix| embed(prefix, address))
    }

    /// Returns the IPv4 address in `address`, if that is a synthesised one.
    pub(crate) fn ipv4_in(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        self.prefixes.iter().find_map(|prefix| {
            let octets = address.octets();
            let found = places(prefix).map(|place| octets[place]);
            let found = Ipv4Addr::from(found);
            (embed(prefix, found) == address && is_meant(prefix, found)).then_some(found)
        })
    }

    /// Decides on `reply`, the reply to the query for AAAA. A name that does not exist has no IPv4
    /// addresses either, and the client asks again after a truncated reply.
    pub(crate) fn judge(&self, reply: &[u8]) -> Judgement {
        let Some(response) = Response::parse(reply) else { return Judgement::Passes };
        if response.flags & flags::TC != 0 || response.rcode() == Rcode::NxDomain as u16 {
            return Judgement::Passes;
        }
        let answers = records(reply, &response).take_while(|(section, _)| *section == 0);
        let addresses = answers.filter(|(_, record)| is_of(record, rtype::AAAA));
        let (mut usable, mut unusable) = (0, 0);
        for (_, record) in addresses {
            *(if is_mapped(reply, &record) { &mut unusable } else { &mut usable }) += 1;
        }
        match (usable, unusable) {
            _ if self.translate_all => Judgement::Lacks,
            (0, _) => Judgement::Lacks,
            (_, 0) => Judgement::Passes,
            _ => Judgement::Thinned,
        }
    }

    /// Writes `reply` without IPv4-mapped addresses into `out`. Returns `None` if a name is
    /// malformed.
    pub(crate) fn thin(&self, reply: &[u8], question: &[u8], out: &mut [u8]) -> Option<usize> {
        let response = Response::parse(reply)?;
        let mut joiner = Joiner::new(out, question)?;
        for section in 0..3 {
            let wanted = |record: &Record| {
                section != 0 || !is_of(record, rtype::AAAA) || !is_mapped(reply, record)
            };
            joiner.copy_all(section, reply, &response, wanted)?;
        }
        // The signature covered the removed addresses as well.
        Some(joiner.end(response.flags & !flags::AD, response.rcode(), &[]))
    }

    /// Writes a reply for AAAA into `out`, synthesised from `found`, the reply to the query for A,
    /// because `lacking` has no address. Returns `None` if `lacking` has to be the reply.
    pub(crate) fn make(
        &self,
        lacking: &[u8],
        found: &[u8],
        question: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let (before, response) = (Response::parse(lacking)?, Response::parse(found)?);
        if response.rcode() != Rcode::NoError as u16 {
            return None;
        }
        let ttl_max = denied_for(lacking, &before).unwrap_or(TTL_MAX);
        let mut joiner = Joiner::new(out, question)?;
        let (mut made, mut left_out) = (0, 0);
        for (section, record) in records(found, &response) {
            match record.rtype {
                rtype::A if section == 0 && record.class == class::IN => {
                    let octets: &[u8; 4] = found.get(record.data..record.end)?.try_into().ok()?;
                    let address = Ipv4Addr::from(*octets);
                    let ttl = u32_at(found, record.fixed + 4)?.min(ttl_max);
                    let owner = owner(found, &record)?;
                    for prefix in &self.prefixes {
                        if is_meant(prefix, address) {
                            let made_of = embed(prefix, address).octets();
                            joiner.answer(&owner, rtype::AAAA, ttl, &made_of);
                            made += 1;
                        } else {
                            left_out += 1;
                        }
                    }
                }
                // Synthesised records have no signatures.
                rtype::RRSIG if section == 0 && u16_at(found, record.data) == Some(rtype::A) => {}
                _ => joiner.copy(section, found, &record)?,
            }
        }
        let failed = before.rcode() != Rcode::NoError as u16;
        if made == 0 && (failed || left_out > 0 && !self.translate_all) {
            return None;
        }
        Some(joiner.end(response.flags & flags::TC, Rcode::NoError as u16, &[]))
    }
}

/// Returns the TTL of a denial's SOA record.
fn denied_for(packet: &[u8], response: &Response) -> Option<u32> {
    let mut authority = records(packet, response).filter(|(section, _)| *section == 1);
    let (_, soa) = authority.find(|(_, record)| record.rtype == rtype::SOA)?;
    u32_at(packet, soa.fixed + 4)
}

fn is_of(record: &Record, rtype: u16) -> bool {
    record.rtype == rtype && record.class == class::IN
}

/// Returns true for the record of an IPv4-mapped address.
fn is_mapped(packet: &[u8], record: &Record) -> bool {
    let data = packet.get(record.data..record.end).unwrap_or_default();
    data.starts_with(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets()[..12])
}

/// Returns the offsets of an IPv4 address's octets in an address with this prefix.
fn places(prefix: &Nat64Prefix) -> [usize; 4] {
    let first = usize::from(prefix.length / 8);
    [0, 1, 2, 3].map(|number| {
        let place = first + number;
        if first <= ZERO_OCTET && place >= ZERO_OCTET { place + 1 } else { place }
    })
}

fn embed(prefix: &Nat64Prefix, address: Ipv4Addr) -> Ipv6Addr {
    let mut octets = prefix.address.octets();
    for (place, octet) in places(prefix).into_iter().zip(address.octets()) {
        octets[place] = octet;
    }
    octets.into()
}

/// Returns true if a NAT64 with this prefix may reach `address`.
fn is_meant(prefix: &Nat64Prefix, address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let special = first == 0 || first >= 224 || address.is_loopback() || address.is_link_local();
    let private = address.is_private() || (first == 100 && second & 0xc0 == 64);
    !(special || private && prefix.is_well_known())
}

#[cfg(test)]
mod tests {
    use super::Synthesis;
    use crate::config::{Config, Host};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn synthesis(prefix: &str) -> Synthesis {
        let text = format!(". {{\n bind 127.0.0.1\n dns64 {prefix}\n}}\n");
        let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
        Synthesis::new(config.blocks[0].stages.dns64.as_ref().unwrap())
    }

    /// The examples of RFC 6052 §2.4.
    #[test]
    fn addresses_are_embedded_and_found_again() {
        let address = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, made) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/72", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let synthesis = synthesis(prefix);
            let made: Ipv6Addr = made.parse().unwrap();
            assert_eq!(synthesis.addresses(address).collect::<Vec<_>>(), [made], "{prefix}");
            assert_eq!(synthesis.ipv4_in(made), Some(address), "{prefix}");
            let other = Ipv6Addr::from(u128::from(made) ^ 1 << 127);
            assert_eq!(synthesis.ipv4_in(other), None, "{prefix}");
        }
        let with_suffix = "2001:db8:c000:221::1".parse().unwrap();
        assert_eq!(synthesis("2001:db8::/32").ipv4_in(with_suffix), None);
    }

    #[test]
    fn addresses_that_no_nat64_can_reach_are_not_embedded() {
        let made = |prefix: &str, text: &str| {
            let synthesis = synthesis(prefix);
            let address = synthesis.addresses(text.parse().unwrap()).next().unwrap();
            synthesis.ipv4_in(address).is_some()
        };
        for text in ["127.0.0.1", "0.1.2.3", "169.254.1.1", "224.0.0.1", "255.255.255.255"] {
            assert!(!made("64:ff9b::/96", text) && !made("2001:db8::/96", text), "{text}");
        }
        for text in ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1"] {
            assert!(!made("64:ff9b::/96", text) && made("2001:db8::/96", text), "{text}");
        }
        assert!(made("64:ff9b::/96", "100.128.0.1") && made("64:ff9b::/96", "192.0.2.1"));
    }
}
