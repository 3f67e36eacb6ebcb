//! The little of statistics that reports need.
//!
//! Whether counts are as even as chance makes them ([`ChiSquare`]), and within which bounds a mean
//! lies ([`Interval`]). Approximations are named, with their error. Pure.

/// Pearson's test of counts against equal frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// The statistic.
    pub statistic: f64,
    /// Mean for equal frequencies.
    pub freedom: f64,
    /// The probability of a statistic so large or larger, if they are.
    pub p: f64,
}

impl ChiSquare {
    /// Of these counts; `None` if there are too few for the test: five for each are the rule.
    pub fn of(counts: &[u64]) -> Option<Self> {
        let total: u64 = counts.iter().sum();
        let expected = total as f64 / counts.len() as f64;
        if counts.len() < 2 || expected < 5.0 {
            return None;
        }
        let square = |&count: &u64| (count as f64 - expected).powi(2) / expected;
        let statistic = counts.iter().map(square).sum();
        let freedom = (counts.len() - 1) as f64;
        Some(Self { statistic, freedom, p: upper_tail(statistic, freedom) })
    }
}

/// Wilson and Hilferty's approximation: good to three digits from 30 degrees of freedom on.
fn upper_tail(statistic: f64, freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    let z = ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
    1.0 - normal(z)
}

/// The standard normal distribution (Abramowitz and Stegun 26.2.17; error below 10⁻⁷).
fn normal(z: f64) -> f64 {
    const B: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = B.iter().rev().fold(0.0, |sum, b| (sum + b) * t);
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * series;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

/// A mean and the bounds within which the true one lies with 95 % confidence.
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
    /// Of the mean of `values`, by Student's distribution; `None` of fewer than two.
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

    /// Of the geometric mean of `values`, all above zero: the mean of ratios.
    pub fn of_ratios(values: &[f64]) -> Option<Self> {
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        let Self { low, mean, high } = Self::of(&logs)?;
        Some(Self { low: low.exp(), mean: mean.exp(), high: high.exp() })
    }
}

/// The quantile of Student's distribution that leaves 2.5 % above it.
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
    use super::{ChiSquare, Interval, normal, student, upper_tail};

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() < tolerance
    }

    #[test]
    fn tails_are_those_of_the_tables() {
        assert!(close(normal(1.959_964), 0.975, 1e-6) && close(normal(-1.0), 0.158_655, 1e-6));
        assert!(close(upper_tail(293.248, 255.0), 0.05, 1e-3));
        assert!(close(upper_tail(310.457, 255.0), 0.01, 1e-3));
        assert!(close(student(11), 2.201, 3e-3) && close(student(1), 12.706, 1e-9));
        assert!(close(student(60), 2.000, 1e-3));
    }

    #[test]
    fn even_counts_pass_and_uneven_ones_do_not() {
        let even: Vec<u64> = (0..256).map(|i| 1_000 + [0, 31, 64, 3][i % 4] - 24).collect();
        assert!(ChiSquare::of(&even).unwrap().p > 0.5);
        let mut uneven = even.clone();
        uneven[7] = 2_000;
        assert!(ChiSquare::of(&uneven).unwrap().p < 1e-6);
        assert_eq!((ChiSquare::of(&[4; 10]), ChiSquare::of(&[9])), (None, None));
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
