//! Prometheus metrics: names and labels.
//!
//! `coredns_*` are the reference's, with its labels and buckets, so that dashboards and alerts work
//! unchanged; `onward_*` are metrics that the reference lacks. Their meaning is in the help texts.
//! Values come from the workers' reports and are added up here. Queries by server block are in
//! `queries`; the rest is here.

mod dnssec;
mod limits;
mod loads;
mod queries;
mod templates;
mod tls;

use super::exposition::{Buckets, Exposition, Label};
use crate::config::{Listener, Protocol, rcode_mnemonic};
use crate::control::Loads;
use crate::control::snapshot::{BATCHES, Ports, Snapshot};
use crate::engine::PoolId;
use crate::engine::histogram::{Coarse, EDGES, edge_seconds};
use crate::engine::message::rcode::rcode_at;
use crate::engine::pool::PoolState;
use crate::engine::proxy::OUTCOME_NAMES;
use crate::engine::stats::{
    AGES, COOKIE_RESULT_NAMES, DROP_REASON_NAMES, ParkedStats, PoolStats, REASON_NAMES,
    StageCounts, Stats, TSIG_RESULT_NAMES, UpstreamStats,
};
use crate::sys::{process, thread};
use std::net::SocketAddr;

/// Label of the plugin in the upstreams' series, as in the reference.
const PROXY: Label<'_> = ("proxy_name", "forward");

/// Facts besides those that workers report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Start time of the process, in seconds since 1970.
    pub(super) started: f64,
    /// Successful and failed reloads.
    pub(super) reloads: [u64; 2],
    /// Number of attempts to read the configuration that were given up.
    pub(super) given_up: u64,
}

/// Returns the mnemonic of the response code with the counter `place`.
pub(super) fn rcode_name(place: usize) -> String {
    let Some(rcode) = rcode_at(place) else { return "other".to_owned() };
    rcode_mnemonic(rcode).map_or_else(|| rcode.to_string(), str::to_owned)
}

/// Returns all series as text.
pub(super) fn text(snapshots: &[&Snapshot], facts: &Facts, loads: &Loads) -> Vec<u8> {
    let mut all = Exposition::default();
    of_process(&mut all, facts);
    of_service(&mut all, facts);
    loads::of_sources(&mut all, &loads.states());
    loads::of_zones(&mut all, &loads.zones());
    loads::of_directories(&mut all, &loads.directories());
    loads::of_transfers(&mut all, loads);
    if let Some(latest) = Snapshot::latest(snapshots) {
        queries::of_configuration(&mut all, &latest.config);
        of_health(&mut all, latest);
        tls::of_certificates(&mut all, latest);
    }
    let mut ports = Ports::default();
    for snapshot in snapshots {
        queries::of_sites(&mut all, snapshot);
        queries::of_caches(&mut all, snapshot);
        templates::of_templates(&mut all, snapshot);
        dnssec::of_signatures(&mut all, snapshot);
        limits::of_clients(&mut all, snapshot);
        of_upstreams(&mut all, snapshot);
        of_worker(&mut all, snapshot);
        of_listeners(&mut all, snapshot);
        tls::of_handshakes(&mut all, snapshot);
        of_drops(&mut all, &snapshot.stats);
        ports.merge(&snapshot.ports);
    }
    let help = "Distinct source ports of the UDP sockets that send queries to upstreams.";
    all.gauge("onward_source_ports", help, &[], ports.count() as f64);
    all.text()
}

