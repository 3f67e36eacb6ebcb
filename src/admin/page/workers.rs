//! The workers, the caches and the hosts files on the status page.
//!
//! All workers are shown beside each other in one strip, where an uneven distribution is visible at
//! once, and one a row below it. More than a screenful of rows is folded.

use super::html::{Cell, more, name, row, table};
use super::upstreams::empty;
use super::{CACHES_SHOWN, HOSTS_SHOWN, WORKERS_SHOWN, chart};
use crate::figures::{NOTHING, bytes, count, percent, rate, sane, seconds};
use crate::status::{Cache, HostsFile, Status, Worker};

/// Minimum number of workers for the strip: fewer are compared as easily in their rows.
const STRIP_MIN: usize = 8;
/// Rows that are open without a click.
const UNFOLDED: usize = 16;

/// Returns the section about workers, with each one's load.
pub(super) fn workers(status: &Status) -> String {
    let all = &status.workers;
    if all.is_empty() {
        let sentence = "No worker has reported yet.";
        return format!("<section><h2>Workers</h2>{}</section>\n", empty(sentence));
    }
    let shown = &all[..all.len().min(WORKERS_SHOWN)];
    let rows: String = shown.iter().map(worker_row).collect();
    let headings = [
        "Worker",
        "Load",
        "Last hour",
        "#Queries",
        "#Queries per syscall",
        "Outstanding",
        "#Kernel drops",
        "#Migrations",
        "#Panics",
    ];
    let caption = "Load is the share of time that a worker is busy. Kernel drops are packets that \
                   arrived while the receive buffer was full. A pinned worker never migrates.";
    let table = table("workers", caption, &headings, &rows);
    let rest = more(all.len() - shown.len());
    let loads: Vec<f64> = shown.iter().map(|worker| worker.load).collect();
    let busiest = shown.iter().max_by(|a, b| sane(a.load).total_cmp(&sane(b.load)));
    let summary = busiest.map_or(String::new(), |busiest| {
        let load = percent(busiest.load);
        format!("Load of {} workers; the busiest is {} with {load}", shown.len(), busiest.number)
    });
    let strip = if shown.len() >= STRIP_MIN {
        let strip = chart::strip(&loads, &summary);
        format!("<figure>{strip}<figcaption class=\"faint\">{summary}</figcaption></figure>")
    } else {
        String::new()
    };
    let table = if shown.len() > UNFOLDED {
        format!("<details><summary>Each of the {} workers</summary>{table}</details>", shown.len())
    } else {
        table
    };
    format!("<section><h2>Workers</h2>{strip}{table}{rest}</section>\n")
}

fn worker_row(worker: &Worker) -> String {
    let core = match worker.core {
        Some(core) => format!("core {core}"),
        None => "not pinned".to_owned(),
    };
    let load = percent(worker.load);
    let meter = chart::meter(worker.load, fullness(worker.load));
    let history: Vec<Option<f64>> = worker.history.iter().copied().map(Some).collect();
    let spark = match history.len() {
        0 => format!("<span class=\"faint\">{NOTHING}</span>"),
        _ => chart::spark(&history, 1.0, None, "Load over the last hour, 0 to 100 %"),
    };
    let outstanding = format!("{} of {}", count(worker.exchanges), count(worker.exchanges_limit));
    let full = match worker.exchanges_limit {
        0 => 0.0,
        limit => worker.exchanges as f64 / limit as f64,
    };
    let outstanding = format!(
        "<span class=\"measured\">{}<span class=\"num\">{outstanding}</span></span>",
        chart::meter(full, fullness(full))
    );
    row(&[
        Cell::heading("Worker", format!("{} <small class=\"faint\">{core}</small>", worker.number)),
        Cell::new(
            "Load",
            format!("<span class=\"measured\">{meter}<span class=\"num\">{load}</span></span>"),
        ),
        Cell::new("Last hour", format!("<span class=\"sparked\">{spark}</span>")),
        Cell::number("Queries", rate(worker.rate)),
        Cell::number("Queries per syscall", format!("{:.1}", sane(worker.batch).min(9999.0))),
        Cell::new("Outstanding", outstanding),
        Cell::trouble("Kernel drops", worker.kernel_drops),
        Cell::trouble("Migrations", worker.migrations),
        Cell::trouble("Panics", worker.panics),
    ])
}

