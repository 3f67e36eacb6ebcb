//! Status: the numbers behind the status page, its JSON and `onward top`.
//!
//! Plain data: `admin` gathers it, the page and `onward top` draw it. `onward top` parses the JSON
//! with the same types, so the field names here are the interface; a reader skips unknown fields of
//! a newer version. Rates are per second over the last [`RATE_SECONDS`]; times are seconds unless a
//! name says otherwise. Every list is bounded where it is gathered.

use serde::{Deserialize, Serialize};

/// Seconds over which rates and latencies are measured.
pub(crate) const RATE_SECONDS: u32 = 10;
/// Minutes of history that are kept.
pub(crate) const HISTORY_MINUTES: usize = 60;

/// Status of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// Time of the snapshot, in milliseconds since 1970.
    pub now_ms: u64,
    /// Since the start.
    pub uptime_s: f64,
    /// Reloads: successful and failed.
    pub reloads: [u64; 2],
    /// Of all workers together.
    pub traffic: Traffic,
    /// In the order of the configuration; equal addresses are merged.
    pub upstreams: Vec<Upstream>,
    /// Upstreams that are not listed because there are too many.
    pub upstreams_more: usize,
    /// In their order.
    pub workers: Vec<Worker>,
    /// In the order of their server blocks.
    pub caches: Vec<Cache>,
    /// Caches that are not listed because there are too many.
    pub caches_more: usize,
    /// In the order of their server blocks.
    pub hosts: Vec<HostsFile>,
    /// Most frequent names and clients.
    pub top: Top,
}

/// A hosts file and the table loaded from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostsFile {
    /// The file, as metrics call it.
    pub file: String,
    /// Names and reverse names with an address each.
    pub entries: u64,
    /// Memory of the table that all workers share.
    pub bytes: u64,
    /// Lines and names that were not understood.
    pub skipped: u64,
    /// Modification time of the loaded file, in milliseconds since 1970; zero: none.
    pub modified_ms: u64,
    /// Loads: successful and failed.
    pub loads: [u64; 2],
}

/// Totals of all workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Packets from clients, since the start.
    pub queries: u64,
    /// Packets from clients per second.
    pub rate: f64,
    /// The rate of each of the last minutes, the latest last.
    pub history: Vec<f64>,
    /// Replies since the start.
    pub replies: u64,
    /// Packets dropped without a reply or use, by reason; reasons that never occurred are left out.
    pub drops: Vec<Count>,
    /// Replies by response code; codes that never occurred are left out.
    pub rcodes: Vec<Count>,
    /// From the query to its reply.
    pub latency: Latency,
    /// Queries answered by the upstream query of an identical one, since the start.
    pub coalesced: u64,
    /// Connections that clients have open.
    pub connections: u64,
    /// Distinct source ports towards upstreams.
    pub source_ports: u64,
    /// Log lines and dnstap messages dropped because the receiver was too slow, since the start.
    pub records_lost: u64,
}

/// Something counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Name of the item.
    pub what: String,
    /// Count since the start; in [`Top`] a recent estimate.
    pub count: u64,
    /// Rate per second.
    pub rate: f64,
}

/// Percentiles over the last seconds, in milliseconds; zero where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// Health state of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Queries go there.
    #[default]
    Up,
    /// Queries go there; one failed recently, and the upstream is being probed.
    Probing,
    /// Health checks fail: queries go elsewhere.
    Down,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream {
    /// Address of the upstream.
    pub address: String,
    /// Health state.
    pub health: Health,
    /// Answers since the start.
    pub answered: u64,
    /// Answers a second.
    pub rate: f64,
    /// Share of all answers in each of the last minutes, 0 to 1, the latest last. `null` for
    /// minutes without any answer.
    pub share: Vec<Option<f64>>,
    /// Queries without a response in time, since the start.
    pub timed_out: u64,
    /// Queries whose connection failed, since the start.
    pub failed: u64,
    /// From a query sent upstream to its answer.
    pub latency: Latency,
    /// Connections, by transport; a transport that was never used is left out.
    pub pools: Vec<Pool>,
}

/// The connections of all workers to one upstream over one transport.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// `udp` or `tcp`.
    pub transport: String,
    /// Waiting for a query.
    pub idle: u64,
    /// With a query on them.
    pub in_use: u64,
    /// With a query on them, and closed after it.
    pub retiring: u64,
    /// Maximum number of connections.
    pub limit: u64,
    /// `max_age`, if there is one.
    pub max_age_s: Option<f64>,
    /// Age of the oldest connection; zero without any.
    pub oldest_s: f64,
    /// Open connections by age, counted in twelve equal steps. The last step includes all older
    /// connections.
    pub ages: Vec<u64>,
    /// Length of a step: a tenth of `max_age`, so that the last two should be empty.
    pub age_step_s: f64,
    /// Opened since the start.
    pub opened: u64,
    /// Closed since the start for `max_age`.
    pub aged: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Number of the worker, from 0.
    pub number: usize,
    /// The core that the worker is pinned to.
    pub core: Option<usize>,
    /// Queries a second.
    pub rate: f64,
    /// Busy share of the last seconds, 0 to 1.
    pub load: f64,
    /// The busy share of each of the last minutes, the latest last.
    pub history: Vec<f64>,
    /// Average number of datagrams per receive call in the last seconds.
    pub batch: f64,
    /// Outstanding queries.
    pub exchanges: u64,
    /// Maximum of outstanding queries.
    pub exchanges_limit: u64,
    /// Datagrams that the kernel dropped before it could read them, since the start.
    pub kernel_drops: u64,
    /// Moves to another core, since the start.
    pub migrations: u64,
    /// Restarts after a panic.
    pub panics: u64,
}

/// One server block's cache, of all workers together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// The block's zones.
    pub zones: String,
    /// Answers that are stored.
    pub entries: u64,
    /// Memory of the stored answers in bytes.
    pub bytes: u64,
    /// Look-ups a second.
    pub rate: f64,
    /// Share of look-ups answered from the cache in the last seconds, 0 to 1; `null` without any.
    pub hit_ratio: Option<f64>,
    /// Hits since the start.
    pub hits: u64,
    /// Look-ups since the start.
    pub requests: u64,
    /// Valid answers evicted because the cache was full, since the start.
    pub evicted: u64,
}

/// Most frequent names and clients of the last minutes, by a bounded sketch of sampled queries:
/// counts are estimates. Names and addresses are unescaped, untrusted data; names are in
/// presentation format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Top {
    /// Queried names.
    pub names: Vec<Count>,
    /// Addresses of clients.
    pub clients: Vec<Count>,
    /// Names whose replies were SERVFAIL.
    pub failing: Vec<Count>,
}

#[cfg(test)]
mod tests {
    use super::{Count, Health, Status, Upstream};

    #[test]
    fn the_json_is_read_again_and_missing_fields_are_defaults() {
        let upstream = Upstream {
            address: "[2001:db8::1]:53".into(),
            health: Health::Down,
            share: vec![None, Some(0.5)],
            ..Upstream::default()
        };
        let mut status = Status { upstreams: vec![upstream], ..Status::default() };
        status.top.names.push(Count { what: "\"<\u{e9}".into(), count: 3, rate: 0.25 });
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#""health":"down""#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        assert_eq!(serde_json::from_str::<Status>(r#"{"newer":1}"#).unwrap(), Status::default());
    }
}
