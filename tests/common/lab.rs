//! Network namespaces for one test: hosts on virtual links, with addresses, rules and flows.
//!
//! A test that calls [`inside`] is run again as a child process within its first namespace, so that
//! its sockets and the programs that it starts are there; the outer run waits for the inner one and
//! removes everything afterwards, however it ended. Needs root, `ip`, `nft` and `conntrack`;
//! otherwise the test prints that it is skipped. Independent of the subject of the test.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use super::until::until;
use std::path::Path;
use std::process::{Command, Stdio};

/// Environment variable of the inner run: the common prefix of the namespaces' names.
const WITHIN: &str = "ONWARD_LAB";

/// The namespaces of one test, as seen from the first.
pub(crate) struct Lab {
    prefix: String,
}

/// The outer run's guard: dropping it removes the namespaces.
struct Hold {
    prefix: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let listed = Command::new("ip").args(["netns", "list"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for line in listed.unwrap_or_default().lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            if name.starts_with(&self.prefix) {
                let _ = Command::new("ip").args(["netns", "delete", name]).status();
            }
        }
    }
}

/// Runs `story` within a namespace of its own; `test` is the full name of the calling test.
pub(crate) fn inside(test: &str, story: impl FnOnce(&Lab)) {
    if let Ok(prefix) = std::env::var(WITHIN) {
        return story(&Lab { prefix });
    }
    if let Some(missing) = missing() {
        return eprintln!("SKIPPED: {test}: {missing}");
    }
    let name = test.rsplit(':').next().unwrap_or(test);
    let name: String = name.chars().take(12).collect();
    let hold = Hold { prefix: format!("onward-{}-{name}-", std::process::id()) };
    let home = format!("{}home", hold.prefix);
    succeed(Command::new("ip").args(["netns", "add", &home]));
    succeed(Command::new("ip").args(["-n", &home, "link", "set", "lo", "up"]));
    let mut inner = Command::new("ip");
    inner.args(["netns", "exec", &home]).arg(std::env::current_exe().unwrap());
    inner.args(["--exact", test, "--nocapture"]).env(WITHIN, &hold.prefix);
    let mut inner = inner.stdin(Stdio::null()).spawn().unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the end of the inner run", || inner.try_wait().unwrap())
    }));
    // The inner run may hang.
    let _ = inner.kill();
    let _ = inner.wait();
    drop(hold);
    match ended {
        Ok(status) => assert!(status.success(), "{test} failed within its namespace"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Returns the first requirement of a lab that is missing.
fn missing() -> Option<&'static str> {
    let runs = |program: &str, argument: &str| {
        let command = Command::new(program).arg(argument).output();
        command.is_ok_and(|output| output.status.success())
    };
    let root = Command::new("id").arg("-u").output();
    let root = root.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    match () {
        () if !root => Some("only root makes namespaces"),
        () if !runs("ip", "-V") => Some("ip (iproute2) is not installed"),
        () if !runs("nft", "-v") => Some("nft (nftables) is not installed"),
        () if !runs("conntrack", "-V") => Some("conntrack is not installed"),
        () if !Path::new("/proc/sys/net/netfilter").exists() => Some("no connection tracking here"),
        () => None,
    }
}

impl Lab {
    /// Adds a host at the other end of a new link: `ours` and `theirs` are addresses with prefix
    /// lengths.
    pub(crate) fn host(&self, name: &str, ours: &str, theirs: &[&str]) {
        let other = self.name(name);
        succeed(Command::new("ip").args(["netns", "add", &other]));
        let wire = format!("to-{name}");
        ip(&format!("link add {wire} type veth peer name wire netns {other}"));
        ip(&format!("address add {ours} dev {wire}"));
        ip(&format!("link set {wire} up"));
        for address in theirs {
            ip(&format!("-n {other} address add {address} dev wire"));
        }
        ip(&format!("-n {other} link set lo up"));
        ip(&format!("-n {other} link set wire up"));
    }

    /// A command that runs in the namespace of this host.
    pub(crate) fn on(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name), program]);
        command
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Runs `ip` with these arguments.
#[track_caller]
pub(crate) fn ip(words: &str) {
    succeed(Command::new("ip").args(words.split_whitespace()));
}

/// Runs `nft` with one rule or several, in the first namespace.
#[track_caller]
pub(crate) fn nft(rules: &str) {
    succeed(Command::new("nft").arg(rules));
}

/// Runs a command that must succeed; returns its output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
