//! One zone that is signed: when it is due, and the work from its file to the signed one.
//!
//! The zone is compared with its signed file when its own file has changed, when the signed file
//! was changed or removed, and when the first signature has to be renewed. Nothing is written if
//! nothing differs. A failure keeps the signed file, is logged once, and is tried again at each
//! check.

use super::content::Content;
use super::disk;
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
/// Interval of checks of a zone whose file is not checked for changes.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// A zone with its keys, and the state of its files.
pub(super) struct SignedZone {
    source: SignedSource,
    keys: Vec<ZoneKey>,
    watch: Watch,
    /// Time of the next check.
    pub(super) look_at: Moment,
    /// Time since 1970 at which the first signature has to be renewed; zero: the zone has not been
    /// signed, or not with success.
    renew_at: Duration,
    /// The signed file after the last comparison.
    written: Option<Signature>,
    /// Serial number that was signed last, for the case that the signed file is gone.
    serial: Option<u32>,
    is_first: bool,
    /// Trouble that was logged last.
    told: Option<String>,
}

/// The parts of a thread that its zones share.
pub(super) struct Tools<'a> {
    pub(super) clock: Clock,
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
        let (watch, written, serial, told) = (Watch::default(), None, None, None);
        let (look_at, renew_at, is_first) = (Moment::ZERO, Duration::ZERO, true);
        disk::remove_stale(&source.output);
        Ok(Self { source, keys, watch, look_at, renew_at, written, serial, is_first, told })
    }

    /// Approximate amount of work, to begin with the smallest.
    pub(super) fn weight(&self) -> u64 {
        let len = std::fs::metadata(&self.source.file.place).map_or(0, |found| found.len());
        let cost: u32 = self.keys.iter().map(|key| key.algorithm.cost_us()).sum();
        len.saturating_mul(cost.into())
    }

    /// Checks the zone, and signs it if that is due. Returns true if the signed file is new.
    pub(super) fn look(&mut self, tools: &mut Tools<'_>) -> bool {
        let is_changed = self.is_first || self.watch.has_changed();
        let calendar = Clock::calendar();
        let is_due = is_changed || calendar >= self.renew_at || self.written() != self.written;
        let is_new = is_due && self.work(tools, calendar);
        self.plan(tools.clock.now());
        is_new
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
    fn work(&mut self, tools: &mut Tools<'_>, calendar: Duration) -> bool {
        let (read, files) = read_records(&self.source.file, tools.hasher);
        if !self.watch.adopt(files, calendar, false) {
            // The file is being written: the text may be incomplete.
            return false;
        }
        let is_first = std::mem::take(&mut self.is_first);
        let zone = match read {
            Ok(Built { zone, warnings }) => {
                let (label, name) = (&self.source.file.label, &self.source.file.zone);
                for warning in warnings.iter().filter(|_| is_first || self.renew_at > calendar) {
                    let text = format_args!("{label}: zone {name}: {warning}");
                    tools.log.event(&Event::new(Level::Warning, SIGN, &text));
                }
                zone
            }
            Err(trouble) => return self.fail(tools, trouble.to_string()),
        };
        let (label, name) = (&self.source.label, &self.source.file.zone);
        let now = calendar.as_secs() as u32;
        let signed = disk::read(&self.source.output, name, tools.hasher);
        let (signed, unusable) = match signed {
            Ok(signed) => (signed, None),
            Err(error) => (None, Some(format!("the signed file cannot be used: {error}"))),
        };
        let last = signed.as_ref().map(|signed| signed.zone.serial());
        let is_own = signed.as_ref().is_some_and(|signed| signed.is_own);
        let before = signed.as_ref().filter(|signed| signed.is_own);
        let before = before.map(|signed| Before::new(&signed.zone, &self.keys));
        let due = match &before {
            Some(before) => self.compare(&zone, before, (last.unwrap_or(0), now)),
            None if unusable.is_some() => Due::Signing(unusable.unwrap_or_default()),
            None if last.is_some() && !is_own => {
                Due::Signing("the signed file was changed or written by another program".into())
            }
            None => Due::Signing("there is no signed file".into()),
        };
        let why = match due {
            Due::Signing(why) => why,
            Due::Nothing(left) => {
                self.written = self.written();
                (self.renew_at, self.told) = (calendar + seconds(left), None);
                if is_first {
                    let next = time(self.renew_at);
                    let text = format_args!(
                        "Skipping signing zone \"{name}\" in \"{label}\", next: {next}"
                    );
                    tools.log.event(&Event::new(Level::Info, SIGN, &text));
                }
                return false;
            }
        };
        if self.told.is_none() {
            let text = format_args!("Signing \"{name}\" because {why}");
            tools.log.event(&Event::new(Level::Info, SIGN, &text));
        }
        let last = [last, self.serial].into_iter().flatten().reduce(newer);
        let begin = tools.clock.now();
        let serial =
            newer(newer(zone.serial(), now), last.map_or(now, |last| last.wrapping_add(1)));
        match self.write(&zone, before.as_ref(), (serial, now), tools) {
            Ok(made) => self.succeed(tools, (serial, made), (calendar, begin)),
            Err(Stop::Unwanted) => false,
            Err(Stop::Io(error)) => self.fail(tools, format!("{label}: {error}")),
            Err(Stop::Random) => self.fail(tools, "the kernel has no random numbers".into()),
        }
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
        (calendar, begin): (Duration, Moment),
    ) -> bool {
        (self.written, self.serial) = (self.written(), Some(serial));
        (self.renew_at, self.told) = (calendar + seconds(left), None);
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
        true
    }

    /// Logs trouble, unless it was logged before, and makes the next check try again.
    fn fail(&mut self, tools: &Tools<'_>, trouble: String) -> bool {
        self.renew_at = Duration::ZERO;
        if self.told.as_ref() != Some(&trouble) {
            let (name, label) = (&self.source.file.zone, &self.source.label);
            let text = format_args!(
                "Error signing zone \"{name}\": {trouble}: \"{label}\" stays as it is"
            );
            tools.log.event(&Event::new(Level::Error, SIGN, &text));
            self.told = Some(trouble);
        }
        false
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
