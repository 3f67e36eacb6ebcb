//! Pearson's test: are counts as even as chance makes them?
//!
//! Used for the IDs and ports of a resolver. The error of the approximation is stated. Pure.

/// Pearson's test of counts against equal frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// The statistic.
    pub statistic: f64,
    /// Degrees of freedom, the mean of the statistic for equal frequencies.
    pub freedom: f64,
    /// Probability of a statistic at least as large, for equal frequencies.
    pub p: f64,
}

impl ChiSquare {
    /// Tests these counts; `None` if they are too few for the test: five for each are the rule.
    pub(crate) fn of(counts: &[u64]) -> Option<Self> {
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

#[cfg(test)]
mod tests {
    use super::{ChiSquare, normal, upper_tail};

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() < tolerance
    }

    #[test]
    fn tails_are_those_of_the_tables() {
        assert!(close(normal(1.959_964), 0.975, 1e-6) && close(normal(-1.0), 0.158_655, 1e-6));
        assert!(close(upper_tail(293.248, 255.0), 0.05, 1e-3));
        assert!(close(upper_tail(310.457, 255.0), 0.01, 1e-3));
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
}
