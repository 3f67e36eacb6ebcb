//! Comparison of two servers, measured in turn.
//!
//! Rounds alternate, A B A B, so that other load on the host affects both. Each pair of rounds
//! gives a ratio, and the ratios a mean with its confidence interval ([`crate::stats`]): if the
//! interval contains 1, there is no significant difference. Pure.

use crate::stats::Interval;
use onward::traffic::tally::Tally;
use std::time::Duration;

/// Figures of a round that are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Answers per second.
    pub rate: f64,
    /// The median latency, in seconds.
    pub p50: f64,
    /// The 99th percentile of latency, in seconds.
    pub p99: f64,
    /// Share of queries without a good answer.
    pub loss: f64,
    /// Processor time of the server for each answer, in seconds, if its processes are known.
    pub cpu: Option<f64>,
}

impl Figures {
    /// Returns the figures of a round in which the server's processes used this processor time.
    pub fn of(tally: &Tally, cpu: Option<Duration>) -> Self {
        let counts = &tally.counts;
        let at = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e9;
        let answered = counts.answered.max(1) as f64;
        Self {
            rate: tally.rate_answered(),
            p50: at(0.5),
            p99: at(0.99),
            loss: counts.failed() as f64 / counts.sent.max(1) as f64,
            cpu: cpu.map(|cpu| cpu.as_secs_f64() / answered),
        }
    }
}

/// One figure of both servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Name of the figure.
    pub name: &'static str,
    /// Mean of the first server.
    pub a: f64,
    /// Mean of the second server.
    pub b: f64,
    /// The second divided by the first, if there are enough rounds and no figure is zero.
    pub ratio: Option<Interval>,
}

/// Compares all figures of pairs of rounds.
pub fn compare(rounds: &[(Figures, Figures)]) -> Vec<Comparison> {
    type Pick = fn(&Figures) -> Option<f64>;
    let figures: [(&'static str, Pick); 5] = [
        ("answers per second", |figures| Some(figures.rate)),
        ("median latency", |figures| Some(figures.p50)),
        ("p99 latency", |figures| Some(figures.p99)),
        ("loss", |figures| Some(figures.loss)),
        ("CPU time per answer", |figures| figures.cpu),
    ];
    let mut comparisons = Vec::new();
    for (name, pick) in figures {
        let pairs = rounds.iter().map(|(a, b)| Some((pick(a)?, pick(b)?)));
        let Some(pairs) = pairs.collect::<Option<Vec<_>>>() else { continue };
        let count = pairs.len().max(1) as f64;
        let sum = |side: fn(&(f64, f64)) -> f64| pairs.iter().map(side).sum::<f64>();
        let positive = pairs.iter().all(|(a, b)| *a > 0.0 && *b > 0.0);
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| b / a).collect();
        let ratio = if positive { Interval::of_ratios(&ratios) } else { None };
        let (a, b) = (sum(|pair| pair.0) / count, sum(|pair| pair.1) / count);
        comparisons.push(Comparison { name, a, b, ratio });
    }
    comparisons
}

#[cfg(test)]
mod tests {
    use super::{Figures, compare};
    use crate::report::tests::sample;
    use std::time::Duration;

    #[test]
    fn ratios_have_intervals_and_figures_that_lack_are_left_out() {
        let figures = |rate: f64, cpu| Figures { rate, p50: 0.001, p99: 0.002, loss: 0.0, cpu };
        let rounds = [
            (figures(100.0, None), figures(200.0, Some(1e-5))),
            (figures(110.0, None), figures(215.0, Some(1e-5))),
            (figures(95.0, None), figures(195.0, Some(1e-5))),
        ];
        let compared = compare(&rounds);
        let names: Vec<_> = compared.iter().map(|comparison| comparison.name).collect();
        assert_eq!(names, ["answers per second", "median latency", "p99 latency", "loss"]);
        let ratio = compared[0].ratio.unwrap();
        assert!(ratio.low < 2.0 && ratio.high > 2.0 && ratio.high - ratio.low < 0.3, "{ratio:?}");
        assert_eq!(compared[1].ratio.unwrap().mean, 1.0);
        assert_eq!(compared[3].ratio, None, "nothing was lost");
        assert_eq!(compare(&rounds[..1])[0].ratio, None, "one pair has no spread");
    }

    #[test]
    fn figures_are_those_of_the_round() {
        let tally = sample().tally;
        let figures = Figures::of(&tally, Some(Duration::from_millis(1_992)));
        assert_eq!((figures.loss, figures.cpu), (0.004, Some(0.001)));
        assert!((figures.p50 - 443e-6).abs() < 2e-6, "{figures:?}");
    }
}
