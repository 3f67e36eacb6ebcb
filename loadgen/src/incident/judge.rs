//! Judgement of a course: its seconds compared with the claims. Pure.
//!
//! A backend has its share back when it gets its part of the queries, within a tenth. The backend
//! of a flow is drawn at random, so with few flows the shares are uneven for that reason alone:
//! three standard deviations are allowed, if that is more than a tenth. Latency is compared between
//! the seconds in which flows were replaced and all others, by the median of their 99th
//! percentiles; if the others vary more among themselves, by their upper quartile, because that
//! variation is the host's own. The report states every tolerance.

use super::measure::Second;
use super::plan::{MARGIN, Plan, Transport, Variant};
use std::time::Duration;

/// Tolerance of a share, as a part of the fair one.
const TOLERANCE: f64 = 0.1;
/// Tolerated standard deviations of random shares.
const DEVIATIONS: f64 = 3.0;
/// Part of its share below which a backend counts as starved.
const STARVED: f64 = 0.2;
/// Time in which a recovered backend should have its share with `distrust`.
const DISTRUST_LIMIT: Duration = Duration::from_secs(3);
/// Tolerated factor of the 99th percentile while flows are replaced.
const SLOWER: f64 = 1.1;
/// Share of all flows that begin in a second from which on flows count as being replaced.
const REPLACED: f64 = 0.01;
/// Minimum number of seconds of a kind, because a median of fewer is meaningless.
const SECONDS_MIN: usize = 3;

/// Result for a claim, with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The claim.
    pub claim: String,
    /// The measurement.
    pub seen: String,
    /// True if the claim holds; `None`: it is shown and not judged, with the reason in the text.
    pub holds: Option<bool>,
}

/// Shares of a backend after an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regained {
    /// Time from the event until the backend has its share, if ever.
    pub after: Option<Duration>,
    /// Part of its fair share, from the time when it was due to the next event.
    pub part: f64,
    /// The largest part of its share in any second after the event.
    pub most: f64,
}

/// The 99th percentile of latency by second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowest {
    /// Median of the seconds in which flows were replaced.
    pub replacing: f64,
    /// Median of the other seconds.
    pub resting: f64,
    /// Upper quartile of the other seconds.
    pub resting_high: f64,
}

/// The numbers of a course and the findings.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Maximum deviation of a backend from its fair share.
    pub tolerance: f64,
    /// The backend that failed, after its recovery.
    pub recovered: Regained,
    /// The backend that was added.
    pub added: Regained,
    /// Queries without a good answer before the backend's recovery, and since.
    pub lost: (u64, u64),
    /// Answers later than 100 ms, before and since.
    pub slow: (u64, u64),
    /// Maximum number of flows that began in a second after the recovery.
    pub flows_most: f64,
    /// Latency, if there are enough seconds of both kinds.
    pub slowest: Option<Slowest>,
    /// All findings.
    pub findings: Vec<Finding>,
}

/// Judges a course by its claims.
pub fn judge(plan: &Plan, variant: Variant, seconds: &[Second]) -> Judged {
    let since = next_second(plan.recovery());
    let (before, after) = seconds.split_at(since.min(seconds.len()));
    let tolerance = tolerance(plan);
    let recovery = Event { at: plan.recovery(), due: plan.recovered(), end: plan.added };
    let addition = Event { at: plan.added, due: plan.settled(), end: plan.length };
    let recovered = recovery.regained(seconds, 0, plan.backends, tolerance);
    let added = addition.regained(seconds, plan.backends, plan.backends + 1, tolerance);
    let sums = |count: fn(&Second) -> u64| {
        (before.iter().map(count).sum::<u64>(), after.iter().map(count).sum::<u64>())
    };
    let mut judged = Judged {
        tolerance,
        recovered,
        added,
        lost: sums(|second| second.lost),
        slow: sums(|second| second.slow),
        flows_most: after.iter().map(|second| second.flows).fold(0.0, f64::max),
        slowest: slowest(plan, after),
        findings: Vec::new(),
    };
    judged.findings = findings(plan, variant, &judged);
    judged
}

/// Returns the tolerance of a share, as a part of the fair one, when a random backend is drawn for
/// each flow.
fn tolerance(plan: &Plan) -> f64 {
    let others = plan.backends as f64;
    TOLERANCE.max(DEVIATIONS * (others / plan.flows as f64).sqrt())
}

/// Returns the first second that lies wholly after this time.
fn next_second(instant: Duration) -> usize {
    instant.as_secs_f64().ceil() as usize
}

/// A change after which a backend should get its share.
struct Event {
    at: Duration,
    due: Duration,
    end: Duration,
}

