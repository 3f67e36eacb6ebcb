//! Renaming of a response: one name is answered with the records of another.
//!
//! Owner names, names in RDATA, TTLs, and the response code change. [`rewrite`] parses a response
//! record by record, lets a [`Renaming`] change each, and writes a new message with its own
//! compression, as if an upstream had sent it. [`super::reply`] then completes it for the client.

use super::layout::{Part, parts};
use super::name::WireName;
use super::response::Response;
use super::{HEADER_LEN, Record, flags, put_u16, put_u32, u16_at, u32_at, write_head};

/// Maximum length of a message.
pub(crate) const MESSAGE_LEN_MAX: usize = u16::MAX as usize;
/// Maximum number of targets for compression pointers; further names add none.
const TARGETS_MAX: usize = 64;
/// Maximum of equal labels in failed comparisons of names; after that, names are not compressed.
const STEPS_MAX: u32 = 4_096;
/// Maximum offset of a pointer's target (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3fff;

/// The changes that one response undergoes.
pub(crate) trait Renaming {
    /// Changes an owner name.
    fn owner(&mut self, name: &mut WireName);

    /// Changes a name in RDATA.
    fn value(&mut self, name: &mut WireName);

    /// Returns the TTL, in seconds, of a record that had `ttl`.
    fn ttl(&self, ttl: u32) -> u32;

    /// Returns the response code, of 12 bits, of a response that had `rcode`.
    fn rcode(&self, rcode: u16) -> u16;

    /// Returns true if the client gets a record of this type in this section (0: answer, 1:
    /// authority, 2: additional), whose new owner name is `owner`.
    fn keeps(&self, section: usize, rtype: u16, owner: &[u8]) -> bool;

    /// Returns the class of records that had `class`.
    fn class(&self, class: u16) -> u16;
}

/// Writes `response`, found in `packet`, into `out` with `renaming` applied to all its records.
/// `question`: name, type and class as the client asked. From the first record on that does not
/// fit, all are omitted, with TC set. Returns the message's length, or `None` if a name is
/// malformed or `out` has no room for the question.
pub(crate) fn rewrite(
    packet: &[u8],
    response: &Response,
    question: &[u8],
    renaming: &mut impl Renaming,
    out: &mut [u8],
) -> Option<usize> {
    let mut writer = Writer::new(out, question)?;
    let mut counts = [0_u16; 3];
    let mut truncated = false;
    let mut place = response.start;
    'sections: for (section, count) in counts.iter_mut().enumerate() {
        for _ in 0..response.counts[section] {
            let record = Record::parse(packet, place)?;
            place = record.end;
            let begin = writer.mark();
            match writer.record(packet, &record, section, renaming) {
                Ok(written) => *count += u16::from(written),
                Err(Stopped::Full) => {
                    writer.back_to(begin);
                    truncated = true;
                    break 'sections;
                }
                Err(Stopped::Broken) => return None,
            }
        }
    }
    let rcode = renaming.rcode(response.rcode());
    let passed = packet_error(packet, response);
    let has_opt = writer.opt(rcode, passed).is_some();
    let mut word = response.flags & !flags::RCODE | rcode & flags::RCODE;
    if truncated {
        word |= flags::TC;
    }
    let additionals = counts[2] + u16::from(has_opt);
    let id = u16_at(packet, 0)?;
    write_head(writer.out, [id, word, 1, counts[0], counts[1], additionals]);
    Some(writer.end)
}

/// Returns the extended error of the response, code and length included.
pub(super) fn packet_error<'a>(packet: &'a [u8], response: &Response) -> &'a [u8] {
    let error = response.opt.and_then(|opt| opt.extended_error);
    error.map_or(&[], |(start, end)| &packet[start..end])
}

/// Reason why a record was not written.
pub(super) enum Stopped {
    /// There is no room for it.
    Full,
    /// A name in it is malformed.
    Broken,
}

/// A message that is being written.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut [u8],
    /// End of the written part.
    pub(super) end: usize,
    pub(super) names: Names,
}

/// Offsets of names in a message that a pointer can point to.
pub(crate) struct Names {
    targets: [u16; TARGETS_MAX],
    /// Lengths of these names, uncompressed: only names of equal length are compared.
    lens: [u8; TARGETS_MAX],
    count: usize,
    /// Number of equal labels in comparisons that failed.
    steps: u32,
}

impl Names {
    /// The names of an empty message.
    pub(crate) const NONE: Self =
        Self { targets: [0; TARGETS_MAX], lens: [0; TARGETS_MAX], count: 0, steps: 0 };

