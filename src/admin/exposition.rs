//! Series with names and labels, added up, and written in Prometheus' text format.
//!
//! Numbers come from several workers, listeners and `forward` blocks. Values of the same name and
//! labels are one series: adding twice adds them up, so each caller counts on its own. The format
//! itself, with its escapes, is the `prometheus` crate's. A family without any series is left out.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};
use std::collections::BTreeMap;

/// A label and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Contents of one histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    /// Upper edges, with the number of values at or below each.
    pub(super) cumulative: Vec<(f64, u64)>,
    /// Number of all values.
    pub(super) count: u64,
    /// Sum of the values.
    pub(super) sum: f64,
}

impl Buckets {
    /// Creates a histogram of cumulative `counts` at their upper `edges`, and the total.
    pub(super) fn new(
        edges: impl IntoIterator<Item = f64>,
        cumulative: &[u64],
        count: u64,
        sum: f64,
    ) -> Self {
        Self { cumulative: edges.into_iter().zip(cumulative.iter().copied()).collect(), count, sum }
    }

    /// Creates a histogram of counts per bucket; the last counts the values beyond the last edge.
    pub(super) fn of_counts(
        edges: impl IntoIterator<Item = f64>,
        counts: &[u64],
        sum: f64,
    ) -> Self {
        let mut so_far = 0;
        let cumulative = edges.into_iter().zip(counts).map(|(edge, count)| {
            so_far += count;
            (edge, so_far)
        });
        Self { cumulative: cumulative.collect(), count: counts.iter().sum(), sum }
    }

    fn add(&mut self, other: &Self) {
        for (own, other) in self.cumulative.iter_mut().zip(&other.cumulative) {
            own.1 += other.1;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    fn written(&self) -> Histogram {
        let bucket = |(edge, count): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*edge);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(self.cumulative.iter().map(bucket).collect());
        histogram.set_sample_count(self.count);
        histogram.set_sample_sum(self.sum);
        histogram
    }
}

enum Value {
    Number(f64),
    Buckets(Buckets),
}

struct Family {
    help: &'static str,
    kind: MetricType,
    series: BTreeMap<Vec<(&'static str, String)>, Value>,
}

/// All series.
#[derive(Default)]
pub(super) struct Exposition {
    families: BTreeMap<&'static str, Family>,
}

impl Exposition {
    /// Adds to a counter.
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label<'_>],
        value: f64,
    ) {
        *self.number(name, help, MetricType::COUNTER, labels) += value;
    }

    /// Adds to a counter unless that would create the series with zero: there may be many such.
    pub(super) fn counter_if_any(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label<'_>],
        value: u64,
    ) {
        if value > 0 {
            self.counter(name, help, labels, value as f64);
        }
    }

    /// Adds to a gauge.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label<'_>],
        value: f64,
    ) {
        *self.number(name, help, MetricType::GAUGE, labels) += value;
    }

    /// Sets a gauge to the larger of its value and this.
    pub(super) fn largest(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label<'_>],
        value: f64,
    ) {
        let place = self.number(name, help, MetricType::GAUGE, labels);
        *place = place.max(value);
    }

    /// Adds to a histogram, unless nothing was counted.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label<'_>],
        buckets: Buckets,
    ) {
        if buckets.count == 0 {
            return;
        }
        match self.series(name, help, MetricType::HISTOGRAM, labels, Value::Buckets) {
            (Value::Buckets(own), false) => own.add(&buckets),
            (own, _) => *own = Value::Buckets(buckets),
        }
    }

    /// Returns all series as text.
    pub(super) fn text(self) -> Vec<u8> {
        let families = self.families.into_iter().filter(|(_, family)| !family.series.is_empty());
        let families: Vec<_> = families.map(|(name, family)| family.written(name)).collect();
        let mut text = Vec::new();
        // It fails only for families without a name or series.
        let encoded = TextEncoder::new().encode(&families, &mut text);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        text
    }

    fn number(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: &[Label<'_>],
    ) -> &mut f64 {
        match self.series(name, help, kind, labels, |_| Value::Number(0.0)) {
            (Value::Number(number), _) => number,
            (Value::Buckets(_), _) => unreachable!("{name} is a number and a histogram"),
        }
    }

    /// Returns the series, created with `new` if it is missing, and whether it was created.
    fn series(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: &[Label<'_>],
        new: impl FnOnce(Buckets) -> Value,
    ) -> (&mut Value, bool) {
        let family = self.families.entry(name);
        let family = family.or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
        debug_assert!(family.kind == kind, "{name} is of two kinds");
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut is_new = false;
        let value = family.series.entry(labels).or_insert_with(|| {
            is_new = true;
            new(Buckets::default())
        });
        (value, is_new)
    }
}

impl Family {
    fn written(self, name: &str) -> MetricFamily {
        let kind = self.kind;
        let metric = |(labels, value): (Vec<(&'static str, String)>, Value)| {
            let pair = |(name, value): (&'static str, String)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.to_owned());
                pair.set_value(value);
                pair
            };
            let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
            match value {
                Value::Buckets(buckets) => metric.set_histogram(buckets.written()),
                Value::Number(number) if kind == MetricType::COUNTER => {
                    let mut counter = Counter::default();
                    counter.set_value(number);
                    metric.set_counter(counter);
                }
                Value::Number(number) => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(number);
                    metric.set_gauge(gauge);
                }
            }
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(self.series.into_iter().map(metric).collect());
        family
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Exposition};

    #[test]
    fn equal_names_and_labels_are_one_series() {
        let mut all = Exposition::default();
        for worker in ["0", "1", "0"] {
            all.counter("b_total", "Things.", &[("worker", worker), ("odd", "a\"\\\n")], 2.0);
            all.gauge("a", "Now.", &[], 1.5);
            all.largest("c", "Most.", &[], worker.parse().unwrap());
            all.counter_if_any("never_total", "None.", &[], 0);
        }
        let text = String::from_utf8(all.text()).unwrap();
        let odd = r#"odd="a\"\\\n""#;
        let expected = format!(
            "# HELP a Now.\n# TYPE a gauge\na 4.5\n# HELP b_total Things.\n# TYPE b_total counter\n\
             b_total{{worker=\"0\",{odd}}} 4\nb_total{{worker=\"1\",{odd}}} 2\n\
             # HELP c Most.\n# TYPE c gauge\nc 1\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn histograms_add_up_bucket_by_bucket() {
        let mut all = Exposition::default();
        all.histogram("h", "H.", &[], Buckets::default());
        all.histogram("h", "H.", &[], Buckets::new([0.5, 1.0], &[1, 3], 4, 9.0));
        all.histogram("h", "H.", &[], Buckets::of_counts([0.5, 1.0], &[1, 0, 1], 7.0));
        let text = String::from_utf8(all.text()).unwrap();
        assert!(text.ends_with(
            "h_bucket{le=\"0.5\"} 2\nh_bucket{le=\"1\"} 4\nh_bucket{le=\"+Inf\"} 6\n\
             h_sum 16\nh_count 6\n"
        ));
    }
}