/// Returns the label of a listener, as in the reference.
fn server_of((address, protocol): (SocketAddr, Protocol)) -> String {
    let scheme = protocol.scheme();
    if address.ip().is_unspecified() {
        format!("{scheme}://:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

/// Returns the label of a configured listener.
fn server_at(listener: &Listener) -> String {
    server_of((listener.address, listener.protocol))
}

/// Upper edges of the reference's buckets, in seconds.
fn edges() -> impl Iterator<Item = f64> {
    (0..EDGES).map(edge_seconds)
}

fn of_process(all: &mut Exposition, facts: &Facts) {
    let process::Usage { cpu, resident_bytes, virtual_bytes, descriptors, descriptors_max } =
        process::usage();
    let help = "CPU time of the process, user and system, in seconds.";
    all.counter("process_cpu_seconds_total", help, &[], cpu.as_secs_f64());
    let help = "Start time of the process, in seconds since 1970.";
    all.gauge("process_start_time_seconds", help, &[], facts.started);
    let help = "Resident memory of the process, in bytes.";
    all.gauge("process_resident_memory_bytes", help, &[], resident_bytes as f64);
    let help = "Virtual memory of the process, in bytes.";
    all.gauge("process_virtual_memory_bytes", help, &[], virtual_bytes as f64);
    all.gauge("process_open_fds", "Open file descriptors of the process.", &[], descriptors as f64);
    all.gauge(
        "process_max_fds",
        "Limit of open file descriptors of the process.",
        &[],
        descriptors_max as f64,
    );
}

fn of_service(all: &mut Exposition, facts: &Facts) {
    let version = format!("onward-{}", env!("CARGO_PKG_VERSION"));
    let labels = [("version", &*version), ("revision", ""), ("goversion", "")];
    all.gauge(
        "coredns_build_info",
        "Version of the running program; the value is always 1.",
        &labels,
        1.0,
    );
    let [done, failed] = facts.reloads.map(|count| count as f64);
    let name = "onward_reloads_total";
    let help = "Reloads of the configuration, by result.";
    all.counter(name, help, &[("result", "done")], done);
    all.counter(name, help, &[("result", "failed")], failed);
    let help = "Reloads that failed; the previous configuration stayed in effect.";
    all.counter("coredns_reload_failed_total", help, &[], failed);
    let help = "Configuration reads that ended because a file or a resolver did not respond.";
    all.counter("onward_config_reads_given_up_total", help, &[], facts.given_up as f64);
    // These series exist from the start.
    let help = "Panics of worker threads; the worker was restarted.";
    all.counter("coredns_panics_total", help, &[], 0.0);
    let help = "Queries received while all upstreams of the matching forward stanza were down.";
    all.counter("coredns_forward_healthcheck_broken_total", help, &[], 0.0);
    let help = "Queries refused because the limit max_concurrent was reached.";
    all.counter("coredns_forward_max_concurrent_rejects_total", help, &[], 0.0);
}

/// Adds the health state of upstreams, once for all workers.
fn of_health(all: &mut Exposition, snapshot: &Snapshot) {
    for (number, (forward, upstream)) in snapshot.config.upstreams().enumerate() {
        let to = upstream.address.to_string();
        let is_up = !snapshot.health_states.is_down(number);
        let help = "Health state of the upstream: 1 is up, 0 is down (health checks fail).";
        all.largest("onward_upstream_up", help, &[("to", &to)], f64::from(u8::from(is_up)));
        let failures = snapshot.health_states.failures(number) as f64;
        let help = "Failed health checks of the upstream.";
        if forward.grpc.is_none() {
            let name = "coredns_proxy_healthcheck_failures_total";
            all.counter(name, help, &[PROXY, ("to", &to)], failures);
        }
    }
}

fn of_upstreams(all: &mut Exposition, snapshot: &Snapshot) {
    for (number, (forward, upstream)) in snapshot.config.upstreams().enumerate() {
        let to = &*upstream.address.to_string();
        let stats = snapshot.stats.upstreams.get(number).copied().unwrap_or_default();
        let UpstreamStats { sent, timed_out, failed, edns_refused, pool, tcp, .. } = stats;
        let labels = [("to", to)];
        let help = "Queries sent to the upstream, retries included.";
        all.counter("onward_upstream_queries_total", help, &labels, sent as f64);
        let help = "Queries to the upstream that timed out.";
        all.counter("onward_upstream_timeouts_total", help, &labels, timed_out as f64);
        let help = "Failed attempts at the upstream, without those that timed out.";
        all.counter("onward_upstream_failures_total", help, &labels, failed as f64);
        let help = "Queries sent again without EDNS because the upstream refused EDNS.";
        all.counter_if_any("onward_upstream_edns_refusals_total", help, &labels, edns_refused);
        let help = "Error responses of the upstream without a question section.";
        let name = "onward_upstream_errors_without_question_total";
        all.counter_if_any(name, help, &labels, stats.bare_errors);
        let help = "Responses refused because they had addresses of private networks.";
        let name = "onward_upstream_private_answers_total";
        all.counter_if_any(name, help, &labels, stats.private_answers);
        let help = "Bursts of UDP responses that match no query; the queries were sent over TCP.";
        let name = "onward_upstream_mismatch_bursts_total";
        all.counter_if_any(name, help, &labels, stats.mismatch_bursts);
        let counts = [("udp", &pool), (upstream.connection_name(), &tcp)];
        for (pool, (transport, stats)) in PoolId::of_upstream(number).into_iter().zip(counts) {
            let state = snapshot.pools.get(pool.index()).copied().unwrap_or_default();
            of_pool(all, to, transport, stats, &state);
        }
        let answers =
            snapshot.tallies.upstreams.get(number).map_or(&[][..], |answers| &answers[..]);
        if forward.grpc.is_some() {
            of_grpc(all, to, sent, answers);
            continue;
        }
        for (place, answers) in answers.iter().enumerate() {
            let rcode = rcode_name(place);
            let labels = [PROXY, ("to", to), ("rcode", &rcode)];
            let (count, sum) = (answers.count(), answers.sum_seconds());
            let buckets = Buckets::new(edges(), &answers.cumulative(), count, sum);
            let help = "Time from a query to the upstream until its response, in seconds.";
            all.histogram("coredns_proxy_request_duration_seconds", help, &labels, buckets);
        }
    }
}

/// Adds the counters of an upstream of `grpc`, as the reference has them.
fn of_grpc(all: &mut Exposition, to: &str, sent: u64, answers: &[Coarse]) {
    let help = "Queries sent to the upstream over gRPC, retries included.";
    all.counter("coredns_grpc_requests_total", help, &[("to", to)], sent as f64);
    let mut total = Coarse::default();
    for (place, answers) in answers.iter().enumerate().filter(|(_, answers)| answers.count() > 0) {
        total.merge(answers);
        let labels = [("to", to), ("rcode", &*rcode_name(place))];
        let help = "Responses of the upstream over gRPC, by response code.";
        all.counter("coredns_grpc_responses_total", help, &labels, answers.count() as f64);
    }
    let buckets = Buckets::new(edges(), &total.cumulative(), total.count(), total.sum_seconds());
    let help = "Time from a query to the upstream over gRPC until its response, in seconds.";
    all.histogram("coredns_grpc_request_duration_seconds", help, &[("to", to)], buckets);
}

/// Adds the counters of a pool's connections.
fn of_pool(all: &mut Exposition, to: &str, transport: &str, stats: &PoolStats, state: &PoolState) {
    if stats.opened == 0 {
        return;
    }
    let proto = if transport == "tls" { "tcp-tls" } else { transport };
    let labels = [PROXY, ("to", to), ("proto", proto)];
    let reused = (stats.reused + stats.shared) as f64;
    if transport != "grpc" {
        let help = "Queries sent to the upstream on a connection that was already open.";
        all.counter("coredns_proxy_conn_cache_hits_total", help, &labels, reused);
        let help = "Queries to the upstream that opened a new connection.";
        all.counter("coredns_proxy_conn_cache_misses_total", help, &labels, stats.opened as f64);
    }
    let labels = [("to", to), ("transport", transport)];
    let help = "Connections opened to the upstream.";
    all.counter("onward_connections_opened_total", help, &labels, stats.opened as f64);
    let help = "Queries sent to the upstream on an idle connection.";
    all.counter("onward_connections_reused_total", help, &labels, stats.reused as f64);
    let help = "Queries sent to the upstream on a connection with other outstanding queries.";
    all.counter("onward_connections_shared_total", help, &labels, stats.shared as f64);
    if transport != "udp" {
        of_client_connections(all, &labels, stats, state);
    }
    let states = [("idle", state.idle), ("in_use", state.in_use), ("retiring", state.retiring)];
    for (name, count) in states {
        let labels = [("to", to), ("transport", transport), ("state", name)];
        let help = "Open connections to the upstream, by state; a retiring one takes no new query.";
        all.gauge("onward_connections", help, &labels, count as f64);
    }
    let help = "Limit of open connections to the upstream, summed over all workers.";
    all.gauge("onward_connections_limit", help, &labels, state.limit as f64);
    if let Some(max_age) = state.max_age {
        let help = "Maximum age of connections to the upstream (max_age), in seconds.";
        let max_age = max_age.as_secs_f64();
        all.largest("onward_connection_max_age_seconds", help, &labels, max_age);
    }
    let help = "Age of the oldest open connection to the upstream, in seconds.";
    let oldest = state.oldest.as_secs_f64();
    all.largest("onward_connection_oldest_seconds", help, &labels, oldest);
    for (reason, ages) in REASON_NAMES.iter().zip(&stats.ages) {
        let labels = [("to", to), ("transport", transport), ("reason", *reason)];
        let sum = ages.sum_ms as f64 / 1e3;
        let buckets = Buckets::of_counts(AGES.map(f64::from), &ages.counts, sum);
        let help = "Age of upstream connections when they were closed, by reason, in seconds.";
        all.histogram("onward_connection_age_seconds", help, &labels, buckets);
    }
}

/// Adds the counters of queries that share the connections of a TCP or TLS pool.
fn of_client_connections(
    all: &mut Exposition,
    labels: &[(&'static str, &str)],
    stats: &PoolStats,
    state: &PoolState,
) {
    let help = "Queries sent again on another connection because they waited behind a slow query.";
    all.counter("onward_queries_moved_total", help, labels, stats.moved as f64);
    let help =
        "Queries that waited behind a slow query and were not sent again because of a limit.";
    all.counter("onward_queries_stuck_total", help, labels, stats.unmoved as f64);
    let help = "Queries sent again because the upstream closed their connection or had not \
                processed them; not counted as retries.";
    all.counter("onward_queries_asked_again_total", help, labels, stats.asked_again as f64);
    let help = "Connections opened to the upstream while it closes each after a few responses.";
    all.counter("onward_connections_limited_total", help, labels, stats.limited as f64);
    let help = "Limit of outstanding queries per connection, learnt from the upstream.";
    all.largest("onward_connection_queries_limit", help, labels, state.in_flight as f64);
}

fn of_worker(all: &mut Exposition, snapshot: &Snapshot) {
    let worker = &*snapshot.worker.to_string();
    let labels = [("worker", worker)];
    let (stats, loops) = (&snapshot.stats, &snapshot.loops);
    let help = "Client packets that the worker received; compare workers to see the distribution.";
    all.counter("onward_worker_queries_total", help, &labels, stats.queries as f64);
    let help = "Iterations of the worker's event loop.";
    all.counter("onward_turns_total", help, &labels, loops.turns as f64);
    let help = "Time that the worker's event loop was busy, in seconds.";
    all.counter("onward_turn_seconds_total", help, &labels, loops.busy.as_secs_f64());
    let help = "CPU time of the worker thread, in seconds.";
    all.counter("onward_worker_cpu_seconds_total", help, &labels, snapshot.cpu.as_secs_f64());
    if let Some(migrations) = thread::migrations(snapshot.thread) {
        let help = "Migrations of the worker thread to another core by the kernel.";
        all.counter("onward_worker_migrations_total", help, &labels, migrations as f64);
    }
    let help = "Maintenance runs of the worker over its connection pools and caches.";
    all.counter("onward_sweeps_total", help, &labels, loops.sweeps as f64);
    let help = "Queries of the worker to upstreams that are outstanding.";
    all.gauge("onward_exchanges", help, &labels, snapshot.outstanding as f64);
    let limit = crate::engine::exchange::EXCHANGES_MAX as f64;
    all.gauge(
        "onward_exchanges_limit",
        "Limit of outstanding queries to upstreams per worker.",
        &labels,
        limit,
    );
    let help = "Open client connections (TCP and TLS).";
    all.gauge("onward_client_streams", help, &labels, snapshot.connections as f64);
    let help = "Client connections accepted (TCP and TLS).";
    all.counter("onward_client_streams_total", help, &[], stats.connections as f64);
    let help = "Client connections refused because the limit of connections was reached.";
    all.counter("onward_client_streams_refused_total", help, &[], stats.connections_refused as f64);
    if snapshot.config.listeners.iter().any(|listener| listener.protocol.is_quic()) {
        let help = "Client connections over QUIC closed because of a violation or excessive load.";
        let name = "onward_quic_connections_aborted_total";
        all.counter(name, help, &[], stats.connections_aborted as f64);
        let help = "Requests over QUIC whose streams were refused: malformed, stalled or too many.";
        all.counter("onward_quic_streams_refused_total", help, &[], stats.streams_refused as f64);
    }
    if snapshot.config.listeners.iter().any(|listener| listener.proxies.is_some()) {
        let help = "Headers of the PROXY protocol, by result: used, ignored, invalid, rejected.";
        for (result, count) in OUTCOME_NAMES.into_iter().zip(stats.proxy_headers.0) {
            let labels = [("result", result)];
            all.counter("onward_proxy_headers_total", help, &labels, count as f64);
        }
    }
    let help = "Queries to upstreams that were sent as part of a GSO batch.";
    all.counter("onward_gso_queries_total", help, &labels, loops.queries_joined as f64);
    let help = "Replies to clients that were sent as part of a GSO batch.";
    all.counter("onward_gso_replies_total", help, &labels, loops.replies_joined as f64);
    let help = "GSO batches that the kernel refused; datagrams on that route are then sent singly.";
    all.counter("onward_gso_refused_total", help, &labels, loops.segments_refused as f64);
    for (direction, batches) in [("queries", &loops.queries), ("responses", &loops.responses)] {
        let edges = BATCHES.map(|edge| edge as f64);
        let buckets = Buckets::of_counts(edges, &batches.counts, batches.datagrams as f64);
        let help = "Datagrams received per system call, by direction.";
        all.histogram("onward_batch_size", help, &[("direction", direction)], buckets);
    }
}

fn of_listeners(all: &mut Exposition, snapshot: &Snapshot) {
    let worker = &*snapshot.worker.to_string();
    let listeners = snapshot.config.listeners.iter().zip(&snapshot.kernel_drops);
    for (listener, drops) in listeners {
        let server = server_at(listener);
        let labels = [("server", &*server), ("worker", worker)];
        let help =
            "Datagrams that the kernel dropped because the listener's receive buffer was full.";
        all.counter("onward_listener_drops_total", help, &labels, *drops as f64);
    }
}

/// Adds the counters of dropped, coalesced and failed queries.
fn of_drops(all: &mut Exposition, stats: &Stats) {
    for (reason, count) in DROP_REASON_NAMES.iter().zip(stats.drops) {
        let help = "Packets that onward dropped without a reply, by reason.";
        all.counter("onward_drops_total", help, &[("reason", reason)], count as f64);
    }
    for (result, count) in TSIG_RESULT_NAMES.iter().zip(stats.tsig) {
        let help = "Signed queries of clients for names in the zones of tsig, by result.";
        all.counter_if_any("onward_tsig_total", help, &[("result", result)], count);
    }
    for (result, count) in COOKIE_RESULT_NAMES.iter().zip(stats.cookies) {
        let help = "Queries with a cookie of their client, by the server cookie in them.";
        all.counter_if_any("onward_cookies_total", help, &[("server_cookie", result)], count);
    }
    let help =
        "Queries answered by the outstanding upstream query of an identical query (coalesced).";
    all.counter("onward_coalesced_total", help, &[], stats.coalesced as f64);
    let help =
        "Late replies over UDP that were held back, because many were due at once to one client.";
    all.counter_if_any("onward_late_replies_held_total", help, &[], stats.late_held);
    let help = "Queries that failed because the limit of outstanding queries was reached.";
    all.counter("onward_overloaded_total", help, &[], stats.overloaded as f64);
    let help =
        "Queries that failed because queries for their zone filled the table of outstanding ones.";
    all.counter_if_any("onward_flood_refusals_total", help, &[], stats.flood_refusals);
    of_parked(all, &stats.parked);
    let help = "Queries received while all upstreams of the matching forward stanza were down.";
    all.counter("coredns_forward_healthcheck_broken_total", help, &[], stats.all_down as f64);
    let help = "Queries refused because the limit max_concurrent was reached.";
    let rejects = stats.concurrent_rejects as f64;
    all.counter("coredns_forward_max_concurrent_rejects_total", help, &[], rejects);
    all.counter(
        "coredns_panics_total",
        "Panics of worker threads; the worker was restarted.",
        &[],
        stats.panics as f64,
    );
    let help = "Records of the error log, query log and dnstap that were lost, by kind.";
    let lost = [("errors", stats.errors_lost), ("log", stats.log_lost), ("dnstap", stats.tap_lost)];
    for (rtype, count) in lost {
        all.counter("onward_records_lost_total", help, &[("kind", rtype)], count as f64);
    }
    for (stage, counts) in stats.stages.named() {
        let StageCounts { passed, answered, refused, dropped } = counts;
        let results = [
            ("passed", passed),
            ("answered", answered),
            ("refused", refused),
            ("dropped", dropped),
        ];
        for (result, count) in results {
            let help = "Queries that a directive (stage) processed, by stage and result.";
            let labels = [("stage", stage), ("result", result)];
            all.counter_if_any("onward_stage_queries_total", help, &labels, count);
        }
    }
}

/// Adds the counters of queries that waited for other queries, and of the server's own queries.
fn of_parked(all: &mut Exposition, parked: &ParkedStats) {
    let ParkedStats { queries, asked, too_deep, too_many, full, too_large } = *parked;
    let help = "Client queries that waited for the answer to a query of this server's own.";
    all.counter_if_any("onward_parked_queries_total", help, &[], queries);
    let help = "Queries of this server's own, such as for the target of a CNAME.";
    all.counter_if_any("onward_own_queries_total", help, &[], asked);
    let help = "Queries of this server's own that were not sent, by the limit that was reached.";
    let refused =
        [("depth", too_deep), ("count", too_many), ("table", full), ("memory", too_large)];
    for (limit, count) in refused {
        let labels = [("limit", limit)];
        all.counter_if_any("onward_own_queries_refused_total", help, &labels, count);
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, rcode_name, text};
    use crate::control::Loads;
    use crate::control::snapshot::Snapshot;
    use crate::engine::PoolId;
    use crate::engine::key::Transport;
    use crate::engine::stages::template::TemplateStats;
    use crate::engine::tally::{CountedQuery, CountedReply};
    use std::time::Duration;

    const COREFILE: &str = "a.test b.test:5300 {\n bind 127.0.0.1\n prometheus\n errors\n cache\n \
                            forward . 192.0.2.1 192.0.2.2\n}\n";

    /// Report with one query and its reply at the first label set.
    fn worker(number: usize, rcode: u16) -> Snapshot {
        let mut snapshot = Snapshot::of(number, COREFILE);
        let transport = Transport::Udp;
        let label_set = snapshot
            .tallies
            .label_sets
            .iter()
            .position(|label_set| label_set.zone.is_some())
            .unwrap();
        let asking = CountedQuery { transport, is_ipv6: true, rtype: 28, dnssec_ok: true, len: 40 };
        snapshot.tallies.ask(label_set as u32, &asking);
        let took = Duration::from_millis(4);
        let outcome = CountedReply { transport, took, rcode, len: 100, answered: rcode != 2 };
        snapshot.tallies.end(label_set as u32, &outcome);
        snapshot.tallies.upstream(1, rcode, took);
        snapshot.stats.upstreams[1].pool.opened = 1;
        snapshot.stats.caches = vec![Default::default()];
        snapshot.pools[PoolId::new(1, Transport::Udp).index()].idle = 1;
        snapshot.ports.insert(40_000);
        snapshot
    }

    #[test]
    fn workers_are_added_up_and_named_as_in_the_reference() {
        let snapshots = [worker(0, 0), worker(1, 0), worker(2, 2)];
        let facts = Facts { started: 1e9, reloads: [3, 1], given_up: 2 };
        let text =
            String::from_utf8(text(&snapshots.each_ref(), &facts, &Loads::default())).unwrap();
        let place = r#"server="dns://127.0.0.1:53",zone="a.test.",view="""#;
        let other = r#"server="dns://127.0.0.1:5300",zone="b.test.",view="""#;
        for line in [
            format!(
                "coredns_dns_requests_total{{{place},proto=\"udp\",family=\"2\",\
                 type=\"AAAA\"}} 3"
            ),
            format!("coredns_dns_do_requests_total{{{place}}} 3"),
            format!("coredns_dns_responses_total{{{place},rcode=\"NOERROR\",plugin=\"errors\"}} 2"),
            format!("coredns_dns_responses_total{{{place},rcode=\"SERVFAIL\",plugin=\"\"}} 1"),
            format!("coredns_dns_request_duration_seconds_bucket{{{place},le=\"0.002\"}} 0"),
            format!("coredns_dns_request_duration_seconds_bucket{{{place},le=\"0.004\"}} 3"),
            format!("coredns_dns_request_duration_seconds_sum{{{place}}} 0.012"),
            format!("coredns_dns_response_size_bytes_bucket{{{place},proto=\"udp\",le=\"100\"}} 3"),
            format!("coredns_plugin_enabled{{{other},name=\"cache\"}} 1"),
            "coredns_proxy_request_duration_seconds_count{proxy_name=\"forward\",\
             to=\"192.0.2.2:53\",rcode=\"NOERROR\"} 2"
                .to_owned(),
            "coredns_proxy_conn_cache_misses_total{proxy_name=\"forward\",to=\"192.0.2.2:53\",\
             proto=\"udp\"} 3"
                .to_owned(),
            "coredns_proxy_healthcheck_failures_total{proxy_name=\"forward\",to=\"192.0.2.1:53\"} 0"
                .to_owned(),
            "coredns_cache_requests_total{server=\"dns://127.0.0.1:53\",zones=\"a.test.,b.test.\",\
             view=\"\"} 0"
                .to_owned(),
            "coredns_forward_healthcheck_broken_total 0".to_owned(),
            "coredns_panics_total 0".to_owned(),
            "coredns_reload_failed_total 1".to_owned(),
            "onward_config_reads_given_up_total 2".to_owned(),
            "onward_connections{to=\"192.0.2.2:53\",transport=\"udp\",state=\"idle\"} 3".to_owned(),
            "onward_source_ports 1".to_owned(),
            "onward_upstream_up{to=\"192.0.2.1:53\"} 1".to_owned(),
            "process_start_time_seconds 1000000000".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("type=\"A\""), "what did not happen has no series");
    }

    /// Row V39 of the reference's behaviour.
    #[test]
    fn two_views_of_one_zone_have_different_labels() {
        let block = "bind 127.0.0.1\n prometheus\n cache\n acl {\n block\n}\n template IN A {\n \
                     answer \". 1 IN A 192.0.2.1\"\n}\n forward . 192.0.2.1\n";
        let views = format!(". {{\n view a {{\n expr do()\n}}\n {block}}}\n. {{\n {block}}}\n");
        let mut snapshot = Snapshot::of(0, &views);
        let transport = Transport::Udp;
        let asking =
            CountedQuery { transport, is_ipv6: false, rtype: 1, dnssec_ok: false, len: 40 };
        for (place, block) in [0, 0, 1].into_iter().enumerate() {
            let label_sets = &snapshot.tallies.label_sets;
            let label_set =
                label_sets.iter().position(|label_set| label_set.block == Some(block)).unwrap();
            snapshot.tallies.ask(label_set as u32, &asking);
            snapshot.tallies.counts[label_set].acl.refused = 5 + place as u64;
        }
        snapshot.stats.caches = vec![Default::default(); 2];
        snapshot.stats.caches[0].entries = [4, 0];
        snapshot.stats.templates =
            vec![TemplateStats { matches: vec![[1; 13]], failures: vec![] }; 2];
        let facts = Facts { started: 1e9, reloads: [0, 0], given_up: 0 };
        let text = String::from_utf8(text(&[&snapshot], &facts, &Loads::default())).unwrap();
        let asked = r#"proto="udp",family="1",type="A""#;
        for line in [
            format!(r#"dns_requests_total{{SERVER,zone=".",view="a",{asked}}} 2"#),
            format!(r#"dns_requests_total{{SERVER,zone=".",view="",{asked}}} 1"#),
            r#"acl_blocked_requests_total{SERVER,zone=".",view="a"} 6"#.into(),
            r#"acl_blocked_requests_total{SERVER,zone=".",view=""} 7"#.into(),
            r#"cache_entries{SERVER,type="success",zones=".",view="a"} 4"#.into(),
            r#"cache_entries{SERVER,type="success",zones=".",view=""} 0"#.into(),
            r#"template_matches_total{SERVER,zone=".",view="a",class="IN",type="A"} 1"#.into(),
            r#"plugin_enabled{SERVER,zone=".",view="a",name="view"} 1"#.into(),
        ] {
            let line = line.replace("SERVER", r#"server="dns://127.0.0.1:53""#);
            let line = format!("coredns_{line}");
            assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
        }
    }

    #[test]
    fn templates_are_counted_by_zone_type_and_text() {
        let corefile = "t u {\n prometheus\n template IN MX {\n rcode NXDOMAIN\n }\n \
                        template ANY ANY u {\n match (.)\n answer \"a. A {{ index .Match 1 }}\"\n \
                        fallthrough\n }\n}\n";
        let mut snapshot = Snapshot::of(0, corefile);
        let mut first = TemplateStats { matches: vec![[0; 13]; 2], failures: Vec::new() };
        (first.matches[0][5], first.matches[1][12]) = (3, 4);
        let second = TemplateStats { matches: vec![[0; 13]], failures: vec![[1, 2]] };
        snapshot.stats.templates = vec![first, second];
        let facts = Facts { started: 1e9, reloads: [0, 0], given_up: 0 };
        let text =
            String::from_utf8(text(&[&snapshot, &snapshot], &facts, &Loads::default())).unwrap();
        let server = "server=\"dns://:53\"";
        let failed = "view=\"\",class=\"IN\",type=\"ANY\",section=\"answer\",\
                      template=\"a. A {{ index .Match 1 }}\"";
        for line in [
            format!(
                "coredns_template_matches_total{{{server},zone=\"t.\",view=\"\",class=\"IN\",\
                 type=\"MX\"}} 6"
            ),
            format!(
                "coredns_template_matches_total{{{server},zone=\"u.\",view=\"\",class=\"IN\",\
                 type=\"other\"}} 8"
            ),
            format!("coredns_template_template_failures_total{{{server},zone=\"u.\",{failed}}} 2"),
            format!("coredns_template_rr_failures_total{{{server},zone=\"u.\",{failed}}} 4"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn response_codes_have_their_mnemonics() {
        let names = [0, 5, 12, 16, 17, 18].map(rcode_name);
        assert_eq!(names, ["NOERROR", "REFUSED", "12", "BADVERS", "BADCOOKIE", "other"]);
    }

    #[test]
    fn a_process_without_reports_of_workers_shows_its_own_numbers() {
        let text = String::from_utf8(text(&[], &Facts::default(), &Loads::default())).unwrap();
        assert!(text.contains("coredns_build_info{version=\"onward-"), "{text}");
        assert!(!text.contains("coredns_dns_"));
    }
}
