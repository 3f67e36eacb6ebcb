//! Headers of the PROXY protocol from and to third-party programs.
//!
//! Skipped, with a message, where dnsdist or kdig is not installed (Debian: dnsdist,
//! knot-dnsutils).

use super::dot::{Site, kdig};
use super::process::{Program, free_port};
use super::until::until;
use crate::installed::is_installed;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

#[test]
fn dnsdist_names_its_client_over_udp_and_tcp() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let site = Site::new("dnsdist_proxy");
    let (_onward, server) = site.onward("", "proxyproto {\n allow 127.0.0.1/32\n }\n whoami");
    let port = free_port();
    let configuration = format!(
        "setSecurityPollSuffix(\"\")\nsetLocal(\"127.0.0.1:{port}\")\nnewServer({{\
         address=\"{server}\", useProxyProtocol=true, checkInterval=3600}})\n",
    );
    fs::write(site.path("dnsdist.conf"), configuration).unwrap();
    let file = site.path("dnsdist.conf");
    let _dnsdist =
        Program::start_silent(Command::new("dnsdist").args(["--supervised", "-C", &file]));
    let dnsdist = SocketAddr::from(([127, 0, 0, 1], port));
    until("dnsdist answers", || {
        let said = kdig(dnsdist, &["+time=1", "a.test", "A"]);
        said.contains("status: NOERROR").then_some(())
    });
    for transport in ["+notcp", "+tcp"] {
        for client in ["127.0.0.2", "127.0.0.3"] {
            for _ in 0..5 {
                let said = kdig(dnsdist, &["-b", client, transport, "+time=5", "a.test", "A"]);
                let has_address = said
                    .lines()
                    .any(|line| line.contains("\tA\t") && line.trim_end().ends_with(client));
                assert!(has_address, "{transport}: {said}");
            }
        }
    }
}
