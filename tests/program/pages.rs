//! HTTP endpoints from the start to the end of a process.
//!
//! Covers messages about them, addresses in use, lameduck, and the upgrade to the next process.

use super::http::{get, try_get};
use super::process::{Program, Stranger, directory, onward_in, onward_output};
use super::until::{TIMEOUT, until};
use crate::installed::is_installed;
use onward::traffic::answer::Behaviour;
use onward::traffic::client::{self, Options};
use onward::traffic::upstream::{Service, Upstream};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// A forwarder with these endpoints, the address of its listener and that of `path`.
fn with_pages(directory: &Path, pages: &str, path: &str) -> (Program, SocketAddr, SocketAddr) {
    let text = format!(".:0 {{\n bind 127.0.0.1\n whoami\n {pages}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
    let (mut program, queries) = onward_in(directory, &["--workers", "1"]);
    let line = program.wait_for("onward serves http://");
    let address = line.strip_prefix("onward serves http://").unwrap().strip_suffix(path).unwrap();
    let address = address.parse().unwrap();
    (program, queries, address)
}

/// Returns true if ten queries are all answered.
fn is_served(queries: SocketAddr) -> bool {
    let mut options = Options::closed(vec![queries], 10, TIMEOUT, 1);
    options.limit = Some(10);
    options.timeout = TIMEOUT;
    let counts = client::run(&options).unwrap().join().unwrap().counts;
    // Replies of `whoami` are not those of the traffic upstream, so they count as wrong.
    counts.timed_out + counts.lost == 0 && counts.answered + counts.wrong == 10
}

#[test]
fn curl_gets_what_it_asks_for() {
    if !is_installed("curl") {
        return;
    }
    let directory = directory("pages_curl");
    let all = "127.0.0.1:0";
    let pages = format!("health {all}\n ready {all}\n prometheus {all}\n status {all}");
    let (program, _, address) = with_pages(&directory, &pages, "/health");
    let urls = ["health", "ready", "metrics", "status.json", ""];
    let urls = urls.map(|path| format!("http://{address}/{path}"));
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*"])
        .args(&urls)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("OKOK# HELP") && text.contains("<html"), "{text}");
    assert_eq!(program.end("TERM"), Some(0));
}

#[test]
fn an_address_in_use_stops_the_start_only_for_health() {
    let directory = directory("pages_taken");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(".:0 {{\n bind 127.0.0.1\n health {address}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
    let output = onward_output(&["--workers", "1"], &directory);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("cannot listen on {address}: the address is in use")));

    let text = format!(".:0 {{\n bind 127.0.0.1\n prometheus {address}\n ready {address}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--workers", "1"]).current_dir(&directory);
    let mut told = Vec::new();
    let (mut program, ()) = Program::start(&mut command, |line| {
        told.extend(line.starts_with("[ERROR] ").then(|| line.to_owned()));
        line.starts_with("onward listens on ").then_some(())
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with(&format!("[ERROR] plugin/ready: cannot listen on {address}")));
    assert!(told[1].starts_with(&format!("[ERROR] plugin/prometheus: cannot listen on {address}")));
    drop(taken);
    program.signal("HUP");
    program.wait_for("[INFO] Reloading complete");
    assert_eq!((get(address, "/ready").0, get(address, "/metrics").0), (200, 200));
    assert_eq!(program.end("TERM"), Some(0));
}

#[test]
fn with_lameduck_it_continues_to_serve_and_is_not_ready() {
    let directory = directory("pages_lameduck");
    let pages = "health 127.0.0.1:0 {\n lameduck 1h\n}\n ready 127.0.0.1:0";
    let (mut program, queries, address) = with_pages(&directory, pages, "/health");
    assert_eq!(get(address, "/ready").0, 200);
    program.signal("TERM");
    program.wait_for("[INFO] plugin/health: lameduck");
    let not_ready = (503, "stopping".to_owned());
    until("not ready", || (get(address, "/ready") == not_ready).then_some(()));
    assert_eq!(get(address, "/health").0, 200);
    assert!(is_served(queries));
    program.signal("HUP");
    program.wait_for("are ignored while stopping");
    assert_eq!(program.end("INT"), Some(0));
}

#[test]
fn lameduck_ends_by_itself() {
    let directory = directory("pages_lameduck_ends");
    let pages = "health 127.0.0.1:0 {\n lameduck 300ms\n}";
    let (program, _, address) = with_pages(&directory, pages, "/health");
    assert_eq!(program.end("TERM"), Some(0));
    assert_eq!(try_get(address, "/health"), None);
}

#[test]
fn the_next_process_has_the_addresses_without_a_gap() {
    let service = Service::new("127.0.0.1:0".parse().unwrap(), Behaviour::default());
    let upstream = Upstream::of(vec![service]).unwrap();
    let directory = directory("pages_handover");
    let pages = "health 127.0.0.1:0 {\n lameduck 1h\n}";
    let (mut program, queries, address) = with_pages(&directory, pages, "/health");
    let text = format!(
        ".:{} {{\n bind 127.0.0.1\n health {address}\n forward . {}\n}}\n",
        queries.port(),
        upstream.addresses()[0]
    );
    fs::write(directory.join("Corefile"), text).unwrap();
    program.signal("USR2");
    let mut asked = 0;
    let line = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| program.wait_for("upgrade complete"));
        while !waiting.is_finished() {
            assert_eq!(get(address, "/health"), (200, "OK".into()));
            asked += 1;
        }
        waiting.join().unwrap()
    });
    assert!(asked > 0);
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    let next = number.map(Stranger::new);
    // The old process ends at once: lameduck applies to a stop only.
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| program.wait());
        while !waiting.is_finished() {
            assert_eq!(get(address, "/health"), (200, "OK".into()));
        }
        waiting.join().unwrap()
    });
    assert_eq!(ended, Some(0));
    assert!(is_served(queries) && get(address, "/health").0 == 200);
    drop(next);
    upstream.stop().unwrap();
}
