//! Report of an upstream: its counters, and the source ports and IDs of its clients.
//!
//! Pure. An attacker must guess port and ID of a query (RFC 5452): few ports, ports kept for long
//! and uneven IDs make that easy.

use onward::traffic::chi_square::ChiSquare;
use onward::traffic::report::{aligned, grouped, header, line};
use onward::traffic::upstream::Seen;
use onward::traffic::upstream::live::SoFar;
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Probability below which IDs are called uneven: chance alone does it once in a thousand runs.
const P_MIN: f64 = 0.001;

/// Returns the tables; with `ports`, each port too.
pub fn text(seen: &[Seen], ports: bool) -> String {
    let mut counted = vec![header([
        "upstream",
        "queries",
        "responses",
        "dropped",
        "silenced",
        "spoiled",
        "spoofed",
        "connections",
    ])];
    let mut sources = vec![header([
        "source ports",
        "distinct",
        "queries from the busiest port",
        "from the median port",
        "median life",
        "longest life",
    ])];
    let mut ids = String::new();
    for Seen { address, counts, sources: from } in seen {
        let numbers = [counts.queries, counts.responses, counts.dropped, counts.silenced];
        let numbers =
            numbers.into_iter().chain([counts.spoiled, counts.spoofed, counts.connections]);
        counted.push(line(address, numbers.map(grouped)));
        let entropy = from.entropy();
        let numbers = [entropy.ports as u64, entropy.busiest, entropy.median].map(grouped);
        let lives = [entropy.life_median, entropy.life_max].map(life);
        sources.push(line(address, numbers.into_iter().chain(lives)));
        for (octet, square) in [("first", entropy.high), ("second", entropy.low)] {
            let _ = writeln!(ids, "  ids of {address}, {octet} octet: {}", evenness(square));
        }
    }
    let mut text = format!("{}\n{}\n{ids}", aligned(&counted), aligned(&sources));
    if ports {
        for Seen { address, sources, .. } in seen {
            let mut rows = vec![header(["port", "queries", "first seen", "last seen"])];
            for (port, seen) in sources.ports() {
                let at = |moment: onward::moment::Moment| life(moment.since(Default::default()));
                rows.push(line(port, [grouped(seen.queries), at(seen.first), at(seen.last)]));
            }
            let _ = write!(text, "\n  {address}\n{}", aligned(&rows));
        }
    }
    text
}

fn life(length: Duration) -> String {
    format!("{:.3} s", length.as_secs_f64())
}

fn evenness(square: Option<ChiSquare>) -> String {
    match square {
        None => "too few queries to test".into(),
        Some(ChiSquare { statistic, freedom, p }) => {
            let verdict = match p {
                p if p < P_MIN => "uneven",
                p if p > 1.0 - P_MIN => "too even for random values (a counter?)",
                _ => "consistent with random values",
            };
            format!("{verdict} (chi-square {statistic:.1} of {freedom:.0}, p = {p:.3})")
        }
    }
}

/// Returns the report as JSON.
pub fn json(seen: &[Seen]) -> String {
    let square = |square: Option<ChiSquare>| {
        square.map(|ChiSquare { statistic, freedom, p }| {
            json!({ "statistic": statistic, "freedom": freedom, "p": p })
        })
    };
    let one = |Seen { address, counts, sources }: &Seen| {
        let entropy = sources.entropy();
        let ports = sources.ports().map(|(port, seen)| {
            json!({ "port": port, "queries": seen.queries, "life": seen.life().as_secs_f64() })
        });
        json!({
            "address": address.to_string(),
            "queries": counts.queries,
            "unanswerable": counts.unanswerable,
            "responses": counts.responses,
            "dropped": counts.dropped,
            "silenced": counts.silenced,
            "spoiled": counts.spoiled,
            "spoofed": counts.spoofed,
            "streams": counts.connections,
            "ports": ports.collect::<Vec<_>>(),
            "port_life_median": entropy.life_median.as_secs_f64(),
            "port_life_max": entropy.life_max.as_secs_f64(),
            "id_first_octet": square(entropy.high),
            "id_second_octet": square(entropy.low),
        })
    };
    format!("{:#}\n", Value::from(seen.iter().map(one).collect::<Vec<_>>()))
}

/// Returns the current counters of each address, in one line.
pub fn so_far(calendar: Duration, addresses: &[SocketAddr], seen: &[SoFar]) -> String {
    let one = |(address, seen): (&SocketAddr, &SoFar)| {
        let SoFar { queries, flows, .. } = seen;
        json!({ "address": address.to_string(), "queries": queries, "flows": flows })
    };
    let addresses: Vec<_> = addresses.iter().zip(seen).map(one).collect();
    json!({ "at": calendar.as_secs_f64(), "addresses": addresses }).to_string()
}

#[cfg(test)]
mod tests {
    use super::{json, text};
    use crate::report::tests::agrees;
    use onward::moment::Moment;
    use onward::traffic::upstream::sources::Sources;
    use onward::traffic::upstream::{Counts, Seen};

    fn sample() -> Vec<Seen> {
        let mut sources = Sources::default();
        for number in 0..5_000u64 {
            let at = Moment::from_nanos(number * 1_000_000);
            sources.note(40_000 + (number % 3) as u16, (number * 40_503) as u16, at);
        }
        let counts = Counts { queries: 5_000, responses: 4_990, silenced: 10, ..Counts::default() };
        let first = Seen { address: "127.0.0.1:5301".parse().unwrap(), counts, sources };
        let second = Seen {
            address: "[::1]:5302".parse().unwrap(),
            counts: Counts::default(),
            sources: Sources::default(),
        };
        vec![first, second]
    }

    #[test]
    fn the_tables_are_as_agreed() {
        agrees("upstream.txt", &text(&sample(), true));
        assert!(!text(&sample(), false).contains("first seen"));
    }

    #[test]
    fn the_object_is_as_agreed() {
        agrees("upstream.json", &json(&sample()));
    }
}
