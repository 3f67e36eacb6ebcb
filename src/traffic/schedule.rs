//! Send times of queries: fixed beforehand, independent of the server.
//!
//! A [`Schedule`] is the inverse of a cumulative rate: the time at which a given number of queries
//! is due. Constant rates, ramps and steps differ in that function only ([`Shape`]); even and
//! Poisson arrivals ([`Arrivals`]) differ in the distances on its axis of counts. A Poisson
//! schedule of a known length has exactly the number of queries of its rate, at uniformly drawn
//! times: the process given its count, so that the mean is exact and not random. Nothing is summed
//! up, so nothing drifts. Pure; times are offsets from the start.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::Duration;

/// The rate over time, in queries per second.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A constant rate.
    Constant(f64),
    /// From one rate to another, linearly, over the whole run.
    Ramp {
        /// At the start.
        from: f64,
        /// At the end.
        to: f64,
    },
    /// One rate after another, each for its time.
    Steps(Vec<(f64, Duration)>),
}

/// Distribution of send times around the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Even,
    /// Independent of each other, like those of many clients.
    Poisson,
}

/// Description of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The rate over time.
    pub shape: Shape,
    /// Distribution of the send times.
    pub arrivals: Arrivals,
    /// Duration; `None`: until the input ends.
    pub duration: Option<Duration>,
}

impl Plan {
    /// Creates a plan with a constant rate and even arrivals.
    pub fn constant(rate: f64, duration: Duration) -> Self {
        let (shape, arrivals) = (Shape::Constant(rate), Arrivals::Even);
        Self { shape, arrivals, duration: Some(duration) }
    }

    /// Returns the end, if there is one: steps end with the last one.
    pub fn end(&self) -> Option<Duration> {
        let steps = match &self.shape {
            Shape::Steps(steps) => Some(steps.iter().map(|(_, length)| *length).sum()),
            _ => None,
        };
        match (steps, self.duration) {
            (Some(steps), Some(duration)) => Some(Duration::min(steps, duration)),
            (steps, duration) => steps.or(duration),
        }
    }

    /// Returns the total number of queries, if the plan ends.
    pub fn total(&self) -> Option<u64> {
        // Rounding may make the count fall short by less than a millionth of a query.
        self.end().map(|end| (self.count_until(end.as_secs_f64()) + 1e-6) as u64)
    }

    /// Returns the highest rate.
    pub(crate) fn rate_max(&self) -> f64 {
        match &self.shape {
            Shape::Constant(rate) => *rate,
            Shape::Ramp { from, to } => from.max(*to),
            Shape::Steps(steps) => steps.iter().map(|(rate, _)| *rate).fold(0.0, f64::max),
        }
    }

    /// Returns true if its rate never changes.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self.shape, Shape::Constant(_))
    }

    /// Returns a sentence about its error, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let good = |rate: f64| rate.is_finite() && rate > 0.0 && rate <= RATE_MAX;
        let rates_are_good = match &self.shape {
            Shape::Constant(rate) => good(*rate),
            Shape::Ramp { from, to } => {
                if self.duration.is_none() {
                    return Some("a ramp needs a duration");
                }
                good(*from) && good(*to)
            }
            Shape::Steps(steps) => !steps.is_empty() && steps.iter().all(|(rate, _)| good(*rate)),
        };
        (!rates_are_good).then_some(
            "a rate must be above 0 and at most 100,000,000 queries per \
                                     second",
        )
    }

    /// Returns the slope of a ramp, in queries per second squared.
    fn slope(&self, from: f64, to: f64) -> f64 {
        let seconds = self.duration.map_or(f64::INFINITY, |duration| duration.as_secs_f64());
        if seconds > 0.0 { (to - from) / seconds } else { 0.0 }
    }

    /// Returns the number of queries due by `seconds`, as a real number.
    fn count_until(&self, seconds: f64) -> f64 {
        match &self.shape {
            Shape::Constant(rate) => rate * seconds,
            Shape::Ramp { from, to } => {
                from * seconds + self.slope(*from, *to) * seconds * seconds / 2.0
            }
            Shape::Steps(steps) => {
                let (mut count, mut rest) = (0.0, seconds);
                for (rate, length) in steps {
                    let inside = rest.min(length.as_secs_f64());
                    count += rate * inside;
                    rest -= inside;
                }
                count
            }
        }
    }

    /// Returns the time at which `count` queries are due, in seconds: the inverse of
    /// [`Plan::count_until`].
    fn instant_of(&self, count: f64) -> f64 {
        match &self.shape {
            Shape::Constant(rate) => count / rate,
            Shape::Ramp { from, to } => {
                // The form of the root that stays exact as the slope approaches zero.
                let inside = from * from + 2.0 * self.slope(*from, *to) * count;
                2.0 * count / (from + inside.max(0.0).sqrt())
            }
            Shape::Steps(steps) => {
                let (mut begin, mut rest) = (0.0, count);
                for (rate, length) in steps {
                    let held = rate * length.as_secs_f64();
                    if rest <= held {
                        return begin + rest / rate;
                    }
                    rest -= held;
                    begin += length.as_secs_f64();
                }
                begin
            }
        }
    }
}

