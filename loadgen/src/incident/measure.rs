//! Measurements of a course, one row per second. Pure.
//!
//! The backends print cumulative counters a few times a second, with wall-clock times; the load
//! client reports the outcome of the queries of each second. A [`Second`] combines both. Second 0
//! begins with the client's first query; the backends' counters at each boundary between seconds
//! are interpolated from the two nearest reports.

use serde_json::Value;
use std::time::Duration;

/// Counters of one backend at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    queries: f64,
    flows: f64,
}

/// One report of the backends: the counters of all at a wall-clock time.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    at: f64,
    backends: Vec<Seen>,
}

impl Told {
    /// Parses a line of `loadgen upstream --tell`; `None` for any other line.
    pub fn parse(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let backends = line["addresses"].as_array()?.iter().map(|backend| {
            let number = |name: &str| backend[name].as_u64().map(|number| number as f64);
            Some(Seen { queries: number("queries")?, flows: number("flows")? })
        });
        Some(Self { at: line["at"].as_f64()?, backends: backends.collect::<Option<_>>()? })
    }
}

/// One second of a course.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Second {
    /// Queries that each backend saw.
    pub queries: Vec<f64>,
    /// New flows, at all backends.
    pub flows: f64,
    /// Number of queries scheduled in this second and sent.
    pub sent: u64,
    /// Number of queries without a good answer.
    pub lost: u64,
    /// Number of queries answered after more than 100 ms.
    pub slow: u64,
    /// Median latency in seconds.
    pub p50: Option<f64>,
    /// The 99th percentile of latency in seconds.
    pub p99: Option<f64>,
}

impl Second {
    /// Returns the sums over all backends.
    pub fn total(&self) -> f64 {
        self.queries.iter().sum()
    }

    /// Returns the fraction of the queries that `backend` saw; `None` if there were none.
    pub fn share(&self, backend: usize) -> Option<f64> {
        let total = self.total();
        (total >= 1.0).then(|| self.queries[backend] / total)
    }
}

/// Combines both reports into one row per second, from the wall-clock time `origin` on.
///
/// # Errors
/// The client's report is malformed, or the backends did not report enough.
pub fn seconds(
    told: &[Told],
    client: &Value,
    origin: Duration,
    length: Duration,
) -> Result<Vec<Second>, String> {
    let stretches = client["series"].as_array().ok_or("the client's report has no series")?;
    let origin = origin.as_secs_f64();
    let marks = (0..=length.as_secs()).map(|second| at(told, origin + second as f64));
    let marks = marks.collect::<Option<Vec<_>>>().ok_or("the backends were not heard all along")?;
    let rows = marks.windows(2).enumerate().map(|(number, pair)| {
        let (before, after) = (&pair[0], &pair[1]);
        let both = || after.iter().zip(before);
        let stretch = &stretches.get(number).unwrap_or(&Value::Null);
        let count = |name: &str| stretch[name].as_u64().unwrap_or(0);
        Second {
            queries: both().map(|(after, before)| after.queries - before.queries).collect(),
            flows: both().map(|(after, before)| after.flows - before.flows).sum(),
            sent: count("sent"),
            lost: count("failed"),
            slow: count("over_100ms"),
            p50: stretch["latency_p50"].as_f64(),
            p99: stretch["latency_p99"].as_f64(),
        }
    });
    Ok(rows.collect())
}

/// Returns the counters at `instant`, interpolated between the two nearest reports; `None` outside.
fn at(told: &[Told], instant: f64) -> Option<Vec<Seen>> {
    let next = told.iter().position(|told| told.at >= instant)?;
    let (before, after) = (told.get(next.checked_sub(1)?)?, &told[next]);
    let part = (instant - before.at) / (after.at - before.at).max(f64::EPSILON);
    let between = |a: f64, b: f64| a + (b - a) * part;
    let pairs = before.backends.iter().zip(&after.backends);
    let seen = pairs.map(|(a, b)| Seen {
        queries: between(a.queries, b.queries),
        flows: between(a.flows, b.flows),
    });
    Some(seen.collect())
}

#[cfg(test)]
mod tests {
    use super::{Second, Told, seconds};
    use serde_json::json;
    use std::time::Duration;

    fn told(at: f64, queries: [u64; 2], flows: u64) -> Told {
        let backend = |queries: u64, flows: u64| json!({ "queries": queries, "flows": flows });
        let line = json!({
            "at": at, "addresses": [backend(queries[0], flows), backend(queries[1], 0)],
        });
        Told::parse(&line.to_string()).unwrap()
    }

    #[test]
    fn backends_and_client_are_on_one_time_axis() {
        // The client began at 100.5; the backends' counters then lie between two reports.
        let told = [
            told(100.0, [0, 0], 4),
            told(101.0, [100, 0], 4),
            told(102.0, [300, 100], 10),
            told(103.0, [300, 300], 10),
        ];
        let client = json!({ "series": [
            { "sent": 150, "failed": 2, "over_100ms": 1, "latency_p50": 0.1, "latency_p99": 0.2 },
            { "sent": 150, "failed": 0, "over_100ms": 0, "latency_p50": null, "latency_p99": null },
        ] });
        let of = |seconds_: u64| {
            let origin = Duration::from_millis(100_500);
            seconds(&told, &client, origin, Duration::from_secs(seconds_))
        };
        let rows = of(2).unwrap();
        assert_eq!(rows[0].queries, [150.0, 50.0]);
        assert_eq!(rows[1].queries, [100.0, 150.0]);
        assert_eq!((rows[0].flows, rows[1].flows), (3.0, 3.0));
        assert_eq!((rows[0].sent, rows[0].lost, rows[0].slow), (150, 2, 1));
        assert_eq!((rows[0].p99, rows[1].p99), (Some(0.2), None));
        assert_eq!((rows[0].share(0), Second::default().total()), (Some(0.75), 0.0));
        assert!(of(3).unwrap_err().contains("heard"), "beyond what was told");
    }

    #[test]
    fn malformed_reports_are_errors() {
        assert!(Told::parse("listening on 127.0.0.1:53").is_none());
        assert!(Told::parse("{\"at\": 1}").is_none());
        let nothing = seconds(&[], &json!({}), Duration::ZERO, Duration::from_secs(1));
        assert!(nothing.unwrap_err().contains("series"));
    }
}
