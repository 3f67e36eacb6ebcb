//! Schedule of checks for a changed configuration, and their comparison.
//!
//! `reload INTERVAL JITTER` sets the interval of reading the file. The parsed words are compared
//! with their line numbers, after imports and variables, so a comment at the end of the file is no
//! change. A text that was tried, with any outcome, is not tried again until it changes.
//! Certificate and key files are checked at the same time, and count as part of the text. Host
//! names of upstreams are looked up again when their records expire, independently of the file.
//! Nothing is read here: other threads, which may block, read and report.

use crate::config::{Config, HostName, Pem, Reload};
use crate::corefile::{Corefile, Sources};
use crate::dnssec::SecretBytes;
use crate::moment::Moment;
use crate::sys::random;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Delay of the next lookup after a failed one.
const RETRY: Duration = Duration::from_secs(30);

/// State of the checks.
pub(super) struct Watch {
    /// Corefile that was tried last.
    tried: Option<Arc<Corefile>>,
    /// Corefile of the current configuration.
    in_force: Option<Arc<Corefile>>,
    schedule: Schedule,
    file_due: Option<Moment>,
    names_due: Option<Moment>,
    random: ChaCha12Rng,
}

/// Intervals of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    file: Option<Duration>,
    /// Host names of upstreams, each once.
    names: Vec<HostName>,
    /// Certificate and key files, as they were tried last.
    certificates: Vec<Pem>,
}

impl Watch {
    /// Creates the state after `tried` became `config`.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new(
        now: Moment,
        config: &Config,
        tried: Option<Arc<Corefile>>,
    ) -> io::Result<Self> {
        let mut watch = Self {
            in_force: tried.clone(),
            tried,
            schedule: Schedule::default(),
            file_due: None,
            names_due: None,
            random: ChaCha12Rng::from_seed(random::seed()?),
        };
        let schedule = watch.schedule(config);
        watch.keep(now, schedule);
        Ok(watch)
    }

    /// Records that the configuration `tree` was tried; `None`: it could not be read.
    pub(super) fn tried(&mut self, tree: Option<Arc<Corefile>>) {
        self.tried = tree;
    }

    /// Records that a read of the configuration begins, and plans the next check in case it fails.
    pub(super) fn begin(&mut self, now: Moment) {
        self.file_due = self.schedule.file.map(|period| now.plus(period));
        self.begin_names(now);
    }

    /// Returns the intervals of `config`.
    pub(super) fn schedule(&mut self, config: &Config) -> Schedule {
        let mut names: Vec<HostName> = Vec::new();
        for name in config.forwards().flat_map(|forward| &forward.host_names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let file = config.reload.map(|reload| period(reload, self.random.next_u32()));
        let mut certificates: Vec<Pem> = Vec::new();
        for file in config.key_files() {
            // Blocks share files, each of which is checked once.
            if !certificates.contains(file) {
                certificates.push(file.clone());
            }
        }
        Schedule { file, names, certificates }
    }

    /// Records that the configuration tried last has taken effect, with `schedule`.
    pub(super) fn adopt(&mut self, now: Moment, schedule: Schedule) {
        self.in_force.clone_from(&self.tried);
        self.keep(now, schedule);
    }

    /// Returns the Corefile of the current configuration.
    pub(super) fn in_force(&self) -> Option<&Arc<Corefile>> {
        self.in_force.as_ref()
    }

    /// Records that a lookup of host names begins, and plans the next in case it fails. Returns
    /// them.
    pub(super) fn begin_names(&mut self, now: Moment) -> Vec<HostName> {
        self.names_due = (!self.schedule.names.is_empty()).then(|| now.plus(RETRY));
        self.schedule.names.clone()
    }

    /// Plans the next lookup of host names after `ttl`.
    pub(super) fn keep_names(&mut self, now: Moment, ttl: Duration) {
        self.names_due = Some(now.plus(ttl));
    }

    /// Adopts the host names and certificates of `schedule`. The time of the next file check stays,
    /// because only addresses have changed.
    pub(super) fn adopt_addresses(&mut self, schedule: Schedule) {
        self.schedule = Schedule { file: self.schedule.file, ..schedule };
    }

    /// Adopts `schedule`.
    pub(super) fn keep(&mut self, now: Moment, schedule: Schedule) {
        self.file_due = schedule.file.map(|period| now.plus(period));
        self.names_due = schedule.ttl().map(|ttl| now.plus(ttl));
        self.schedule = schedule;
    }

    /// Returns the time of the next check.
    pub(super) fn due(&self) -> Option<Moment> {
        [self.file_due, self.names_due].into_iter().flatten().min()
    }

    /// Returns true if the records of a host name have expired.
    pub(super) fn names_are_due(&self, now: Moment) -> bool {
        self.names_due.is_some_and(|due| due <= now)
    }

    /// Returns true if the file is due to be read, and plans the next time.
    pub(super) fn file_is_due(&mut self, now: Moment) -> bool {
        let due = self.file_due.is_some_and(|due| due <= now);
        if due {
            self.file_due = self.schedule.file.map(|period| now.plus(period));
        }
        due
    }

    /// Returns the contents that were tried last, to compare files with.
    pub(super) fn seen(&self) -> Seen {
        Seen { tried: self.tried.clone(), certificates: self.schedule.certificates.clone() }
    }

    /// Records the current contents of certificate and key files, so that a change is reported
    /// once.
    pub(super) fn saw(&mut self, certificates: Vec<Pem>) {
        self.schedule.certificates = certificates;
    }
}