/// Maximum rate; no network card sends more.
const RATE_MAX: f64 = 1e8;

/// The send times of one part of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    plan: Plan,
    random: ChaCha8Rng,
    /// Number of queries of all parts, if the plan ends.
    total: Option<u64>,
    /// Number of send times of all parts together.
    made: u64,
    /// Position of a Poisson schedule on the axis of counts.
    level: f64,
    part: u64,
    parts: u64,
}

impl Schedule {
    /// Returns every `parts`-th send time of `plan`, beginning with number `part`: all parts with
    /// one seed together are the plan.
    pub(crate) fn new(plan: Plan, seed: u64, part: usize, parts: usize) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            total: plan.total(),
            plan,
            made: 0,
            level: 0.0,
            part: part as u64,
            parts: parts as u64,
        }
    }

    /// Returns the next send time of all parts, and its number; `None` when there is none.
    fn advance(&mut self) -> Option<(u64, Duration)> {
        if self.total.is_some_and(|total| self.made >= total) {
            return None;
        }
        let number = self.made;
        self.made += 1;
        let count = match self.plan.arrivals {
            Arrivals::Even => number as f64,
            Arrivals::Poisson => {
                self.level += self.gap(number);
                self.level
            }
        };
        Some((number, Duration::from_secs_f64(self.plan.instant_of(count))))
    }

    /// Returns the distance of the next Poisson arrival from the last, on the axis of counts.
    fn gap(&mut self, number: u64) -> f64 {
        // Within (0, 1]: its logarithm is finite.
        let draw = ((self.random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        match self.total {
            // The least of the remaining times, all uniform over the rest of the axis.
            Some(total) => {
                let (rest, left) = ((total as f64 - self.level).max(0.0), total - number);
                rest * -(draw.ln() / left as f64).exp_m1()
            }
            None => -draw.ln(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let (number, instant) = self.advance()?;
            if number % self.parts == self.part {
                return Some(instant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Plan, Schedule, Shape};
    use std::time::Duration;

    fn plan(shape: Shape, arrivals: Arrivals, seconds: u64) -> Plan {
        Plan { shape, arrivals, duration: Some(Duration::from_secs(seconds)) }
    }

    fn instants(plan: &Plan) -> Vec<f64> {
        Schedule::new(plan.clone(), 7, 0, 1).map(|instant| instant.as_secs_f64()).collect()
    }

    fn within(instants: &[f64], from: f64, to: f64) -> usize {
        instants.iter().filter(|&&instant| instant >= from && instant < to).count()
    }

    #[test]
    fn even_instants_never_drift() {
        let plan = Plan::constant(30_000.0, Duration::from_secs(100));
        let mut schedule = Schedule::new(plan, 1, 0, 1);
        let last = schedule.by_ref().last().unwrap();
        assert_eq!(schedule.made, 3_000_000);
        assert_eq!(last, Duration::from_nanos(99_999_966_667));
    }

    #[test]
    fn every_shape_has_as_many_queries_as_it_promises_and_keeps_its_rate() {
        let steps = vec![(100.0, Duration::from_secs(2)), (1_000.0, Duration::from_secs(3))];
        for arrivals in [Arrivals::Even, Arrivals::Poisson] {
            let constant = instants(&plan(Shape::Constant(20_000.0), arrivals, 10));
            assert_eq!(constant.len(), 200_000);
            let ramp = instants(&plan(Shape::Ramp { from: 0.5, to: 20_000.0 }, arrivals, 10));
            assert_eq!(ramp.len(), 100_002);
            let half = within(&ramp, 0.0, 5.0) as f64;
            assert!((half - 25_000.0).abs() < 600.0, "{arrivals:?}: {half}");
            let steps = instants(&plan(Shape::Steps(steps.clone()), arrivals, 60));
            assert_eq!(steps.len(), 3_200);
            let first = within(&steps, 0.0, 2.0) as f64;
            assert!((first - 200.0).abs() < 50.0, "{arrivals:?}: {first}");
            for instants in [constant, ramp, steps] {
                assert!(instants.is_sorted() && instants[instants.len() - 1] <= 10.0);
            }
        }
    }

    #[test]
    fn a_ramp_may_fall() {
        let instants = instants(&plan(Shape::Ramp { from: 200.0, to: 100.0 }, Arrivals::Even, 10));
        assert_eq!((instants.len(), within(&instants, 0.0, 1.0)), (1_500, 195));
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        for duration in [Some(Duration::from_secs(100)), None] {
            let shape = Shape::Constant(1_000.0);
            let plan = Plan { shape, arrivals: Arrivals::Poisson, duration };
            let schedule = Schedule::new(plan, 3, 0, 1).take(100_000);
            let instants: Vec<f64> = schedule.map(|instant| instant.as_secs_f64()).collect();
            let gaps = instants.windows(2).map(|pair| (pair[1] - pair[0]) * 1e3);
            // A share e⁻¹ of the distances is longer than the mean, e⁻³ longer than three times the
            // mean.
            for (limit, share) in [(1.0, 0.3679), (3.0, 0.0498)] {
                let longer = gaps.clone().filter(|&gap| gap > limit).count() as f64 / 1e5;
                assert!((longer - share).abs() < 0.006, "{limit}: {longer}");
            }
        }
    }

    #[test]
    fn parts_together_are_the_whole() {
        let plan = plan(Shape::Constant(1_001.0), Arrivals::Poisson, 3);
        let whole: Vec<_> = Schedule::new(plan.clone(), 5, 0, 1).collect();
        let parts = (0..3).flat_map(|part| Schedule::new(plan.clone(), 5, part, 3));
        let mut parts: Vec<_> = parts.collect();
        parts.sort_unstable();
        assert_eq!(parts, whole);
    }

    #[test]
    fn a_plan_without_an_end_goes_on() {
        let shape = Shape::Constant(10.0);
        let plan = Plan { shape, arrivals: Arrivals::Even, duration: None };
        assert_eq!(
            (plan.total(), Schedule::new(plan, 1, 0, 1).nth(1_000)),
            (None, Some(Duration::from_secs(100)))
        );
    }

    #[test]
    fn a_rate_that_is_none_is_refused() {
        let second = Some(Duration::from_secs(1));
        let bad = [
            (Shape::Constant(0.0), second),
            (Shape::Constant(f64::NAN), second),
            (Shape::Ramp { from: 1.0, to: -1.0 }, second),
            (Shape::Ramp { from: 1.0, to: 2.0 }, None),
            (Shape::Steps(Vec::new()), second),
        ];
        for (shape, duration) in bad {
            let plan = Plan { shape, arrivals: Arrivals::Even, duration };
            assert!(plan.fault().is_some(), "{plan:?}");
        }
        assert_eq!(Plan::constant(1.0, Duration::from_secs(1)).fault(), None);
    }
}
