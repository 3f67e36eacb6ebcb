//! Third-party servers as upstreams over HTTPS: unbound and dnsdist.
//!
//! Skipped, with a message, where they are not installed (Debian: unbound, dnsdist,
//! knot-dnsutils).

use super::dot::{Site, responder};
use super::process::free_port;
use crate::installed::is_installed;

/// Asks the server on `port` by both methods.
fn ask_over_https(site: &Site, port: u16, path: &str) {
    for method in ["POST", "GET"] {
        let target = format!("https://127.0.0.1:{port}{path}");
        site.ask_through(port, &target, &format!("doh_method {method}"));
    }
}

#[test]
fn we_ask_unbound_over_https() {
    if !is_installed("unbound") || !is_installed("kdig") {
        return;
    }
    let (site, port) = (Site::new("unbound_https"), free_port());
    let lines = format!(
        " https-port: {port}\n tls-service-key: \"{}\"\n tls-service-pem: \"{}\"\n \
         local-zone: \"onward.test.\" static\n local-data: \"n1.onward.test. A 10.7.0.1\"",
        site.path("key.pem"),
        site.path("cert.pem")
    );
    let _unbound = site.unbound(port, &lines);
    ask_over_https(&site, port, "");
}

#[test]
fn we_ask_dnsdist_over_https_at_a_path_of_its_own() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let (site, upstream, port) = (Site::new("dnsdist_https"), responder(), free_port());
    let configuration = format!(
        "addDOHLocal(\"127.0.0.1:{port}\", \"{}\", \"{}\", \"/q/dns\")\n\
         addAction(\"n1.onward.test.\", SpoofAction(\"10.7.0.1\"))\n\
         newServer({{address=\"{}\", checkInterval=3600}})",
        site.path("cert.pem"),
        site.path("key.pem"),
        upstream.addresses()[0],
    );
    let _dnsdist = site.dnsdist(&configuration);
    ask_over_https(&site, port, "/q/dns");
}
