//! Contents of `onward top`: a head of two or three lines, and sections below it.
//!
//! Pure; from a status to lines for a width. Bounded like the status page, with a line that counts
//! the omitted rows.

use super::lines::{
    BAD, Cell, Column, DRAWN, FAINT, GOOD, TITLE, WARN, ages, flow, gauge, name, number, spark,
    table, text, trouble,
};
use crate::figures::{bytes, count, milliseconds, percent, rate, sane, seconds};
use crate::status::{Cache, Count, Health, HostsFile, Pool, Status, Upstream, Worker};
use ratatui::text::{Line, Span};

const UPSTREAMS_SHOWN: usize = 64;
/// Maximum number of transports shown for an upstream.
const POOLS_SHOWN: usize = 4;
const WORKERS_SHOWN: usize = 256;
const CACHES_SHOWN: usize = 100;
const HOSTS_SHOWN: usize = 32;
const LINES_SHOWN: usize = 20;
/// Cells of a line over the last hour.
const SPARK: usize = 12;

/// Returns the head: host, health and totals.
pub(super) fn head(status: &Status, width: usize) -> Vec<Line<'static>> {
    let traffic = &status.traffic;
    let mut who = vec![Cell(format!("onward {}", name(&status.version).0), TITLE)];
    if !status.host.is_empty() {
        who.push(Cell(name(&status.host).0, TITLE));
    }
    who.push(format!("up {}", seconds(status.uptime_s)).into());
    let [reloads, failed] = status.reloads;
    if reloads + failed > 0 {
        who.push(format!("{} reloads", count(reloads)).into());
    }
    if failed > 0 {
        who.push(Cell(format!("{} failed reloads", count(failed)), BAD));
    }
    who.push(verdict(status));
    let history: Vec<Option<f64>> = traffic.history.iter().copied().map(Some).collect();
    let most = traffic.history.iter().copied().map(sane).fold(0.0, f64::max);
    let latency = &traffic.latency;
    let mut facts = vec![Cell(format!("queries {}", rate(traffic.rate)), TITLE)];
    if !history.is_empty() {
        facts.push(Cell(spark(&history, most, 2 * SPARK), DRAWN));
    }
    facts.extend([
        format!("p50 {}", milliseconds(latency.p50_ms)).into(),
        format!("p90 {}", milliseconds(latency.p90_ms)).into(),
        format!("p99 {}", milliseconds(latency.p99_ms)).into(),
        format!("source ports {}", count(traffic.source_ports)).into(),
        format!("client connections {}", count(traffic.connections)).into(),
        format!("coalesced {}", count(traffic.coalesced)).into(),
    ]);
    if traffic.records_lost > 0 {
        facts.push(Cell(format!("{} log lines lost", count(traffic.records_lost)), BAD));
    }
    let mut lines = flow(who, width);
    lines.extend(flow(facts, width));
    lines
}

fn verdict(status: &Status) -> Cell {
    let all = status.upstreams.len();
    let of = |health| status.upstreams.iter().filter(|upstream| upstream.health == health).count();
    match (of(Health::Down), of(Health::Probing)) {
        _ if all == 0 => Cell("no upstream".to_owned(), FAINT),
        (0, 0) => Cell(format!("● {all} of {all} upstreams up"), GOOD),
        (0, probing) => Cell(format!("▲ {probing} of {all} upstreams probing"), WARN),
        (down, _) => Cell(format!("✕ {down} of {all} upstreams down"), BAD),
    }
}

/// The sections that show the work: upstreams and workers.
pub(super) fn work(status: &Status, width: usize) -> Vec<Vec<Line<'static>>> {
    vec![upstreams(status, width), workers(status, width)]
}

