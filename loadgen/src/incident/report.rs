//! Reports of an incident: tables, an HTML page, an SVG picture and JSON. Pure.
//!
//! The page is self-contained; the picture has the page's first plot of each course, one below the
//! other, and its own style sheet so that it can be used in a README. Events are vertical lines in
//! every plot.

use super::judge::{Judged, Regained};
use super::measure::Second;
use super::plan::seconds as shown;
use super::{Incident, Played};
use crate::report::plot::{Axis, Curve, Plot, escaped};
use onward::traffic::report::{aligned, grouped, header, line};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::Duration;

/// The common style sheet, and additional rules.
const STYLE: &str = concat!(include_str!("../report/page.css"), include_str!("incident.css"));
/// Classes of the curves of backends, reused if there are more backends.
const CLASSES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
/// The size of a plot in the picture, and of the heading above each.
const PLOT: (usize, usize) = (760, 288);
const ABOVE: usize = 30;
/// Height of the legend.
const LEGEND: usize = 36;

/// Returns tables and findings.
pub fn text(incident: &Incident) -> String {
    let mut text = String::from("Replay of an incident\n");
    for (name, value) in &incident.settings {
        let _ = writeln!(text, "  {name}: {value}");
    }
    let mut rows = vec![header([
        "course",
        "recovered share after",
        "added share after",
        "lost before, after",
        "over 100 ms before, after",
        "max. flows/s",
        "p99 in replacement",
        "p99 otherwise",
    ])];
    for played in &incident.played {
        let judged = &played.judged;
        let p99 = |of: fn(&super::judge::Slowest) -> f64| {
            judged.slowest.map_or("–".into(), |slowest| micros(of(&slowest)))
        };
        let cells = [
            after(judged.recovered),
            after(judged.added),
            both(judged.lost),
            both(judged.slow),
            grouped(judged.flows_most.round() as u64),
            p99(|slowest| slowest.replacing),
            p99(|slowest| slowest.resting),
        ];
        rows.push(line(played.variant.name(incident.plan.max_age), cells));
    }
    let _ = write!(text, "\n{}", aligned(&rows));
    for played in &incident.played {
        let _ = writeln!(text, "\n  {}", played.variant.name(incident.plan.max_age));
        for finding in &played.judged.findings {
            let verdict = verdict(finding.holds);
            let _ = writeln!(text, "    {verdict}: {}: {}", finding.claim, finding.seen);
        }
    }
    text
}

fn verdict(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "holds",
        Some(false) => "DOES NOT HOLD",
        None => "not judged",
    }
}

fn after(regained: Regained) -> String {
    regained.after.map_or("never".into(), |after| format!("{:.1} s", after.as_secs_f64()))
}

/// Formats the values before the recovery, and since.
fn both((before, since): (u64, u64)) -> String {
    format!("{}, {}", grouped(before), grouped(since))
}

fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}

/// Returns the page.
pub fn html(incident: &Incident) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>loadgen incident</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Replay of an incident</h1>\n\
         <p class=\"soft\">The upstream of the forwarder is a virtual address; connection \
         tracking maps each source port to a backend. {}</p>\n",
        escaped(&story(incident))
    );
    let faults = incident.faults();
    if faults.is_empty() {
        page.push_str("<p class=\"verdict\">All claims hold.</p>\n");
    }
    for fault in &faults {
        let _ = writeln!(page, "<p class=\"verdict bad\">{}</p>", escaped(fault));
    }
    for played in &incident.played {
        let name = escaped(&played.variant.name(incident.plan.max_age));
        let _ = write!(page, "<h2>{name}</h2>\n<table><tbody>\n");
        for finding in &played.judged.findings {
            let cells = [&finding.claim, &finding.seen].map(|text| escaped(text));
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td></tr>",
                verdict(finding.holds),
                cells[0],
                cells[1]
            );
        }
        page.push_str("</tbody></table>\n");
        put(&mut page, &queries(incident, played), &keys(incident));
        put(&mut page, &flows(incident, played), "");
        put(&mut page, &latency(incident, played), "");
        let corefile = escaped(&played.corefile);
        let _ =
            writeln!(page, "<details><summary>Corefile</summary><pre>{corefile}</pre></details>");
    }
    page.push_str("<h2>Settings</h2>\n<table><tbody>\n");
    for (name, value) in &incident.settings {
        let value = escaped(value);
        let _ = writeln!(page, "<tr><td>{name}</td><td class=\"text\">{value}</td></tr>");
    }
    page.push_str("</tbody></table>\n</body>\n</html>\n");
    page
}

