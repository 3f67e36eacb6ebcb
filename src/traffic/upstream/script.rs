//! Behaviour of the upstream: by default, and for particular names.
//!
//! A [`Script`] is a list of rules; the first one that matches a name applies. The [`Conduct`] of a
//! rule has the probabilities of faults that replace the answer, the delay, and the number of
//! forged responses sent before the answer. Pure: randomness is an argument.

use crate::moment::Moment;
use crate::traffic::answer::Behaviour;
use crate::traffic::zone::Zones;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::time::Duration;

/// Delay of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Delay {
    /// No delay.
    #[default]
    None,
    /// A constant delay.
    Fixed(Duration),
    /// Uniformly distributed between the two.
    Uniform(Duration, Duration),
    /// Exponentially distributed, with this mean.
    Exponential(Duration),
}

impl Delay {
    /// Draws a delay.
    pub(crate) fn draw(self, random: &mut ChaCha8Rng) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(delay) => delay,
            Self::Uniform(from, to) => from + to.saturating_sub(from).mul_f64(unit(random)),
            Self::Exponential(mean) => mean.mul_f64(-unit(random).ln()),
        }
    }
}

/// Returns a random number within (0, 1]; zero is excluded because its logarithm is infinite.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// Action for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The right answer.
    Answer,
    /// No response.
    Silence,
    /// Only the header with TC and the question.
    Truncate,
    /// The answer with another ID.
    WrongId,
    /// The answer with another question.
    WrongQuestion,
    /// Random octets.
    Garbage,
    /// A response with this code and without records.
    Refuse(u8),
    /// A wrong address.
    Lie,
}

/// Behaviour for queries of some names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conduct {
    /// Delay of responses.
    pub delay: Delay,
    /// Faults and their probabilities, drawn one after the other; the first that occurs applies.
    pub faults: Vec<(Act, f64)>,
    /// Number of forged responses before each answer.
    pub spoofs: u16,
}

impl Conduct {
    /// Returns true if every query is answered at once and without randomness.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the action for the next query.
    pub(crate) fn decide(&self, random: &mut ChaCha8Rng) -> Act {
        let drawn = |&&(_, probability): &&(Act, f64)| unit(random) <= probability;
        self.faults.iter().find(drawn).map_or(Act::Answer, |(act, _)| *act)
    }
}

/// Names that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Only this name, in wire form and lower case.
    Exactly(Vec<u8>),
    /// All names below this one.
    Below(Vec<u8>),
}

impl Pattern {
    /// Returns true if it matches `name`, in wire form.
    pub(crate) fn fits(&self, name: &[u8]) -> bool {
        match self {
            Self::Exactly(own) => name.eq_ignore_ascii_case(own),
            Self::Below(zone) => {
                let mut at = 0;
                while let Some(&label @ 1..) = name.get(at) {
                    at += 1 + usize::from(label);
                    if name.get(at..).is_some_and(|rest| rest.eq_ignore_ascii_case(zone)) {
                        return true;
                    }
                }
                false
            }
        }
    }
}

/// The whole behaviour of an upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// Rules for particular names; the first match decides.
    pub rules: Vec<(Pattern, Conduct)>,
    /// Conduct for all other names.
    pub default: Conduct,
    /// Time from the first query to a stall, and length of the stall; responses due during the
    /// stall are sent at its end.
    pub stall: Option<(Duration, Duration)>,
    /// Names with records of their own; the answers to all others are derived from the name.
    pub zones: Option<Zones>,
}

impl From<Behaviour> for Script {
    fn from(behaviour: Behaviour) -> Self {
        let fault = match behaviour {
            Behaviour::Answer => return Self::default(),
            Behaviour::Silent => Act::Silence,
            Behaviour::Refuse(rcode) => Act::Refuse(rcode),
            Behaviour::Lie => Act::Lie,
        };
        let default = Conduct { faults: vec![(fault, 1.0)], ..Conduct::default() };
        Self { default, ..Self::default() }
    }
}

impl Script {
    /// Returns the conduct for queries for `name`.
    pub(crate) fn conduct(&self, name: &[u8]) -> &Conduct {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.fits(name));
        rule.map_or(&self.default, |(_, conduct)| conduct)
    }

    /// Returns true if all queries are treated alike and answered at once.
    pub(crate) fn is_plain(&self) -> bool {
        let untimed = self.stall.is_none() && self.zones.is_none();
        self.rules.is_empty() && self.default.is_plain() && untimed
    }

    /// Returns the time at which a response that is ready `at` may be sent; `first` is the time of
    /// the first query.
    pub(crate) fn release(&self, at: Moment, first: Moment) -> Moment {
        let Some((after, length)) = self.stall else { return at };
        let begin = first.plus(after);
        let end = begin.plus(length);
        if at >= begin && at < end { end } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Conduct, Delay, Pattern, Script};
    use crate::moment::Moment;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn delays_have_their_mean_and_their_limits() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (delay, least, most) in [
            (Delay::None, 0, 0),
            (Delay::Fixed(5 * MS), 5, 5),
            (Delay::Uniform(2 * MS, 8 * MS), 2, 8),
            (Delay::Exponential(5 * MS), 0, 200),
        ] {
            let draws: Vec<_> = (0..20_000).map(|_| delay.draw(&mut random)).collect();
            assert!(draws.iter().all(|draw| (least * MS..=most * MS).contains(draw)));
            let mean = draws.iter().sum::<Duration>() / 20_000;
            let expected = if delay == Delay::None { Duration::ZERO } else { 5 * MS };
            assert!(mean.abs_diff(expected) < MS / 5, "{delay:?}: {mean:?}");
        }
    }

    #[test]
    fn faults_have_their_probabilities() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let faults = vec![(Act::Silence, 0.1), (Act::Refuse(2), 0.5)];
        let conduct = Conduct { faults, ..Conduct::default() };
        let mut seen = [0; 3];
        for _ in 0..10_000 {
            seen[match conduct.decide(&mut random) {
                Act::Silence => 0,
                Act::Refuse(2) => 1,
                _ => 2,
            }] += 1;
        }
        for (seen, expected) in seen.into_iter().zip([1_000i32, 4_500, 4_500]) {
            assert!((expected - 300..expected + 300).contains(&seen), "{seen}");
        }
    }

    #[test]
    fn a_pattern_fits_whole_labels_in_any_case() {
        let below = Pattern::Below(b"\x04test\0".to_vec());
        assert!(below.fits(b"\x01a\x04TEST\0") && below.fits(b"\x01a\x01b\x04test\0"));
        assert!(!below.fits(b"\x04test\0") && !below.fits(b"\x05xtest\0") && !below.fits(b"\0"));
        let exactly = Pattern::Exactly(b"\x01a\0".to_vec());
        assert!(exactly.fits(b"\x01A\0") && !exactly.fits(b"\x01b\x01a\0"));
        assert!(Pattern::Below(b"\0".to_vec()).fits(b"\x01a\0"));
    }

    #[test]
    fn responses_ready_during_a_stall_are_sent_at_its_end() {
        let script = Script { stall: Some((3 * MS, MS)), ..Script::default() };
        let at = |micros: u64| Moment::from_nanos(micros * 1_000);
        let first = at(10_000);
        for (ready, leaves) in
            [(12_999, 12_999), (13_000, 14_000), (13_999, 14_000), (14_000, 14_000)]
        {
            assert_eq!(script.release(at(ready), first), at(leaves));
        }
    }
}
