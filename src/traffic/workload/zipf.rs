//! Ranks whose frequency falls with a power of the rank.
//!
//! Rank k of `count` is drawn with a probability proportional to k^−s, by rejection from the
//! integral of that function (W. Hörmann and G. Derflinger, "Rejection-inversion to generate
//! variates from monotone discrete distributions", 1996): no table, whatever the count, and less
//! than two draws a rank. Pure.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// A distribution over the ranks from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral from 1 to 3/2, less the weight of the first rank.
    low: f64,
    /// The integral from 1 to `count` + 1/2.
    high: f64,
    /// Distance to its rank below which a draw is accepted without a comparison.
    near: f64,
}

impl Zipf {
    /// Creates a distribution over `count` ranks, at least one, with an exponent of at least zero.
    pub fn new(count: u64, exponent: f64) -> Self {
        let mut zipf =
            Self { count: count.max(1) as f64, exponent, low: 0.0, high: 0.0, near: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// Returns the number of ranks.
    pub fn count(&self) -> u64 {
        self.count as u64
    }

    /// Draws a rank below [`Zipf::count`].
    pub(crate) fn draw(&self, random: &mut ChaCha8Rng) -> u64 {
        loop {
            let unit = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let level = self.high + unit * (self.low - self.high);
            let x = self.inverse(level);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.near || level >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// Returns the integral of the weight from 1 to `x`; exact also for an exponent of one.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        log * expm1_ratio((1.0 - self.exponent) * log)
    }

    /// Returns the argument at which the integral is `level`.
    fn inverse(&self, level: f64) -> f64 {
        // Rounding may leave the domain of the logarithm.
        let scaled = (level * (1.0 - self.exponent)).max(-1.0);
        (level * ln1p_ratio(scaled)).exp()
    }
}

/// (eˣ − 1) / x.
fn expm1_ratio(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x.
fn ln1p_ratio(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::Zipf;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    const DRAWS: usize = 200_000;

    #[test]
    fn frequencies_are_those_of_the_law() {
        for (count, exponent) in [(1, 1.0), (10, 0.0), (50, 0.7), (50, 1.0), (1_000, 1.3)] {
            let zipf = Zipf::new(count, exponent);
            let mut random = ChaCha8Rng::seed_from_u64(9);
            let mut seen = vec![0usize; count as usize];
            for _ in 0..DRAWS {
                seen[zipf.draw(&mut random) as usize] += 1;
            }
            let weights: Vec<f64> = (1..=count).map(|k| (k as f64).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            let expected = weights.iter().map(|weight| weight / sum * DRAWS as f64);
            // Pearson's statistic: its mean is the degrees of freedom, its variance twice that.
            let statistic: f64 = seen
                .iter()
                .zip(expected)
                .map(|(&seen, expected)| (seen as f64 - expected).powi(2) / expected)
                .sum();
            let freedom = (count - 1) as f64;
            let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
            assert!(statistic <= limit, "{count} {exponent}: {statistic} above {limit}");
        }
    }

    #[test]
    fn ranks_of_large_populations_stay_inside() {
        let zipf = Zipf::new(10_000_000_000, 0.9);
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let highest = (0..DRAWS).map(|_| zipf.draw(&mut random)).max().unwrap();
        assert!(highest < zipf.count() && highest > 1_000_000_000, "{highest}");
    }
}