/// Returns the events in a sentence or two.
fn story(incident: &Incident) -> String {
    let plan = &incident.plan;
    format!(
        "Backend 1 fails at {} and recovers at {}; backend {} is added at {}.",
        shown(plan.at),
        shown(plan.recovery()),
        plan.backends + 1,
        shown(plan.added)
    )
}

fn put(page: &mut String, plot: &Plot, keys: &str) {
    let (title, svg) = (escaped(&plot.title), plot.svg());
    let _ = write!(page, "<h3>{title}</h3>\n{keys}<figure>\n{svg}</figure>\n");
}

fn class(backend: usize) -> &'static str {
    CLASSES[backend % CLASSES.len()]
}

fn keys(incident: &Incident) -> String {
    let key = |backend: usize| {
        format!(
            "<li><svg viewBox=\"0 0 36 10\" aria-hidden=\"true\"><path class=\"curve {}\" \
             d=\"M2 5H34\"/></svg>backend {}</li>\n",
            class(backend),
            backend + 1
        )
    };
    let keys: String = (0..=incident.plan.backends).map(key).collect();
    format!("<ul class=\"keys\">\n{keys}</ul>\n")
}

/// Returns the plot of queries per backend, by second.
fn queries(incident: &Incident, played: &Played) -> Plot {
    let most = peak(&played.seconds, |second| second.queries.iter().copied().fold(0.0, f64::max));
    let per_second = |value: f64| format!("{}/s", grouped(value.round() as u64));
    let curves = (0..=incident.plan.backends).map(|backend| {
        curve(class(backend), &played.seconds, |second| Some(second.queries[backend]))
    });
    let hint = |second: &Second| {
        let counts = second.queries.iter().map(|count| grouped(count.round() as u64));
        format!("{} queries", counts.collect::<Vec<_>>().join(", "))
    };
    plot(
        incident,
        played,
        "Queries per backend",
        Axis::linear(most, per_second),
        most,
        curves,
        hint,
    )
}

/// Returns the plot of new flows, by second.
fn flows(incident: &Incident, played: &Played) -> Plot {
    let most = peak(&played.seconds, |second| second.flows).max(1.0);
    let axis = Axis::linear(most, |value| format!("{}/s", grouped(value.round() as u64)));
    let hint = |second: &Second| format!("{:.0} new connections", second.flows);
    let one = [curve("one", &played.seconds, |second| Some(second.flows))];
    plot(incident, played, "New connections", axis, most, one, hint)
}

/// Returns the plot of latency by second.
fn latency(incident: &Incident, played: &Played) -> Plot {
    let micros = |value: Option<f64>| value.map(|seconds| (seconds * 1e6).max(1.0));
    let most = peak(&played.seconds, |second| micros(second.p99).unwrap_or(1.0));
    let values = played.seconds.iter().filter_map(|second| micros(second.p50));
    let least = values.fold(most, f64::min);
    let axis = Axis::logarithmic(least, most, span);
    let curves = [
        curve("two", &played.seconds, |second| micros(second.p99)),
        curve("one", &played.seconds, |second| micros(second.p50)),
    ];
    let hint = |second: &Second| {
        let told = |value: Option<f64>| micros(value).map_or("–".into(), span);
        let (p50, p99) = (told(second.p50), told(second.p99));
        let (lost, slow) = (second.lost, second.slow);
        format!("median {p50}, p99 {p99}, {lost} lost, {slow} over 100 ms")
    };
    let title = "Latency: median and p99";
    plot(incident, played, title, axis, most, curves, hint)
}

