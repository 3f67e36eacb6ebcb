//! Process lifecycle: reload, upgrade, and notification of the service manager.
//!
//! Under constant load, because none of it may cost a query.

use super::process::{
    Program, Stranger, TIMEOUT, bound_pair, directory, onward_in, onward_with, send,
};
use super::until::until;
use crate::installed::is_installed;
use crate::load;
use onward::sys::inherit::Passed;
use onward::traffic::answer::Behaviour;
use onward::traffic::client::{self, Options};
use onward::traffic::tally::Tally;
use onward::traffic::upstream::{Service, Upstream};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn upstream() -> Upstream {
    let address = "127.0.0.1:0".parse().unwrap();
    Upstream::of(vec![Service::new(address, Behaviour::default())]).unwrap()
}

fn write_corefile(directory: &Path, port: u16, upstream: SocketAddr, more: &str) {
    let text = format!(
        ".:{port} {{\n bind 127.0.0.1\n forward . {upstream} {{\n  spread 8\n }}\n{more}\n}}\n"
    );
    fs::write(directory.join("Corefile"), text).unwrap();
}

/// Keeps 64 queries to `target` outstanding while `during` runs.
#[track_caller]
pub(super) fn ask_during(target: SocketAddr, during: impl FnOnce()) -> Tally {
    load::ask_during(Options::closed(vec![target], 64, TIMEOUT, 1), during)
}

/// Waits until `upstream` has received this number of queries.
#[track_caller]
fn wait_until_asked(upstream: &Upstream, queries: u64) {
    let asked = || (upstream.counts().unwrap()[0].queries >= queries).then_some(());
    until(&format!("{queries} queries"), asked);
}

/// Sends two hundred queries, which must all be answered.
#[track_caller]
fn assert_serves(target: SocketAddr) {
    let mut options = Options::closed(vec![target], 64, TIMEOUT, 2);
    options.limit = Some(200);
    options.timeout = TIMEOUT;
    let summary = client::run(&options).unwrap().join().unwrap();
    assert_eq!(summary.counts.answered, 200, "{:?}", summary.counts);
}

#[track_caller]
pub(super) fn assert_nothing_lost(summary: &Tally) {
    let counts = summary.counts;
    let lost = counts.failed() + counts.refused + counts.unsent;
    let wrong = counts.mismatched;
    assert!(counts.answered == counts.sent && lost + wrong == 0, "{counts:?}");
}

#[test]
fn a_signal_reloads_the_file_and_a_bad_file_changes_nothing() {
    let (first, second) = (upstream(), upstream());
    let directory = directory("signals");
    write_corefile(&directory, 0, first.addresses()[0], "");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "2"]);
    let port = address.port();
    let summary = ask_during(address, || {
        for (signal, upstream) in [("HUP", &second), ("USR1", &first)] {
            write_corefile(&directory, port, upstream.addresses()[0], "");
            forwarder.signal(signal);
            forwarder.wait_for("[INFO] Reloading complete");
            wait_until_asked(upstream, 1);
        }
        write_corefile(&directory, port, second.addresses()[0], "cachee 30");
        forwarder.signal("HUP");
        let line = forwarder.wait_for("[ERROR] reload failed");
        assert!(line.contains("Corefile:6") && line.contains("cachee"), "{line}");
        fs::remove_file(directory.join("Corefile")).unwrap();
        forwarder.signal("HUP");
        forwarder.wait_for("[ERROR] reload failed");
        let line = forwarder.wait_for("reloads since start");
        assert!(line.ends_with("2 succeeded, 2 failed"), "{line}");
    });
    assert_nothing_lost(&summary);
    assert_eq!(forwarder.end("TERM"), Some(0));
    let asked = |upstream: Upstream| upstream.stop().unwrap()[0].counts.queries;
    assert!(asked(first) > 0 && asked(second) > 0);
}

#[test]
fn a_file_being_written_is_reported_and_not_loaded() {
    let (first, second) = (upstream(), upstream());
    let directory = directory("unfinished");
    write_corefile(&directory, 0, first.addresses()[0], "reload 2s 0");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "1"]);
    fs::write(directory.join("Corefile"), ". {\n reload 2s 0\n").unwrap();
    let line = forwarder.wait_for("Corefile parse failed");
    assert!(line.starts_with("[WARNING] plugin/reload: ") && line.contains("Corefile:2"), "{line}");
    assert_serves(address);
    write_corefile(&directory, address.port(), second.addresses()[0], "reload 2s 0");
    let line = forwarder.wait_for("[INFO] Reloading complete");
    assert!(line.contains("1 succeeded, 0 failed"), "{line}");
    assert_eq!(forwarder.end("TERM"), Some(0));
}

