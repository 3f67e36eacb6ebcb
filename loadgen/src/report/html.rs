//! A run as an HTML page.
//!
//! One self-contained file: style sheet and plots are in it, there is no script, and it follows the
//! reader's choice of light or dark. Curves differ in dashes as well as in colour, and the numbers
//! are also in tables beside the plots. Pure.

use super::plot::{Axis, Curve, Plot, escaped};
use super::{Outcome, behind, faults, rcode_name};
use hdrhistogram::Histogram;
use onward::traffic::report::{grouped, short};
use onward::traffic::tally::Stretch;
use std::fmt::Write;
use std::time::Duration;

/// The style sheet.
const STYLE: &str = include_str!("page.css");
/// Classes of curves, in the order of their use.
const CLASSES: [&str; 3] = ["one", "two", "three"];
/// The percentiles that the table and the last plot name.
const PERCENTILES: [(f64, &str); 7] = [
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
    (0.999999, "99.9999 %"),
];

/// Returns the page.
pub fn outcome(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let width = tally.series.width.as_secs_f64();
    let used = tally.series.stretches.iter().rposition(|stretch| stretch.sent > 0);
    let stretches = &tally.series.stretches[..used.map_or(0, |last| last + 1)];
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>loadgen</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>loadgen report</h1>\n"
    );
    put_verdict(&mut page, outcome);
    put_tiles(&mut page, outcome);
    put_rates(&mut page, stretches, width);
    put_latencies(&mut page, outcome, stretches, width);
    put_percentiles(&mut page, outcome);
    put_losses(&mut page, stretches, width);
    put_tables(&mut page, outcome);
    page.push_str("</body>\n</html>\n");
    page
}

fn put_verdict(page: &mut String, outcome: &Outcome) {
    let faults = faults(outcome);
    if faults.is_empty() {
        page.push_str("<p class=\"verdict\">The run met its goals.</p>\n");
    } else {
        let sentences: Vec<String> = faults.iter().map(|fault| escaped(fault)).collect();
        let _ = writeln!(page, "<p class=\"verdict bad\">{}</p>", sentences.join(" "));
    }
    let late = outcome.tally.counts.behind > 0 && outcome.open;
    let told = faults.iter().any(|fault| fault.contains("schedule"));
    if late && !told {
        let _ = writeln!(page, "<p class=\"soft\">{}</p>", escaped(&behind(outcome)));
    }
    let kind = if outcome.open {
        "Open loop: queries are sent on a schedule, and latency counts from the scheduled time."
    } else {
        "Closed loop: a query is sent when an answer has arrived. A server that stalls gets fewer \
         queries, so its latency is understated."
    };
    let _ = writeln!(page, "<p class=\"soft\">{kind}</p>");
}

fn put_tiles(page: &mut String, outcome: &Outcome) {
    let tally = &outcome.tally;
    let counts = &tally.counts;
    let at = |quantile| quantile_text(&tally.latency, quantile);
    let rate = |rate: f64| format!("{}/s", grouped(rate.round() as u64));
    let tiles = [
        (grouped(counts.sent), "queries"),
        (rate(tally.rate_sent()), "sent"),
        (rate(tally.rate_answered()), "answered"),
        (grouped(counts.failed()), "failed"),
        (at(0.5), "median latency"),
        (at(0.99), "p99 latency"),
        (at(1.0), "maximum latency"),
    ];
    page.push_str("<ul class=\"tiles\">\n");
    for (value, name) in tiles {
        let _ = writeln!(page, "<li><b>{value}</b><span>{name}</span></li>");
    }
    page.push_str("</ul>\n");
}

fn quantile_text(latency: &Histogram<u64>, quantile: f64) -> String {
    if latency.is_empty() {
        return "–".into();
    }
    short(if quantile < 1.0 { latency.value_at_quantile(quantile) } else { latency.max() })
}

/// Adds a headline, a plot and its legend.
fn put_plot(page: &mut String, note: &str, plot: &Plot, keys: &[&str]) {
    let _ = writeln!(page, "<h2>{}</h2>\n<p class=\"soft\">{note}</p>", escaped(&plot.title));
    if !keys.is_empty() {
        page.push_str("<ul class=\"keys\">\n");
        for (key, class) in keys.iter().zip(CLASSES) {
            let _ = writeln!(
                page,
                "<li><svg viewBox=\"0 0 36 10\" aria-hidden=\"true\"><path class=\"curve {class}\" \
                 d=\"M2 5H34\"/></svg>{key}</li>"
            );
        }
        page.push_str("</ul>\n");
    }
    let (svg, label) = (plot.svg(), plot.x_label);
    let _ = write!(page, "<figure>\n{svg}<figcaption>{label}</figcaption>\n</figure>\n");
}

/// Returns the time axis, up to the end of the intervals.
fn time_axis(stretches: &[Stretch], width: f64) -> Axis {
    Axis::time(stretches.len() as f64 * width, |value| {
        let text = format!("{value:.2}");
        format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
    })
}

