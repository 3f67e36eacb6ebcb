//! Privileges of the running program: `--user` and the sandbox of its threads.
//!
//! Read from the kernel's status of each thread. Changing the account needs root; otherwise the
//! tests print that they are skipped.

use super::certs::Authority;
use super::process::{Program, Stranger, directory, free_port, onward_in};
use super::until::{TIMEOUT, until};
use onward::traffic::answer::Behaviour;
use onward::traffic::client::{self, Options};
use onward::traffic::upstream::{Service, Upstream};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An account that every Debian has, and its user ID.
const ACCOUNT: (&str, u32) = ("nobody", 65_534);
/// CAP_NET_BIND_SERVICE alone, as `/proc` shows it.
const BIND_ONLY: &str = "0000000000000400";
const NOTHING: &str = "0000000000000000";

fn upstream() -> Upstream {
    let address = "127.0.0.1:0".parse().unwrap();
    Upstream::of(vec![Service::new(address, Behaviour::default())]).unwrap()
}

fn is_root() -> bool {
    let is_root = onward::sys::account::user() == 0;
    if !is_root {
        eprintln!("SKIPPED: only root becomes another");
    }
    is_root
}

/// A directory with a Corefile, readable by any account.
fn site(test: &str, upstream: SocketAddr, more: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("onward-{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    write(&directory, upstream, more);
    directory
}

fn write(directory: &Path, upstream: SocketAddr, more: &str) {
    let text = format!(".:0 {{\n bind 127.0.0.1\n forward . {upstream}\n{more}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
}

/// Returns the kernel's status of a process or thread.
fn status(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(":\t"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the status of each thread, by its name.
fn threads(process: u32) -> BTreeMap<String, BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |path: PathBuf| status(&path.join("status").display().to_string());
    let tasks = tasks.map(|entry| of(entry.unwrap().path()));
    tasks.map(|status| (status["Name"].clone(), status)).collect()
}

#[track_caller]
fn assert_serves(target: SocketAddr) {
    let mut options = Options::closed(vec![target], 50, TIMEOUT, 1);
    options.limit = Some(50);
    let summary = client::run(&options).unwrap().join().unwrap();
    assert_eq!(summary.counts.answered, 50, "{:?}", summary.counts);
}

/// Waits until the packet threads have their filters; returns the threads.
fn wait_for_filters(process: u32) -> BTreeMap<String, BTreeMap<String, String>> {
    until("filters of system calls", || {
        let threads = threads(process);
        let mut others = threads.iter().filter(|(_, status)| status["Tgid"] != status["Pid"]);
        others.all(|(_, status)| status["Seccomp"] == "2").then_some(threads)
    })
}

#[test]
fn packet_threads_are_sandboxed_and_the_main_thread_is_not() {
    let upstream = upstream();
    let site = site("sandbox", upstream.addresses()[0], "");
    let (program, address) = onward_in(&site, &["--workers", "2"]);
    assert_serves(address);
    let threads = wait_for_filters(program.id());
    for name in ["worker-0", "worker-1", "keeper", "writer"] {
        let status = &threads[name];
        assert_eq!((&*status["Seccomp"], &*status["NoNewPrivs"]), ("2", "1"), "{name}");
        assert_eq!((&*status["CapEff"], &*status["CapPrm"]), (NOTHING, NOTHING), "{name}");
    }
    assert_eq!(threads["onward"]["Seccomp"], "0", "it reads the Corefile again");
    let _ = fs::remove_dir_all(site);
}

#[test]
fn without_the_sandbox_no_thread_is_confined() {
    let upstream = upstream();
    let site = site("no_sandbox", upstream.addresses()[0], "");
    let (mut program, address) = onward_in(&site, &["--workers", "1", "--no-sandbox"]);
    program.wait_for("onward runs as ");
    assert_serves(address);
    let threads = threads(program.id());
    assert!(threads.values().all(|status| status["Seccomp"] == "0"), "{threads:?}");
    let _ = fs::remove_dir_all(site);
}

#[test]
fn a_confined_server_reads_its_corefile_again_and_serves_pages() {
    let upstream = upstream();
    let site = site("sandbox_reload", upstream.addresses()[0], "");
    let (mut program, address) = onward_in(&site, &["--workers", "1"]);
    write(&site, upstream.addresses()[0], "status 127.0.0.1:0\n cache\n log");
    program.signal("HUP");
    program.wait_for("Reloading complete");
    assert_serves(address);
    assert_eq!(wait_for_filters(program.id())["admin"]["Seccomp"], "2");
    assert_eq!(program.end("TERM"), Some(0));
    let _ = fs::remove_dir_all(site);
}

/// The forwarder running as [`ACCOUNT`], its address, and its message about that.
fn as_account(site: &Path, more: &[&str]) -> (Program, SocketAddr, String) {
    let mut arguments = vec!["--user", ACCOUNT.0, "--workers", "1"];
    arguments.extend(more);
    let (mut program, address) = onward_in(site, &arguments);
    let said = program.wait_for("onward runs as ");
    (program, address, said)
}

#[test]
fn root_becomes_an_account_that_may_bind_ports_and_nothing_else() {
    if !is_root() {
        return;
    }
    let upstream = upstream();
    let site = site("user", upstream.addresses()[0], "");
    let (program, address, said) = as_account(&site, &[]);
    assert!(said.contains("nobody (user 65534), workers are sandboxed"), "{said}");
    assert_serves(address);
    let threads = wait_for_filters(program.id());
    let numbers = |status: &BTreeMap<String, String>| {
        let numbers = status["Uid"].split('\t').map(str::to_owned);
        numbers.collect::<Vec<_>>()
    };
    for (name, status) in &threads {
        assert_eq!(numbers(status), [ACCOUNT.1.to_string().as_str(); 4], "{name}");
        assert_eq!(status["CapBnd"], BIND_ONLY, "{name}");
    }
    assert_eq!(threads["onward"]["CapEff"], BIND_ONLY);
    assert_eq!(threads["worker-0"]["CapEff"], NOTHING);
    assert_eq!(program.end("TERM"), Some(0));
    let _ = fs::remove_dir_all(site);
}

#[test]
fn an_account_reads_the_corefile_again_or_says_that_it_cannot() {
    if !is_root() {
        return;
    }
    let upstream = upstream();
    let site = site("user_reload", upstream.addresses()[0], "");
    let (mut program, address, _) = as_account(&site, &[]);
    write(&site, upstream.addresses()[0], "cache");
    program.signal("HUP");
    program.wait_for("Reloading complete");
    assert_serves(address);
    let corefile = site.join("Corefile");
    fs::set_permissions(&corefile, fs::Permissions::from_mode(0o600)).unwrap();
    program.signal("HUP");
    program.wait_for("reload failed, nothing has changed");
    assert_serves(address);
    // At the start it is a warning.
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--user", ACCOUNT.0, "--workers", "1"]).current_dir(&site);
    let words = "user nobody cannot read the configuration, so the next reload will fail";
    let _again = Program::start(&mut command, |line| line.contains(words).then_some(()));
    let _ = fs::remove_dir_all(site);
}

#[test]
fn a_key_that_only_root_may_read_is_reported_at_the_start() {
    if !is_root() {
        return;
    }
    let upstream = upstream();
    let site = site("user_key", upstream.addresses()[0], "");
    let identity = Authority::new("site").issue(&["dns.test"]);
    fs::write(site.join("cert.pem"), &identity.certificate).unwrap();
    fs::write(site.join("key.pem"), &identity.key).unwrap();
    fs::write(site.join("more"), "whoami\n").unwrap();
    let block = "tls://.:0 {\n bind 127.0.0.1\n tls cert.pem key.pem\n import more\n}\n";
    fs::write(site.join("Corefile"), block).unwrap();
    for (file, words) in [
        ("key.pem", "key.pem, so the next reload will fail: Permission denied"),
        ("more", "user nobody cannot read the configuration, so the next reload will fail: "),
    ] {
        fs::set_permissions(site.join(file), fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
        command.args(["--user", ACCOUNT.0, "--workers", "1"]).current_dir(&site);
        Program::start(&mut command, |line| line.contains(words).then_some(()));
        fs::set_permissions(site.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let _ = fs::remove_dir_all(site);
}

#[test]
fn an_upgrade_under_another_account_runs_the_binary_on_disk() {
    if !is_root() {
        return;
    }
    let upstream = upstream();
    let site = site("user_handover", upstream.addresses()[0], "");
    // A fixed port, so that the next process gets it, too.
    let text = fs::read_to_string(site.join("Corefile")).unwrap();
    let text = text.replace(".:0 ", &format!(".:{} ", free_port()));
    fs::write(site.join("Corefile"), text).unwrap();
    // A directory that the account may enter.
    let installed = site.join("onward");
    fs::copy(env!("CARGO_BIN_EXE_onward"), &installed).unwrap();
    let mut command = Command::new(&installed);
    command.args(["--user", ACCOUNT.0, "--workers", "1"]).current_dir(&site);
    let (mut program, address) = Program::start(&mut command, |line| {
        let rest = line.strip_prefix("onward listens on ")?;
        rest.split(',').next()?.parse::<SocketAddr>().ok()
    });
    program.signal("USR2");
    let said = program.wait_for("upgrade complete");
    let number = said.split("process ").nth(1).and_then(|rest| rest.split(' ').next());
    let next = Stranger::new(number.unwrap().parse().unwrap());
    assert_eq!(program.wait(), Some(0));
    assert_serves(address);
    let status = &wait_for_filters(next.id())["onward"];
    assert_eq!((&*status["CapEff"], &*status["CapBnd"]), (BIND_ONLY, BIND_ONLY));
    let _ = fs::remove_dir_all(site);
}

#[test]
fn without_the_right_to_change_accounts_it_does_not_start() {
    let site = directory("user_unknown");
    let arguments =
        ["--user", "nobody-of-this-name", "--listen", "127.0.0.1:0", "--forward", "127.0.0.1"];
    let output = super::process::onward_output(&arguments, &site);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--user nobody-of-this-name: this host has no such user"), "{said}");
}