    /// Number of names.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Removes all but the first `count` names.
    pub(crate) fn keep(&mut self, count: usize) {
        self.count = count;
    }
}

impl<'a> Writer<'a> {
    /// Begins a message whose header is written last, with the question: name, type and class.
    /// Returns `None` if there is no room for it.
    pub(super) fn new(out: &'a mut [u8], question: &[u8]) -> Option<Self> {
        let mut writer = Self { out, end: HEADER_LEN, names: Names::NONE };
        let (name, words) = question.split_at(question.len().checked_sub(4)?);
        writer.name(name, true)?;
        writer.bytes(words)?;
        Some(writer)
    }

    /// Returns the current state, for [`Writer::back_to`].
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.end, self.names.count)
    }

    /// Removes everything written since `mark`.
    pub(super) fn back_to(&mut self, mark: (usize, usize)) {
        (self.end, self.names.count) = mark;
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.end..self.end + bytes.len())?.copy_from_slice(bytes);
        self.end += bytes.len();
        Some(())
    }

    /// Writes a name, compressed if it `may_point` to an earlier one.
    pub(super) fn name(&mut self, name: &[u8], may_point: bool) -> Option<()> {
        let mut rest = name;
        while rest.len() > 1 {
            if may_point && let Some(target) = self.find(rest) {
                return self.bytes(&(0xc000 | target).to_be_bytes());
            }
            let Names { targets, lens, count, .. } = &mut self.names;
            if self.end <= POINTER_MAX && *count < TARGETS_MAX {
                targets[*count] = self.end as u16;
                lens[*count] = rest.len() as u8;
                *count += 1;
            }
            let (label, behind) = rest.split_at(1 + usize::from(rest[0]));
            self.bytes(label)?;
            rest = behind;
        }
        self.bytes(&[0])
    }

    /// Returns the offset of an earlier copy of `name`.
    fn find(&mut self, name: &[u8]) -> Option<u16> {
        let written = &self.out[..self.end];
        let Names { targets, lens, count, steps } = &mut self.names;
        for (target, len) in targets[..*count].iter().zip(lens) {
            if usize::from(*len) != name.len() || *steps > STEPS_MAX {
                continue;
            }
            match spells(written, usize::from(*target), name) {
                Ok(()) => return Some(*target),
                Err(equal) => *steps += equal,
            }
        }
        None
    }

    /// Writes data of a record of this type, in which no name is compressed. Returns `None` if they
    /// are malformed, or there is no room.
    pub(super) fn plain_data(&mut self, rtype: u16, data: &[u8]) -> Option<()> {
        let mut rest = data;
        for part in parts(rtype).unwrap_or_default() {
            let len = match part {
                Part::Bytes(len) => *len,
                Part::Text => 1 + usize::from(*rest.first()?),
                Part::Name | Part::PlainName => {
                    let mut len = 0;
                    while *rest.get(len)? != 0 {
                        len += 1 + usize::from(rest[len]);
                    }
                    let (name, behind) = rest.split_at_checked(len + 1)?;
                    self.name(name, *part == Part::Name)?;
                    rest = behind;
                    continue;
                }
            };
            let (bytes, behind) = rest.split_at_checked(len)?;
            self.bytes(bytes)?;
            rest = behind;
        }
        self.bytes(rest)
    }

    pub(super) fn record(
        &mut self,
        packet: &[u8],
        record: &Record,
        section: usize,
        renaming: &mut impl Renaming,
    ) -> Result<bool, Stopped> {
        let (mut owner, _) = WireName::read(packet, record.start).ok_or(Stopped::Broken)?;
        renaming.owner(&mut owner);
        if !renaming.keeps(section, record.rtype, owner.as_bytes()) {
            return Ok(false);
        }
        self.name(owner.as_bytes(), true).ok_or(Stopped::Full)?;
        let ttl = u32_at(packet, record.fixed + 4).ok_or(Stopped::Broken)?;
        let mut fixed = [0; 10];
        put_u16(&mut fixed, 0, record.rtype);
        put_u16(&mut fixed, 2, renaming.class(record.class));
        put_u32(&mut fixed, 4, renaming.ttl(ttl));
        self.bytes(&fixed).ok_or(Stopped::Full)?;
        let data = self.end;
        self.data(&packet[..record.end], record, renaming)?;
        let len = u16::try_from(self.end - data).map_err(|_| Stopped::Full)?;
        put_u16(self.out, data - 2, len);
        Ok(true)
    }

    /// Writes RDATA, which ends with `packet`.
    fn data(
        &mut self,
        packet: &[u8],
        record: &Record,
        renaming: &mut impl Renaming,
    ) -> Result<(), Stopped> {
        let mut place = record.data;
        for part in parts(record.rtype).unwrap_or_default() {
            let end = match part {
                Part::Bytes(len) => place + len,
                Part::Text => {
                    let len = *packet.get(place).ok_or(Stopped::Broken)?;
                    place + 1 + usize::from(len)
                }
                Part::Name | Part::PlainName => {
                    let (mut name, end) = WireName::read(packet, place).ok_or(Stopped::Broken)?;
                    // The root means that there is no name (SRV, SVCB, MX).
                    if name.len > 1 {
                        renaming.value(&mut name);
                    }
                    self.name(name.as_bytes(), *part == Part::Name).ok_or(Stopped::Full)?;
                    place = end;
                    continue;
                }
            };
            let bytes = packet.get(place..end).ok_or(Stopped::Broken)?;
            self.bytes(bytes).ok_or(Stopped::Full)?;
            place = end;
        }
        let rest = packet.get(place..).ok_or(Stopped::Broken)?;
        self.bytes(rest).ok_or(Stopped::Full)
    }

    /// Writes an OPT for the upper bits of `rcode` and the extended error `error`, if there are any
    /// and there is room.
    pub(super) fn opt(&mut self, rcode: u16, error: &[u8]) -> Option<()> {
        if rcode <= flags::RCODE && error.is_empty() {
            return None;
        }
        let end = self.end;
        let opt = super::opt::opt_record(0, false, (rcode >> 4) as u8, error.len());
        if self.bytes(&opt).is_none() || self.bytes(error).is_none() {
            self.end = end;
            return None;
        }
        Some(())
    }
}

