//! Upstreams over QUIC behind a header of the PROXY protocol, on a link with the smallest MTU.
//!
//! A datagram of QUIC has 1,200 bytes, which each path carries; the header makes it longer than an
//! MTU of 1,280 bytes, so that it must be fragmented.

use super::certs::Authority;
use super::lab::{inside, succeed};
use super::process::{directory, onward_in};
use std::fs;
use std::process::Command;

#[test]
fn an_upstream_over_quic_behind_headers_is_reached_on_an_mtu_of_1280() {
    if !crate::installed::is_installed("dig") {
        return eprintln!("SKIPPED: dig is not installed");
    }
    inside("mtu::an_upstream_over_quic_behind_headers_is_reached_on_an_mtu_of_1280", |_| {
        succeed(Command::new("ip").args(["link", "set", "lo", "mtu", "1280"]));
        let authority = Authority::new("onward's tests");
        let identity = authority.issue(&["dns.test"]);
        let [far, near] = ["netns_mtu_far", "netns_mtu_near"].map(directory);
        let files = [("cert.pem", identity.certificate), ("key.pem", identity.key)];
        files.iter().for_each(|(name, text)| fs::write(far.join(name), text).unwrap());
        fs::write(near.join("ca.pem"), authority.pem()).unwrap();
        let text = "quic://. {\n bind ::1\n tls cert.pem key.pem\n proxyproto {\n allow ::1/128\n \
                    }\n whoami\n}\n";
        fs::write(far.join("Corefile"), text).unwrap();
        let text = ". {\n bind ::1\n errors\n forward . quic://[::1] {\n tls ca.pem\n \
                    tls_servername dns.test\n proxy_protocol v2\n }\n}\n";
        fs::write(near.join("Corefile"), text).unwrap();
        let (_far, _) = onward_in(&far, &["--workers", "1"]);
        let (_near, _) = onward_in(&near, &["--workers", "1"]);
        let mut dig = Command::new("dig");
        let told = succeed(dig.args(["@::1", "+tries=1", "+time=10", "a.test", "AAAA"]));
        assert!(told.contains("status: NOERROR"), "{told}");
    });
}
