//! The client's address as trusted proxies pass it on.
//!
//! Each proxy appends the address of its own peer to `X-Forwarded-For`, or to `Forwarded`
//! (RFC 7239), so the last address that is not a trusted proxy's is the client's; addresses before
//! it are the client's claims. A proxy passes the other field on as the client wrote it. Therefore,
//! if both fields are there, they must agree.

use super::request::Request;
use std::net::{IpAddr, SocketAddr};

/// Returns the client's address, for a request whose peer is a trusted proxy. `None`: no proxy says
/// it, or in no usable way.
pub fn client(request: &Request<'_>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (new, old) = (request.forwarded, request.forwarded_for);
    match (new.is_empty(), old.is_empty()) {
        (true, true) => None,
        (true, false) => last_untrusted(elements(old).map(address), is_trusted),
        (false, true) => last_untrusted(elements(new).map(forwarded_for), is_trusted),
        (false, false) => {
            let one = last_untrusted(elements(old).map(address), &is_trusted)?;
            let other = last_untrusted(elements(new).map(forwarded_for), &is_trusted)?;
            (one == other).then_some(one)
        }
    }
}

/// Returns the first address, from the last backwards, that is not trusted; if all are, the
/// farthest. An element that is no address ends the search.
fn last_untrusted(
    addresses: impl Iterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut farthest = None;
    for address in addresses {
        let Some(address) = address else { break };
        if !is_trusted(address) {
            return Some(address);
        }
        farthest = Some(address);
    }
    farthest
}

/// Returns the elements of a list, from the last backwards.
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.rsplit(|byte| *byte == b',')
}

/// Returns the address in the parameter `for` of an element of `Forwarded`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.get(4..)?;
        let is_for = pair.get(..4)?.eq_ignore_ascii_case(b"for=");
        let value =
            value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        is_for.then(|| address(value))?
    })
}

/// Returns the address in a text with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::client;
    use crate::http::request::{Method, Request};
    use std::net::IpAddr;

    fn found(forwarded: &str, forwarded_for: &str) -> Option<String> {
        let request = Request {
            id: 1,
            method: Method::Get,
            target: b"/",
            host: None,
            content_type: None,
            forwarded: forwarded.as_bytes(),
            forwarded_for: forwarded_for.as_bytes(),
            body: &[],
            fault: None,
        };
        let is_trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client(&request, is_trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_last_untrusted_address_is_the_clients() {
        for (forwarded, forwarded_for, expected) in [
            ("", "", None),
            ("", "192.0.2.1", Some("192.0.2.1")),
            ("", "192.0.2.9, 192.0.2.1 ,10.0.0.1,10.0.0.2", Some("192.0.2.1")),
            ("", "198.51.100.1:4711", Some("198.51.100.1")),
            ("", "[2001:db8::1]:53, ::ffff:10.0.0.1", Some("2001:db8::1")),
            ("", "[2001:db8::1]", Some("2001:db8::1")),
            ("", "2001:db8::1", Some("2001:db8::1")),
            ("", "10.0.0.1, 10.0.0.2", Some("10.0.0.1")),
            ("", "192.0.2.1, unknown, 10.0.0.2", Some("10.0.0.2")),
            ("", "192.0.2.1, unknown", None),
            ("for=192.0.2.1", "", Some("192.0.2.1")),
            ("For=\"[2001:db8::1]:47\";proto=https;by=10.0.0.1", "", Some("2001:db8::1")),
            ("for=192.0.2.9, proto=h2;for=192.0.2.1, for=10.0.0.1", "", Some("192.0.2.1")),
            ("for=192.0.2.9, for=_hidden", "", None),
            ("proto=http", "", None),
            ("for=192.0.2.1", "192.0.2.1", Some("192.0.2.1")),
            ("for=192.0.2.1", "192.0.2.2", None),
            ("for=192.0.2.1", "unknown", None),
            ("fo", "", None),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(found(forwarded, forwarded_for), expected, "{forwarded} {forwarded_for}");
        }
    }
}
