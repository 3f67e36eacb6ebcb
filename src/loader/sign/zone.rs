//! One zone that is signed: when it is due, and the work from its file to the signed one.
//!
//! The zone is compared with its signed file when its own file has changed, when the signed file
//! was changed or removed, when the first signature has to be renewed, and when the clock was set
//! back. Nothing is written if nothing differs. A failure keeps the signed file and is logged once.
//! A zone file that cannot be read is read again at each check, and signatures are renewed from the
//! signed file meanwhile; if the signed file cannot be written, the intervals double.

use super::content::Content;
use super::disk::{self, Signed};
use super::keys::ZoneKey;
use super::signing::{Before, Findings, Made, Stop, Validity, examine, newer, write};
use crate::clock::Clock;
use crate::config::SignedSource;
use crate::engine::authority::{Built, Zone};
use crate::loader::LOOK_INTERVAL_MIN;
use crate::loader::file::Signature;
use crate::loader::zones::{SETTLE, Watch, read_records};
use crate::log::{Event, Level, Log, push_time};
use crate::moment::Moment;
use ahash::RandomState;
use std::io;
use std::time::Duration;

/// Source of log lines about zones that are signed.
const SIGN: &str = "plugin/sign";
/// Interval of checks of a zone whose file is not checked for changes, and maximum time until an
/// attempt to write the signed file is repeated.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);
/// Troubles that are not logged again until the zone is signed.
const TOLD_MAX: usize = 2;

/// A zone with its keys, and the state of its files.
pub(super) struct SignedZone {
    source: SignedSource,
    keys: Vec<ZoneKey>,
    watch: Watch,
    /// Time of the next check.
    pub(super) look_at: Moment,
    /// Time since 1970 at which the first signature has to be renewed; zero: it is unknown.
    renew_at: Duration,
    /// Time since 1970 of the last comparison.
    compared_at: Duration,
    /// Time of the next attempt after a failure, which is all that is waited for, except changes.
    retry_at: Option<Moment>,
    /// Time between the last two attempts to write.
    wait: Duration,
    /// The signed file after the last comparison.
    written: Option<Signature>,
    /// The newest serial of signed files, for the case that the signed file is gone.
    serial: Option<u32>,
    is_first: bool,
    /// The last troubles of reading and of writing that were logged.
    told: Vec<String>,
}

/// The parts of a thread that its zones share.
pub(super) struct Tools<'a> {
    pub(super) clock: Clock,
    /// Time since 1970.
    pub(super) calendar: Duration,
    pub(super) log: Log,
    pub(super) hasher: &'a RandomState,
    /// A random number for each zone and run.
    pub(super) random: u64,
    /// Returns false if the result is not wanted any more.
    pub(super) is_wanted: &'a mut dyn FnMut() -> bool,
}

/// Result of a comparison.
enum Due {
    /// Nothing differs, and nothing will for this number of seconds.
    Nothing(u32),
    /// The zone has to be signed for this reason.
    Signing(String),
}

impl SignedZone {
    /// The zone of `source`, which has not been compared yet.
    ///
    /// # Errors
    /// Never for keys that were read with the configuration.
    pub(super) fn new(source: SignedSource) -> Result<Self, String> {
        let keys = ZoneKey::all(&source.keys)?;
        Ok(Self {
            source,
            keys,
            watch: Watch::default(),
            look_at: Moment::ZERO,
            renew_at: Duration::ZERO,
            compared_at: Duration::ZERO,
            retry_at: None,
            wait: Duration::ZERO,
            serial: None,
            written: None,
            is_first: true,
            told: Vec::new(),
        })
    }

    /// Approximate amount of work, to begin with the smallest.
    pub(super) fn weight(&self) -> u64 {
        let len = std::fs::metadata(&self.source.file.place).map_or(0, |found| found.len());
        let cost: u32 = self.keys.iter().map(|key| key.algorithm.cost_us()).sum();
        len.saturating_mul(cost.into())
    }

    /// Checks the zone, and signs it if that is due. Returns true if the signed file is new.
    pub(super) fn look(&mut self, tools: &mut Tools<'_>) -> bool {
        let is_new = self.is_due(tools) && self.work(tools);
        self.plan(tools.clock.now());
        is_new
    }

