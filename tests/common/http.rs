//! An HTTP client for the server's endpoints, written byte by byte, independent of the tested code.
//!
//! One connection for each request, or one for several; every read has a deadline. Invalid requests
//! are sent unchanged.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use super::until::TIMEOUT;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Fetches `path`; returns status code and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    try_get(address, path).unwrap()
}

/// The same; `None` if the connection is refused or closed without a response.
pub(crate) fn try_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

/// Requests `/health` on a connection that stays open; false if the server has closed it.
pub(crate) fn is_healthy_on(stream: &mut TcpStream) -> bool {
    if stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").is_err() {
        return false;
    }
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nOK") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            _ => return false,
        }
    }
    text.starts_with(b"HTTP/1.1 200 OK\r\n")
}
