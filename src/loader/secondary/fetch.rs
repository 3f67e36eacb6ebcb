//! One check of a zone at its primaries, on a thread of its own, and the transfer if it is due.
//!
//! All primaries are asked for the SOA record over TCP or TLS; the newest serial wins (RFC 1982),
//! so that a stale primary hides nothing. If it is newer than ours, the differences are asked for,
//! and the whole zone if those are refused or do not fit. With a key, each query is signed and each
//! message of an answer verified (RFC 8945 §5.3.1). The zone is kept on disk before it takes
//! effect. Size and time are bounded, and nothing that a primary sends harms the zone at hand.

use super::disk;
use super::incoming::{Incoming, Progress, answers, is_newer};
use super::wire::{MESSAGE_LEN_MAX, Wire};
use crate::clock::Clock;
use crate::config::{Primary, TransferredSource};
use crate::engine::authority::Zone;
use crate::engine::message::data::expanded_record;
use crate::engine::message::name::WireName;
use crate::engine::message::{class, flags, rtype, u16_at, u32_at};
use crate::engine::tsig::Signer;
use crate::moment::Moment;
use crate::sys::random;
use crate::tls;
use ahash::RandomState;
use std::sync::Arc;
use std::time::Duration;

/// Maximum time to get the SOA record of a primary.
const ASK_MAX: Duration = Duration::from_secs(10);
/// Maximum time of a transfer.
const TRANSFER_MAX: Duration = Duration::from_secs(600);
/// Maximum time of a check with all of its transfers, so that its place is free for other zones.
const CHECK_MAX: Duration = Duration::from_secs(900);
/// Maximum number of bytes of a transfer.
const BYTES_MAX: u64 = 1 << 30;

/// A check to be made.
pub(super) struct Job {
    pub(super) source: TransferredSource,
    /// TLS client of each primary.
    pub(super) clients: Arc<[Option<tls::Client>]>,
    /// The zone at hand.
    pub(super) current: Option<Arc<Zone>>,
    /// The zone at hand has not expired. An expired one gives way to any serial: a primary that was
    /// built anew may begin with a lower one.
    pub(super) is_served: bool,
    /// The zone at hand is on disk.
    pub(super) is_kept: bool,
    pub(super) hasher: RandomState,
    pub(super) clock: Clock,
}

/// Result of a check.
pub(super) enum Outcome {
    /// A newer zone.
    Fresh(Fresh),
    /// The zone at hand is current.
    Current,
    /// A primary has confirmed the zone at hand, but the newer one of another cannot be had.
    Stuck(String),
    /// The zone could not be checked, or not transferred; the counter of the failure.
    Failed(String, &'static str),
}

/// A zone that was transferred.
pub(super) struct Fresh {
    pub(super) zone: Zone,
    pub(super) warnings: Vec<String>,
    /// Text of the primary that it comes from.
    pub(super) primary: String,
    /// The zone was made by differences.
    pub(super) is_incremental: bool,
    /// Reason why differences could not be used.
    pub(super) fallback: Option<String>,
}

/// A result, and an error of the state on disk.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    /// `None`: there is no directory. `Some(Err)`: the zone could not be kept.
    pub(super) kept: Option<Result<(), String>>,
}

impl Job {
    /// Makes the check.
    pub(super) fn run(&self) -> Done {
        let outcome = self.check();
        let directory = self.source.directory.as_deref();
        let now = Clock::calendar().as_secs();
        let kept = directory.and_then(|directory| match (&outcome, &self.current) {
            (Outcome::Fresh(fresh), _) => Some(disk::write(directory, &fresh.zone, now)),
            (Outcome::Current, Some(zone)) if !self.is_kept => {
                Some(disk::write(directory, zone, now))
            }
            (Outcome::Current | Outcome::Stuck(_), Some(zone)) if self.is_kept => {
                Some(disk::confirm(directory, zone, now))
            }
            _ => None,
        });
        Done { outcome, kept }
    }

