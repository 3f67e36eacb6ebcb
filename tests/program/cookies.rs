//! Server cookies across processes.
//!
//! They stay valid in reloads and upgrades, and at all servers that share secrets.

use super::process::{Stranger, TIMEOUT, directory, onward_in};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

const FIRST: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const SECOND: &str = "dd3bdf9344b678b185a6f5cb60fca715";

fn write_corefile(directory: &Path, port: u16, more: &str) {
    let text = format!(".:{port} {{\n bind 127.0.0.1\n whoami\n {more}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
}

/// The cookie in the reply to a query with this one.
fn cookie(client: &UdpSocket, server: SocketAddr, cookie: &[u8]) -> Vec<u8> {
    let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01".to_vec();
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, cookie.len() as u8 + 4]);
    query.extend([0, 10, 0, cookie.len() as u8]);
    query.extend(cookie);
    client.send_to(&query, server).unwrap();
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).unwrap();
    let option = [&[0, 10, 0, 24], &cookie[..8]].concat();
    let found = reply[..len].windows(option.len()).position(|bytes| bytes == option);
    let start = found.expect("the reply has a cookie") + 4;
    reply[start..start + 24].to_vec()
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
}

#[test]
fn a_cookie_stays_valid_in_a_reload_and_an_upgrade() {
    let (directory, client) = (directory("cookies"), client());
    write_corefile(&directory, 0, "");
    let (mut onward, server) = onward_in(&directory, &["--workers", "2"]);
    let first = cookie(&client, server, b"12345678");
    // A valid cookie is repeated. Each socket may meet another worker.
    for _ in 0..16 {
        assert_eq!(cookie(&self::client(), server, &first), first);
    }
    write_corefile(&directory, server.port(), "cookies");
    onward.signal("HUP");
    onward.wait_for("Reloading complete");
    assert_eq!(cookie(&client, server, &first), first, "after a reload");
    onward.signal("USR2");
    let line = onward.wait_for("upgrade complete");
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    let _next = Stranger::new(number.expect("the process is named"));
    assert_eq!(onward.wait(), Some(0));
    assert_eq!(cookie(&client, server, &first), first, "after an upgrade");
}

#[test]
fn servers_with_the_same_secrets_accept_the_cookies_of_each_other() {
    let (directory, client) = (directory("cookie_secrets"), client());
    let secrets = |all: &[&str]| fs::write(directory.join("secrets"), all.join("\n")).unwrap();
    secrets(&[FIRST]);
    let file = format!("cookies {{\n secrets {}/secrets\n }}", directory.display());
    write_corefile(&directory, 0, &file);
    let (mut one, here) = onward_in(&directory, &["--workers", "1"]);
    let (_two, there) = onward_in(&directory, &["--workers", "1"]);
    let made = cookie(&client, here, b"12345678");
    assert_eq!(cookie(&client, there, &made), made);
    write_corefile(&directory, here.port(), &file);
    secrets(&[SECOND, FIRST]);
    one.signal("HUP");
    one.wait_for("Reloading complete");
    let newer = cookie(&client, here, &made);
    assert_ne!(newer, made, "of the new secret");
    assert_ne!(cookie(&client, there, &newer), newer, "the other has only the old one");
    write_corefile(&directory, 0, "");
    let (_three, elsewhere) = onward_in(&directory, &["--workers", "1"]);
    assert_ne!(cookie(&client, elsewhere, &made), made, "a secret of its own");
}