/// Returns the value of `tell` for each interval, with its time.
fn hints(
    stretches: &[Stretch],
    width: f64,
    tell: impl Fn(&Stretch) -> String,
) -> Vec<(f64, f64, String)> {
    let numbered = stretches.iter().enumerate();
    let hint = |(number, stretch): (usize, &Stretch)| {
        let start = number as f64 * width;
        (start, start + width, format!("{start:.2} s: {}", tell(stretch)))
    };
    numbered.map(hint).collect()
}

/// Returns a curve through the middles of the intervals.
fn curve(
    class: &'static str,
    stretches: &[Stretch],
    width: f64,
    value: impl Fn(&Stretch) -> Option<f64>,
) -> Curve {
    let middle = |number: usize| (number as f64 + 0.5) * width;
    let numbered = stretches.iter().enumerate();
    Curve { class, points: numbered.map(|(i, stretch)| (middle(i), value(stretch))).collect() }
}

fn put_rates(page: &mut String, stretches: &[Stretch], width: f64) {
    let highest = stretches.iter().map(|stretch| stretch.sent).max().unwrap_or(0);
    let rate = |count: u64| count as f64 / width;
    let told = |value: f64| format!("{}/s", grouped(value.round() as u64));
    let plot = Plot {
        title: "Rate over time".into(),
        x: time_axis(stretches, width),
        y: Axis::linear(rate(highest), short_rate),
        x_label: "scheduled time of queries",
        curves: vec![
            curve(CLASSES[0], stretches, width, |stretch| Some(rate(stretch.sent))),
            curve(CLASSES[1], stretches, width, |stretch| Some(rate(stretch.answered))),
        ],
        bars: Vec::new(),
        hints: hints(stretches, width, |stretch| {
            format!("{} sent, {} answered", told(rate(stretch.sent)), told(rate(stretch.answered)))
        }),
    };
    let note = "Queries sent, and answers to them, by the time of the query.";
    put_plot(page, note, &plot, &["sent", "answered"]);
}

fn put_latencies(page: &mut String, outcome: &Outcome, stretches: &[Stretch], width: f64) {
    let latency = &outcome.tally.latency;
    let micros = |nanos: u64| (nanos as f64 / 1e3).max(1.0);
    let told = |value: f64| span(value * 1e3);
    let at = |stretch: &Stretch, quantile: f64| {
        (!stretch.latency.is_empty()).then(|| stretch.latency.value_at_quantile(quantile) as f64)
    };
    let plot = Plot {
        title: "Latency over time".into(),
        x: time_axis(stretches, width),
        y: Axis::logarithmic(micros(latency.min()), micros(latency.max()), told),
        x_label: "scheduled time of queries",
        curves: [(CLASSES[2], 1.0), (CLASSES[1], 0.99), (CLASSES[0], 0.5)]
            .map(|(class, quantile)| curve(class, stretches, width, |s| at(s, quantile)))
            .into(),
        bars: Vec::new(),
        hints: hints(stretches, width, |stretch| match at(stretch, 1.0) {
            None => "no answer".into(),
            Some(max) => {
                let [median, high] = [0.5, 0.99].map(|q| told(at(stretch, q).unwrap_or(max)));
                format!("median {median}, p99 {high}, maximum {}", told(max))
            }
        }),
    };
    let note = "Latency of the queries of each interval, by scheduled time.";
    put_plot(page, note, &plot, &["median", "p99", "maximum"]);
}

