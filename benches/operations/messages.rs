//! Messages for the benches of whole queries.
//!
//! Typical ones: an address query with EDNS, and an answer with two addresses. Each number has a
//! name of its own.

#![allow(dead_code, reason = "each program uses its part of this")]

/// An address query with EDNS.
pub(crate) fn query(number: usize) -> Vec<u8> {
    query_of(number, "org", 1)
}

/// A query with EDNS for this type; `zone` has three letters.
pub(crate) fn query_of(number: usize, zone: &str, rtype: u8) -> Vec<u8> {
    let host = format!("host{number:04}");
    let mut query = vec![0x12, 0x34, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in [host.as_str(), "example", zone] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, rtype, 0, 1]);
    query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    query
}

/// The four-digit number in the name of a query.
pub(crate) fn number_of(query: &[u8]) -> usize {
    let digit = |place: usize| usize::from(query[17 + place] - b'0');
    ((digit(0) * 10 + digit(1)) * 10 + digit(2)) * 10 + digit(3)
}

/// The QTYPE of a query.
pub(crate) fn rtype_of(query: &[u8]) -> u8 {
    query[35]
}

/// The response to `query` with an OPT and nothing else.
pub(crate) fn empty_response(query: &[u8]) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2] = 0x81;
    response[3] = 0x80;
    response
}

/// The response to `query` with two addresses and an OPT.
pub(crate) fn response(query: &[u8]) -> Vec<u8> {
    let mut response = query[..query.len() - 11].to_vec();
    response[2] = 0x81;
    response[3] = 0x80;
    response[7] = 2;
    for last in [1, 2] {
        response.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, last]);
    }
    response.extend_from_slice(&query[query.len() - 11..]);
    response
}
