//! DNS over TLS between programs of other makers: kdig, dnsperf, unbound, dnsdist, knot-resolver.
//!
//! Each verifies what it is shown, and the last three are asked as well: what they accept is what
//! the world accepts. Skipped aloud where they are not installed (Debian: knot-dnsutils, dnsperf,
//! unbound, dnsdist, knot-resolver).

use super::certs::{Authority, Identity};
use super::process::{Program, directory, free_port, onward};
use super::until::until;
use crate::installed::is_installed;
use onward::traffic::answer::Behaviour;
use onward::traffic::responder::{Responder, Service};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

/// Certificates in a directory of the test's own.
struct Site {
    directory: PathBuf,
}

impl Site {
    fn new(test: &str) -> Self {
        let directory = directory(test);
        let authority = Authority::new("onward's tests");
        let Identity { certificate, key } = authority.issue(&["dns.test", "127.0.0.1"]);
        let files = [("ca.pem", authority.pem()), ("cert.pem", certificate), ("key.pem", key)];
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The forwarder with `body` in a server block of `scheme` on loopback.
    fn onward(&self, scheme: &str, body: &str) -> (Program, SocketAddr) {
        let root = self.directory.display();
        let text = format!("{scheme}.:0 {{\n bind 127.0.0.1\n root {root}\n {body}\n}}\n");
        fs::write(self.directory.join("Corefile"), text).unwrap();
        onward(&["--conf", &self.path("Corefile"), "--workers", "1"])
    }

    /// unbound on `port` with `lines` besides.
    fn unbound(&self, port: u16, lines: &str) -> Program {
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
}

impl Site {
    /// Has whoever speaks TLS on `port` and knows n1.onward.test be asked for it by onward.
    fn ask_over_tls(&self, port: u16) {
        until("somebody listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let body = format!(
            "errors\n forward . tls://127.0.0.1:{port} {{\n tls ca.pem\n \
             tls_servername dns.test\n }}"
        );
        let (_onward, server) = self.onward("", &body);
        for _ in 0..20 {
            let answer = kdig(server, &["+time=5", "n1.onward.test", "A"]);
            assert!(answer.contains("10.7.0.1"), "{answer}");
        }
    }
}

fn responder() -> Responder {
    let address = "127.0.0.1:0".parse().unwrap();
    Responder::start(&[Service { address, behaviour: Behaviour::Answer }], None).unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    text + &errors
}

fn kdig(server: SocketAddr, arguments: &[&str]) -> String {
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
fn we_ask_dnsdist_over_tls() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let (site, upstream, port) = (Site::new("dnsdist_upstream"), responder(), free_port());
    let configuration = format!(
        "setSecurityPollSuffix(\"\")\nsetLocal(\"127.0.0.1:{}\")\n\
         addTLSLocal(\"127.0.0.1:{port}\", \"{}\", \"{}\")\n\
         addAction(\"n1.onward.test.\", SpoofAction(\"10.7.0.1\"))\n\
         newServer({{address=\"{}\", checkInterval=3600}})\n",
        free_port(),
        site.path("cert.pem"),
        site.path("key.pem"),
        upstream.addresses()[0],
    );
    fs::write(site.directory.join("dnsdist.conf"), configuration).unwrap();
    let _dnsdist = Program::start_silent(Command::new("dnsdist").args([
        "--supervised",
        "-C",
        &site.path("dnsdist.conf"),
    ]));
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
