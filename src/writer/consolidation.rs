//! Errors that are counted and logged as a sum instead of one by one. Pure.
//!
//! The first rule whose pattern matches an error's text counts it. The rule's period begins with
//! its first error; at the end one line reports the count. A rule may log the first error at once;
//! if no other follows, there is no sum. Time is an argument, and a rule without errors has no
//! deadline.

use crate::config::Consolidation;
use crate::moment::Moment;
use regex::Regex;
use std::fmt;

/// The rules of one server block, and their counts.
#[derive(Debug, Default)]
pub(super) struct Consolidations {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    setting: Consolidation,
    pattern: Regex,
    count: u64,
    /// Time when the sum is due, if there is one.
    until: Option<Moment>,
}

/// A sum that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary<'a> {
    count: u64,
    setting: &'a Consolidation,
}

impl Summary<'_> {
    /// Returns the level at which it is logged.
    pub(super) fn level(&self) -> &'static str {
        self.setting.level
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, setting } = self;
        let (pattern, period) = (&setting.pattern, setting.period_text());
        write!(f, "{count} errors like '{pattern}' occurred in last {period}")
    }
}

impl Consolidations {
    /// Creates the state of these rules, in the order of matching.
    pub(super) fn new(settings: &[Consolidation]) -> Self {
        let rule = |setting: &Consolidation| {
            // The configuration was refused if it did not compile.
            let pattern = Regex::new(&setting.pattern).ok()?;
            Some(Rule { setting: setting.clone(), pattern, count: 0, until: None })
        };
        Self { rules: settings.iter().filter_map(rule).collect() }
    }

    /// Takes an error; returns the level at which to log it now. `None`: it is counted.
    pub(super) fn take(&mut self, now: Moment, text: &str) -> Option<&'static str> {
        let Some(rule) = self.rules.iter_mut().find(|rule| rule.pattern.is_match(text)) else {
            return Some("error");
        };
        rule.count += 1;
        if rule.until.is_some() {
            return None;
        }
        rule.until = Some(now.plus(rule.setting.period));
        rule.setting.show_first.then_some(rule.setting.level)
    }

    /// Returns the time of the next sum.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.rules.iter().filter_map(|rule| rule.until).min()
    }

    /// Takes a sum that is due by `now` and has something to log; [`Moment::FOREVER`]: any.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Summary<'_>> {
        self.rules.iter_mut().find_map(|rule| {
            rule.until.take_if(|until| *until <= now)?;
            let count = std::mem::take(&mut rule.count);
            let news = count > 1 || !rule.setting.show_first;
            news.then_some(Summary { count, setting: &rule.setting })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Consolidations;
    use crate::config::Consolidation;
    use crate::moment::Moment;
    use std::time::Duration;

    fn rule(seconds: u64, pattern: &str, level: &'static str, show_first: bool) -> Consolidation {
        let (period, pattern) = (Duration::from_secs(seconds), pattern.to_owned());
        Consolidation { period, pattern, level, show_first }
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs(seconds))
    }

    fn sums(rules: &mut Consolidations, now: Moment) -> Vec<(&'static str, String)> {
        let mut sums = Vec::new();
        while let Some(sum) = rules.pop(now) {
            sums.push((sum.level(), sum.to_string()));
        }
        sums
    }

    #[test]
    fn an_error_without_a_matching_rule_is_logged_as_an_error() {
        let mut rules = Consolidations::new(&[rule(2, "timeout$", "warning", false)]);
        assert_eq!(rules.take(at(0), "connection refused"), Some("error"));
        assert_eq!(rules.next_deadline(), None);
    }

    #[test]
    fn matches_are_counted_and_logged_once_at_the_end_of_the_period() {
        let mut rules = Consolidations::new(&[rule(2, "time.ut$", "warning", false)]);
        assert_eq!(rules.take(at(5), "i/o timeout"), None);
        assert_eq!(rules.take(at(6), "i/o timeout"), None);
        assert_eq!(rules.next_deadline(), Some(at(7)));
        assert_eq!(sums(&mut rules, at(6)), []);
        let text = "2 errors like 'time.ut$' occurred in last 2s".to_owned();
        assert_eq!(sums(&mut rules, at(7)), [("warning", text)]);
        assert_eq!((sums(&mut rules, at(99)), rules.next_deadline()), (vec![], None));
        // The next error begins a new period.
        assert_eq!(rules.take(at(100), "i/o timeout"), None);
        assert_eq!(rules.next_deadline(), Some(at(102)));
    }

    #[test]
    fn the_first_is_shown_at_the_rules_level_and_summed_up_only_if_more_follow() {
        let mut rules = Consolidations::new(&[rule(60, "", "info", true)]);
        assert_eq!(rules.take(at(0), "EOF"), Some("info"));
        assert_eq!(sums(&mut rules, at(60)), []);
        assert_eq!(rules.next_deadline(), None);
        assert_eq!(rules.take(at(61), "EOF"), Some("info"));
        assert_eq!(rules.take(at(62), "EOF"), None);
        let text = "2 errors like '' occurred in last 1m0s".to_owned();
        assert_eq!(sums(&mut rules, Moment::FOREVER), [("info", text)]);
    }

    #[test]
    fn the_first_rule_that_matches_has_the_error() {
        let two = [rule(9, "read udp", "error", false), rule(1, "read", "debug", false)];
        let mut rules = Consolidations::new(&two);
        assert_eq!(rules.take(at(0), "read udp 192.0.2.1:53: i/o timeout"), None);
        assert_eq!(rules.next_deadline(), Some(at(9)));
        assert_eq!(rules.take(at(0), "read tcp 192.0.2.1:53: EOF"), None);
        assert_eq!(rules.next_deadline(), Some(at(1)));
        let levels: Vec<_> = sums(&mut rules, at(9)).iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, ["error", "debug"]);
    }
}
