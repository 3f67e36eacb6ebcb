//! Hosts files over UDP and TCP, through changes and reloads.
//!
//! Files are real and change while the server runs; tests wait for the answer that shows the
//! change. No query fails meanwhile: the previous contents are served.

use crate::http::get;
use crate::kit::{A, ask, query_for};
use crate::tcp::ask_over_tcp;
use crate::until::until;
use crate::{config, start};
use onward::config::Endpoint;
use onward::server::Server;
use std::fs;
use std::path::PathBuf;

/// A hosts file that is deleted with its test.
struct HostsFile(PathBuf);

impl HostsFile {
    fn new(test: &str, text: &str) -> Self {
        let name = format!("onward-hosts-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir(&path);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    /// Replaces the file atomically, so that no partial contents are read.
    fn replace(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    fn body(&self, more: &str) -> String {
        format!("hosts {} {{\n {more}\n}}\n", self.0.display())
    }
}

impl Drop for HostsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_dir(&self.0);
    }
}

/// The reply's code, the number of its answers, and the last four bytes before its OPT.
fn answer(reply: &[u8]) -> (u8, u16, [u8; 4]) {
    let end = reply.len() - 11;
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    (reply[3] & 15, count, *reply[..end].last_chunk().unwrap())
}

fn ask_for(server: &Server, name: &str) -> (u8, u16, [u8; 4]) {
    answer(&ask(server.addresses()[0], &query_for(7, name, A)))
}

/// Waits until `name` has this address at both workers.
#[track_caller]
fn until_answered(server: &Server, name: &str, address: [u8; 4]) {
    let mut in_a_row = 0;
    until("the new address", || {
        let (code, count, found) = ask_for(server, name);
        assert_eq!((code, count), (0, 1), "no query fails meanwhile");
        in_a_row = if found == address { in_a_row + 1 } else { 0 };
        // The client's port selects the worker.
        (in_a_row == 40).then_some(())
    });
}

#[test]
fn a_file_is_served_and_its_changes_are_noticed() {
    let file = HostsFile::new("changes", "192.0.2.1 a.t\n");
    let body = file.body("reload 20ms") + " prometheus 127.0.0.1:0";
    let server = start("127.0.0.1:0", &body, 2);
    let address = server.addresses()[0];
    assert_eq!(ask_for(&server, "a.t"), (0, 1, [192, 0, 2, 1]), "loaded before it serves");
    let streamed = ask_over_tcp(address, &query_for(9, "a.t", A));
    assert_eq!(answer(&streamed), (0, 1, [192, 0, 2, 1]));
    assert_eq!(ask_for(&server, "other.t").0, 2, "SERVFAIL");
    file.replace("192.0.2.2 a.t\n2001:db8::1 a.t\n");
    until_answered(&server, "a.t", [192, 0, 2, 2]);
    fs::remove_file(&file.0).unwrap();
    let metrics = server.pages().find(|(_, pages)| pages.contains(&Endpoint::Metrics)).unwrap().0;
    let label = format!("{{hostsfile=\"{}\"", file.0.display());
    until("a failure that is counted", || {
        let text = get(metrics, "/metrics").1;
        let failed = format!("onward_hosts_loads_total{label},result=\"failed\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&failed))?.to_owned();
        let entries = format!("coredns_hosts_entries{label}}} 4");
        assert!(text.lines().any(|line| line == entries), "{text}");
        assert!(text.contains("\ncoredns_hosts_reload_timestamp_seconds 1"), "{text}");
        (line != "0").then_some(())
    });
    assert_eq!(ask_for(&server, "a.t"), (0, 1, [192, 0, 2, 2]), "what was good stays");
    file.replace("192.0.2.3 a.t\n");
    until_answered(&server, "a.t", [192, 0, 2, 3]);
    server.stop();
}

#[test]
fn a_reload_checks_unchanged_sources_once() {
    let file = HostsFile::new("reload", "192.0.2.1 a.t\n");
    let never = file.body("reload 0");
    let mut server = start("127.0.0.1:0", &never, 2);
    let address = server.addresses()[0].to_string();
    file.replace("192.0.2.2 a.t\n");
    assert_eq!(ask_for(&server, "a.t"), (0, 1, [192, 0, 2, 1]), "nobody looks at it");
    // The same source with another TTL: its loader stays with its data, and checks the file again.
    server.reload(config(&address, &file.body("reload 0\n ttl 5"))).unwrap();
    until_answered(&server, "a.t", [192, 0, 2, 2]);
    file.replace("192.0.2.3 a.t\n");
    // A new source of the same file is loaded before the reload returns.
    server.reload(config(&address, &file.body("reload 0\n 192.0.2.9 b.t"))).unwrap();
    assert_eq!(ask_for(&server, "a.t"), (0, 1, [192, 0, 2, 3]));
    assert_eq!(ask_for(&server, "b.t"), (0, 1, [192, 0, 2, 9]));
    server.reload(config(&address, "whoami")).unwrap();
    server.reload(config(&address, &file.body("reload 20ms"))).unwrap();
    file.replace("192.0.2.4 a.t\n");
    until_answered(&server, "a.t", [192, 0, 2, 4]);
    server.stop();
}

#[test]
fn answers_too_long_for_a_datagram_are_whole_over_tcp() {
    let names = (0..40).map(|number| format!(" h{number}.t"));
    let lines = (1..=100).map(|number| format!("192.0.0.{number} big.t\n"));
    let text = format!("192.0.2.2{}\n{}", names.collect::<String>(), lines.collect::<String>());
    let file = HostsFile::new("large", &text);
    let server = start("127.0.0.1:0", &file.body(""), 1);
    let address = server.addresses()[0];
    let query = query_for(7, "big.t", A);
    let reply = ask(address, &query);
    assert!(reply[2] & 2 != 0 && answer(&reply).1 < 100, "TC");
    let reply = ask_over_tcp(address, &query);
    assert_eq!((reply[2] & 2, answer(&reply)), (0, (0, 100, [192, 0, 0, 100])));
    let reply = ask_over_tcp(address, &query_for(7, "2.2.0.192.in-addr.arpa", 12));
    assert_eq!((reply[2] & 2, reply[3] & 15, answer(&reply).1), (0, 0, 40));
    server.stop();
}