/// Returns the sections that show the results: replies, caches and most frequent names.
pub(super) fn outcome(status: &Status, width: usize) -> Vec<Vec<Line<'static>>> {
    let (traffic, top) = (&status.traffic, &status.top);
    let hosts = (!status.hosts.is_empty()).then(|| hosts(status, width));
    let others = [
        caches(status, width),
        counts("Replies", "rcode", "total", &traffic.rcodes, "none yet", width),
        counts("Dropped without a reply", "reason", "total", &traffic.drops, "none", width),
        counts("Queried names", "name", "recent", &top.names, "none yet", width),
        counts("Clients", "client", "recent", &top.clients, "none yet", width),
        counts("Failing names", "name", "recent", &top.failing, "none", width),
    ];
    hosts.into_iter().chain(others).collect()
}

/// Builds a section: a title, a table or the note that it is empty, and the number of omitted rows.
fn section(
    title: &str,
    columns: &[Column],
    rows: &[Vec<Cell>],
    (none, more): (&str, usize),
    width: usize,
) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(Span::styled(title.to_owned(), TITLE))];
    if rows.is_empty() {
        lines.push(Line::from(Span::styled(none.to_owned(), FAINT)));
    } else {
        lines.extend(table(columns, rows, width));
    }
    if more > 0 {
        lines.push(Line::from(Span::styled(format!("and {more} more"), FAINT)));
    }
    lines
}

fn upstreams(status: &Status, width: usize) -> Vec<Line<'static>> {
    const COLUMNS: [Column; 14] = [
        text("upstream", 0),
        text("health", 0),
        number("answers", 0),
        number("share", 1),
        text("last hour", 5),
        number("p50", 7),
        number("p90", 9),
        number("p99", 2),
        number("timed out", 6),
        number("failed", 8),
        text("", 3),
        text("by age│old", 3),
        number("open of", 10),
        number("oldest", 4),
    ];
    let shown = &status.upstreams[..status.upstreams.len().min(UPSTREAMS_SHOWN)];
    let more = status.upstreams_more + (status.upstreams.len() - shown.len());
    let shares = shown.iter().flat_map(|upstream| upstream.share.iter().flatten());
    let top = shares.copied().map(sane).fold(0.0, f64::max);
    let rows: Vec<Vec<Cell>> =
        shown.iter().flat_map(|upstream| upstream_rows(upstream, top)).collect();
    let none = ("none: no forward is configured", more);
    section("Upstreams", &COLUMNS, &rows, none, width)
}

/// A row for the upstream with its first transport, and one for each further transport.
fn upstream_rows(upstream: &Upstream, top: f64) -> Vec<Vec<Cell>> {
    let health = match upstream.health {
        Health::Up => Cell("● up".to_owned(), GOOD),
        Health::Probing => Cell("▲ probing".to_owned(), WARN),
        Health::Down => Cell("✕ down".to_owned(), BAD),
    };
    let latest = upstream.share.iter().rev().find_map(|share| *share);
    let latency = &upstream.latency;
    let mut row = vec![
        name(&upstream.address),
        health,
        rate(upstream.rate).into(),
        latest.map_or("–".to_owned(), percent).into(),
        Cell(spark(&upstream.share, top, SPARK), DRAWN),
        milliseconds(latency.p50_ms).into(),
        milliseconds(latency.p90_ms).into(),
        milliseconds(latency.p99_ms).into(),
        trouble(upstream.timed_out),
        trouble(upstream.failed),
    ];
    let own = row.len();
    let mut pools = upstream.pools.iter().take(POOLS_SHOWN).map(pool_cells);
    row.extend(pools.next().into_iter().flatten());
    let further = pools.map(|pool| vec![Cell::default(); own].into_iter().chain(pool).collect());
    std::iter::once(row).chain(further).collect()
}

fn pool_cells(pool: &Pool) -> [Cell; 4] {
    const TRANSPORT: usize = 5;
    let old = pool.max_age_s.is_some_and(|limit| pool.oldest_s > limit);
    let open = pool.idle.saturating_add(pool.in_use).saturating_add(pool.retiring);
    [
        crate::figures::visible(&pool.transport, TRANSPORT).into(),
        Cell(ages(&pool.ages, pool.max_age_s.is_some()), if old { BAD } else { DRAWN }),
        format!("{} of {}", count(open), count(pool.limit)).into(),
        Cell(seconds(pool.oldest_s), if old { BAD } else { FAINT }),
    ]
}

