//! DNS over TLS with third-party programs: kdig, dnsperf, unbound, dnsdist, knot-resolver.
//!
//! Each verifies our certificate, and the last three also serve as upstreams. Skipped, with a
//! message, where they are not installed (Debian: knot-dnsutils, dnsperf, unbound, dnsdist,
//! knot-resolver).

use super::certs::{Authority, Dates, Identity};
use super::process::{Program, directory, free_port, onward};
use super::until::until;
use crate::installed::is_installed;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

/// Certificates in the test's directory.
pub(super) struct Site {
    directory: PathBuf,
}

impl Site {
    pub(super) fn new(test: &str) -> Self {
        let directory = directory(test);
        let authority = Authority::new("onward's tests");
        let Identity { certificate, key } = authority.issue(&["dns.test", "127.0.0.1"]);
        let files = [("ca.pem", authority.pem()), ("cert.pem", certificate), ("key.pem", key)];
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        Self { directory }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The forwarder with `body` in a server block of `scheme` on loopback.
    pub(super) fn onward(&self, scheme: &str, body: &str) -> (Program, SocketAddr) {
        let root = self.directory.display();
        let text = format!("{scheme}.:0 {{\n bind 127.0.0.1\n root {root}\n {body}\n}}\n");
        fs::write(self.directory.join("Corefile"), text).unwrap();
        onward(&["--conf", &self.path("Corefile"), "--workers", "1"])
    }

    /// unbound on `port` with additional `lines`.
    pub(super) fn unbound(&self, port: u16, lines: &str) -> Program {
        let text = format!(
            "server:\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n \
             do-not-query-localhost: no\n module-config: \"iterator\"\n \
             interface: 127.0.0.1@{port}\n{lines}\nremote-control:\n control-enable: no\n"
        );
        fs::write(self.directory.join("unbound.conf"), text).unwrap();
        let program = Program::start_silent(
            Command::new("unbound").arg("-d").arg("-c").arg(self.directory.join("unbound.conf")),
        );
        until("unbound listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        program
    }

    /// dnsdist with this configuration, whose plain listener is on a free port. Returns the
    /// listener's address.
    pub(super) fn dnsdist(&self, configuration: &str) -> (Program, SocketAddr) {
        let port = free_port();
        let text = format!(
            "setSecurityPollSuffix(\"\")\nsetLocal(\"127.0.0.1:{port}\")\n{configuration}\n"
        );
        let file = self.path("dnsdist.conf");
        fs::write(&file, text).unwrap();
        let arguments = ["--supervised", "-C", &file];
        let program = Program::start_silent(Command::new("dnsdist").args(arguments));
        (program, SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

/// Waits until `server` answers.
pub(super) fn until_answered(server: SocketAddr) {
    until("the server answers", || {
        let said = kdig(server, &["+time=1", "a.test", "A"]);
        said.contains("status: NOERROR").then_some(())
    });
}

impl Site {
    /// Queries n1.onward.test through onward, whose upstream is the TLS server on `port`.
    fn ask_over_tls(&self, port: u16) {
        self.ask_through(port, &format!("tls://127.0.0.1:{port}"), "");
    }

    /// Queries n1.onward.test through onward, whose upstream is `target` on `port`.
    pub(super) fn ask_through(&self, port: u16, target: &str, options: &str) {
        until("somebody listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let body = format!(
            "errors\n forward . {target} {{\n tls ca.pem\n tls_servername dns.test\n {options}\n }}"
        );
        let (_onward, server) = self.onward("", &body);
        for _ in 0..20 {
            let answer = kdig(server, &["+time=5", "n1.onward.test", "A"]);
            assert!(answer.contains("10.7.0.1"), "{answer}");
        }
    }
}

/// Makes a self-signed certificate for dns.test and loopback with OpenSSL: cert.pem and key.pem of
/// `site`, and ca.pem with the same certificate.
fn make_own(site: &Site, key: &[&str]) {
    let (certificate, secret) = (site.path("cert.pem"), site.path("key.pem"));
    let names = "subjectAltName=DNS:dns.test,IP:127.0.0.1";
    let fixed = ["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=dns.test", "-addext", names];
    let files = ["-out", &*certificate, "-keyout", &*secret];
    let said = run("openssl", &[&fixed[..], &["-newkey"], key, &files].concat());
    assert!(fs::exists(&certificate).unwrap(), "{said}");
    fs::copy(&certificate, site.path("ca.pem")).unwrap();
}

const P521: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
/// With five primes such a key is made in a second instead of a minute.
const RSA_8192: &[&str] = &["rsa:8192", "-pkeyopt", "rsa_keygen_primes:5"];

pub(super) fn responder() -> Upstream {
    let address = "127.0.0.1:0".parse().unwrap();
    Upstream::of(vec![Service::new(address, Behaviour::Answer)]).unwrap()
}

pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    text + &errors
}

pub(super) fn kdig(server: SocketAddr, arguments: &[&str]) -> String {
    let port = server.port().to_string();
    run("kdig", &[&["@127.0.0.1", "-p", &port, "+retry=0"], arguments].concat())
}

const TLS: &str = "tls cert.pem key.pem";

#[test]
fn kdig_verifies_us_and_is_padded_for() {
    if !is_installed("kdig") {
        return;
    }
    let (site, upstream) = (Site::new("kdig"), responder());
    let (_onward, server) =
        site.onward("tls://", &format!("{TLS}\n forward . {}", upstream.addresses()[0]));
    let ca = format!("+tls-ca={}", site.path("ca.pem"));
    let good = kdig(server, &[&ca, "+tls-hostname=dns.test", "a.test", "A"]);
    assert!(good.contains("status: NOERROR") && good.contains("TLS1.3"), "{good}");
    let padded = kdig(server, &[&ca, "+tls-hostname=dns.test", "+padding=128", "a.test", "A"]);
    assert!(padded.contains("Received 468 B"), "{padded}");
    let wrong = kdig(server, &[&ca, "+tls-hostname=other.test", "a.test", "A"]);
    assert!(!wrong.contains("status: NOERROR"), "{wrong}");
}

#[test]
fn dnsperf_loses_nothing_over_tls() {
    if !is_installed("dnsperf") {
        return;
    }
    let (site, upstream) = (Site::new("dnsperf_dot"), responder());
    let (_onward, server) =
        site.onward("tls://", &format!("{TLS}\n forward . {}", upstream.addresses()[0]));
    let names: String = (0..5_000).map(|number| format!("n{number}.test A\n")).collect();
    fs::write(site.directory.join("queries"), names).unwrap();
    let (port, file) = (server.port().to_string(), site.path("queries"));
    let arguments = ["-m", "dot", "-s", "127.0.0.1", "-p", &port, "-n", "2", "-c", "4"];
    let text = run("dnsperf", &[&arguments[..], &["-q", "64", "-d", &file]].concat());
    assert!(text.contains("Queries completed:    10000 (100.00%)"), "{text}");
    assert!(text.contains("NOERROR 10000 (100.00%)"), "{text}");
}

#[test]
fn unbound_asks_us_over_tls() {
    if !is_installed("unbound") || !is_installed("kdig") {
        return;
    }
    let (site, upstream) = (Site::new("unbound_client"), responder());
    let (_onward, server) =
        site.onward("tls://", &format!("{TLS}\n forward . {}", upstream.addresses()[0]));
    let port = free_port();
    let lines = format!(
        " tls-cert-bundle: \"{}\"\n local-zone: \"test.\" transparent\nforward-zone:\n \
         name: \".\"\n forward-tls-upstream: yes\n forward-addr: 127.0.0.1@{}#dns.test",
        site.path("ca.pem"),
        server.port()
    );
    let _unbound = site.unbound(port, &lines);
    let answer = kdig(([127, 0, 0, 1], port).into(), &["a.test", "A"]);
    assert!(answer.contains("status: NOERROR") && answer.contains("ANSWER: 1"), "{answer}");
}

#[test]
fn we_ask_unbound_over_tls() {
    if !is_installed("unbound") || !is_installed("kdig") {
        return;
    }
    let site = Site::new("unbound_upstream");
    let port = free_port();
    let lines = format!(
        " tls-port: {port}\n tls-service-key: \"{}\"\n tls-service-pem: \"{}\"\n \
         local-zone: \"onward.test.\" static\n local-data: \"n1.onward.test. A 10.7.0.1\"",
        site.path("key.pem"),
        site.path("cert.pem")
    );
    let _unbound = site.unbound(port, &lines);
    site.ask_over_tls(port);
}

#[test]
fn we_ask_unbound_whose_certificate_is_its_own_authority_and_whose_key_is_large() {
    if !is_installed("unbound") || !is_installed("kdig") || !is_installed("openssl") {
        return;
    }
    for (test, key) in [("unbound_p521", P521), ("unbound_rsa8192", RSA_8192)] {
        let (site, port) = (Site::new(test), free_port());
        make_own(&site, key);
        let lines = format!(
            " tls-port: {port}\n tls-service-key: \"{}\"\n tls-service-pem: \"{}\"\n \
             local-zone: \"onward.test.\" static\n local-data: \"n1.onward.test. A 10.7.0.1\"",
            site.path("key.pem"),
            site.path("cert.pem")
        );
        let _unbound = site.unbound(port, &lines);
        site.ask_over_tls(port);
    }
}

#[test]
fn a_key_on_p521_is_served_and_its_chain_verified_by_openssl() {
    if !is_installed("openssl") {
        return;
    }
    let (site, upstream) = (Site::new("p521_server"), responder());
    make_own(&site, P521);
    let (_onward, server) =
        site.onward("tls://", &format!("{TLS}\n forward . {}", upstream.addresses()[0]));
    let (address, authority) = (server.to_string(), site.path("ca.pem"));
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = ["s_client", "-brief", "-verify_return_error", "-verify_hostname"];
        let peer = ["dns.test", "-CAfile", &authority, "-connect", &address, version];
        let said = run("openssl", &[&arguments[..], &peer].concat());
        assert!(said.contains("Verification: OK"), "{version}: {said}");
        assert!(said.contains("ECDSA") || said.contains("ecdsa_secp521r1_sha512"), "{said}");
    }
}

#[test]
fn a_key_that_cannot_sign_is_refused_with_its_size() {
    if !is_installed("openssl") {
        return;
    }
    let site = Site::new("rsa8192_server");
    make_own(&site, RSA_8192);
    let text =
        format!("tls://.:0 {{\n bind 127.0.0.1\n root {}\n {TLS}\n whoami\n}}\n", site.path(""));
    fs::write(site.directory.join("Corefile"), text).unwrap();
    let said = run(env!("CARGO_BIN_EXE_onward"), &["check", "--conf", &site.path("Corefile")]);
    assert!(said.contains("cert.pem: the RSA key has 8192 bits"), "{said}");
}

#[test]
fn expired_certificates_are_logged_and_expiry_is_a_metric() {
    let (site, upstream) = (Site::new("expired"), responder());
    let over = Authority::new("a \"site\"").issue_for(&["dns.test"], Dates::Over);
    fs::write(site.directory.join("cert.pem"), &over.certificate).unwrap();
    fs::write(site.directory.join("key.pem"), &over.key).unwrap();
    let body = format!(
        "{TLS}\n prometheus 127.0.0.1:0\n forward . tls://{} {{\n tls ca.pem\n }}",
        upstream.addresses()[0]
    );
    let text = format!("tls://.:0 {{\n bind 127.0.0.1\n root {}\n {body}\n}}\n", site.path(""));
    fs::write(site.directory.join("Corefile"), text).unwrap();
    let corefile = site.path("Corefile");
    let expected = "TLS: cert.pem: certificate 1 ('CN=rcgen self signed cert') expired at \
                    2021-01-01T00:00:00Z, ";
    let said = run(env!("CARGO_BIN_EXE_onward"), &["check", "--conf", &corefile]);
    assert!(said.contains(&format!("# [WARNING] {expected}")), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    let find = |line: &str| line.contains(") expired at").then(|| line.to_owned());
    command.args(["--conf", &corefile, "--workers", "1"]);
    let (mut program, warning) = Program::start(&mut command, find);
    assert!(warning.contains(&format!("[WARNING] onward: {expected}")), "{warning}");
    let page = program.wait_for("onward serves http://");
    let address = page.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    let of = |used: &str, file: &str| {
        let head = "onward_tls_certificate_not_after_seconds{";
        let mut lines = metrics.lines().filter(|line| line.starts_with(head));
        let (used, file) = (format!("use=\"{used}\""), format!("file=\"{file}\""));
        lines.find(|line| line.contains(&used) && line.contains(&file)).unwrap_or_default()
    };
    assert!(of("server", "cert.pem").ends_with(" 1609459200"), "{metrics}");
    let authority = of("authority", "ca.pem");
    assert!(authority.contains("subject=\"CN=onward's tests\""), "{metrics}");
}

#[test]
fn we_ask_dnsdist_over_tls() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let (site, upstream, port) = (Site::new("dnsdist_upstream"), responder(), free_port());
    let configuration = format!(
        "addTLSLocal(\"127.0.0.1:{port}\", \"{}\", \"{}\")\n\
         addAction(\"n1.onward.test.\", SpoofAction(\"10.7.0.1\"))\n\
         newServer({{address=\"{}\", checkInterval=3600}})",
        site.path("cert.pem"),
        site.path("key.pem"),
        upstream.addresses()[0],
    );
    let _dnsdist = site.dnsdist(&configuration);
    site.ask_over_tls(port);
}

#[test]
fn we_ask_knot_resolver_over_tls() {
    if !is_installed("kresd") || !is_installed("kdig") {
        return;
    }
    let (site, port) = (Site::new("knot_upstream"), free_port());
    let configuration = format!(
        "net.listen('127.0.0.1', {port}, {{ kind = 'tls' }})\nnet.tls('{}', '{}')\n\
         trust_anchors.remove('.')\nmodules.unload('ta_update')\nmodules.unload('priming')\n\
         policy.add(policy.domains(policy.ANSWER({{ [kres.type.A] = {{ \
         rdata = kres.str2ip('10.7.0.1'), ttl = 60 }} }}), \
         {{ todname('n1.onward.test.') }}))\n",
        site.path("cert.pem"),
        site.path("key.pem"),
    );
    fs::write(site.directory.join("kresd.conf"), configuration).unwrap();
    let _knot = Program::start_silent(
        Command::new("kresd")
            .args(["-n", "-c", &site.path("kresd.conf")])
            .arg(site.directory.as_os_str()),
    );
    site.ask_over_tls(port);
}