    fn check(&self) -> Outcome {
        let until = self.clock.now().plus(CHECK_MAX);
        let mut found = Vec::new();
        let mut errors = Vec::new();
        for number in 0..self.source.primaries.len() {
            match self.ask(number) {
                Ok(serial) => found.push((number, serial)),
                Err(error) => errors.push(format!("{}: {error}", self.label(number))),
            }
        }
        let found = newest_first(found);
        let held = self.current.as_ref().map(|zone| zone.serial());
        let Some(own) = held.filter(|_| self.is_served) else {
            let is_held = found.first().is_some_and(|(_, serial)| Some(*serial) == held);
            return if is_held {
                Outcome::Current
            } else {
                self.transfer_one(&found, errors, until)
            };
        };
        let newer: Vec<_> =
            found.iter().copied().filter(|(_, serial)| is_newer(*serial, own)).collect();
        let is_confirmed = found.iter().any(|(_, serial)| *serial == own);
        if !newer.is_empty() {
            return match self.transfer_one(&newer, errors, until) {
                Outcome::Failed(error, _) if is_confirmed => Outcome::Stuck(error),
                outcome => outcome,
            };
        }
        if is_confirmed {
            return Outcome::Current;
        }
        let older = found.iter().map(|(number, serial)| {
            format!("{}: serial {serial} is older than ours, {own}", self.label(*number))
        });
        errors.extend(older);
        Outcome::Failed(errors.join("; "), "unanswered")
    }

    /// Transfers the zone from the first primary that can.
    fn transfer_one(
        &self,
        found: &[(usize, u32)],
        mut errors: Vec<String>,
        until: Moment,
    ) -> Outcome {
        for (number, _) in found {
            let mut fallback = None;
            if let Some(current) = self.served() {
                match self.transfer(*number, Some(current), until) {
                    Ok(Some(fresh)) => return Outcome::Fresh(fresh),
                    Ok(None) => fallback = Some("the differences end at our serial".to_owned()),
                    Err(error) => fallback = Some(error),
                }
            }
            match self.transfer(*number, None, until) {
                Ok(Some(fresh)) => return Outcome::Fresh(Fresh { fallback, ..fresh }),
                Ok(None) => errors.push(format!("{}: no zone", self.label(*number))),
                Err(error) => errors.push(format!("{}: {error}", self.label(*number))),
            }
        }
        let kind = if found.is_empty() { "unanswered" } else { "failed" };
        Outcome::Failed(errors.join("; "), kind)
    }

    /// The zone at hand, unless it has expired.
    fn served(&self) -> Option<&Arc<Zone>> {
        self.current.as_ref().filter(|_| self.is_served)
    }

    fn label(&self, number: usize) -> String {
        let Primary { address, tls, .. } = &self.source.primaries[number];
        let scheme = if tls.is_some() { "tls://" } else { "" };
        format!("{scheme}{address}")
    }

    /// Asks a primary for the serial of the zone.
    fn ask(&self, number: usize) -> Result<u32, String> {
        let until = self.clock.now().plus(ASK_MAX);
        let mut dialogue = self.begin(number, rtype::SOA, None, until)?;
        let mut packet = Vec::new();
        dialogue.next(&mut packet)?;
        let apex = self.source.zone.as_wire();
        let none = || String::from("no SOA record in the answer");
        let (count, place) = answers(&packet, dialogue.id, apex)?.ok_or_else(none)?;
        if u16_at(&packet, 2).unwrap_or(0) & flags::AA == 0 {
            return Err("the answer is not authoritative".into());
        }
        let mut data = Vec::new();
        let record = expanded_record(&packet, place, &mut data).filter(|_| count > 0);
        let record = record.filter(|record| record.class == class::IN).ok_or_else(none)?;
        let owner = WireName::read(&packet, record.start).map(|(owner, _)| owner);
        let is_apex = |owner: WireName| owner.as_bytes().eq_ignore_ascii_case(apex);
        if !owner.is_some_and(is_apex) {
            return Err(none());
        }
        let serial = data.len().checked_sub(20).and_then(|place| u32_at(&data, place));
        serial.filter(|_| record.rtype == rtype::SOA).ok_or_else(none)
    }

