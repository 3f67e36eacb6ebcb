//! A forwarder in the first namespace, backends on other hosts, and a client.
//!
//! Backends are the program itself with `whoami`. Connection tracking maps the virtual address to a
//! backend for each source port, as in a cluster.

use super::common::wire::{Ask, word_at};
use super::http;
use super::lab::{Lab, nft};
use super::process::{Program, TIMEOUT, directory, onward_in};
use super::until::until;
use onward::clock::Clock;
use std::cell::Cell;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

pub(super) const VIRTUAL: &str = "10.96.0.10";
/// Time within which service must recover after a disturbance.
pub(super) const BOUND: Duration = Duration::from_secs(3);
/// Address of the forwarder's metrics.
const METRICS: &str = "127.0.0.1:9153";
/// Connections of the forwarder's pool.
pub(super) const SPREAD: usize = 8;
/// Maximum number of connections of its pool.
const CONNECTIONS_MAX: f64 = 32.0;

/// A forwarder with one upstream, and its client.
pub(super) struct Site {
    forwarder: SocketAddr,
    _programs: Vec<Program>,
    socket: UdpSocket,
    asked: Cell<u16>,
    clock: Clock,
}

/// Three backends on one host behind the virtual address.
pub(super) fn virtual_site(lab: &Lab, test: &str) -> Site {
    let addresses = ["10.77.0.2", "10.77.0.3", "10.77.0.4"];
    lab.host("far", "10.77.0.1/24", &["10.77.0.2/24", "10.77.0.3/24", "10.77.0.4/24"]);
    super::lab::ip("route add 10.96.0.0/24 via 10.77.0.2");
    nft("table ip lab { chain out { type nat hook output priority -100; \
         ip daddr 10.96.0.10 udp dport 53 dnat to numgen random mod 3 map \
         { 0 : 10.77.0.2, 1 : 10.77.0.3, 2 : 10.77.0.4 }; }; }");
    let backends = backend(lab, "far", test, &addresses.join(" "));
    Site::new(test, VIRTUAL, vec![backends])
}

/// A server on the host called `host`, bound to `addresses`.
pub(super) fn backend(lab: &Lab, host: &str, test: &str, addresses: &str) -> Program {
    let directory = directory(&format!("netns_{test}_{host}"));
    let text = format!(". {{\n bind {addresses}\n whoami\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
    let mut command = lab.on(host, env!("CARGO_BIN_EXE_onward"));
    command.args(["--workers", "1"]).current_dir(directory);
    Program::start(&mut command, |line| line.contains("onward listens on").then_some(())).0
}

impl Site {
    /// Starts a forwarder to `upstream`.
    pub(super) fn new(test: &str, upstream: &str, mut programs: Vec<Program>) -> Self {
        let directory = directory(&format!("netns_{test}"));
        let text = format!(
            ". {{\n bind 127.0.0.1\n prometheus {METRICS}\n forward . {upstream} {{\n \
             spread {SPREAD}\n max_conns {CONNECTIONS_MAX}\n max_inflight 1\n \
             read_timeout 300ms\n max_fails 0\n max_connect_attempts 0\n }}\n}}\n"
        );
        fs::write(directory.join("Corefile"), text).unwrap();
        let (program, forwarder) = onward_in(&directory, &["--workers", "1"]);
        programs.push(program);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { forwarder, _programs: programs, socket, asked: Cell::new(0), clock: Clock::start() }
    }

    /// Sends a query, waits for its reply and returns the response code.
    pub(super) fn ask(&self) -> u8 {
        self.asked.set(self.asked.get() + 1);
        let id = self.asked.get();
        let query = Ask::new(id, &format!("n{id}.example")).bytes();
        self.socket.send_to(&query, self.forwarder).unwrap();
        let mut reply = [0; 1_232];
        loop {
            let (len, _) = self.socket.recv_from(&mut reply).expect("every query has a reply");
            assert!(len >= 12, "a reply has a header");
            if word_at(&reply, 0) == id {
                return reply[3] & 15;
            }
        }
    }

    /// Sends this number of queries in sequence; all must be answered.
    #[track_caller]
    pub(super) fn ask_well(&self, count: usize) {
        (0..count).for_each(|number| assert_eq!(self.ask(), 0, "query {number} of {count}"));
    }

    /// Sends queries until as many in a row as the pool has connections are answered at once;
    /// returns the time taken.
    pub(super) fn recover(&self) -> Duration {
        let begun = self.clock.now();
        let mut well = 0;
        until("queries are answered again", || {
            let asked = self.clock.now();
            let quick = self.ask() == 0 && self.clock.now().since(asked).as_millis() < 200;
            well = if quick { well + 1 } else { 0 };
            (well == 2 * SPREAD).then_some(())
        });
        self.clock.now().since(begun)
    }

    /// The sum of a metric over the lines that contain each of `labels`.
    pub(super) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (code, text) = http::get(METRICS.parse().unwrap(), "/metrics");
        assert_eq!(code, 200);
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Connections closed for this reason.
    pub(super) fn closed(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.metric("onward_connection_age_seconds_count", &[&label, "transport=\"udp\""])
    }

    /// Checks that no query is outstanding and the number of connections is within its limit.
    #[track_caller]
    pub(super) fn is_at_rest(&self) {
        until("no exchange is left", || {
            (self.metric("onward_exchanges", &[]) == 0.0).then_some(())
        });
        let connections = self.metric("onward_connections", &["transport=\"udp\""]);
        assert!((1.0..=CONNECTIONS_MAX).contains(&connections), "{connections} connections");
        assert_eq!(self.metric("onward_connections", &["state=\"in_use\""]), 0.0);
        assert_eq!(self.metric("onward_connections", &["state=\"retiring\""]), 0.0);
    }
}