/// Compares the name at `place` with `name`, regardless of letter case.
///
/// # Errors
/// If they differ: the number of equal labels before.
fn spells(written: &[u8], place: usize, name: &[u8]) -> Result<(), u32> {
    let (mut place, mut rest) = (place, name);
    let mut equal = 0;
    loop {
        let Some(&length) = written.get(place) else { return Err(equal) };
        if length >= 0xc0 {
            let Some(pointer) = u16_at(written, place) else { return Err(equal) };
            place = usize::from(pointer & 0x3fff);
            continue;
        }
        let end = place + 1 + usize::from(length);
        match (written.get(place..end), rest.get(..1 + usize::from(length))) {
            (Some(label), Some(other)) if label.eq_ignore_ascii_case(other) => {}
            _ => return Err(equal),
        }
        if length == 0 {
            return Ok(());
        }
        equal += 1;
        (place, rest) = (end, &rest[1 + usize::from(length)..]);
    }
}

#[cfg(test)]
mod tests {
    use super::{STEPS_MAX, Writer};

    /// A name of `count` labels `a` before `end`.
    fn name(count: usize, end: &[u8]) -> Vec<u8> {
        [b"\x01a".repeat(count), end.to_vec()].concat()
    }

    #[test]
    fn comparisons_of_names_are_bounded() {
        let mut out = [0; 65_535];
        let question = [name(110, b"\x01d\x04test\0"), vec![0, 1, 0, 1]].concat();
        let mut writer = Writer::new(&mut out, &question).unwrap();
        for number in 0..16 {
            let before = writer.end;
            writer.name(&name(110, &[1, b'e' + number, 4, b't', b'e', b's', b't', 0]), true);
            assert!(writer.end - before > 200);
        }
        assert!(writer.names.steps <= STEPS_MAX + 128, "{}", writer.names.steps);
    }

    #[test]
    fn a_name_points_to_the_longest_earlier_suffix() {
        let mut out = [0; 512];
        let mut writer = Writer::new(&mut out, b"\x01A\x01b\x04test\0\0\x01\0\x01").unwrap();
        let mut len = |name: &[u8]| {
            let before = writer.end;
            writer.name(name, true).unwrap();
            writer.end - before
        };
        assert_eq!(len(b"\x01a\x01B\x04test\0"), 2);
        assert_eq!(len(b"\x01c\x01b\x04test\0"), 4);
        assert_eq!(len(b"\x01b\x01c\x01b\x04test\0"), 4, "behind a pointer, too");
        assert_eq!(len(b"\x01b\x01a\x04test\0"), 6);
    }
}
