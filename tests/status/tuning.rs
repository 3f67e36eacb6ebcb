//! The dashboard and the alert rules: they parse, and name only metrics that onward exports.
//!
//! [`METRICS`] lists all metrics that these files may use. promtool tests the rules on made-up
//! series; without it these tests print that they are skipped.

use crate::installed::is_installed;
use crate::metrics::METRICS;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Labels added by the scraping Prometheus.
const SCRAPED: [&str; 2] = ["job", "instance"];

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tuning").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    if !is_installed("promtool") {
        return;
    }
    let output =
        Command::new("promtool").args(arguments).current_dir(file("prometheus")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_accepts_the_rules() {
    promtool(&["check", "rules", "alerts.yml"]);
}

#[test]
fn the_rules_fire_where_they_should_and_nowhere_else() {
    promtool(&["test", "rules", "alerts.test.yml"]);
}

#[test]
fn each_rule_says_what_is_wrong_and_what_to_do() {
    let rules = read("prometheus/alerts.yml");
    let tests = read("prometheus/alerts.test.yml");
    let mut alerts = rules.split("- alert: ");
    alerts.next();
    let mut count = 0;
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for key in ["expr: ", "severity: ", "summary: ", "description: "] {
            assert_eq!(alert.matches(key).count(), 1, "{name}: {key}");
        }
        assert!(tests.contains(name), "{name} is not tried");
        count += 1;
    }
    assert_eq!(count, 14);
}

#[test]
fn the_rules_name_only_exported_metrics() {
    for path in ["prometheus/alerts.yml", "prometheus/alerts.test.yml"] {
        let text = read(path);
        // Without descriptions, and without file names.
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let expressions: String = lines.collect::<Vec<_>>().join("\n");
        assert_eq!(unknown(&expressions), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn the_dashboard_is_complete_and_names_only_exported_metrics() {
    let dashboard: Value = serde_json::from_str(&read("grafana/onward.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 41);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut expressions = 0;
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: an id twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is beyond the edge");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(unknown(expression), Vec::<String>::new(), "{title}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(expression.contains("instance=~") || expression.starts_with("vector"));
            expressions += 1;
        }
    }
    assert!(expressions > 40, "{expressions}");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for variable in variables {
        if let Some(query) = variable["definition"].as_str() {
            assert_eq!(unknown(query), Vec::<String>::new());
        }
    }
    assert_eq!(variables[0]["type"], "datasource");
}

#[test]
fn no_panel_covers_another() {
    let dashboard: Value = serde_json::from_str(&read("grafana/onward.json")).unwrap();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
            }
        }
    }
}

/// Returns the names in an expression that look like a metric but are not exported, or have an
/// unknown label.
fn unknown(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(from) = rest.find(is_word) {
        rest = &rest[from..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let ours = ["onward_", "coredns_", "process_"].iter().any(|own| word.starts_with(own));
        if !ours && !after.starts_with('{') {
            continue;
        }
        let plain = ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end));
        let labels = METRICS.iter().find(|(name, labels)| {
            *name == word || (Some(*name) == plain && labels.contains(&"le"))
        });
        let Some((_, labels)) = labels else {
            found.push(word.to_owned());
            continue;
        };
        let matchers = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        for matcher in matchers.into_iter().flat_map(|(inside, _)| inside.split(", ")) {
            let label = matcher.split(['=', '!']).next().unwrap_or_default();
            if !labels.contains(&label) && !SCRAPED.contains(&label) {
                found.push(format!("{word}{{{label}}}"));
            }
        }
    }
    found
}

#[test]
fn unknown_metrics_are_found() {
    assert!(
        unknown("sum by (to) (rate(onward_upstream_up{to=~\"a\"}[5m])) / up{job=\"b\"}").is_empty()
    );
    assert!(unknown("rate(onward_batch_size_sum[5m])").is_empty());
    assert_eq!(
        unknown("onward_upstream_up_sum + onward_none"),
        ["onward_upstream_up_sum", "onward_none"]
    );
    assert_eq!(unknown("onward_source_ports{to=\"a\", job=\"b\"}"), ["onward_source_ports{to}"]);
    assert_eq!(unknown("node_load{}"), ["node_load"]);
}
