//! Replies, drops, and most frequent names and clients, on the status page.
//!
//! Short tables beside each other. The bars in them compare the lines of one table; the numbers
//! beside them say the same.

use super::html::{Cell, more, name, row, table};
use super::upstreams::empty;
use super::{LINES_SHOWN, chart};
use crate::figures::{count, rate, sane};
use crate::status::{Count, Status};

/// Returns the tables of replies by response code and drops by reason.
pub(super) fn replies(status: &Status) -> String {
    let traffic = &status.traffic;
    let rcodes = counts("Reply", "replies", &traffic.rcodes, "No reply yet.");
    let drops = counts("Reason", "drops", &traffic.drops, "None.");
    format!(
        "<div class=\"beside\"><section><h2>Replies</h2>{rcodes}</section>\n\
         <section><h2>Dropped without a reply</h2>{drops}</section></div>\n"
    )
}

/// Returns the tables of most frequent names and clients.
pub(super) fn seen_most(status: &Status) -> String {
    let top = &status.top;
    let names = counts("Name", "top", &top.names, "No query yet.");
    let clients = counts("Client", "top", &top.clients, "No client yet.");
    let failing = counts("Name", "top", &top.failing, "None.");
    format!(
        "<div class=\"beside\"><section><h2>Queried names</h2>{names}</section>\n\
         <section><h2>Clients</h2>{clients}</section>\n\
         <section><h2>Failing names</h2>{failing}</section></div>\n"
    )
}

fn counts(heading: &'static str, class: &str, counts: &[Count], none: &str) -> String {
    if counts.is_empty() {
        return empty(none);
    }
    let shown = &counts[..counts.len().min(LINES_SHOWN)];
    let most = shown.iter().map(|count| count.count).max().unwrap_or(0).max(1) as f64;
    let rows: String = shown
        .iter()
        .map(|line| {
            let bar = chart::meter(line.count as f64 / most, "");
            row(&[
                Cell::heading(heading, format!("{}{bar}", name(&line.what))),
                Cell::number("Per second", rate(sane(line.rate))),
                Cell::number("Count", count(line.count)),
            ])
        })
        .collect();
    let number = if class == "top" { "#Last 2 min (approx.)" } else { "#Total" };
    format!(
        "{}{}",
        table(&format!("counts {class}"), "", &[heading, "#Per second", number], &rows),
        more(counts.len() - shown.len())
    )
}