impl Schedule {
    /// Returns the time until the next lookup of a host name. `None`: there is no host name.
    fn ttl(&self) -> Option<Duration> {
        self.names.iter().map(|name| name.ttl).min()
    }
}

/// Contents that were tried last.
pub(super) struct Seen {
    tried: Option<Arc<Corefile>>,
    certificates: Vec<Pem>,
}

impl Seen {
    pub(super) fn differs(&self, tree: &Corefile) -> bool {
        self.tried.as_deref() != Some(tree)
    }

    /// Returns the current certificate and key files, if one of them has changed. One that cannot
    /// be read counts as unchanged: it may be about to be written.
    pub(super) fn certificates(mut self, sources: &Sources) -> Option<Vec<Pem>> {
        let mut changed = false;
        for file in &mut self.certificates {
            let Ok(bytes) = (sources.read)(&file.place) else { continue };
            let bytes = SecretBytes::from(bytes);
            if bytes != file.bytes {
                file.bytes = bytes;
                changed = true;
            }
        }
        changed.then_some(self.certificates)
    }

    /// Returns the certificate and key files that cannot be read now, with the reasons.
    pub(super) fn unreadable(&self, sources: &Sources) -> Vec<(&Pem, io::Error)> {
        let files = self.certificates.iter();
        files.filter_map(|file| Some((file, (sources.read)(&file.place).err()?))).collect()
    }
}

/// Returns the interval, shifted at random by up to half the jitter.
fn period(reload: Reload, random: u32) -> Duration {
    let span = reload.jitter;
    let part = (span.as_nanos() * u128::from(random)) >> u32::BITS;
    reload.interval - span / 2 + Duration::from_nanos(part as u64)
}

#[cfg(test)]
mod tests {
    use super::{RETRY, Watch, period};
    use crate::config::{Config, Host, HostName, Pem, Reload, Resolved};
    use crate::corefile::{self, Corefile, Sources};
    use crate::moment::Moment;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    fn watch(text: &str) -> Watch {
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        Watch::new(Moment::ZERO, &config, Some(tree(text))).unwrap()
    }