fn put_percentiles(page: &mut String, outcome: &Outcome) {
    let latency = &outcome.tally.latency;
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    // The curve ends at the percentile of a single answer.
    let last = (latency.len().max(10) as f64).log10();
    let shown = PERCENTILES.iter().filter(|(quantile, _)| nines(*quantile) <= last);
    let ticks = shown.map(|(quantile, name)| (nines(*quantile), (*name).to_owned()));
    let ticks = ticks.collect();
    let steps = (0..=200).map(|step| f64::from(step) / 200.0 * last);
    let value = |x: f64| {
        let quantile = 1.0 - 10f64.powf(-x);
        (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64)
    };
    let (low, high) = (latency.min().max(1_000), latency.max().max(1_000));
    let plot = Plot {
        title: "Latency by percentile".into(),
        x: Axis::of_ticks(last, ticks),
        y: Axis::logarithmic(low as f64, high as f64, span),
        x_label: "share of answers (logarithmic)",
        curves: vec![Curve { class: CLASSES[0], points: steps.map(|x| (x, value(x))).collect() }],
        bars: Vec::new(),
        hints: Vec::new(),
    };
    put_plot(page, "Share of answers that arrived within a time.", &plot, &[]);
    page.push_str("<div class=\"scroll\"><table><thead><tr><th></th>");
    let counted = latency.len() as f64;
    let shown: Vec<_> =
        PERCENTILES.iter().filter(|(quantile, _)| (1.0 - quantile) * counted >= 1.0).collect();
    for (_, name) in &shown {
        let _ = write!(page, "<th>{name}</th>");
    }
    page.push_str("<th>maximum</th></tr></thead><tbody>");
    let mut rows = vec![("latency", latency)];
    if outcome.open {
        rows.push(("send lag", &outcome.tally.lag));
    }
    for (name, histogram) in rows {
        let _ = write!(page, "<tr><td>{name}</td>");
        let quantiles = shown.iter().map(|(quantile, _)| *quantile).chain([1.0]);
        for quantile in quantiles {
            let _ = write!(page, "<td>{}</td>", quantile_text(histogram, quantile));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>\n");
}

/// Formats a rate for a tick.
fn short_rate(rate: f64) -> String {
    let (value, unit) = match rate {
        r if r < 1e3 => (r, ""),
        r if r < 1e6 => (r / 1e3, "k"),
        r => (r / 1e6, "M"),
    };
    let text = format!("{value:.1}");
    format!("{}{unit}/s", text.strip_suffix(".0").unwrap_or(&text))
}

/// Formats nanoseconds for a tick.
fn span(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 999_500.0 => (n / 1e3, "µs"),
        n if n < 999_500_000.0 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let text = if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

fn put_losses(page: &mut String, stretches: &[Stretch], width: f64) {
    let most = stretches.iter().map(|stretch| stretch.failed).max().unwrap_or(0);
    if most == 0 {
        page.push_str("<h2>Losses over time</h2>\n<p class=\"soft\">None.</p>\n");
        return;
    }
    let bars = stretches.iter().enumerate().map(|(number, stretch)| {
        let start = number as f64 * width;
        (start, start + width, stretch.failed as f64)
    });
    let plot = Plot {
        title: "Losses over time".into(),
        x: time_axis(stretches, width),
        y: Axis::linear((most as f64).max(4.0), |value| grouped(value.round() as u64)),
        x_label: "scheduled time of queries",
        curves: Vec::new(),
        bars: bars.collect(),
        hints: hints(stretches, width, |stretch| {
            format!(
                "{} of {} without a good answer",
                grouped(stretch.failed),
                grouped(stretch.sent)
            )
        }),
    };
    let length = span(Duration::from_secs_f64(width).as_nanos() as f64);
    let note = format!("Queries without a good answer, in each {length}.");
    put_plot(page, &note, &plot, &[]);
}

fn put_tables(page: &mut String, outcome: &Outcome) {
    let counts = &outcome.tally.counts;
    let rows = [
        ("queries sent", counts.sent),
        ("answered", counts.answered),
        ("timed out", counts.timed_out),
        ("lost with their connection", counts.lost),
        ("wrong answers", counts.wrong),
        ("unanswered at the end", counts.unfinished),
        ("scheduled, not sent", counts.unsent),
        ("mismatched messages (ID of a query, other question)", counts.mismatched),
        ("duplicate answers", counts.duplicate),
        ("late answers", counts.late),
        ("stray messages (match no query)", counts.stray),
        ("truncated answers", counts.truncated),
        ("ICMP errors and failed connections", counts.refused),
        ("connections opened", counts.connects),
        ("connections reopened", counts.reconnects),
    ];
    page.push_str("<h2>Counts</h2>\n<table><tbody>\n");
    for (name, count) in rows {
        let _ = writeln!(page, "<tr><td>{name}</td><td>{}</td></tr>", grouped(count));
    }
    let codes = counts.rcodes.iter().zip(0u8..).filter(|(count, _)| **count > 0);
    for (&count, code) in codes {
        let (name, count) = (escaped(&rcode_name(code)), grouped(count));
        let _ = writeln!(page, "<tr><td>answers with {name}</td><td>{count}</td></tr>");
    }
    page.push_str("</tbody></table>\n<h2>Settings</h2>\n<table><tbody>\n");
    for (name, value) in &outcome.settings {
        let value = escaped(value);
        let _ = writeln!(page, "<tr><td>{name}</td><td class=\"text\">{value}</td></tr>");
    }
    page.push_str("</tbody></table>\n");
}

#[cfg(test)]
mod tests {
    use super::{outcome, short_rate, span};
    use crate::report::tests::{agrees, sample};

    #[test]
    fn the_page_is_as_agreed() {
        agrees("outcome.html", &outcome(&sample()));
    }

    #[test]
    fn it_needs_no_script_and_nothing_from_elsewhere() {
        let page = outcome(&sample());
        for word in ["<script", "http:", "https:", "url(", "@import", "src=", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn an_empty_run_has_a_page_too() {
        let mut told = sample();
        told.tally = onward::traffic::tally::Tally::new(
            std::time::Duration::from_secs(1),
            Default::default(),
        );
        told.settings.push(("server", "<b>".into()));
        let page = outcome(&told);
        assert!(page.contains("No query was sent.") && page.contains("&lt;b&gt;"), "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn ticks_name_their_units() {
        let rates = [0.0, 2.5, 500.0, 2_500.0, 1e5, 2e6].map(short_rate);
        assert_eq!(rates, ["0/s", "2.5/s", "500/s", "2.5k/s", "100k/s", "2M/s"]);
        let spans = [1e3, 300e3, 1e6, 2.5e6, 30e6, 1e9, 100e9].map(span);
        assert_eq!(spans, ["1 µs", "300 µs", "1 ms", "2.5 ms", "30 ms", "1 s", "100 s"]);
    }
}
