//! Signed queries of dig and kdig, which verify each reply: over UDP, TCP and TLS, from a zone and
//! from an upstream. Skipped, with a message, where they are not installed (Debian: bind9-dnsutils,
//! knot-dnsutils).

use super::dot::{Site, kdig};
use super::transfer::dig;
use crate::installed::is_installed;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use std::fs;

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const ALGORITHMS: [&str; 5] =
    ["hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"];
const TSIG: &str = "tsig {\n secrets keys\n require TXT\n }";

fn site(test: &str) -> Site {
    let site = Site::new(test);
    let keys = format!("key \"k.test\" {{\n algorithm hmac-sha256;\n secret \"{SECRET}\";\n}};\n");
    fs::write(site.path("keys"), keys).unwrap();
    let zone = "@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\na 60 A 192.0.2.1\na 60 TXT \"only signed\"\n";
    fs::write(site.path("zone"), zone).unwrap();
    site
}

#[test]
fn dig_verifies_replies_with_each_algorithm() {
    if !is_installed("dig") {
        return;
    }
    let service = Service::new("127.0.0.1:0".parse().unwrap(), Behaviour::Answer);
    let upstream = Upstream::of(vec![service]).unwrap();
    let site = site("dig-tsig");
    let tsig = TSIG.replace("keys", &site.path("keys"));
    let body = format!("file zone z.test\n {tsig}\n forward . {}\n cache", upstream.addresses()[0]);
    let (_onward, server) = site.onward("", &body);
    for (algorithm, transport) in
        ALGORITHMS.into_iter().flat_map(|algorithm| [(algorithm, "+notcp"), (algorithm, "+tcp")])
    {
        let key = format!("-y {algorithm}:k.test:{SECRET} {transport}");
        for name in ["a.z.test", "n1.onward.test", "n1.onward.test"] {
            let text = dig(server, &format!("{key} {name} A"));
            let is_good = text.contains("status: NOERROR")
                && text.contains("TSIG PSEUDOSECTION")
                && text.contains(" NOERROR 0")
                && !text.contains("Couldn't verify");
            assert!(is_good, "{key} {name}: {text}");
        }
    }
    let refused = dig(server, "a.z.test TXT");
    assert!(refused.contains("status: REFUSED"), "{refused}");
    let key = format!("-y hmac-sha256:k.test:{SECRET}");
    assert!(dig(server, &format!("{key} a.z.test TXT")).contains("only signed"));
    let wrong = dig(server, "-y hmac-sha256:k.test:YWJjZA== a.z.test TXT");
    assert!(wrong.contains("BADSIG"), "{wrong}");
    let unknown = dig(server, &format!("-y hmac-sha256:other.test:{SECRET} a.z.test TXT"));
    assert!(unknown.contains("BADKEY"), "{unknown}");
}

#[test]
fn kdig_verifies_replies_over_tls() {
    if !is_installed("kdig") {
        return;
    }
    let site = site("kdig-tsig");
    let tsig = TSIG.replace("keys", &site.path("keys"));
    let (_onward, server) =
        site.onward("tls://", &format!("tls cert.pem key.pem\n {tsig}\n file zone z.test"));
    let ca = format!("+tls-ca={}", site.path("ca.pem"));
    let key = format!("hmac-sha512:k.test:{SECRET}");
    let text = kdig(server, &[&ca, "+tls-hostname=dns.test", "-y", &key, "a.z.test", "TXT"]);
    assert!(text.contains("only signed") && text.contains("TLS1.3"), "{text}");
    assert!(
        text.contains("TSIG") && !text.contains("WARNING") && !text.contains("; ERROR"),
        "{text}"
    );
}
