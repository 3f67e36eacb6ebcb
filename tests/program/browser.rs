//! Chromium resolves a name through onward by DNS over HTTPS (RFC 8484).
//!
//! The browser's DNS is in secure mode, so that no other resolver can have answered. Skipped, with
//! a message, where Chromium is not installed.

use super::certs::Authority;
use super::dot::Site;
use crate::installed::is_installed;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

const TEXT: &str = "this page was found over HTTPS";

/// A server that answers every request with one page, for the life of the process.
fn page_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let body = format!("<!doctype html><title>t</title><p>{TEXT}</p>");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn chromium_resolves_a_name_in_secure_mode() {
    if !is_installed("chromium") {
        return;
    }
    let (site, page) = (Site::new("browser"), page_server());
    let identity = Authority::new("browser").issue(&["127.0.0.1"]);
    fs::write(site.path("cert.pem"), &identity.certificate).unwrap();
    fs::write(site.path("key.pem"), &identity.key).unwrap();
    let (_onward, server) =
        site.onward("https://", "tls cert.pem key.pem\n hosts {\n 127.0.0.1 page.test\n }");
    let profile = site.path("profile");
    fs::create_dir_all(&profile).unwrap();
    let template = format!("https://{server}/dns-query");
    let state = format!(r#"{{"dns_over_https":{{"mode":"secure","templates":"{template}"}}}}"#);
    fs::write(format!("{profile}/Local State"), state).unwrap();
    let pin = identity.pin();
    // A browser that hangs is killed and shows no page.
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-dev-shm-usage", "--no-first-run", "--timeout=60000", "--dump-dom"])
        .arg(format!("--ignore-certificate-errors-spki-list={}", &pin["sha256/".len()..]))
        .arg(format!("--user-data-dir={profile}"))
        .arg(format!("http://page.test:{}/", page.port()))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains(TEXT), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
}
