//! Warnings about configuration that is valid but probably a mistake.
//!
//! The language accepts many typing errors: a misspelt network is a name, an unknown scheme is a
//! part of one, a brace on the line of a list is an entry of the list. Existing files may depend on
//! them, so they are not refused; the warning says how the word is read and what was probably
//! intended. This file has warnings about zones, `blocks` those about several stanzas or server
//! blocks at once; all others are where the word is read.

pub(super) mod blocks;
mod circles;

use super::keys::{Zone, split_scheme};
use super::numbers;
use crate::corefile::{DIRECTIVES, WARNINGS_MAX, Warning, did_you_mean};
use std::net::IpAddr;

/// The prefixes that are known, and those that a hand may write instead.
const SCHEMES: [&str; 6] = ["dns://", "tls://", "https://", "https3://", "quic://", "grpc://"];

/// The first of `warnings`, and that there are others.
pub(super) fn bounded(mut warnings: Vec<Warning>) -> Vec<Warning> {
    if let Some(Warning { place, .. }) = warnings.get(WARNINGS_MAX) {
        let message = "more warnings are not shown".into();
        let last = Warning { place: place.clone(), message };
        warnings.truncate(WARNINGS_MAX);
        warnings.push(last);
    }
    warnings
}

/// Returns the warning about the key of a server block.
pub(super) fn of_zone(text: &str, zone: &Zone) -> Option<String> {
    let word = text.trim_end_matches('.');
    if DIRECTIVES.contains(&word) || word == "import" {
        return Some("this directive is read as a zone: put it into a server block".into());
    }
    of_name(text, zone)
}

/// Returns the warning about FROM, of which only the name counts.
pub(super) fn of_from(text: &str) -> Option<String> {
    let zone = super::keys::parse(text).ok()?;
    if split_scheme(text).1.len() < text.len() || (zone.port.is_some() && is_plain(text)) {
        return Some("the scheme and port are ignored, only the zone is used".into());
    }
    of_name(text, &zone)
}

/// Returns the warning about a zone of `except`. `is_option`: it is spelt as an option.
pub(super) fn of_exception(text: &str, zone: &Zone, is_option: bool) -> Option<String> {
    if text == "}" || is_option {
        return Some(
            "the line is read as a list of zones: start a new line before this word".into(),
        );
    }
    of_name(text, zone)
}

/// True for a zone whose only colon is that of its port.
fn is_plain(text: &str) -> bool {
    text.matches(':').count() == 1
}

fn of_name(text: &str, zone: &Zone) -> Option<String> {
    let (_, rest) = split_scheme(text);
    let is_reverse = zone.names.iter().any(|name| {
        let wire = name.as_wire();
        wire.ends_with(b"\x07in-addr\x04arpa\0") || wire.ends_with(b"\x03ip6\x04arpa\0")
    });
    if let Some((address, length)) = rest.split_once('/').filter(|_| is_reverse) {
        return host_bits(address, length);
    }
    if let Some((scheme, _)) = rest.split_once("://") {
        let lower = format!("{}://", scheme.to_ascii_lowercase());
        let suggestion = match lower.as_str() {
            known if SCHEMES.contains(&known) => " (schemes are in lower case)".into(),
            "tcp://" | "udp://" => " (dns:// is UDP and TCP)".into(),
            other => did_you_mean(other, SCHEMES),
        };
        return Some(format!(
            "'{scheme}://' is not a scheme and is read as part of the zone{suggestion}"
        ));
    }
    if rest.contains('/')
        && rest.starts_with(|first: char| first.is_ascii_hexdigit() || first == '[')
    {
        let looks = rest.split(['/', ':', '.']).all(|part| {
            part.bytes().all(|byte| byte.is_ascii_hexdigit() || b"[]%".contains(&byte))
        });
        if looks || rest.contains("::") {
            return Some(
                "this is not a valid network (ADDRESS/LENGTH) and is read as a name".into(),
            );
        }
    }
    let bare = rest.trim_matches(['[', ']']);
    if bare.parse::<IpAddr>().is_ok() {
        let port = zone.port.map_or_else(String::new, |port| format!(" with the port {port}"));
        return Some(format!("an address is read as a name{port}: a network needs /LENGTH"));
    }
    // The lexer warns of words that look like references to variables.
    if rest.contains(['{', '}']) && !rest.contains('$') && !rest.contains("{args") {
        return Some("a brace needs space around it, otherwise it is part of the word".into());
    }
    if rest.starts_with('(') && rest.ends_with(')') {
        return Some("this is read as a zone, not as a snippet".into());
    }
    if rest.contains(char::is_whitespace) {
        return Some(
            "this is read as one name: quoted text and variables are not split into words".into(),
        );
    }
    if rest.contains(',') {
        return Some("a comma separates only at the end of a word".into());
    }
    if let Some((_, port)) =
        rest.rsplit_once(':').filter(|(_, port)| numbers::signed(port).is_err())
    {
        return Some(format!("'{port}' is not a port number, so ':{port}' is read as part of it"));
    }
    if rest.split('.').any(|label| label == "*") {
        return Some("'*' is not a wildcard here: a zone contains all names below it".into());
    }
    None
}

