//! The upstreams on the status page: their shares over the last hour, and one row for each.
//!
//! A row has health, rate, latency and, for each transport, its connections by age, with a mark at
//! `max_age`: no connection should be beyond it. Each upstream has a number, which identifies its
//! layer in the chart without a colour.

use super::UPSTREAMS_SHOWN;
use super::chart::{self, COLOURS};
use super::html::{Cell, more, name, row, table, text};
use crate::figures::{count, milliseconds, percent, rate, sane, seconds};
use crate::status::{Health, Pool, Status, Upstream};

/// Maximum number of shown transports of an upstream, which is all of them.
const POOLS_SHOWN: usize = 4;

fn shown(status: &Status) -> &[Upstream] {
    &status.upstreams[..status.upstreams.len().min(UPSTREAMS_SHOWN)]
}

/// Returns the chart of the upstreams' shares.
pub(super) fn shares(status: &Status) -> String {
    let upstreams = shown(status);
    let all: Vec<&[Option<f64>]> = upstreams.iter().map(|upstream| &upstream.share[..]).collect();
    let body = if all.iter().any(|shares| shares.iter().any(Option::is_some)) {
        let parts: Vec<String> = upstreams
            .iter()
            .map(|upstream| format!("{} {}", text(&upstream.address), latest(upstream)))
            .collect();
        let label = format!(
            "Share of all answers by upstream over the last hour. Last minute: {}",
            parts.join(", ")
        );
        let numbers: String = chart::layers_at_the_end(&all)
            .into_iter()
            .map(|(number, at)| {
                format!("<span style=\"top:{:.1}%\">{}</span>", at * 100.0, number + 1)
            })
            .collect();
        format!(
            "<div class=\"chart\"><div class=\"scale\" aria-hidden=\"true\"><span>100 %</span>\
             <span>50 %</span><span>0 %</span></div>{}<div class=\"ends\" \
             aria-hidden=\"true\">{numbers}</div></div>\
             <div class=\"hours\" aria-hidden=\"true\"><span>an hour ago</span>\
             <span>half an hour</span><span>now</span></div>{}",
            chart::shares(&all, &label),
            legend(upstreams)
        )
    } else {
        empty("No answer yet. This chart shows the share of each upstream per minute.")
    };
    format!("<section><h2>Share of answers</h2>{body}</section>\n")
}

fn legend(upstreams: &[Upstream]) -> String {
    let entry = |(number, upstream): (usize, &Upstream)| {
        format!(
            "<li>{}{}<span class=\"num\">{}</span></li>",
            badge(number),
            name(&upstream.address),
            latest(upstream)
        )
    };
    let entries: String = upstreams.iter().enumerate().map(entry).collect();
    format!("<ul class=\"legend\">{entries}</ul>")
}

fn badge(number: usize) -> String {
    format!("<span class=\"badge b{}\">{}</span>", number % COLOURS, number + 1)
}

/// Returns the upstream's share in the last minute that had any answer.
fn latest(upstream: &Upstream) -> String {
    upstream.share.iter().rev().find_map(|share| *share).map_or("–".to_owned(), percent)
}

/// Returns the table of upstreams, one row each.
pub(super) fn upstreams(status: &Status) -> String {
    let upstreams = shown(status);
    let hidden = status.upstreams_more + (status.upstreams.len() - upstreams.len());
    if upstreams.is_empty() {
        let sentence = "No upstream is configured. Add <code>forward</code> to the Corefile to \
                        forward queries.";
        return format!("<section><h2>Upstreams</h2>{}</section>\n", empty(sentence));
    }
    let shares = upstreams.iter().flat_map(|upstream| upstream.share.iter().flatten());
    let top = shares.copied().map(sane).fold(0.0, f64::max);
    let fair = 1.0 / (upstreams.len() + hidden) as f64;
    let rows: String = upstreams
        .iter()
        .enumerate()
        .map(|(number, upstream)| upstream_row(number, upstream, top.max(fair), fair))
        .collect();
    let headings = [
        "Upstream",
        "Health",
        "#Answers",
        "Share, last hour",
        "#p50",
        "#p90",
        "#p99",
        "#Timed out",
        "#Failed",
        "Connections by age",
    ];
    let caption = "Latency is the time from a query to the upstream until its response. The dashed \
                   line in a share marks an even share; in ages it marks <code>max_age</code>, \
                   which no connection should exceed.";
    format!(
        "<section><h2>Upstreams</h2>{}{}</section>\n",
        table("upstreams", caption, &headings, &rows),
        more(hidden)
    )
}

