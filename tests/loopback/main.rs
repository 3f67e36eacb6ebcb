//! The whole forwarder over real sockets on loopback, over UDP, TCP, TLS and HTTP.
//!
//! The kernel chooses the ports, and tests wait for events with a deadline instead of sleeping. The
//! client's checks of each answer (ID, question as spelt, record) are in `onward::traffic`.

#[path = "../common/certs.rs"]
mod certs;
mod coalescing;
mod datagrams;
#[path = "../common/dead.rs"]
mod dead;
#[path = "../common/doh3.rs"]
mod doh3;
mod doh3_server;
mod doh_ends;
mod doh_server;
mod doh_upstream;
#[path = "../common/doq.rs"]
mod doq;
mod doq_ends;
mod doq_peer;
mod doq_reload;
mod doq_server;
mod doq_upstream;
mod dot_server;
mod dot_upstream;
#[path = "../common/flood.rs"]
mod flood;
mod forgery;
mod grpc_upstream;
mod hosts;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/http2.rs"]
mod http2;
#[path = "../common/http3.rs"]
mod http3;
mod https;
mod https_limits;
mod in_order;
mod kit;
#[path = "../common/load.rs"]
mod load;
#[path = "../common/metrics.rs"]
mod metrics;
mod names;
mod numbers;
mod options;
mod outages;
mod own_queries;
mod pages;
mod pipelining;
mod proxy_protocol;
mod proxyproto;
#[path = "../common/quic.rs"]
mod quic;
mod ratelimit;
mod recovery;
mod reload;
mod stages;
mod tcp;
mod transfers;
mod transports;
#[path = "../common/until.rs"]
mod until;
mod zones;

use onward::blocking::{STEP_MAX, Steps};
use onward::clock::Clock;
use onward::config::{Config, Host};
use onward::engine::stats::Stats;
use onward::log::Log;
use onward::server::{Confinement, Prepared, Server, Steer};
use onward::sys::inherit::Inherited;
use onward::traffic::answer::Behaviour;
use onward::traffic::client::{self, Options};
use onward::traffic::tally::Tally;
use onward::traffic::upstream::{Service, Upstream};
use onward::worker::IoOptions;
use std::net::SocketAddr;

pub(crate) const SEED: u64 = 20_260_101;
pub(crate) use until::TIMEOUT;

pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn responder(behaviours: &[Behaviour]) -> Upstream {
    let service = |behaviour: &Behaviour| Service::new(any_port(), *behaviour);
    let services: Vec<_> = behaviours.iter().map(service).collect();
    Upstream::of(services).unwrap()
}

/// A stanza with a pool of 16 ports for each of `upstreams`, used in turn.
pub(crate) fn stanza(upstreams: &[SocketAddr]) -> String {
    let upstreams: Vec<_> = upstreams.iter().map(SocketAddr::to_string).collect();
    format!("forward . {} {{\n policy round_robin\n spread 16\n}}\n", upstreams.join(" "))
}

pub(crate) fn config(address: &str, body: &str) -> Config {
    let address: SocketAddr = address.parse().unwrap();
    let text = format!(".:{} {{\n bind {}\n {body}\n}}\n", address.port(), address.ip());
    Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0
}

pub(crate) fn start(address: &str, body: &str, workers: usize) -> Server {
    start_with(config(address, body), workers)
}

pub(crate) fn start_text(text: &str, workers: usize) -> Server {
    start_with(Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0, workers)
}

pub(crate) fn start_with(config: Config, workers: usize) -> Server {
    let log = Log::text(|line| eprintln!("{line}"));
    Server::start(config, &vec![None; workers], log).unwrap()
}

/// Starts one worker with these I/O options.
pub(crate) fn start_in_habit(config: Config, io_options: IoOptions) -> Server {
    let log = Log::text(|line| eprintln!("{line}"));
    let (inherited, confinement) = (Inherited::default(), Confinement::default());
    let steps = Steps::new(Clock::start(), STEP_MAX);
    let prepared = Prepared::new(config, None, &steps).unwrap();
    Server::start_on(prepared, &[None], Steer::Flow, io_options, inherited, &confinement, log)
        .unwrap()
}

pub(crate) fn drive(target: SocketAddr, outstanding: usize, queries: u64) -> Tally {
    let mut options = Options::closed(vec![target], outstanding, TIMEOUT, SEED);
    options.limit = Some(queries);
    options.timeout = TIMEOUT;
    client::run(&options).unwrap().join().unwrap()
}

pub(crate) fn assert_all_answered(summary: &Tally, queries: u64) {
    let counts = summary.counts;
    assert_eq!((counts.answered, counts.failed()), (queries, 0), "{counts:?}");
}

pub(crate) fn sum(stats: &[Stats]) -> Stats {
    let mut total = Stats::default();
    stats.iter().for_each(|worker| total.add(worker));
    total
}