/// The bits of a network's address that are beyond its length.
pub(super) fn host_bits(address: &str, length: &str) -> Option<String> {
    let length = length.split(':').next()?.parse::<u32>().ok()?;
    let (bits, width): (u128, u32) = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let beyond = width.checked_sub(length)?;
    let mask = u128::MAX.checked_shl(beyond).unwrap_or(0);
    if bits & !mask == 0 {
        return None;
    }
    let network: IpAddr = match u32::try_from(bits & mask) {
        Ok(bits) if width == 32 => std::net::Ipv4Addr::from(bits).into(),
        _ => std::net::Ipv6Addr::from(bits & mask).into(),
    };
    Some(format!(
        "the address has bits beyond the prefix length: the network is {network}/{length}"
    ))
}

#[cfg(test)]
mod tests {
    use super::{WARNINGS_MAX, bounded, of_exception, of_from, of_zone};
    use crate::config::keys;
    use crate::corefile::{Place, Warning};

    fn zone(text: &str) -> String {
        of_zone(text, &keys::parse(text).unwrap()).unwrap_or_default()
    }

    #[test]
    fn ordinary_zones_are_not_odd() {
        for text in [
            ".",
            "example.org",
            "Example.org.:1053",
            "dns://m",
            "10.0.0.0/8",
            "10.0.0.0/8:53",
            "2001:db8::/32",
            "_tcp.m",
            "7.10.in-addr.arpa",
            "tls://m:853",
            "a/b.m",
        ] {
            assert_eq!(zone(text), "", "{text}");
        }
    }

    #[test]
    fn a_slip_is_told_by_what_was_probably_meant() {
        for (text, hint) in [
            ("10.0.0.0/40", "not a valid network"),
            ("10/8", "not a valid network"),
            ("010.0.0.0/8", "not a valid network"),
            ("[2001:db8::]/32", "not a valid network"),
            ("fe80::1%lo/64", "not a valid network"),
            ("10.7.9.200/24", "the network is 10.7.9.0/24"),
            ("2001:db8::1/64", "the network is 2001:db8::/64"),
            ("10.0.0.1", "an address is read as a name"),
            ("2001:db8::7", "with the port 7"),
            ("TLS://m", "lower case"),
            ("tcp://m", "not a scheme"),
            ("htps://m", "did you mean 'https://'"),
            ("m:dns", "not a port number"),
            ("m,n", "a comma"),
            ("m{", "a brace"),
            ("{}", "a brace"),
            ("}", "a brace"),
            ("(s)", "not as a snippet"),
            ("m n", "one name"),
            ("*.m", "not a wildcard"),
            ("log", "this directive is read"),
            ("import", "this directive is read"),
        ] {
            assert!(zone(text).contains(hint), "{text}: {}", zone(text));
        }
    }

    #[test]
    fn of_from_only_the_name_counts() {
        for text in ["tls://m:99", "dns://m", "m:53"] {
            assert!(of_from(text).unwrap().contains("ignored"), "{text}");
        }
        assert_eq!(of_from("example.org"), None);
        assert!(of_from("10/8").unwrap().contains("not a valid network"));
    }

    #[test]
    fn a_list_takes_the_whole_line() {
        let exception =
            |text, is_option| of_exception(text, &keys::parse(text).unwrap(), is_option);
        assert!(exception("}", false).unwrap().contains("a new line"));
        assert!(exception("max_fails", true).unwrap().contains("a new line"));
        assert_eq!(exception("m", false), None);
    }

    #[test]
    fn warnings_end_where_nobody_would_read_on() {
        let place = Place { file: "f".into(), line: 1 };
        let many = |count| vec![Warning { place: place.clone(), message: "m".into() }; count];
        assert_eq!(bounded(many(WARNINGS_MAX)).len(), WARNINGS_MAX);
        let more = bounded(many(WARNINGS_MAX + 3));
        assert_eq!(more.len(), WARNINGS_MAX + 1);
        assert_eq!(more[WARNINGS_MAX].message, "more warnings are not shown");
    }
}
