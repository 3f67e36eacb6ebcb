//! Helpers of the tests over real sockets: upstreams, runs and third-party programs.
//!
//! Everything is on loopback, on ports that the kernel chooses, and ends by itself: a run by its
//! schedule and its time-out, a program when it is dropped.

#![allow(dead_code, reason = "each test binary uses its part of this")]

#[path = "../../../tests/common/installed.rs"]
pub(crate) mod installed;

use onward::tls::Server;
use onward::traffic::client::{self, Load, Options};
use onward::traffic::schedule::Plan;
use onward::traffic::tally::Tally;
use onward::traffic::upstream::script::Script;
use onward::traffic::upstream::{self, Service, Upstream};
use onward::traffic::verify::Verify;
use onward::traffic::workload::Source;
use onward::traffic::workload::names::Names;
use onward::traffic::workload::style::{Style, TypeShares};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Starts an upstream on one address with this behaviour and `stall`, if that is not empty.
pub(crate) fn upstream(words: &str, stall: &str) -> (Upstream, SocketAddr) {
    let mut script = Script::default();
    script.default = loadgen::script::conduct(words).unwrap();
    if !stall.is_empty() {
        script.stall = Some(loadgen::script::stall(stall).unwrap());
    }
    scripted(script)
}

/// Starts an upstream on one address with this script.
pub(crate) fn scripted(script: Script) -> (Upstream, SocketAddr) {
    over(script, None)
}

/// Starts an upstream on one address, with connections over TLS if that is given.
pub(crate) fn over(script: Script, tls: Option<Server>) -> (Upstream, SocketAddr) {
    started(script, tls, false)
}

/// Starts an upstream on one address with DNS over HTTPS, or over HTTP without encryption.
pub(crate) fn over_http(script: Script, tls: Option<Server>) -> (Upstream, SocketAddr) {
    started(script, tls, true)
}

fn started(script: Script, tls: Option<Server>, doh: bool) -> (Upstream, SocketAddr) {
    let address = "127.0.0.1:0".parse().unwrap();
    let services = vec![Service { address, script: Arc::new(script) }];
    let options = upstream::Options { services, cores: Vec::new(), seed: 1, tls, doh };
    let upstream = Upstream::start(&options).unwrap();
    let address = upstream.addresses()[0];
    (upstream, address)
}

/// Returns a source of new names.
pub(crate) fn unique() -> Source {
    Source::Made {
        names: Names::Unique,
        hit_ratio: None,
        zone: b"\x04test\0".to_vec(),
        types: TypeShares::default(),
        style: Style::default(),
    }
}

/// Options for queries at an even rate for this number of milliseconds, every answer verified, with
/// a time-out of 500 ms.
pub(crate) fn options(server: SocketAddr, rate: f64, millis: u64) -> Options {
    let load = Load::Open(Plan::constant(rate, Duration::from_millis(millis)));
    let mut options = Options::new(vec![server], unique(), load, 1);
    options.timeout = Duration::from_millis(500);
    options.verify = Verify::Derived;
    options
}

/// Runs to the end.
pub(crate) fn run(options: &Options) -> Tally {
    client::run(options).unwrap().join().unwrap()
}

/// Creates an empty directory of this name for a test's files.
pub(crate) fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("loadgen").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