impl Event {
    fn regained(
        &self,
        seconds: &[Second],
        backend: usize,
        sharing: usize,
        tolerance: f64,
    ) -> Regained {
        let [at, due, end] = [self.at, self.due, self.end].map(next_second);
        let end = end.min(seconds.len());
        let part = |second: &Second| {
            second.share(backend).map(|share| share * sharing as f64).unwrap_or(0.0)
        };
        let parts: Vec<f64> = seconds[..end].iter().map(part).collect();
        let mean = |from: usize| {
            let parts = parts.get(from..).unwrap_or_default();
            parts.iter().sum::<f64>() / parts.len().max(1) as f64
        };
        let near = |part: f64| (part - 1.0).abs() <= tolerance;
        // It has its share in this second, and keeps it.
        let first = (at..end).find(|second| near(parts[*second]) && near(mean(*second)));
        let after = first.map(|second| Duration::from_secs(second as u64).saturating_sub(self.at));
        let most = parts.get(at + 1..).unwrap_or_default().iter().copied().fold(0.0, f64::max);
        Regained { after, part: mean(due), most }
    }
}

/// Compares latency when flows are replaced and when they are not.
fn slowest(plan: &Plan, seconds: &[Second]) -> Option<Slowest> {
    let least = (plan.flows as f64 * REPLACED).max(1.0) - 0.5;
    let of = |replacing: bool| {
        let kind = seconds.iter().filter(|second| (second.flows > least) == replacing);
        let mut values: Vec<f64> = kind.filter_map(|second| second.p99).collect();
        values.sort_unstable_by(f64::total_cmp);
        (values.len() >= SECONDS_MIN).then_some(values)
    };
    let (replacing, resting) = (of(true)?, of(false)?);
    let at = |values: &[f64], quarters: usize| values[(values.len() - 1) * quarters / 4];
    Some(Slowest {
        replacing: at(&replacing, 2),
        resting: at(&resting, 2),
        resting_high: at(&resting, 3),
    })
}

fn findings(plan: &Plan, variant: Variant, judged: &Judged) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lost = Finding {
        claim: "no query is lost after the recovery".into(),
        seen: format!("{} lost ({} before it)", judged.lost.1, judged.lost.0),
        holds: Some(judged.lost.1 == 0),
    };
    if variant == Variant::Distrusting {
        // A recovery that conntrack hides makes `distrust` replace all flows again and again, but
        // not the many connections of this transport: their time is shown only.
        let name = "the failed backend";
        let back = regains(name, judged.recovered, DISTRUST_LIMIT, judged.tolerance);
        let holds = back.holds.filter(|_| plan.transport == Transport::Udp);
        return vec![Finding { holds, ..back }, lost];
    }
    for (name, regained) in
        [("the failed backend", judged.recovered), ("the added backend", judged.added)]
    {
        findings.push(match variant {
            Variant::Unlimited => starved(name, regained, judged.tolerance),
            _ => regains(name, regained, plan.max_age + MARGIN, judged.tolerance),
        });
    }
    if variant != Variant::Unlimited {
        findings.push(lost);
    }
    if variant == Variant::Limited {
        findings.push(latency(judged.slowest));
    }
    findings
}

fn starved(name: &str, regained: Regained, tolerance: f64) -> Finding {
    let whole = if regained.after.is_some() { "reached" } else { "never reached" };
    Finding {
        claim: format!("{name} stays below a fifth of its share to the end"),
        seen: format!(
            "{} of its share at most in a second; it {whole} it within {}",
            percent(regained.most),
            percent(tolerance)
        ),
        holds: Some(regained.most < STARVED),
    }
}

fn regains(name: &str, regained: Regained, limit: Duration, tolerance: f64) -> Finding {
    let when = regained
        .after
        .map_or_else(|| "never".to_owned(), |after| format!("after {:.1} s", after.as_secs_f64()));
    let stays = (regained.part - 1.0).abs() <= tolerance;
    Finding {
        claim: format!(
            "{name} is within {} of its share {} s later, and stays there",
            percent(tolerance),
            limit.as_secs_f64()
        ),
        seen: format!("{when}; from then on {} of its share", percent(regained.part)),
        holds: Some(regained.after.is_some_and(|after| after <= limit) && stays),
    }
}

fn latency(slowest: Option<Slowest>) -> Finding {
    let claim = format!(
        "the p99 latency of seconds with replaced connections is at most {SLOWER} times that of \
         other seconds, or at most their upper quartile"
    );
    let Some(Slowest { replacing, resting, resting_high }) = slowest else {
        let seen = "not judged: too few seconds of one kind".into();
        return Finding { claim, seen, holds: None };
    };
    let [micros, other, high] = [replacing, resting, resting_high].map(|value| value * 1e6);
    let ratio = replacing / resting;
    Finding {
        claim,
        seen: format!("{micros:.0} µs against {other:.0} µs ({ratio:.2}), quartile {high:.0} µs"),
        holds: Some(replacing <= (resting * SLOWER).max(resting_high)),
    }
}

