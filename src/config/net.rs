//! Address prefixes as operators write them: `192.0.2.0/24`, `2001:db8::/32`, or an address alone.
//!
//! Bits beyond the prefix are ignored. An IPv4 prefix written as IPv6 (`::ffff:192.0.2.0/120`) is
//! one of IPv4, because that is how clients' addresses are compared.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A set of addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Net {
    address: IpAddr,
    length: u8,
}

impl Net {
    /// Reads a prefix; an address alone is one of its full length.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<u8>().ok().filter(|length| *length <= width)?
            }
            Some(_) => return None,
            None => width,
        };
        Some(match (address, address.to_canonical()) {
            (IpAddr::V6(_), canonical @ IpAddr::V4(_)) if length >= 96 => {
                Self::new(canonical, length - 96)
            }
            _ => Self::new(address, length),
        })
    }

    /// Returns the prefix of this length of a canonical address, whose family bounds the length.
    pub(crate) fn new(address: IpAddr, length: u8) -> Self {
        let zeroed = |bits: u128, width: u32| {
            let host = width - u32::from(length);
            bits.checked_shr(host).and_then(|kept| kept.checked_shl(host)).unwrap_or(0)
        };
        let address = match address {
            IpAddr::V4(ip) => (zeroed(u32::from(ip).into(), 32) as u32).to_be_bytes().into(),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(zeroed(ip.into(), 128))),
        };
        Self { address, length }
    }

    /// Returns the first address and the length.
    pub(crate) fn parts(&self) -> (IpAddr, u8) {
        (self.address, self.length)
    }

    /// Returns the first and the last address.
    pub(crate) fn range(&self) -> (IpAddr, IpAddr) {
        let last = match self.address {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
                (u32::from(ip) | host).to_be_bytes().into()
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) | host))
            }
        };
        (self.address, last)
    }

    /// Returns true if `address`, which is canonical, is one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Addresses of any number of prefixes, as ranges that neither overlap nor lie within each other:
/// a hundred thousand prefixes cost seventeen comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Nets(Vec<(IpAddr, IpAddr)>);

impl Nets {
    /// All addresses of `nets`.
    pub(crate) fn new<'a>(nets: impl Iterator<Item = &'a Net>) -> Self {
        Self::of(nets.map(Net::range).collect())
    }

    fn of(mut ranges: Vec<(IpAddr, IpAddr)>) -> Self {
        ranges.sort_unstable();
        // Of prefixes, one lies within another or is apart from it, so the first to begin is the
        // larger one, or as large.
        ranges.dedup_by(|next, kept| {
            kept.1 = if next.0 == kept.0 { kept.1.max(next.1) } else { kept.1 };
            next.0.is_ipv4() == kept.0.is_ipv4() && next.1 <= kept.1
        });
        Self(ranges)
    }

    /// Returns all addresses of several.
    pub(super) fn joined<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        Self::of(all.flat_map(|nets| &nets.0).copied().collect())
    }

    /// Returns true if `address`, which is canonical, is one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        // Addresses of IPv4 sort before those of IPv6.
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        let before = behind.checked_sub(1).map(|place| self.0[place]);
        before.is_some_and(|(first, last)| first.is_ipv4() == address.is_ipv4() && address <= last)
    }

    /// The first and the last address of each range, in their order.
    pub(crate) fn ranges(&self) -> &[(IpAddr, IpAddr)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Net;

    #[test]
    fn a_prefix_is_read_with_or_without_a_length() {
        for (text, shown) in [
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("192.0.2.77", "192.0.2.77/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.77/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(Net::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "a", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "::/129", "1.2.3/8"] {
            assert_eq!(Net::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_contains_what_begins_like_it() {
        let contains = |net: &str, ip: &str| Net::parse(net).unwrap().contains(ip.parse().unwrap());
        assert!(
            contains("192.0.2.0/25", "192.0.2.127") && !contains("192.0.2.0/25", "192.0.2.128")
        );
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "ffff::1") && !contains("::/0", "192.0.2.1"));
        assert!(contains("2001:db8::1", "2001:db8::1") && !contains("2001:db8::1", "2001:db8::2"));
    }
}