fn plot(
    incident: &Incident,
    played: &Played,
    title: &str,
    y: Axis,
    most: f64,
    curves: impl IntoIterator<Item = Curve>,
    hint: impl Fn(&Second) -> String,
) -> Plot {
    let plan = &incident.plan;
    let length = played.seconds.len() as f64;
    let events = [plan.at, plan.recovery(), plan.added].map(|event| event.as_secs_f64());
    // Twice the highest value is above the plot, and is cut off.
    let upright = |at: f64| [(at, Some(0.0)), (at, Some(2.0 * most)), (at, None)];
    let mut all =
        vec![Curve { class: "event", points: events.into_iter().flat_map(upright).collect() }];
    all.extend(curves);
    let numbered = played.seconds.iter().enumerate();
    let hints = numbered.map(|(number, second)| {
        let start = number as f64;
        (start, start + 1.0, format!("{number} s: {}", hint(second)))
    });
    Plot {
        title: title.to_owned(),
        x: Axis::time(length, |value| format!("{value:.0} s")),
        y,
        x_label: "since the first query",
        curves: all,
        bars: Vec::new(),
        hints: hints.collect(),
    }
}

fn curve(class: &'static str, seconds: &[Second], value: impl Fn(&Second) -> Option<f64>) -> Curve {
    let numbered = seconds.iter().enumerate();
    let points = numbered.map(|(number, second)| (number as f64 + 0.5, value(second)));
    Curve { class, points: points.collect() }
}

fn peak(seconds: &[Second], value: impl Fn(&Second) -> f64) -> f64 {
    seconds.iter().map(value).fold(1.0, f64::max)
}

/// Formats microseconds for a tick.
fn span(micros: f64) -> String {
    match micros {
        m if m < 999.5 => format!("{m:.0} µs"),
        m if m < 999_500.0 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.0} s", m / 1e6),
    }
}

/// Returns the picture: queries by backend, a plot for each course.
pub fn svg(incident: &Incident) -> String {
    let (width, height) = PLOT;
    let block = ABOVE + height;
    let whole = LEGEND + incident.played.len() * block;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {whole}\" role=\"img\">\n\
         <title>{}</title>\n<style>\n{}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{whole}\"/>\n",
        escaped(&format!("Queries per second by backend. {}", story(incident))),
        include_str!("picture.css")
    );
    for backend in 0..=incident.plan.backends {
        let x = 92 + backend * 150;
        let _ = writeln!(
            picture,
            "<path class=\"curve {}\" d=\"M{x} 20h28\"/><text x=\"{}\" y=\"25\">backend {}</text>",
            class(backend),
            x + 36,
            backend + 1
        );
    }
    for (number, played) in incident.played.iter().enumerate() {
        let top = LEGEND + number * block;
        let name = escaped(&played.variant.name(incident.plan.max_age));
        let mut plot = queries(incident, played);
        plot.hints.clear();
        let place = format!("<svg y=\"{}\" width=\"{width}\" height=\"{height}\" ", top + ABOVE);
        let drawn = plot.svg().replacen("<svg ", &place, 1);
        let _ = write!(
            picture,
            "<text class=\"head\" x=\"92\" y=\"{}\">{name}</text>\n{drawn}",
            top + ABOVE - 8
        );
    }
    picture.push_str("</svg>\n");
    picture
}