#[test]
fn a_corefile_from_standard_input_is_read_only_once() {
    let upstream = upstream();
    let directory = directory("stdin");
    write_corefile(&directory, 0, upstream.addresses()[0], "reload 2s 0");
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--conf", "-", "--workers", "1"]).current_dir(&directory);
    command.stdin(fs::File::open(directory.join("Corefile")).unwrap());
    let mut told = false;
    let (mut forwarder, address) = Program::start(&mut command, |line| {
        told |= line.starts_with("[WARNING] plugin/reload: reload has no effect: ");
        line.strip_prefix("onward listens on ")?.split(',').next()?.parse().ok()
    });
    assert!(told);
    assert_serves(address);
    forwarder.signal("HUP");
    let line = forwarder.wait_for("[ERROR] reload failed");
    assert!(line.contains("standard input can be read only once"), "{line}");
    forwarder.signal("USR2");
    forwarder.wait_for("[ERROR] upgrade failed");
    assert_serves(address);
    assert_eq!(forwarder.end("TERM"), Some(0));
}

#[test]
fn it_continues_without_a_reader_of_its_output() {
    let (first, second) = (upstream(), upstream());
    let directory = directory("unread");
    write_corefile(&directory, 0, first.addresses()[0], "");
    let (mut child, address) = onward_unread(&directory);
    write_corefile(&directory, address.port(), second.addresses()[0], "");
    let summary = ask_during(address, || {
        send("HUP", child.id());
        wait_until_asked(&second, 1);
        // The configuration is reloaded, too, although no output can be written.
        send("USR1", child.id());
    });
    assert_nothing_lost(&summary);
    assert_serves(address);
    // The keeper's message about a dead upstream is lost as well, and it still controls the stop.
    second.stop().unwrap();
    for _ in 0..3 {
        assert_eq!(rcode_of_a_query(address), 2);
    }
    send("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_continues_with_a_stalled_reader_of_its_output() {
    let upstream = upstream();
    let directory = directory("stuck");
    let corefile = |more: &str| {
        let address = upstream.addresses()[0];
        write_corefile(&directory, 0, address, more);
    };
    // Each query outside the forwarded zones causes a line, and these exceed a pipe's capacity.
    corefile("}\nnobody.test:0 {\n bind 127.0.0.1\n errors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--workers", "1"]).current_dir(&directory).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let address = line.strip_prefix("onward listens on ").unwrap().split(',').next().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.connect(address).unwrap();
    let label = [&[63][..], &[b'x'; 63]].concat();
    let name = [&label.repeat(3)[..], b"\x06nobody\x04test\0"].concat();
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], &name, b"\0\x01\0\x01"].concat();
    let mut reply = [0; 512];
    for _ in 0..600 {
        client.send(&query).unwrap();
        client.recv(&mut reply).unwrap();
        assert_eq!(reply[3] & 15, 2);
    }
    send("HUP", child.id());
    send("TERM", child.id());
    let ended = until("the end", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    drop(output);
}

/// Starts the forwarder in `directory`; its standard output is not read after the line with its
/// address.
fn onward_unread(directory: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--workers", "2"]).current_dir(directory).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let rest = line.strip_prefix("onward listens on ").unwrap();
    (child, rest.split(',').next().unwrap().parse().unwrap())
}

fn rcode_of_a_query(address: SocketAddr) -> u8 {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.send_to(b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01", address).unwrap();
    let mut reply = [0; 512];
    client.recv(&mut reply).unwrap();
    reply[3] & 15
}

#[test]
fn the_file_is_checked_without_a_signal() {
    let (first, second) = (upstream(), upstream());
    let directory = directory("watched");
    write_corefile(&directory, 0, first.addresses()[0], "reload 2s 0");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "1"]);
    write_corefile(&directory, address.port(), second.addresses()[0], "reload 2s 0");
    forwarder.wait_for("[INFO] Reloading complete");
    assert_serves(address);
    assert_eq!(forwarder.end("TERM"), Some(0));
}

#[test]
fn the_next_process_takes_over_and_nothing_is_lost() {
    let upstream = upstream();
    let directory = directory("handover");
    write_corefile(&directory, 0, upstream.addresses()[0], "");
    let arguments = ["--workers", "2", "--steer", "name", "-pidfile", "pid"];
    let (mut forwarder, address) = onward_in(&directory, &arguments);
    // The file is written after the line with the address.
    let wait_for_pidfile = |process: u32| {
        let number = || fs::read_to_string(directory.join("pid")).ok();
        until("the pid file", || number().filter(|number| *number == format!("{process}\n")));
    };
    wait_for_pidfile(forwarder.id());
    write_corefile(&directory, address.port(), upstream.addresses()[0], "");
    let mut next = None;
    let summary = ask_during(address, || {
        // The upgrade begins in the middle of 20,000 queries.
        wait_until_asked(&upstream, 10_000);
        forwarder.signal("USR2");
        let line = forwarder.wait_for("upgrade complete");
        let number = line.split_whitespace().find_map(|word| word.parse().ok());
        next = number.map(Stranger::new);
        assert_eq!(forwarder.wait(), Some(0), "it ends when it has finished what it had");
        wait_until_asked(&upstream, upstream.counts().unwrap()[0].queries + 10_000);
    });
    println!("{:.0} queries/s", summary.rate_answered());
    assert_nothing_lost(&summary);
    assert_serves(address);
    wait_for_pidfile(next.as_ref().unwrap().id());
    drop(next);
}