    /// Transfers the zone, or the differences from `base`. `None`: `base` is current. `until`: end
    /// of the check.
    fn transfer(
        &self,
        number: usize,
        base: Option<&Arc<Zone>>,
        until: Moment,
    ) -> Result<Option<Fresh>, String> {
        let until = self.clock.now().plus(TRANSFER_MAX).min(until);
        let kind = if base.is_some() { rtype::IXFR } else { rtype::AXFR };
        let mut dialogue = self.begin(number, kind, base, until)?;
        let base = base.map(|zone| &**zone);
        let apex = self.source.zone.as_wire();
        let mut incoming = Incoming::new(apex, dialogue.id, base, self.hasher.clone());
        let mut packet = Vec::new();
        loop {
            dialogue.next(&mut packet)?;
            if dialogue.wire.received() > BYTES_MAX {
                return Err("more than 1 GiB".into());
            }
            match incoming.take(&packet)? {
                Progress::More => {}
                Progress::Current => return Ok(None),
                Progress::Done => break,
            }
        }
        dialogue.end()?;
        let (built, is_incremental) = incoming.finish()?;
        // Behind one address there may be several servers, and another one has told its serial.
        if let Some(own) = self.served().map(|zone| zone.serial()) {
            let serial = built.zone.serial();
            if !is_newer(serial, own) {
                return Err(format!("serial {serial} was transferred, not newer than ours, {own}"));
            }
        }
        let (zone, warnings, primary) = (built.zone, built.warnings, self.label(number));
        Ok(Some(Fresh { zone, warnings, primary, is_incremental, fallback: None }))
    }

    /// Connects to a primary and sends a query.
    fn begin(
        &self,
        number: usize,
        kind: u16,
        base: Option<&Arc<Zone>>,
        until: Moment,
    ) -> Result<Dialogue, String> {
        let primary = &self.source.primaries[number];
        let client = self.clients[number].as_ref();
        let wire = Wire::connect(primary.address, client, self.clock, until)?;
        let seed = random::seed().map_err(|error| error.to_string())?;
        let id = u16::from_be_bytes([seed[0], seed[1]]);
        let mut message = query(id, self.source.zone.as_wire(), kind, base.map(|zone| &**zone));
        let mut signer = primary.key.as_ref().map(|key| Signer::of_request(Arc::new(key.clone())));
        if let Some(signer) = &mut signer {
            let len = message.len();
            message.resize(len + signer.room(), 0);
            let signed = signer.sign(&mut message, len, Clock::calendar().as_secs());
            message.truncate(signed.ok_or("the query cannot be signed")?);
        }
        let mut dialogue = Dialogue { wire, signer, id };
        dialogue.wire.send(&message)?;
        Ok(dialogue)
    }
}

/// Puts the newest serial first (RFC 1982); of equal ones the first primary comes first. Serials
/// have no total order, so that a sort could panic.
fn newest_first(mut found: Vec<(usize, u32)>) -> Vec<(usize, u32)> {
    let mut ordered = Vec::with_capacity(found.len());
    while !found.is_empty() {
        let mut newest = 0;
        for place in 1..found.len() {
            if is_newer(found[place].1, found[newest].1) {
                newest = place;
            }
        }
        ordered.push(found.remove(newest));
    }
    ordered
}

/// A query and its answer.
struct Dialogue {
    wire: Wire,
    signer: Option<Signer>,
    id: u16,
}

impl Dialogue {
    /// Receives the next message, and verifies it.
    fn next(&mut self, packet: &mut Vec<u8>) -> Result<(), String> {
        self.wire.receive(packet)?;
        debug_assert!(packet.len() <= MESSAGE_LEN_MAX, "a length has two bytes");
        if let Some(signer) = &mut self.signer {
            let verified = signer.verify(packet, Clock::calendar().as_secs());
            verified.map_err(|error| format!("the answer is not believed: {error}"))?;
        }
        Ok(())
    }

    /// Ends a transfer: its last message has to be signed (RFC 8945 §5.3.1).
    fn end(&self) -> Result<(), String> {
        match &self.signer {
            Some(signer) if !signer.is_complete() => {
                Err("the answer is not believed: its last message is not signed".into())
            }
            _ => Ok(()),
        }
    }
}

/// Writes a query; one for differences has the SOA record of `base` in its authority section.
fn query(id: u16, apex: &[u8], kind: u16, base: Option<&Zone>) -> Vec<u8> {
    let mut message = Vec::with_capacity(512);
    let soa = base.and_then(Zone::soa);
    let words = [id, 0, 1, 0, u16::from(soa.is_some()), 0];
    words.iter().for_each(|word| message.extend(word.to_be_bytes()));
    message.extend_from_slice(apex);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if let Some((ttl, data)) = soa {
        message.extend([0xc0, 12, 0, rtype::SOA as u8, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

#[cfg(test)]
mod tests;