/// Returns the JSON object.
pub fn json(incident: &Incident) -> String {
    let plan = &incident.plan;
    let settings: Map<String, Value> =
        incident.settings.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
    let variants = incident.played.iter().map(|played| course(played, plan.max_age));
    let value = json!({
        "settings": settings,
        "backends": plan.backends,
        "rate": plan.rate,
        "flows": plan.flows,
        "max_age": plan.max_age.as_secs_f64(),
        "failed_at": plan.at.as_secs_f64(),
        "recovered_at": plan.recovery().as_secs_f64(),
        "added_at": plan.added.as_secs_f64(),
        "length": plan.length.as_secs_f64(),
        "faults": incident.faults(),
        "courses": variants.collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn course(played: &Played, max_age: Duration) -> Value {
    let Judged { tolerance, recovered, added, lost, slow, flows_most, slowest, findings } =
        &played.judged;
    let regained = |regained: &Regained| {
        json!({
            "share_after": regained.after.map(|after| after.as_secs_f64()),
            "part_of_share_from_then": rounded(regained.part),
            "part_of_share_at_most": rounded(regained.most),
        })
    };
    let findings = findings.iter().map(
        |finding| json!({ "claim": finding.claim, "seen": finding.seen, "holds": finding.holds }),
    );
    let seconds = played.seconds.iter().map(|second| {
        json!({
            "queries": second.queries.iter().copied().map(rounded).collect::<Vec<_>>(),
            "new_connections": rounded(second.flows),
            "sent": second.sent,
            "lost": second.lost,
            "over_100ms": second.slow,
            "p50": second.p50,
            "p99": second.p99,
        })
    });
    json!({
        "course": played.variant.name(max_age),
        "corefile": played.corefile,
        "tolerance": rounded(*tolerance),
        "failed_backend": regained(recovered),
        "added_backend": regained(added),
        "lost_before_recovery": lost.0,
        "lost_since": lost.1,
        "over_100ms_before_recovery": slow.0,
        "over_100ms_since": slow.1,
        "new_connections_in_a_second_at_most": rounded(*flows_most),
        "p99_replacing": slowest.map(|slowest| slowest.replacing),
        "p99_else": slowest.map(|slowest| slowest.resting),
        "p99_else_upper_quartile": slowest.map(|slowest| slowest.resting_high),
        "findings": findings.collect::<Vec<_>>(),
        "seconds": seconds.collect::<Vec<_>>(),
    })
}

/// Rounds to thousandths: further digits only come from interpolation.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::{html, json, svg, text};
    use crate::incident::measure::Second;
    use crate::incident::plan::tests::plan;
    use crate::incident::plan::{Plan, Variant};
    use crate::incident::{Incident, Played, judge};

    /// A forwarder that no age limit would have helped: the first backend never comes back.
    fn incident() -> Incident {
        let plan: Plan = plan();
        let second = |number: u64| Second {
            queries: vec![if number < 10 { 300.0 } else { 0.0 }, 350.0, 350.0, 0.0],
            flows: number as f64,
            sent: 1_000,
            lost: u64::from(number == 12),
            slow: 0,
            p50: Some(0.000_2),
            p99: (number != 20).then_some(0.000_4),
        };
        let played = [Variant::Unlimited, Variant::Limited].map(|variant| {
            let seconds: Vec<Second> = (0..65).map(second).collect();
            let judged = judge::judge(&plan, variant, &seconds);
            let corefile = variant.corefile(&plan, true);
            Played { variant, corefile, seconds, judged }
        });
        let settings = vec![("command", "loadgen incident --forwarder 'a<b'".into())];
        Incident { plan, settings, played: played.into() }
    }

    #[test]
    fn each_report_names_claims_that_do_not_hold() {
        let incident = incident();
        assert_eq!(incident.faults().len(), 2, "{:?}", incident.faults());
        let (text, page) = (text(&incident), html(&incident));
        assert!(text.contains("DOES NOT HOLD: the failed backend is within 11.5 %"), "{text}");
        assert!(text.contains("    holds: the failed backend stays below a fifth"), "{text}");
        assert_eq!(page.matches("verdict bad").count(), 2);
        let told: serde_json::Value = serde_json::from_str(&json(&incident)).unwrap();
        assert_eq!(told["faults"].as_array().unwrap().len(), 2);
        assert_eq!(told["courses"][0]["lost_before_recovery"], 1);
        assert_eq!(told["courses"][1]["seconds"].as_array().unwrap().len(), 65);
        assert!(told["courses"][1]["failed_backend"]["share_after"].is_null());
    }

    #[test]
    fn the_page_needs_no_script_and_nothing_from_elsewhere() {
        let page = html(&incident());
        for word in ["<script", "http:", "https:", "url(", "@import", "src=", "<link", "NaN"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("a&lt;b"), "{page}");
    }

    #[test]
    fn the_picture_has_a_plot_for_each_course_and_stands_alone() {
        let picture = svg(&incident());
        assert_eq!(picture.matches("<svg ").count(), 3);
        assert!(picture.contains("max_age 20s</text>") && !picture.contains("NaN"), "{picture}");
        assert_eq!(picture.matches("xmlns").count(), 1);
    }
}
