//! Files and resolvers that never respond: the process still handles signals and reports health.
//!
//! The resolver is silent in namespaces of the test, which need root: a link leads to a host that
//! drops everything, and `/etc/resolv.conf` names its address.

use super::process::{Program, TIMEOUT, directory, onward_in, onward_output};
use super::until::until;
use crate::installed::is_installed;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// No answer for ten minutes, beyond the C library's own default timeouts.
const RESOLV_CONF: &str = "nameserver 192.0.2.53\noptions timeout:30 attempts:5\n";
/// A Corefile whose upstream is a host name.
const SILENT: &str = ".:0 {\n bind 127.0.0.1\n forward . silent.test\n}\n";
const GOOD: &str = ".:0 {\n bind 127.0.0.1\n forward . 127.0.0.1:9\n}\n";

fn can_be_made() -> bool {
    let is_root = onward::sys::account::user() == 0;
    if !is_root {
        eprintln!("SKIPPED: only root makes namespaces");
    }
    is_root && is_installed("unshare") && is_installed("ip")
}

/// The forwarder without a working resolver, in a directory with this Corefile.
fn without_resolver(test: &str, corefile: &str) -> (PathBuf, Command) {
    let directory = directory(test);
    fs::write(directory.join("Corefile"), corefile).unwrap();
    fs::write(directory.join("resolv.conf"), RESOLV_CONF).unwrap();
    let script = format!(
        "ip link set lo up && ip link add hole type veth peer name end && ip link set end up \
         && ip address add 192.0.2.1/24 dev hole && ip link set hole up \
         && ip neighbour add 192.0.2.53 lladdr 02:00:00:00:00:53 dev hole nud permanent \
         && mount --bind resolv.conf /etc/resolv.conf \
         && exec {} --workers 1",
        env!("CARGO_BIN_EXE_onward")
    );
    let mut command = Command::new("unshare");
    command.args(["-n", "-m", "sh", "-c", &script]).current_dir(&directory);
    (directory, command)
}

/// Returns `Some` if the process has a thread that reads.
fn is_reading(process: u32) -> Option<()> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.into_iter().any(|name| name == "reader\n").then_some(())
}

fn pipe(directory: &Path, name: &str) {
    let path = directory.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
}

#[test]
fn a_start_that_waits_for_a_resolver_ends_on_a_signal() {
    if !can_be_made() {
        return;
    }
    let (_, mut command) = without_resolver("blocked_start", SILENT);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let number = child.id();
    until("a thread that reads", || is_reading(number));
    super::process::send("TERM", number);
    let ended = until("the end", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_reload_that_waits_for_a_resolver_blocks_nothing_else() {
    if !can_be_made() {
        return;
    }
    let (directory, mut command) = without_resolver("blocked_reload", GOOD);
    let manager = UnixDatagram::bind(directory.join("notify")).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let next = || {
        let mut text = [0; 64];
        let len = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    command.env("NOTIFY_SOCKET", directory.join("notify")).env("WATCHDOG_USEC", "100000");
    let listens = |line: &str| line.starts_with("onward listens on ").then_some(());
    let (mut forwarder, ()) = Program::start(&mut command, listens);
    fs::write(directory.join("Corefile"), SILENT).unwrap();
    forwarder.signal("HUP");
    forwarder.wait_for("[INFO] Reloading");
    while next() != "RELOADING=1" {}
    assert_eq!([next(), next(), next()], ["WATCHDOG=1"; 3]);
    // The next reload does not wait for the one that hangs.
    fs::write(directory.join("Corefile"), GOOD).unwrap();
    forwarder.signal("HUP");
    let line = forwarder.wait_for("[ERROR] reload failed, nothing has changed: gave up after ");
    assert!(line.ends_with(" s: looking up silent.test (1 thread blocked)"), "{line}");
    forwarder.wait_for("[INFO] Reloading complete");
    assert_eq!(forwarder.end("TERM"), Some(0), "with a thread that is blocked still");
}

#[test]
fn special_files_are_refused_without_waiting() {
    let directory = directory("blocked_pipe");
    pipe(&directory, "pipe");
    let listener = "tls://.:0 {\n bind 127.0.0.1\n tls pipe pipe\n}\n";
    for corefile in [
        "import pipe\n",
        ".:0 {\n bind 127.0.0.1\n forward . ./pipe\n}\n",
        ".:0 {\n bind 127.0.0.1\n forward . tls://192.0.2.1 {\n  tls pipe\n }\n}\n",
        listener,
    ] {
        fs::write(directory.join("Corefile"), corefile).unwrap();
        for arguments in [&["--workers", "1"][..], &["check", "--workers", "1"]] {
            let output = onward_output(arguments, &directory);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{corefile}: {told}");
            assert!(told.contains("not a regular file but a pipe"), "{corefile}: {told}");
        }
    }
    let output = onward_output(&["--conf", "pipe"], &directory);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("cannot read pipe: not a regular file but a pipe; give the path"),
        "{told}"
    );
}

#[test]
fn a_corefile_that_becomes_a_pipe_does_not_block_signals() {
    let directory = directory("blocked_later");
    fs::write(directory.join("Corefile"), GOOD).unwrap();
    let (mut forwarder, _) = onward_in(&directory, &["--workers", "1"]);
    fs::remove_file(directory.join("Corefile")).unwrap();
    pipe(&directory, "Corefile");
    forwarder.signal("HUP");
    let line = forwarder.wait_for("[ERROR] reload failed");
    assert!(line.contains("not a regular file but a pipe"), "{line}");
    fs::remove_file(directory.join("Corefile")).unwrap();
    fs::write(directory.join("Corefile"), GOOD).unwrap();
    forwarder.signal("HUP");
    forwarder.wait_for("[INFO] Reloading complete");
    assert_eq!(forwarder.end("TERM"), Some(0));
}

#[test]
fn standard_input_may_be_a_slow_pipe() {
    let directory = directory("blocked_stdin");
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--conf", "/dev/stdin", "--workers", "1"]).current_dir(&directory);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let input = child.stdin.take();
    let number = child.id();
    until("a thread that reads", || is_reading(number));
    super::process::send("TERM", number);
    let ended = until("the end", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    drop(input);
}
