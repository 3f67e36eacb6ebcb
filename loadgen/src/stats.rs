//! Statistics for reports: confidence intervals of means ([`Interval`]).
//!
//! Approximations are named, with their error. Pure.

/// A mean and its bounds at 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The mean.
    pub mean: f64,
    /// The upper bound.
    pub high: f64,
}

impl Interval {
    /// Returns the interval of the mean of `values`, by Student's distribution; `None` of fewer
    /// than two.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let half = student(values.len() - 1) * (variance / count).sqrt();
        Some(Self { low: mean - half, mean, high: mean + half })
    }

    /// Returns the interval of the geometric mean of `values`, all above zero: the mean of ratios.
    pub fn of_ratios(values: &[f64]) -> Option<Self> {
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        let Self { low, mean, high } = Self::of(&logs)?;
        Some(Self { low: low.exp(), mean: mean.exp(), high: high.exp() })
    }
}

/// Returns the quantile of Student's distribution with 2.5 % above it.
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    match TABLE.get(freedom.saturating_sub(1)) {
        Some(&quantile) => quantile,
        // Cornish and Fisher's expansion about the normal quantile: error below 0.003 here.
        None => {
            const Z: f64 = 1.959_964;
            let n = freedom as f64;
            let first = (Z.powi(3) + Z) / 4.0;
            let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
            Z + first / n + second / (n * n)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Interval, student};

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() < tolerance
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        assert!(close(student(11), 2.201, 3e-3) && close(student(1), 12.706, 1e-9));
        assert!(close(student(60), 2.000, 1e-3));
    }

    #[test]
    fn an_interval_holds_the_mean() {
        let interval = Interval::of(&[9.0, 10.0, 11.0]).unwrap();
        assert!(close(interval.mean, 10.0, 1e-9) && close(interval.high, 12.484, 1e-3));
        assert!(close(interval.low, 7.516, 1e-3));
        let ratio = Interval::of_ratios(&[0.5, 2.0]).unwrap();
        assert!(close(ratio.mean, 1.0, 1e-9) && close(ratio.low * ratio.high, 1.0, 1e-9));
        assert_eq!(Interval::of(&[1.0]), None);
    }
}