/// Formats a part as a percentage.
fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::{Judged, judge, tolerance};
    use crate::incident::measure::Second;
    use crate::incident::plan::tests::plan;
    use crate::incident::plan::{Plan, Transport, Variant};
    use std::time::Duration;

    /// A course in which the first backend gets its share `back` seconds after its recovery at 15,
    /// and the fourth as much later than 40; `None`: never.
    fn course(back: Option<u64>) -> Vec<Second> {
        let second = |now: u64| {
            let has = |since: u64| back.is_some_and(|back| now >= since + back);
            let mut queries = vec![0.0, 500.0, 500.0, 0.0];
            if now < 10 || has(15) {
                queries = vec![333.0, 333.0, 334.0, 0.0];
            }
            if has(40) {
                queries = vec![250.0; 4];
            }
            // Flows are replaced in every fifth second.
            let flows = if now.is_multiple_of(5) { 400.0 } else { 3.0 };
            let (lost, slow) = if (10..15).contains(&now) { (2, 9) } else { (0, 0) };
            let p99 = Some(if flows > 100.0 { 0.000_52 } else { 0.000_5 });
            Second { queries, flows, sent: 1_000, lost, slow, p50: Some(0.000_2), p99 }
        };
        (0..65).map(second).collect()
    }

    fn holds(judged: &Judged) -> Vec<Option<bool>> {
        judged.findings.iter().map(|finding| finding.holds).collect()
    }

    #[test]
    fn without_a_limit_starving_is_what_was_expected() {
        let judged = judge(&plan(), Variant::Unlimited, &course(None));
        assert_eq!(holds(&judged), [Some(true); 2], "{:?}", judged.findings);
        assert_eq!((judged.recovered.after, judged.recovered.most), (None, 0.0));
        assert_eq!((judged.lost, judged.slow), ((10, 0), (45, 0)));
        let judged = super::judge(&plan(), Variant::Unlimited, &course(Some(12)));
        assert_eq!(holds(&judged), [Some(false); 2], "a forwarder that recovers by itself");
    }

    #[test]
    fn with_a_limit_the_share_is_back_in_time_or_not() {
        let judged = judge(&plan(), Variant::Limited, &course(Some(20)));
        assert_eq!(holds(&judged), [Some(true); 4], "{:?}", judged.findings);
        assert_eq!(judged.recovered.after, Some(Duration::from_secs(20)));
        assert_eq!(judged.added.after, Some(Duration::from_secs(20)));
        for back in [None, Some(22)] {
            let judged = super::judge(&plan(), Variant::WithoutJitter, &course(back));
            assert_eq!(holds(&judged), [Some(false), Some(false), Some(true)], "{back:?}");
        }
    }

    #[test]
    fn distrust_has_three_seconds_and_many_connections_have_no_limit() {
        let streams = Plan { transport: Transport::Tcp, ..plan() };
        for back in [None, Some(2)] {
            let judged = judge(&streams, Variant::Distrusting, &course(back));
            assert_eq!(holds(&judged), [None, Some(true)], "{:?}", judged.findings);
            let judged = judge(&plan(), Variant::Distrusting, &course(back));
            assert_eq!(holds(&judged), [Some(back.is_some()), Some(true)], "{:?}", judged.findings);
            let seen = &judged.findings[0].seen;
            assert!(
                seen.starts_with(if back.is_some() { "after 2.0 s" } else { "never" }),
                "{seen}"
            );
        }
    }

    #[test]
    fn a_share_that_is_lost_again_does_not_count() {
        let mut seconds = course(Some(5));
        for second in &mut seconds[30..40] {
            second.queries = vec![100.0, 450.0, 450.0, 0.0];
        }
        let judged = judge(&plan(), Variant::Limited, &seconds);
        assert_eq!(judged.findings[0].holds, Some(false), "{:?}", judged.findings);
    }

    #[test]
    fn losses_and_slowness_after_the_recovery_do_not_hold() {
        let mut seconds = course(Some(20));
        seconds[50].lost = 1;
        for second in seconds.iter_mut().filter(|second| second.flows > 100.0) {
            second.p99 = Some(0.000_6);
        }
        let judged = judge(&plan(), Variant::Limited, &seconds);
        assert_eq!(holds(&judged)[2..], [Some(false); 2], "{:?}", judged.findings);
        for (number, second) in seconds.iter_mut().enumerate().filter(|(_, s)| s.flows < 100.0) {
            second.p99 = Some([0.000_4, 0.000_7][number % 2]);
        }
        let judged = super::judge(&plan(), Variant::Limited, &seconds);
        assert_eq!(judged.findings[3].holds, Some(true), "the host is as uneven: {judged:?}");
    }

    #[test]
    fn few_flows_are_uneven_by_chance() {
        assert!((tolerance(&Plan { flows: 100, ..plan() }) - 0.5196).abs() < 1e-3);
        assert!((tolerance(&Plan { flows: 10_000, ..plan() }) - 0.1).abs() < 1e-9);
    }
}