/// Returns the class of a meter whose value should not be full.
fn fullness(part: f64) -> &'static str {
    if part >= 0.9 { "full" } else { "" }
}

/// Returns the section about caches, by server block.
pub(super) fn caches(status: &Status) -> String {
    let shown = &status.caches[..status.caches.len().min(CACHES_SHOWN)];
    let body = if shown.is_empty() {
        empty(
            "No cache is configured: all queries are forwarded. Add <code>cache</code> to a server \
             block to configure one.",
        )
    } else {
        let rows: String = shown.iter().map(cache_row).collect();
        let headings = ["Zones", "Hit ratio", "#Lookups", "#Entries", "#Memory", "#Evicted"];
        let caption = "Sum of all workers; the hit ratio is that of the last 10 s. Evicted entries \
                       were unexpired and removed because the cache was full.";
        let hidden = status.caches_more + (status.caches.len() - shown.len());
        format!("{}{}", table("caches", caption, &headings, &rows), more(hidden))
    };
    format!("<section><h2>Caches</h2>{body}</section>\n")
}

fn cache_row(cache: &Cache) -> String {
    let hits = match cache.hit_ratio {
        Some(ratio) => {
            let shown = percent(ratio);
            let meter = chart::meter(ratio, "");
            format!("<span class=\"measured\">{meter}<span class=\"num\">{shown}</span></span>")
        }
        None => format!("<span class=\"faint\">{NOTHING}</span>"),
    };
    let look_ups = format!(
        "{}<br/><small class=\"faint\">{} total</small>",
        rate(cache.rate),
        count(cache.requests)
    );
    row(&[
        Cell::heading("Zones", name(&cache.zones)),
        Cell::new("Hit ratio", hits),
        Cell::number("Lookups", look_ups),
        Cell::number("Entries", count(cache.entries)),
        Cell::number("Memory", bytes(cache.bytes)),
        Cell::number("Evicted", count(cache.evicted)),
    ])
}

/// Returns the section about hosts files, if there are any.
pub(super) fn hosts(status: &Status) -> String {
    let shown = &status.hosts[..status.hosts.len().min(HOSTS_SHOWN)];
    if shown.is_empty() {
        return String::new();
    }
    let rows: String = shown.iter().map(|file| hosts_row(file, status.now_ms)).collect();
    let headings = ["File", "#Entries", "#Memory", "#Changed", "#Skipped", "#Loads"];
    let caption = "All workers share one table. Skipped counts invalid lines and names.";
    let table = table("caches hosts", caption, &headings, &rows);
    let hidden = more(status.hosts.len() - shown.len());
    format!("<section><h2>Hosts files</h2>{table}{hidden}</section>\n")
}

fn hosts_row(file: &HostsFile, now_ms: u64) -> String {
    let age = now_ms.saturating_sub(file.modified_ms) as f64 / 1e3;
    let changed = match file.modified_ms {
        0 => format!("<span class=\"faint\">{NOTHING}</span>"),
        _ => format!("{} ago", seconds(age)),
    };
    let [done, failed] = file.loads;
    let loads = match failed {
        0 => count(done),
        failed => {
            format!("{}<br/><small class=\"bad\">{} failed</small>", count(done), count(failed))
        }
    };
    row(&[
        Cell::heading("File", name(&file.file)),
        Cell::number("Entries", count(file.entries)),
        Cell::number("Memory", bytes(file.bytes)),
        Cell::number("Changed", changed),
        Cell::number("Skipped", count(file.skipped)),
        Cell::number("Loads", loads),
    ])
}