#[test]
fn a_next_process_that_cannot_serve_changes_nothing() {
    let upstream = upstream();
    let directory = directory("no_handover");
    write_corefile(&directory, 0, upstream.addresses()[0], "");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "1"]);
    write_corefile(&directory, address.port(), upstream.addresses()[0], "nonsense");
    forwarder.signal("USR2");
    forwarder.wait_for("[ERROR] upgrade failed");
    assert_serves(address);
    assert_eq!(forwarder.end("TERM"), Some(0));
}

#[test]
fn a_stop_during_an_upgrade_is_obeyed() {
    let upstream = upstream();
    let directory = directory("stopped_handover");
    write_corefile(&directory, 0, upstream.addresses()[0], "");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "1"]);
    // The next process has to resolve a name at a silent server.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(TIMEOUT)).unwrap();
    let resolver = silent.local_addr().unwrap();
    let text = format!(
        ".:{} {{\n bind 127.0.0.1\n forward . upstream.test {{\n  resolver {resolver}\n }}\n}}\n",
        address.port()
    );
    fs::write(directory.join("Corefile"), text).unwrap();
    forwarder.signal("USR2");
    silent.recv(&mut [0; 512]).unwrap();
    forwarder.signal("TERM");
    forwarder.wait_for("stop signal received during an upgrade");
    assert_eq!(forwarder.wait(), Some(0));
}

#[test]
fn the_service_manager_is_notified() {
    let directory = directory("manager");
    let manager = UnixDatagram::bind(directory.join("notify")).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let next = || {
        let mut text = [0; 64];
        let len = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    write_corefile(&directory, 0, "127.0.0.1:9".parse().unwrap(), "");
    let socket = directory.join("notify");
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let (forwarder, _) = onward_with(&directory, &["--workers", "1"], &environment);
    assert_eq!(next(), "READY=1");
    assert_eq!([next(), next(), next()], ["WATCHDOG=1"; 3]);
    forwarder.signal("HUP");
    let states: Vec<_> =
        std::iter::repeat_with(next).filter(|state| state != "WATCHDOG=1").take(2).collect();
    assert_eq!(states, ["RELOADING=1", "READY=1"]);
    assert_eq!(forwarder.end("TERM"), Some(0));
    assert!(std::iter::repeat_with(next).take(20).any(|state| state == "STOPPING=1"));
}

#[test]
fn sockets_of_the_service_manager_are_used() {
    if !is_installed("bash") {
        return;
    }
    let upstream = upstream();
    let directory = directory("activation");
    let (datagrams, acceptor) = bound_pair();
    let address = datagrams.local_addr().unwrap();
    let astray = UdpSocket::bind("127.0.0.2:0").unwrap();
    let elsewhere = astray.local_addr().unwrap();
    let mut passed = Passed::default();
    let numbers = [&datagrams, &astray].map(|socket| passed.add(socket).unwrap());
    let numbers = [numbers[0], passed.add(&acceptor).unwrap(), numbers[1]];
    drop((datagrams, acceptor, astray));
    write_corefile(&directory, address.port(), upstream.addresses()[0], "");
    // As systemd does it: numbered from 3, and addressed to the process that runs the program.
    let script = format!(
        "exec 3<&{} 4<&{} 5<&{}; LISTEN_FDS=3 LISTEN_PID=$$ exec {} --workers 2",
        numbers[0],
        numbers[1],
        numbers[2],
        env!("CARGO_BIN_EXE_onward")
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(&directory);
    let told = format!("[WARNING] inherited socket closed: udp {elsewhere}: no server ");
    let mut is_told = false;
    let (forwarder, ()) = Program::start(&mut command, |line| {
        is_told |= line.starts_with(&told);
        line.starts_with("onward listens on ").then_some(())
    });
    assert!(is_told, "the socket at {elsewhere} is served nowhere");
    drop(passed);
    assert_serves(address);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let query = b"\0\x18\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    stream.write_all(query).unwrap();
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[2..], [0, 7]);
    assert_eq!(forwarder.end("TERM"), Some(0));
}