fn workers(status: &Status, width: usize) -> Vec<Line<'static>> {
    const COLUMNS: [Column; 11] = [
        text("worker", 0),
        text("core", 6),
        text("load", 2),
        number("", 0),
        text("last hour", 4),
        number("queries", 0),
        number("per call", 7),
        number("outstanding", 3),
        number("kernel drops", 1),
        number("migrations", 5),
        number("panics", 8),
    ];
    let shown = &status.workers[..status.workers.len().min(WORKERS_SHOWN)];
    let rows: Vec<Vec<Cell>> = shown.iter().map(worker_row).collect();
    let none = ("no worker has reported yet", status.workers.len() - shown.len());
    section("Workers", &COLUMNS, &rows, none, width)
}

fn worker_row(worker: &Worker) -> Vec<Cell> {
    const GAUGE: usize = 10;
    let history: Vec<Option<f64>> = worker.history.iter().copied().map(Some).collect();
    let style = if sane(worker.load) >= 0.9 { BAD } else { DRAWN };
    vec![
        worker.number.to_string().into(),
        worker.core.map_or("any".to_owned(), |core| core.to_string()).into(),
        Cell(gauge(worker.load, GAUGE), style),
        percent(worker.load).into(),
        Cell(spark(&history, 1.0, SPARK), DRAWN),
        rate(worker.rate).into(),
        format!("{:.1}", sane(worker.batch).min(9999.0)).into(),
        format!("{} of {}", count(worker.exchanges), count(worker.exchanges_limit)).into(),
        trouble(worker.kernel_drops),
        trouble(worker.migrations),
        trouble(worker.panics),
    ]
}

fn hosts(status: &Status, width: usize) -> Vec<Line<'static>> {
    const COLUMNS: [Column; 6] = [
        text("file", 0),
        number("entries", 0),
        number("memory", 2),
        number("loads", 3),
        number("failed", 1),
        number("skipped", 4),
    ];
    let shown = &status.hosts[..status.hosts.len().min(HOSTS_SHOWN)];
    let row = |file: &HostsFile| {
        vec![
            name(&file.file),
            count(file.entries).into(),
            bytes(file.bytes).into(),
            count(file.loads[0]).into(),
            count(file.loads[1]).into(),
            count(file.skipped).into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = shown.iter().map(row).collect();
    let more = status.hosts.len() - shown.len();
    section("Hosts files", &COLUMNS, &rows, ("none", more), width)
}

fn caches(status: &Status, width: usize) -> Vec<Line<'static>> {
    const COLUMNS: [Column; 6] = [
        text("zones", 0),
        number("hits", 0),
        number("lookups", 1),
        number("answers", 3),
        number("memory", 2),
        number("evicted", 4),
    ];
    let shown = &status.caches[..status.caches.len().min(CACHES_SHOWN)];
    let row = |cache: &Cache| {
        vec![
            name(&cache.zones),
            cache.hit_ratio.map_or("–".to_owned(), percent).into(),
            rate(cache.rate).into(),
            count(cache.entries).into(),
            bytes(cache.bytes).into(),
            count(cache.evicted).into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = shown.iter().map(row).collect();
    let more = status.caches_more + (status.caches.len() - shown.len());
    section("Caches", &COLUMNS, &rows, ("none: every query goes upstream", more), width)
}

fn counts(
    title: &str,
    what: &'static str,
    number_of: &'static str,
    counts: &[Count],
    none: &str,
    width: usize,
) -> Vec<Line<'static>> {
    let shown = &counts[..counts.len().min(LINES_SHOWN)];
    let row = |line: &Count| {
        vec![name(&line.what), rate(line.rate).into(), Cell(count(line.count), FAINT)]
    };
    let rows: Vec<Vec<Cell>> = shown.iter().map(row).collect();
    let columns = [text(what, 0), number("a second", 0), number(number_of, 1)];
    section(title, &columns, &rows, (none, counts.len() - shown.len()), width)
}
