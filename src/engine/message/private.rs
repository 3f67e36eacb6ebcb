//! Addresses of private networks in the records of a response.
//!
//! A page of a public name with such an address could reach hosts of the client's network. Checked
//! are address records, and the address hints of SVCB and HTTPS records (RFC 9460 §7.3), which
//! clients may use instead.

use super::response::Response;
use super::{Record, class, rtype, u16_at};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Keys of address hints.
const HINTS: [(u16, usize); 2] = [(4, 4), (6, 16)];
/// Prefixes of IPv6 addresses that end with that of an IPv4 host: the well-known one of NAT64 (RFC
/// 6052 §2.1), and none at all (RFC 4291 §2.5.5.1).
const ENDS_WITH_V4: [[u16; 6]; 2] = [[0x64, 0xff9b, 0, 0, 0, 0], [0; 6]];
/// Prefix of NAT64 within a network (RFC 8215), and of 6to4, which an IPv4 address follows (RFC
/// 3056).
const LOCAL_NAT64: [u16; 3] = [0x64, 0xff9b, 1];
const SIX_TO_FOUR: u16 = 0x2002;

/// Returns true if a record of `response`, found in `packet`, has an address of a private network.
pub(crate) fn has_private_address(packet: &[u8], response: &Response) -> bool {
    let mut place = response.start;
    while place < response.end {
        let Some(record) = Record::parse(packet, place) else { return false };
        place = record.end;
        let data = &packet[record.data..record.end];
        let is_found = match (record.class, record.rtype) {
            (class::IN, rtype::A | rtype::AAAA) => is_private(data),
            (class::IN, rtype::SVCB | rtype::HTTPS) => has_private_hint(data),
            _ => false,
        };
        if is_found {
            return true;
        }
    }
    false
}

/// Returns true if the data of an SVCB record has a hint with such an address.
fn has_private_hint(data: &[u8]) -> bool {
    let mut place = 2;
    // A target may not be compressed (RFC 9460 §2.2), but some clients expand it all the same.
    loop {
        match data.get(place) {
            Some(0) => place += 1,
            Some(0xc0..) => place += 2,
            Some(len) => {
                place += 1 + usize::from(*len);
                continue;
            }
            None => return false,
        }
        break;
    }
    while let (Some(key), Some(len)) = (u16_at(data, place), u16_at(data, place + 2)) {
        let end = place + 4 + usize::from(len);
        let Some(value) = data.get(place + 4..end) else { return false };
        let hint = HINTS.iter().find(|(known, _)| *known == key);
        if hint.is_some_and(|(_, size)| value.chunks_exact(*size).any(is_private)) {
            return true;
        }
        place = end;
    }
    false
}

/// Returns true if the octets are an address of a private network, of this host or of the link.
fn is_private(octets: &[u8]) -> bool {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::V4(octets.into()));
    let address =
        v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| IpAddr::V6(octets.into())));
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(ip)) => is_private_v4(ip),
        Ok(IpAddr::V6(ip)) => is_private_v6(ip),
        Err(_) => false,
    }
}

/// This network, private use, shared address space, loopback, link local, and broadcast (RFC 6890).
fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 0
        || ip.is_private()
        || (first == 100 && second & 0xc0 == 64)
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
}

/// Unspecified, loopback, unique local, link local, site local (RFC 3879), NAT64 within a network,
/// and addresses that contain one of the above.
fn is_private_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let [first, second, third, .., high, low] = segments;
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    ip.is_unspecified()
        || ip.is_loopback()
        || matches!(first & 0xffc0, 0xfe80 | 0xfec0)
        || first & 0xfe00 == 0xfc00
        || segments[..3] == LOCAL_NAT64
        || (first == SIX_TO_FOUR && is_private_v4(v4(second, third)))
        || (ENDS_WITH_V4.iter().any(|prefix| segments[..6] == *prefix)
            && is_private_v4(v4(high, low)))
}

#[cfg(test)]
mod tests {
    use super::{has_private_hint, is_private};
    use std::net::IpAddr;

    fn octets(address: &str) -> Vec<u8> {
        match address.parse().unwrap() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    }

    #[test]
    fn private_networks_end_where_they_end() {
        for (address, expected) in [
            ("0.1.2.3", true),
            ("1.0.0.0", false),
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("11.0.0.0", false),
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("127.0.0.2", true),
            ("169.254.169.254", true),
            ("169.255.0.0", false),
            ("172.15.255.255", false),
            ("172.16.0.0", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.0.2.1", false),
            ("192.168.1.1", true),
            ("255.255.255.255", true),
            ("::", true),
            ("::1", true),
            ("::ffff:192.168.0.1", true),
            ("::ffff:192.0.2.1", false),
            ("64:ff9b::10.0.0.1", true),
            ("64:ff9b::192.0.2.1", false),
            ("64:ff9b:1::192.0.2.1", true),
            ("64:ff9b:2::10.0.0.1", false),
            ("::10.0.0.1", true),
            ("::192.0.2.1", false),
            ("2002:a00:1::1", true),
            ("2002:c000:201::a00:1", false),
            ("2001:db8::1", false),
            ("fbff::", false),
            ("fc00::", true),
            ("fdff::1", true),
            ("fe00::", false),
            ("fe80::1", true),
            ("fec0::1", true),
            ("ff02::1", false),
        ] {
            assert_eq!(is_private(&octets(address)), expected, "{address}");
        }
    }

    #[test]
    fn hints_are_found_behind_any_target_and_broken_ones_end_the_search() {
        let record = |target: &[u8], parameters: &[(u16, Vec<u8>)]| {
            let mut data = [&[0, 1], target].concat();
            for (key, value) in parameters {
                data.extend(key.to_be_bytes());
                data.extend((value.len() as u16).to_be_bytes());
                data.extend(value);
            }
            data
        };
        let alpn = (1, b"\x02h2".to_vec());
        let public = (4, octets("192.0.2.1"));
        let both = (4, [octets("192.0.2.1"), octets("10.0.0.1")].concat());
        let v6 = (6, octets("fd00::1"));
        for target in [&b"\0"[..], b"\x01a\x04test\0", b"\xc0\x0c", b"\x01a\xc0\x0c"] {
            assert!(!has_private_hint(&record(target, &[])));
            assert!(!has_private_hint(&record(target, &[alpn.clone(), public.clone()])));
            assert!(has_private_hint(&record(target, &[alpn.clone(), both.clone()])));
            assert!(has_private_hint(&record(target, &[public.clone(), v6.clone()])));
            let whole = record(target, std::slice::from_ref(&v6));
            for len in 0..whole.len() {
                assert!(!has_private_hint(&whole[..len]), "{len} octets");
            }
        }
    }
}
