//! Zones as they are written: `[SCHEME://]ZONE[:PORT]`.
//!
//! Server-block keys, `forward FROM` and `except` share this form. An address block in CIDR
//! notation is a reverse zone, or several when its length is not on a boundary of octets (IPv6:
//! nibbles). Ports are not checked for their range here, because the reference finds a wrong one
//! only after all directives are read.

use super::Name;
use super::numbers;
use super::quote::quote;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The prefixes that are no part of a name.
const SCHEMES: [&str; 7] = ["dns", "tls", "quic", "grpc", "https", "https3", "unix"];
/// Bytes of a zone as written, each escape counted as the byte that it stands for: otherwise a name
/// that is printed with escapes could not be read again.
const ZONE_BYTES_MAX: usize = 255;

/// One zone as written, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) scheme: &'static str,
    /// More than one for some address blocks.
    pub(super) names: Vec<Name>,
    /// Any number: whether it is a port is not known yet.
    pub(super) port: Option<i64>,
}

/// The scheme and what follows it.
pub(super) fn split_scheme(text: &str) -> (&'static str, &str) {
    let prefixed = SCHEMES.into_iter().find_map(|scheme| {
        let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
        Some((scheme, rest))
    });
    prefixed.unwrap_or(("dns", text))
}

/// Reads a zone.
///
/// # Errors
/// The message for the operator.
pub(super) fn parse(text: &str) -> Result<Zone, String> {
    let (scheme, rest) = split_scheme(text);
    if rest.is_empty() || rest.ends_with(':') {
        return Err(format!("expecting data after last colon: {}", quote(rest)));
    }
    let (zone, port) = match rest.rsplit_once(':') {
        Some((zone, port)) => match numbers::signed(port) {
            Ok(port) => (zone, Some(port)),
            Err(_) => (rest, None),
        },
        None => (rest, None),
    };
    let len = unescaped_len(zone);
    if len > ZONE_BYTES_MAX {
        return Err(format!("specified zone is too long: {len} > {ZONE_BYTES_MAX}"));
    }
    let name = Name::parse(zone).map_err(|reason| {
        let brace = if zone.ends_with('{') { "; a space must stand before '{'" } else { "" };
        format!("zone is not a valid domain name: {zone} ({reason}{brace})")
    })?;
    let names = reverse_zones(zone)?.unwrap_or_else(|| vec![name]);
    Ok(Zone { scheme, names, port })
}