fn upstream_row(number: usize, upstream: &Upstream, top: f64, fair: f64) -> String {
    let latency = &upstream.latency;
    let label =
        format!("Share over the last hour, now {}, even share {}", latest(upstream), percent(fair));
    let share = format!(
        "<span class=\"sparked c{}\">{}<span class=\"num\">{}</span></span>",
        number % COLOURS,
        chart::spark(&upstream.share, top, Some(fair), &label),
        latest(upstream)
    );
    let pools: String = upstream.pools.iter().take(POOLS_SHOWN).map(pool).collect();
    let pools =
        if pools.is_empty() { "<span class=\"faint\">none yet</span>".into() } else { pools };
    let answers = format!(
        "{}<br/><small class=\"faint\">{} total</small>",
        rate(upstream.rate),
        count(upstream.answered)
    );
    row(&[
        Cell::heading("Upstream", format!("{}{}", badge(number), name(&upstream.address))),
        Cell::new("Health", health(upstream.health)),
        Cell::number("Answers", answers),
        Cell::new("Share, last hour", share),
        Cell::number("p50", milliseconds(latency.p50_ms)),
        Cell::number("p90", milliseconds(latency.p90_ms)),
        Cell::number("p99", milliseconds(latency.p99_ms)),
        Cell::trouble("Timed out", upstream.timed_out),
        Cell::trouble("Failed", upstream.failed),
        Cell::new("Connections by age", format!("<div class=\"pools\">{pools}</div>")),
    ])
}

fn health(health: Health) -> String {
    let (class, sign, word) = match health {
        Health::Up => ("up", "●", "up"),
        Health::Probing => ("probing", "▲", "probing"),
        Health::Down => ("down", "✕", "down"),
    };
    format!("<span class=\"health {class}\"><span aria-hidden=\"true\">{sign}</span> {word}</span>")
}

/// Returns the connections over one transport: the drawing, and the numbers below it.
fn pool(pool: &Pool) -> String {
    let transport = text(&pool.transport);
    let limited = pool.max_age_s.is_some();
    let limit = match pool.max_age_s {
        Some(limit) => format!("max_age {}", seconds(limit)),
        None => "no max_age".to_owned(),
    };
    let label = format!("Open {transport} connections by age, {limit}: {}", in_words(pool));
    let oldest = match pool.max_age_s {
        Some(limit) if pool.oldest_s > limit => {
            format!("<span class=\"bad\">oldest {}</span>", seconds(pool.oldest_s))
        }
        _ if pool.oldest_s > 0.0 => format!("oldest {}", seconds(pool.oldest_s)),
        _ => "none open".to_owned(),
    };
    format!(
        "<div class=\"pool\"><p class=\"transport\">{transport}</p>{}<p class=\"facts\">\
         <span>{} idle</span><span>{} in use</span><span>{} retiring</span></p>\
         <p class=\"facts faint\"><span>{oldest}</span><span>{limit}</span><span>at most {}</span>\
         <span>{} opened</span><span>{} aged out</span></p></div>",
        chart::ages(&pool.ages, limited, &label),
        count(pool.idle),
        count(pool.in_use),
        count(pool.retiring),
        count(pool.limit),
        count(pool.opened),
        count(pool.aged)
    )
}

/// Returns the text of the picture of ages.
fn in_words(pool: &Pool) -> String {
    let steps = pool.ages.iter().take(12).enumerate().filter(|(_, count)| **count > 0);
    let parts: Vec<String> = steps
        .map(|(step, number)| {
            let from = seconds(step as f64 * sane(pool.age_step_s));
            format!("{} from {from}", count(*number))
        })
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// Returns the text for an empty section; `sentence` is markup.
pub(super) fn empty(sentence: &str) -> String {
    format!("<p class=\"empty\">{sentence}</p>\n")
}