    fn is_due(&mut self, tools: &Tools<'_>) -> bool {
        if self.is_first {
            return true;
        }
        let is_watched = self.source.file.reload.is_some() || self.watch.is_waiting();
        if is_watched && self.watch.has_changed() {
            return true;
        }
        if self.watch.is_waiting() {
            // The file is being written: the text may be incomplete.
            return false;
        }
        match self.retry_at {
            Some(at) => at <= tools.clock.now(),
            None => self.needs_renewal(tools.calendar) || self.written() != self.written,
        }
    }

    /// Returns true if signatures have to be renewed, or if they may be of a later time, because
    /// the clock was set back by more than they are backdated.
    fn needs_renewal(&self, calendar: Duration) -> bool {
        let is_back = calendar + seconds(Validity::BACKDATED) < self.compared_at;
        calendar >= self.renew_at || is_back
    }

    /// The signed file.
    pub(super) fn output(&self) -> &std::path::Path {
        &self.source.output
    }

    fn written(&self) -> Option<Signature> {
        Signature::of(&self.source.output).ok()
    }

    /// Sets the time of the next check.
    fn plan(&mut self, now: Moment) {
        let interval = self.source.file.reload.map(|reload| reload.max(LOOK_INTERVAL_MIN));
        let interval = if self.watch.is_waiting() { Some(SETTLE) } else { interval };
        self.look_at = now.plus(interval.unwrap_or(RENEWAL_INTERVAL));
    }

    /// Reads the zone, compares it with the signed one, and signs it. Returns true if the signed
    /// file is new.
    fn work(&mut self, tools: &mut Tools<'_>) -> bool {
        let (read, files) = read_records(&self.source.file, tools.hasher);
        if !self.watch.adopt(files, tools.calendar, false) {
            // The file is being written: the text may be incomplete.
            return false;
        }
        let is_first = std::mem::take(&mut self.is_first);
        let Built { zone, warnings } = match read {
            Ok(built) => built,
            Err(trouble) => {
                self.fail(tools, trouble.to_string());
                self.retry_at = Some(Moment::ZERO);
                return self.needs_renewal(tools.calendar) && self.renew(tools);
            }
        };
        let is_news = is_first || (self.retry_at.is_none() && self.renew_at > tools.calendar);
        let (label, name) = (&self.source.file.label, &self.source.file.zone);
        for warning in warnings.iter().filter(|_| is_news) {
            let text = format_args!("{label}: zone {name}: {warning}");
            tools.log.event(&Event::new(Level::Warning, SIGN, &text));
        }
        let signed = disk::read(&self.source.output, name, tools.hasher);
        let signed = signed.as_ref().map(Option::as_ref).map_err(String::as_str);
        let result = self.update(&zone, signed, is_first, tools);
        if result.is_ok() {
            self.told.clear();
            (self.retry_at, self.wait) = (None, Duration::ZERO);
        }
        self.conclude(result, tools)
    }

    /// Renews signatures from the signed file, because the zone's own cannot be read. Returns true
    /// if the signed file is new.
    fn renew(&mut self, tools: &mut Tools<'_>) -> bool {
        let signed = disk::read(&self.source.output, &self.source.file.zone, tools.hasher);
        let signed = signed.ok().flatten().filter(|signed| signed.is_own);
        let Some(signed) = signed else {
            // Nothing to renew: the next attempt is made later, because it reads the whole file.
            (self.renew_at, self.compared_at) = (tools.calendar + RENEWAL_INTERVAL, tools.calendar);
            return false;
        };
        let result = self.update(&signed.zone, Ok(Some(&signed)), false, tools);
        self.conclude(result, tools)
    }

    /// Logs that the signed file could not be written, and makes that be tried again.
    fn conclude(&mut self, result: Result<bool, Stop>, tools: &Tools<'_>) -> bool {
        let trouble = match result {
            Ok(is_new) => return is_new,
            Err(Stop::Unwanted) => return false,
            Err(Stop::Io(error)) => format!("{}: {error}", self.source.label),
            Err(Stop::Random) => "the kernel has no random numbers".into(),
        };
        self.wait = (self.wait * 2).clamp(LOOK_INTERVAL_MIN, RENEWAL_INTERVAL);
        self.retry_at = Some(tools.clock.now().plus(self.wait));
        self.fail(tools, trouble);
        false
    }