    fn tree(text: &str) -> Arc<Corefile> {
        Arc::new(corefile::parse(text.as_bytes(), "f", &Host::plain().sources).unwrap())
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_file_is_checked_at_its_configured_interval() {
        assert_eq!(watch(". {\n}\n").due(), None);
        let mut watch = watch(". {\n reload 10s 0\n}\n");
        assert_eq!(watch.due(), Some(at(10)));
        assert!(!watch.file_is_due(at(9)) && watch.file_is_due(at(10)));
        assert!(!watch.file_is_due(at(19)) && watch.file_is_due(at(20)));
        assert!(!watch.names_are_due(Moment::FOREVER));
    }

    #[test]
    fn only_a_change_of_the_parsed_words_counts() {
        let mut watch = watch(". {\n reload\n}\n");
        let changed = |watch: &Watch, text: &str| watch.seen().differs(&tree(text));
        assert!(!changed(&watch, ". {\n reload\n}\n# with a comment\n"));
        assert!(changed(&watch, "\n. {\n reload\n}\n"), "line numbers count, as in the reference");
        assert!(changed(&watch, ". {\n reload 5s\n}\n"));
        watch.tried(Some(tree(". {\n reload 5s\n}\n")));
        assert!(!changed(&watch, ". {\n reload 5s\n}\n"), "it is not tried twice");
    }

    #[test]
    fn a_replaced_certificate_is_reported_once() {
        let mut watch = watch(". {\n}\n");
        let pem = |bytes: &[u8]| {
            let place = PathBuf::from("/dir/cert.pem");
            Pem { path: "cert.pem".into(), place, bytes: bytes.to_vec().into() }
        };
        let certificates = vec![pem(b"old")];
        watch.keep(at(0), super::Schedule { certificates, ..Default::default() });
        let files = [(PathBuf::from("/dir/cert.pem"), b"new".to_vec())];
        let sources = Sources::fixed(BTreeMap::from(files), BTreeMap::new());
        let found = watch.seen().certificates(&sources).unwrap();
        assert_eq!(found, [pem(b"new")]);
        watch.saw(found);
        assert_eq!(watch.seen().certificates(&sources), None);
        let gone = Sources::fixed(BTreeMap::new(), BTreeMap::new());
        assert_eq!(watch.seen().certificates(&gone), None, "it is about to be written");
    }

    #[test]
    fn names_are_looked_up_again_when_their_records_expire() {
        let mut watch = watch(". {\n}\n");
        let name = |seconds| {
            let ttl = Some(Duration::from_secs(seconds));
            let found = Resolved { addresses: Vec::new(), ttl, incomplete: None };
            HostName::new("up.test", &[], None, found)
        };
        let names = vec![name(60), name(90)];
        watch.keep(at(0), super::Schedule { names: names.clone(), ..Default::default() });
        assert!(!watch.names_are_due(at(59)) && watch.names_are_due(at(60)));
        assert_eq!(watch.begin_names(at(60)), names);
        assert_eq!(watch.due(), Some(at(60).plus(RETRY)), "should the lookup fail");
        watch.keep_names(at(61), Duration::from_secs(40));
        assert_eq!(watch.due(), Some(at(101)));
        watch.begin(at(70));
        assert_eq!(watch.due(), Some(at(70).plus(RETRY)), "should the reload fail");
    }

    #[test]
    fn a_tried_text_takes_effect_when_it_is_adopted() {
        let mut watch = watch(". {\n}\n");
        let new = tree(". {\n reload 5s\n}\n");
        watch.tried(Some(Arc::clone(&new)));
        assert_eq!(watch.in_force(), Some(&tree(". {\n}\n")));
        watch.adopt(at(0), super::Schedule::default());
        assert_eq!(watch.in_force(), Some(&new));
    }

    #[test]
    fn a_period_is_half_the_jitter_earlier_or_later() {
        let seconds = Duration::from_secs;
        let reload = Reload { interval: seconds(30), jitter: seconds(10) };
        assert_eq!(period(reload, 0), seconds(25));
        assert_eq!(period(reload, 1 << 31), seconds(30));
        assert!(period(reload, u32::MAX) < seconds(35));
    }
}
