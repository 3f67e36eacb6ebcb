//! `onward-anycast` with the real program: its commands to BIRD in each situation.
//!
//! BIRD is played by a script that records its commands; the lab in `tuning/anycast/` uses the real
//! one. Tests wait for the helper's messages and never sleep.

use super::process::{Program, directory, free_port, onward_in};
use crate::installed::is_installed;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tuning(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/anycast").join(path)
}

/// A forwarder with `ready`, the helper that watches it, and the log of commands to BIRD.
struct Site {
    directory: PathBuf,
    upstream: Upstream,
    ready: u16,
}

impl Site {
    fn new(test: &str) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let services = vec![Service::new(address, Behaviour::default())];
        let upstream = Upstream::of(services).unwrap();
        let site = Self { directory: directory(test), upstream, ready: free_port() };
        site.write_birdc("*enable*) echo 'onward4: enabled' ;; *) echo 'onward4: disabled' ;;");
        site
    }

    /// Writes a `birdc` that answers with `cases` and records each command.
    fn write_birdc(&self, cases: &str) {
        let path = self.directory.join("birdc");
        let text =
            format!("#!/bin/sh\necho \"$*\" >> \"${{0%/*}}/told\"\ncase $* in {cases} esac\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn serve(&self) -> Program {
        let (upstream, ready) = (self.upstream.addresses()[0], self.ready);
        let health = free_port();
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n forward . {upstream}\n ready 127.0.0.1:{ready}\n \
             health 127.0.0.1:{health} {{\n  lameduck 60s\n }}\n}}\n"
        );
        fs::write(self.directory.join("Corefile"), text).unwrap();
        onward_in(&self.directory, &["--workers", "1"]).0
    }

    fn watch(&self) -> Program {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut helper = Command::new(tuning("onward-anycast"));
        helper.env("PATH", format!("{}:{path}", self.directory.display()));
        helper.args(["--ready", &format!("127.0.0.1:{}", self.ready), "--birdc", "ctl"]);
        let watches = |line: &str| line.contains("is withdrawn until it is ready").then_some(());
        Program::start(&mut helper, watches).0
    }

    /// Returns the last command to BIRD.
    fn told(&self) -> String {
        let told = fs::read_to_string(self.directory.join("told")).unwrap();
        told.lines().last().unwrap_or_default().to_owned()
    }
}

#[test]
fn it_withdraws_at_the_start_and_when_not_ready() {
    let site = Site::new("anycast_lameduck");
    let mut helper = site.watch();
    assert_eq!(site.told(), "-s ctl disable onward4", "whatever was there before");
    let onward = site.serve();
    helper.wait_for("address announced");
    assert_eq!(site.told(), "-s ctl enable onward4");
    // The forwarder continues to serve for a minute.
    onward.signal("TERM");
    helper.wait_for("not ready (HTTP error)");
    assert_eq!(site.told(), "-s ctl disable onward4");
}

#[test]
fn it_withdraws_when_the_server_is_frozen_or_dead_and_returns() {
    let site = Site::new("anycast_frozen");
    let onward = site.serve();
    let mut helper = site.watch();
    helper.wait_for("address announced");
    onward.signal("STOP");
    helper.wait_for("time-out");
    onward.signal("CONT");
    helper.wait_for("address announced");
    drop(onward);
    helper.wait_for("connection refused");
    let _onward = site.serve();
    helper.wait_for("address announced");
    assert_eq!(helper.end("TERM"), Some(0));
    assert_eq!(site.told(), "-s ctl disable onward4", "it withdraws as it ends");
}

#[test]
fn without_bird_it_does_not_start() {
    let site = Site::new("anycast_without");
    site.write_birdc("*) echo 'Unable to connect to server control socket' ;;");
    let mut helper = Command::new(tuning("onward-anycast"));
    helper.env("PATH", format!("{}:/usr/bin:/bin", site.directory.display()));
    let output = helper.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("birdc disable onward4: Unable to connect"), "{said}");
}

#[test]
fn bird_accepts_its_files() {
    if !is_installed("bird") {
        return;
    }
    for file in ["bird.conf", "router.conf"] {
        let output = Command::new("bird").arg("-p").arg("-c").arg(tuning(file)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file}: {said}");
    }
}