    /// Compares a zone with the signed one, and signs it. Returns true if the signed file is new.
    fn update(
        &mut self,
        zone: &Zone,
        signed: Result<Option<&Signed>, &str>,
        is_first: bool,
        tools: &mut Tools<'_>,
    ) -> Result<bool, Stop> {
        let now = tools.calendar.as_secs() as u32;
        let found = signed.unwrap_or_default();
        if let Some(found) = found.map(|found| found.zone.serial()) {
            self.serial = Some(self.serial.map_or(found, |last| newer(last, found)));
        }
        let before = found.filter(|signed| signed.is_own);
        let before = before.map(|signed| Before::new(&signed.zone, &self.keys));
        let due = match (&before, signed) {
            (Some(before), _) => self.compare(zone, before, (self.serial.unwrap_or(0), now)),
            (None, Err(error)) => Due::Signing(format!("the signed file cannot be used: {error}")),
            (None, Ok(Some(_))) => {
                Due::Signing("the signed file was changed or written by another program".into())
            }
            (None, Ok(None)) => Due::Signing("there is no signed file".into()),
        };
        self.compared_at = tools.calendar;
        let (label, name) = (&self.source.label, &self.source.file.zone);
        let why = match due {
            Due::Signing(why) => why,
            Due::Nothing(left) => {
                self.written = self.written();
                self.renew_at = tools.calendar + seconds(left);
                if is_first {
                    let next = time(self.renew_at);
                    let text = format_args!(
                        "Skipping signing zone \"{name}\" in \"{label}\", next: {next}"
                    );
                    tools.log.event(&Event::new(Level::Info, SIGN, &text));
                }
                return Ok(false);
            }
        };
        if self.told.is_empty() {
            let text = format_args!("Signing \"{name}\" because {why}");
            tools.log.event(&Event::new(Level::Info, SIGN, &text));
        }
        let begin = tools.clock.now();
        let after = self.serial.map_or(now, |last| last.wrapping_add(1));
        let serial = newer(newer(zone.serial(), now), after);
        let made = self.write(zone, before.as_ref(), (serial, now), tools)?;
        self.succeed(tools, (serial, made), begin);
        Ok(true)
    }

    /// Compares the zone with the signed one, whose serial number is `last`.
    fn compare(&self, zone: &Zone, before: &Before<'_>, (last, now): (u32, u32)) -> Due {
        let Some(content) = Content::new(zone, &self.keys, last) else {
            return Due::Signing("the zone has changed".into());
        };
        let is_newer = newer(last, zone.serial()) != last;
        let findings = examine(&content, &self.keys, before, now);
        let Findings { has_other_keys, has_other_records, due, left } = findings;
        match () {
            () if has_other_keys => Due::Signing("the keys have changed".into()),
            () if has_other_records || is_newer => Due::Signing("the zone has changed".into()),
            () if due > 0 => Due::Signing(format!(
                "{due} signatures have less than a quarter of their validity left"
            )),
            () => Due::Nothing(left),
        }
    }

    /// Writes the signed file.
    fn write(
        &self,
        zone: &Zone,
        before: Option<&Before<'_>>,
        (serial, now): (u32, u32),
        tools: &mut Tools<'_>,
    ) -> Result<Made, Stop> {
        let content = Content::new(zone, &self.keys, serial);
        let content = content.ok_or_else(|| Stop::Io(io::Error::other("no SOA record")))?;
        let validity = Validity::new(now, tools.random);
        let label = &self.source.file.label;
        let head = format!(
            "; Signed by onward from {}. Changes are lost: change that file.\n",
            label.escape_debug()
        );
        disk::write(&self.source.output, &head, |out| {
            write(&content, &self.keys, before, (now, validity), out, tools.is_wanted)
        })
    }

    fn succeed(
        &mut self,
        tools: &Tools<'_>,
        (serial, Made { made, kept, left }): (u32, Made),
        begin: Moment,
    ) {
        (self.written, self.serial) = (self.written(), Some(serial));
        self.renew_at = tools.calendar + seconds(left);
        let (label, name) = (&self.source.label, &self.source.file.zone);
        let tags: Vec<_> = self.keys.iter().map(|key| key.tag.to_string()).collect();
        let (tags, next) = (tags.join(","), time(self.renew_at));
        let elapsed = tools.clock.now().since(begin).as_secs_f64();
        let text = format_args!(
            "Successfully signed zone \"{name}\" in \"{label}\" with key tags \"{tags}\" and \
             {serial} SOA serial, {made} new signatures, {kept} kept, elapsed {elapsed:.3} s, \
             next: {next}"
        );
        tools.log.event(&Event::new(Level::Info, SIGN, &text));
    }

