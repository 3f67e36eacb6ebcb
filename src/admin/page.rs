//! The status page: one self-contained HTML document.
//!
//! [`page`] renders a [`Status`] on the server: markup, style, drawings and a small script in one
//! response, without external resources and without controls. Without scripts the page reloads
//! itself; with them it replaces only changed parts, so that a reader keeps position and selection.
//! `html` is the only way for a string to become markup, `chart` draws, `upstreams`, `workers` and
//! `traffic` are the sections. The size of the page is bounded.

mod chart;
mod html;
mod traffic;
mod upstreams;
mod workers;

use crate::figures::{count, milliseconds, percent, rate, sane, seconds};
use crate::status::{Count, Health, RATE_SECONDS, Status};
use html::text;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Maximum number of listed workers; the others are counted.
pub const WORKERS_SHOWN: usize = 256;
/// Maximum number of listed upstreams.
pub const UPSTREAMS_SHOWN: usize = 64;
/// Maximum number of listed caches.
pub const CACHES_SHOWN: usize = 100;
/// Maximum number of listed hosts files.
pub(crate) const HOSTS_SHOWN: usize = 32;
/// Maximum number of lines of each of the other lists.
pub const LINES_SHOWN: usize = 20;

/// Returns the whole page.
pub fn page(status: &Status) -> String {
    let host = text(&status.host);
    let title = if host.is_empty() { "onward".to_owned() } else { format!("onward on {host}") };
    let body = [
        header(status, &host),
        figures(status),
        upstreams::shares(status),
        upstreams::upstreams(status),
        workers::workers(status),
        workers::caches(status),
        workers::hosts(status),
        traffic::replies(status),
        traffic::seen_most(status),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <link rel=\"icon\" href=\"data:,\"/>\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"/></noscript>\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <footer><p>Rates and percentiles are of the last {RATE_SECONDS} seconds, lines of the \
         last hour. This page shows and changes nothing.</p>\
         <p id=\"live\" role=\"status\"></p></footer>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// Returns the head of the page: host, version, and the health of all upstreams.
fn header(status: &Status, host: &str) -> String {
    let [reloads, failed] = status.reloads;
    let host = if host.is_empty() { String::new() } else { format!("<strong>{host}</strong>") };
    let mut facts = Vec::new();
    if !status.version.is_empty() {
        facts.push(format!("version {}", text(&status.version)));
    }
    facts.push(format!("up for {}", seconds(status.uptime_s)));
    match (reloads, failed) {
        (0, 0) => {}
        (reloads, 0) => facts.push(format!("reloaded {}", times(reloads))),
        (reloads, failed) => facts.push(format!(
            "reloaded {}, <span class=\"bad\">{} failed</span>",
            times(reloads),
            times(failed)
        )),
    }
    if status.now_ms > 0 {
        let second = status.now_ms / 1_000 % 86_400;
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        facts.push(format!("at {hour:02}:{minute:02}:{:02} UTC", second % 60));
    }
    let facts: String = facts.iter().map(|fact| format!("<span>{fact}</span>")).collect();
    format!(
        "<header><div><h1>onward</h1><p class=\"facts\">{host}{facts}</p></div>{}</header>\n",
        verdict(status)
    )
}

/// Returns one sentence about the upstreams, with a sign before it.
fn verdict(status: &Status) -> String {
    let all = status.upstreams.len();
    let of = |health| status.upstreams.iter().filter(|upstream| upstream.health == health).count();
    let (down, probing) = (of(Health::Down), of(Health::Probing));
    let (class, sign, sentence) = match (all, down, probing) {
        (0, ..) => ("idle", "○", "No upstream is configured".to_owned()),
        (1, 1, _) => ("down", "✕", "The only upstream is down".to_owned()),
        (_, down, _) if down == all => ("down", "✕", format!("All {all} upstreams are down")),
        (_, 1.., _) => ("down", "✕", format!("{down} of {all} upstreams down")),
        (_, _, 1..) => ("probing", "▲", format!("{probing} of {all} upstreams being probed")),
        (1, ..) => ("up", "●", "The upstream is up".to_owned()),
        _ => ("up", "●", format!("All {all} upstreams are up")),
    };
    format!(
        "<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {sentence}</p>\n"
    )
}

/// Returns the tiles with the main figures.
fn figures(status: &Status) -> String {
    let traffic = &status.traffic;
    let history: Vec<Option<f64>> = traffic.history.iter().copied().map(Some).collect();
    let most = traffic.history.iter().copied().map(sane).fold(0.0, f64::max);
    let spark = if history.len() > 1 {
        let label = format!("Queries per second over the last hour, maximum {}", rate(most));
        chart::spark(&history, most, None, &label)
    } else {
        String::new()
    };
    let latency = &traffic.latency;
    let percentiles = match sane(latency.p50_ms) > 0.0 {
        false => "no measurement in the last 10 s".to_owned(),
        true => format!(
            "90 % within {}<br/>99 % within {}",
            milliseconds(latency.p90_ms),
            milliseconds(latency.p99_ms)
        ),
    };
    let drops = sum(&traffic.drops);
    let failures = traffic.rcodes.iter().find(|rcode| rcode.what == "SERVFAIL");
    let failing = failures.map_or(0.0, |failures| sane(failures.rate));
    let replies: f64 = traffic.rcodes.iter().map(|rcode| sane(rcode.rate)).sum();
    let part = if replies > 0.0 { failing / replies } else { 0.0 };
    let failures = failures.map_or(0, |failures| failures.count);
    let tiles = [
        tile("Queries", &rate(traffic.rate), &format!("{} total", count(traffic.queries)), &spark),
        tile("Median latency", &milliseconds(latency.p50_ms), "from query to reply", &percentiles),
        cache_tile(status),
        tile(
            "Failed",
            &percent(part),
            "share of SERVFAIL in replies",
            &format!("{} total", count(failures)),
        ),
        tile("Dropped", &rate(drops.1), "without a reply", &format!("{} total", count(drops.0))),
        tile(
            "Source ports",
            &count(traffic.source_ports),
            "of sockets to upstreams",
            &format!("{} client connections", count(traffic.connections)),
        ),
    ];
    format!(
        "<section aria-label=\"Summary\"><ul class=\"tiles\">{}</ul>{}</section>\n",
        tiles.concat(),
        lost(traffic.records_lost)
    )
}

fn tile(heading: &str, figure: &str, what: &str, below: &str) -> String {
    format!(
        "<li><h2>{heading}</h2><p class=\"figure\">{figure}</p><p class=\"faint\">{what}</p>\
         <div class=\"below\">{below}</div></li>\n"
    )
}

/// Returns the tile of all caches together; the hit ratio is weighted by their look-ups.
fn cache_tile(status: &Status) -> String {
    let asked = status.caches.iter().filter_map(|cache| Some((cache.hit_ratio?, sane(cache.rate))));
    let (hits, rates) = asked
        .fold((0.0, 0.0), |(hits, rates), (ratio, rate)| (hits + sane(ratio) * rate, rates + rate));
    let coalesced = format!("{} queries coalesced", count(status.traffic.coalesced));
    match status.caches.len() {
        0 => tile("Cache hits", "none", "no cache is configured", &coalesced),
        _ if rates > 0.0 => {
            let looked_up = format!("of {}", rate(rates));
            tile("Cache hits", &percent(hits / rates), &looked_up, &coalesced)
        }
        _ => tile("Cache hits", crate::figures::NOTHING, "no lookup in the last 10 s", &coalesced),
    }
}

fn lost(records: u64) -> String {
    if records == 0 {
        return String::new();
    }
    format!(
        "<p class=\"notice\"><span aria-hidden=\"true\">▲</span> {} log lines or dnstap messages \
         were lost: the reader of the log or the dnstap receiver is too slow.</p>",
        count(records)
    )
}

/// Returns the total count and rate.
fn sum(counts: &[Count]) -> (u64, f64) {
    counts.iter().fold((0, 0.0), |(count, rate), each| {
        (count.saturating_add(each.count), rate + sane(each.rate))
    })
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", self::count(count)) }
}
