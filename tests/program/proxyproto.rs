//! Headers of the PROXY protocol from and to third-party programs.
//!
//! Skipped, with a message, where dnsdist, unbound or kdig is not installed (Debian: dnsdist,
//! unbound, knot-dnsutils).

use super::dot::{Site, kdig, until_answered};
use super::process::free_port;
use super::until::until;
use crate::installed::is_installed;
use std::net::{SocketAddr, TcpStream};

#[test]
fn dnsdist_names_its_client_over_udp_and_tcp() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let site = Site::new("dnsdist_proxy");
    let (_onward, server) = site.onward("", "proxyproto {\n allow 127.0.0.1/32\n }\n whoami");
    let configuration =
        format!("newServer({{address=\"{server}\", useProxyProtocol=true, checkInterval=3600}})",);
    let (_dnsdist, dnsdist) = site.dnsdist(&configuration);
    until_answered(dnsdist);
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

/// Asks `onward`, whose upstream sees the client by its header, from two addresses of which the
/// upstream allows only one.
fn check_by_address(onward: SocketAddr) {
    for transport in ["+notcp", "+tcp"] {
        for (client, status) in
            [("127.0.0.2", "NOERROR"), ("127.0.0.3", "REFUSED"), ("127.0.0.2", "NOERROR")]
        {
            let said = kdig(onward, &["-b", client, transport, "+time=5", "a.test", "A"]);
            assert!(said.contains(&format!("status: {status}")), "{client} {transport}: {said}");
        }
    }
}

#[test]
fn dnsdist_learns_our_client_over_udp_and_tcp() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let site = Site::new("proxy_dnsdist");
    let configuration = "setProxyProtocolACL({\"127.0.0.1/32\"})\nsetACL({\"127.0.0.0/8\"})\n\
                         addAction(makeRule(\"127.0.0.3/32\"), RCodeAction(DNSRCode.REFUSED))\n\
                         addAction(AllRule(), SpoofAction(\"192.0.2.1\"))";
    let (_dnsdist, dnsdist) = site.dnsdist(configuration);
    until("dnsdist listens", || TcpStream::connect(dnsdist).ok());
    let body = format!("forward . {dnsdist} {{\n proxy_protocol v2\n }}");
    let (_onward, server) = site.onward("", &body);
    check_by_address(server);
}

/// Without TLS: servers differ in whether they expect the header in front of it or within.
#[test]
fn unbound_learns_our_client_over_udp_and_tcp() {
    if !is_installed("unbound") || !is_installed("kdig") {
        return;
    }
    let (site, port) = (Site::new("proxy_unbound"), free_port());
    let lines = format!(
        " proxy-protocol-port: {port}\n access-control: 127.0.0.0/8 allow\n \
         access-control: 127.0.0.3/32 refuse\n local-zone: test. redirect\n \
         local-data: \"test. A 192.0.2.1\"\n"
    );
    let _unbound = site.unbound(port, &lines);
    let body = format!("forward . 127.0.0.1:{port} {{\n proxy_protocol v2\n }}");
    let (_onward, server) = site.onward("", &body);
    check_by_address(server);
}