fn unescaped_len(text: &str) -> usize {
    let (mut rest, mut len) = (text.as_bytes(), 0);
    while let [first, after @ ..] = rest {
        rest = match after {
            [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', after @ ..] if *first == b'\\' => after,
            [_, after @ ..] if *first == b'\\' => after,
            after => after,
        };
        len += 1;
    }
    len
}

/// Returns the reverse zones of an address block; `None` when `text` is not an address block.
fn reverse_zones(text: &str) -> Result<Option<Vec<Name>>, String> {
    let Some((address, length)) = text.split_once('/') else { return Ok(None) };
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let Ok(length) = length.parse::<u32>() else { return Ok(None) };
    if let Ok(address) = address.parse::<Ipv4Addr>() {
        if length > 32 {
            return Ok(None);
        }
        let zones = sub_prefixes(u32::from(address).into(), 32, length, 8);
        return Ok(Some(zones.map(|(prefix, length)| in_addr_arpa(prefix, length)).collect()));
    }
    let Ok(address) = address.parse::<Ipv6Addr>() else { return Ok(None) };
    if length > 128 {
        return Ok(None);
    }
    if text.starts_with([':', '0']) {
        // The reference takes these for a zone with a port and refuses them.
        return Err(format!("invalid CIDR {text}"));
    }
    let zones = sub_prefixes(u128::from(address), 128, length, 4);
    Ok(Some(zones.map(|(prefix, length)| ip6_arpa(prefix, length)).collect()))
}

/// The prefixes that make up the block of `length` bits, each extended to the next multiple of
/// `step` bits, with that length.
fn sub_prefixes(
    address: u128,
    width: u32,
    length: u32,
    step: u32,
) -> impl Iterator<Item = (u128, u32)> {
    let longer = length.div_ceil(step) * step;
    let shifted = |number: u128, bits: u32| number.checked_shl(bits).unwrap_or(0);
    let host_bits = shifted(1, width - length).wrapping_sub(1);
    let start = address & !host_bits;
    (0..1_u128 << (longer - length))
        .map(move |number| (start | shifted(number, width - longer), longer))
}

fn in_addr_arpa(prefix: u128, length: u32) -> Name {
    let octets = (0..length / 8).rev().map(|index| (prefix >> (24 - 8 * index)) & 0xFF);
    arpa(octets.map(|octet| octet.to_string()), "in-addr")
}

fn ip6_arpa(prefix: u128, length: u32) -> Name {
    let nibbles = (0..length / 4).rev().map(|index| (prefix >> (124 - 4 * index)) & 0xF);
    arpa(nibbles.map(|nibble| format!("{nibble:x}")), "ip6")
}

fn arpa(labels: impl Iterator<Item = String>, tree: &str) -> Name {
    let mut text: String = labels.map(|label| label + ".").collect();
    text += tree;
    text += ".arpa.";
    Name::parse(&text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{parse, split_scheme};

    fn shown(text: &str) -> String {
        match parse(text) {
            Err(message) => message,
            Ok(zone) => {
                let names: Vec<String> = zone.names.iter().map(ToString::to_string).collect();
                let port = zone.port.map_or(String::new(), |port| format!(" {port}"));
                format!("{} {}{port}", zone.scheme, names.join(" "))
            }
        }
    }

    #[test]
    fn a_known_scheme_is_no_part_of_the_name() {
        assert_eq!(shown("tls://m"), "tls m.");
        assert_eq!(shown("https3://m:1"), "https3 m. 1");
        assert_eq!(shown("TLS://m"), "dns tls://m.");
        assert_eq!(split_scheme("tcp://m"), ("dns", "tcp://m"));
    }

    #[test]
    fn the_text_after_the_last_colon_is_a_port_if_it_is_a_number() {
        assert_eq!(shown(".:1053"), "dns . 1053");
        assert_eq!(shown("m:+15903"), "dns m. 15903");
        assert_eq!(shown("m:-5"), "dns m. -5");
        assert_eq!(shown("m:dns"), "dns m:dns.");
        assert_eq!(shown("2001:db8::7"), "dns 2001:db8:. 7");
        assert_eq!(shown("m:"), "expecting data after last colon: \"m:\"");
        assert_eq!(shown("dns://"), "expecting data after last colon: \"\"");
        assert!(shown(":5300").starts_with("zone is not a valid domain name: "));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(shown("m..n").starts_with("zone is not a valid domain name: m..n"));
        let long = shown(&"x.".repeat(200));
        assert_eq!(long, "specified zone is too long: 400 > 255");
        assert_eq!(shown(&"\\0320.".repeat(80)), format!("dns {}", "\\0320.".repeat(80)));
        assert_eq!(shown(&"\\...".repeat(86)), "specified zone is too long: 258 > 255");
    }

    #[test]
    fn an_address_block_is_a_reverse_zone() {
        assert_eq!(shown("10.7.0.0/16"), "dns 7.10.in-addr.arpa.");
        assert_eq!(shown("10.7.9.200/24:5"), "dns 9.7.10.in-addr.arpa. 5");
        assert_eq!(shown("10.0.0.1/032"), "dns 1.0.0.10.in-addr.arpa.");
        assert_eq!(shown("0.0.0.0/0"), "dns in-addr.arpa.");
        assert_eq!(shown("2001:db8::/32"), "dns 8.b.d.0.1.0.0.2.ip6.arpa.");
        assert_eq!(shown("2001:db8::/0"), "dns ip6.arpa.");
        assert_eq!(parse("1.2.3.4/1").unwrap().names.len(), 128);
        assert_eq!(parse("ff::1/128").unwrap().names.len(), 1);
    }

    #[test]
    fn an_address_block_off_the_boundary_is_several() {
        assert_eq!(
            shown("10.7.8.0/22"),
            "dns 8.7.10.in-addr.arpa. 9.7.10.in-addr.arpa. 10.7.10.in-addr.arpa. \
             11.7.10.in-addr.arpa."
        );
        assert_eq!(
            shown("2001:db8:40::/42"),
            "dns 4.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 5.0.0.8.b.d.0.1.0.0.2.ip6.arpa. \
             6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 7.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
    }

    #[test]
    fn what_is_almost_an_address_block_is_a_name() {
        for text in ["10.7.0.0/40", "10/8", "010.0.0.0/8", "10.0.0.1", "fe80::1%lo/64", "m/8"] {
            let zone = parse(text).unwrap();
            assert!(zone.names[0].as_wire().len() < 20 && zone.names.len() == 1, "{text}");
            assert!(!zone.names[0].to_string().contains("arpa"), "{text}");
        }
        assert_eq!(shown("::/8"), "invalid CIDR ::/8");
        assert_eq!(shown("0:1::/32"), "invalid CIDR 0:1::/32");
    }
}