    /// Logs trouble, unless it was logged before.
    fn fail(&mut self, tools: &Tools<'_>, trouble: String) {
        if self.told.contains(&trouble) {
            return;
        }
        let (name, label) = (&self.source.file.zone, &self.source.label);
        let text =
            format_args!("Error signing zone \"{name}\": {trouble}: \"{label}\" stays as it is");
        tools.log.event(&Event::new(Level::Error, SIGN, &text));
        if self.told.len() == TOLD_MAX {
            self.told.remove(0);
        }
        self.told.push(trouble);
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// A time since 1970 as text.
fn time(time: Duration) -> String {
    let mut text = String::new();
    push_time(&mut text, seconds(time.as_secs() as u32));
    text
}

#[cfg(test)]
mod tests {
    use super::{RENEWAL_INTERVAL, SignedZone, Tools};
    use crate::clock::Clock;
    use crate::engine::authority::Zone;
    use crate::loader::sign::tests::{DAY, KSK, ZONE, directory, put, sources, verified, zone};
    use crate::log::Log;
    use crate::moment::Moment;
    use ahash::RandomState;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    /// A zone with its directory, and the time since 1970.
    struct Bed {
        directory: PathBuf,
        own: SignedZone,
        calendar: Duration,
    }

    impl Bed {
        fn new(options: &str) -> Self {
            let directory = directory();
            let place = directory.display();
            let keys = format!("key file {KSK}\n directory {place}/out");
            let source = sources(&format!("sign {place}/db {{\n {keys}\n {options}\n}}")).remove(0);
            // The files are so old that their signatures count at once.
            let calendar = Clock::calendar() + Duration::from_secs(60);
            Self { own: SignedZone::new(source).unwrap(), directory, calendar }
        }

        fn look(&mut self) -> bool {
            let hasher = RandomState::with_seeds(1, 2, 3, 4);
            self.own.look(&mut Tools {
                clock: Clock::start(),
                calendar: self.calendar,
                log: Log::text(|_| {}),
                hasher: &hasher,
                random: 0,
                is_wanted: &mut || true,
            })
        }

        fn later(&mut self, seconds: u32) {
            self.calendar += Duration::from_secs(seconds.into());
        }

        fn put(&self, text: &str) {
            put(&self.directory, text);
        }

        fn output(&self) -> PathBuf {
            self.own.output().to_owned()
        }

        fn signed(&self) -> Zone {
            let signed = zone(&fs::read_to_string(self.output()).unwrap());
            verified(&signed);
            signed
        }

        fn expiration(&self) -> u32 {
            self.signed().expiration().unwrap()
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    #[test]
    fn serials_increase_when_the_signed_file_is_gone_or_unusable() {
        let mut bed = Bed::new("");
        bed.put(&ZONE.replace("hostmaster 7", "hostmaster 2030000000"));
        assert!(bed.look());
        let old = fs::read(bed.output()).unwrap();
        for (number, text) in [None, Some("no zone\n"), Some(""), None].into_iter().enumerate() {
            match text {
                Some(text) => fs::write(bed.output(), text).unwrap(),
                None => fs::remove_file(bed.output()).unwrap(),
            }
            assert!(bed.look());
            assert_eq!(bed.signed().serial(), 2_030_000_001 + number as u32, "{text:?}");
        }
        // An old version that was restored.
        fs::write(bed.output(), old).unwrap();
        assert!(bed.look());
        assert_eq!(bed.signed().serial(), 2_030_000_005);
        assert!(!bed.look());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_new_signatures() {
        let mut bed = Bed::new("");
        // The zone is signed while the clock is a year fast.
        bed.later(365 * DAY);
        assert!(bed.look() && !bed.look());
        let early = bed.expiration();
        bed.calendar -= Duration::from_secs(2 * 3_600);
        assert!(!bed.look(), "the signatures are valid");
        bed.calendar -= Duration::from_secs((364 * DAY).into());
        assert!(bed.look());
        assert!(bed.expiration() < early);
        assert!(!bed.look());
        // Without the zone file as well.
        let early = bed.expiration();
        bed.put("@ SOA junk\n");
        assert!(!bed.look() && !bed.look() && !bed.look());
        bed.calendar -= Duration::from_secs(DAY.into());
        assert!(bed.look());
        assert!(bed.expiration() < early);
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_read_after_a_failure_either() {
        let mut bed = Bed::new("");
        bed.put("@ SOA junk\n");
        assert!(!bed.look());
        // Half of the zone is a zone too.
        let (half, rest) = ZONE.split_at(ZONE.find("deleg").unwrap());
        bed.put(half);
        assert!(!bed.look() && !bed.output().exists());
        bed.put(&format!("{half}{rest}"));
        assert!(!bed.look() && !bed.output().exists());
        assert!(bed.look(), "two checks agree");
        assert!(bed.signed().node_of(b"\x05deleg").is_some());
    }

    #[test]
    fn signatures_are_renewed_while_the_zone_file_is_unusable() {
        let mut bed = Bed::new("");
        assert!(bed.look());
        let (first, serial) = (bed.expiration(), bed.signed().serial());
        let names = bed.signed().nodes().count();
        bed.put("@ SOA junk\n");
        assert!(!bed.look() && !bed.look() && !bed.look());
        bed.later(20 * DAY);
        assert!(!bed.look());
        assert_eq!(bed.expiration(), first, "not yet");
        bed.later(5 * DAY);
        assert!(bed.look());
        assert!(bed.expiration() >= first + 24 * DAY);
        assert!(bed.signed().serial() > serial);
        assert_eq!(bed.signed().nodes().count(), names);
        assert!(!bed.look());
        fs::remove_file(bed.directory.join("db")).unwrap();
        bed.later(25 * DAY);
        assert!(!bed.look(), "one check");
        assert!(bed.look(), "and another that agrees");
        assert_eq!(bed.own.told.len(), 2, "{:?}", bed.own.told);
        // The zone file is there again.
        bed.put(&ZONE.replace("192.0.2.82", "192.0.2.83"));
        assert!(!bed.look() && bed.look());
        assert!(bed.own.told.is_empty());
        // A file that is not this server's is not renewed.
        bed.put("@ SOA junk\n");
        let edited = fs::read_to_string(bed.output()).unwrap().replace("192.0.2.81", "192.0.2.99");
        fs::write(bed.output(), &edited).unwrap();
        bed.later(25 * DAY);
        assert!(!bed.look() && !bed.look() && !bed.look());
        assert_eq!(fs::read_to_string(bed.output()).unwrap(), edited);
    }

    #[test]
    fn attempts_to_write_are_repeated_at_intervals_that_double() {
        let mut bed = Bed::new("");
        fs::write(bed.directory.join("out"), "no directory").unwrap();
        let mut waits = Vec::new();
        for _ in 0..25 {
            assert!(!bed.look());
            waits.push(bed.own.wait);
            assert!(bed.own.retry_at.unwrap() >= Moment::ZERO.plus(bed.own.wait));
            assert!(!bed.look());
            assert_eq!(bed.own.wait, *waits.last().unwrap(), "it is not time yet");
            bed.own.retry_at = Some(Moment::ZERO);
        }
        assert!(waits[0] <= Duration::from_secs(1) && waits[1] == 2 * waits[0], "{waits:?}");
        assert_eq!(waits[24], RENEWAL_INTERVAL);
        // A change of the zone file is a reason at once.
        fs::remove_file(bed.directory.join("out")).unwrap();
        bed.put(&ZONE.replace("192.0.2.82", "192.0.2.83"));
        bed.own.retry_at = Some(Moment::FOREVER);
        assert!(!bed.look() && bed.look());
        assert_eq!((bed.own.wait, bed.own.retry_at), (Duration::ZERO, None));
    }

    #[test]
    fn a_file_whose_interval_is_zero_is_read_at_renewals_only() {
        let mut bed = Bed::new("reload 0");
        assert!(bed.look());
        bed.put(&ZONE.replace("192.0.2.82", "192.0.2.83"));
        assert!(!bed.look() && !bed.look() && !bed.look());
        bed.later(25 * DAY);
        assert!(bed.look());
        assert!(fs::read_to_string(bed.output()).unwrap().contains("192.0.2.83"));
    }
}
