//! Replies that are put together from several.
//!
//! Where the reply to a client ends with an alias, a second query resolves its target, and [`join`]
//! writes one message of both. [`retarget`] cuts a reply behind an alias and gives it another
//! target. [`Joiner`] writes for these and other callers: records of any message, in the order of
//! the sections, compressed again, as if an upstream had sent them.

use super::name::WireName;
use super::rename::{Renaming, Stopped, Writer, packet_error};
use super::response::Response;
use super::{HEADER_LEN, Question, Rcode, Record, flags, put_u16, put_u32, rtype, write_head};

/// Maximum number of aliases of one reply that are followed.
const ALIASES_MAX: usize = 16;

/// Renaming that changes nothing, and limits TTLs.
struct Unchanged {
    ttl_max: u32,
}

impl Renaming for Unchanged {
    fn owner(&mut self, _: &mut WireName) {}

    fn value(&mut self, _: &mut WireName) {}

    fn ttl(&self, ttl: u32) -> u32 {
        ttl.min(self.ttl_max)
    }

    fn rcode(&self, rcode: u16) -> u16 {
        rcode
    }

    fn keeps(&self, _: usize, _: u16, _: &[u8]) -> bool {
        true
    }

    fn class(&self, class: u16) -> u16 {
        class
    }
}

/// A message that is composed of records of other messages.
pub(crate) struct Joiner<'a> {
    writer: Writer<'a>,
    counts: [u16; 3],
    full: bool,
}

impl<'a> Joiner<'a> {
    /// Begins a message with this question in wire format: name, type and class. Returns `None` if
    /// `out` has no room for it.
    pub(crate) fn new(out: &'a mut [u8], question: &[u8]) -> Option<Self> {
        Some(Self { writer: Writer::new(out, question)?, counts: [0; 3], full: false })
    }

    /// Appends `record` of `packet` to this section (0: answer, 1: authority, 2: additional);
    /// sections come in their order. Returns `None` if a name in it is malformed.
    pub(crate) fn copy(&mut self, section: usize, packet: &[u8], record: &Record) -> Option<()> {
        self.copy_capped(section, packet, record, u32::MAX)
    }

    /// The same with a TTL of at most `ttl_max`.
    pub(crate) fn copy_capped(
        &mut self,
        section: usize,
        packet: &[u8],
        record: &Record,
        ttl_max: u32,
    ) -> Option<()> {
        if self.full {
            return Some(());
        }
        let mark = self.writer.mark();
        match self.writer.record(packet, record, section, &mut Unchanged { ttl_max }) {
            Ok(_) => self.counts[section] += 1,
            Err(Stopped::Full) => {
                self.writer.back_to(mark);
                self.full = true;
            }
            Err(Stopped::Broken) => return None,
        }
        Some(())
    }

    /// Appends all records of a section of `response`, found in `packet`, that are `wanted`.
    /// Returns `None` if a name in one is malformed.
    pub(crate) fn copy_all(
        &mut self,
        section: usize,
        packet: &[u8],
        response: &Response,
        wanted: impl Fn(&Record) -> bool,
    ) -> Option<()> {
        let records = records(packet, response).filter(|(of, _)| *of == section);
        for (_, record) in records.filter(|(_, record)| wanted(record)) {
            self.copy(section, packet, &record)?;
        }
        Some(())
    }

    /// Appends a record of class IN with data without names to the answer section.
    pub(crate) fn answer(&mut self, owner: &WireName, rtype: u16, ttl: u32, data: &[u8]) {
        self.append(0, owner, rtype, ttl, &[data]);
    }

    /// Appends a record of class IN to this section; in `data`, given in parts, no name is
    /// compressed.
    pub(crate) fn append(
        &mut self,
        section: usize,
        owner: &WireName,
        rtype: u16,
        ttl: u32,
        data: &[&[u8]],
    ) {
        self.own(section, owner, rtype, ttl, |writer| {
            data.iter().try_for_each(|part| writer.bytes(part))
        });
    }

    /// Appends a CNAME record of class IN to the answer section.
    pub(crate) fn alias(&mut self, owner: &WireName, ttl: u32, target: &WireName) {
        self.own(0, owner, rtype::CNAME, ttl, |writer| writer.name(target.as_bytes(), true));
    }

    fn own(
        &mut self,
        section: usize,
        owner: &WireName,
        rtype: u16,
        ttl: u32,
        data: impl FnOnce(&mut Writer<'a>) -> Option<()>,
    ) {
        if self.full {
            return;
        }
        let mark = self.writer.mark();
        let mut fixed = [0; 10];
        put_u16(&mut fixed, 0, rtype);
        put_u16(&mut fixed, 2, super::class::IN);
        put_u32(&mut fixed, 4, ttl);
        let head = self.writer.name(owner.as_bytes(), true);
        let head = head.and_then(|()| self.writer.bytes(&fixed));
        let begin = self.writer.end;
        match head.and_then(|()| data(&mut self.writer)) {
            Some(()) => {
                let len = (self.writer.end - begin) as u16;
                put_u16(self.writer.out, begin - 2, len);
                self.counts[section] += 1;
            }
            None => {
                self.writer.back_to(mark);
                self.full = true;
            }
        }
    }

    /// Completes the message, with these flags, a response code of 12 bits and an extended error,
    /// code and length included. Returns its length. TC is set if a record did not fit.
    pub(crate) fn end(mut self, bits: u16, rcode: u16, error: &[u8]) -> usize {
        let has_opt = self.writer.opt(rcode, error).is_some();
        let cut = if self.full { flags::TC } else { 0 };
        let word = flags::QR | bits & !flags::RCODE | cut | rcode & flags::RCODE;
        let [answers, authorities, additionals] = self.counts;
        let additionals = additionals + u16::from(has_opt);
        write_head(self.writer.out, [0, word, 1, answers, authorities, additionals]);
        self.writer.end
    }
}

/// The records of `response`, found in `packet`, each with the number of its section.
pub(crate) fn records(packet: &[u8], response: &Response) -> impl Iterator<Item = (usize, Record)> {
    let [answers, authorities, additionals] = response.counts.map(usize::from);
    let mut place = response.start;
    (0..answers + authorities + additionals).map_while(move |number| {
        let record = Record::parse(packet, place)?;
        place = record.end;
        let behind_answers = usize::from(number >= answers);
        let section = behind_answers + usize::from(number >= answers + authorities);
        Some((section, record))
    })
}

/// An alias in an answer section.
pub(crate) struct Alias {
    /// Index of its record in the section.
    pub(crate) place: usize,
    /// Target of the alias.
    pub(crate) target: WireName,
}

pub(crate) fn owner(packet: &[u8], record: &Record) -> Option<WireName> {
    Some(WireName::read(packet, record.start)?.0)
}

/// Returns the chain of aliases from the QNAME on, at most `ALIASES_MAX`.
pub(crate) fn aliases(packet: &[u8], response: &Response) -> Vec<Alias> {
    let mut found: Vec<Alias> = Vec::new();
    let Some(question) = Question::parse(packet) else { return found };
    let mut name = WireName::new(question.name(packet));
    while found.len() < ALIASES_MAX {
        let answers = records(packet, response).take_while(|(section, _)| *section == 0);
        let next = answers.enumerate().find_map(|(place, (_, record))| {
            let leads = record.rtype == rtype::CNAME
                && found.iter().all(|alias| alias.place != place)
                && is_at(packet, record.start, &name);
            let target = leads.then(|| WireName::read(packet, record.data))??;
            Some(Alias { place, target: target.0 })
        });
        let Some(alias) = next else { break };
        name = alias.target;
        found.push(alias);
    }
    found
}

/// Returns true if the name at `place` is `name`, regardless of letter case.
pub(crate) fn is_at(packet: &[u8], place: usize, name: &WireName) -> bool {
    WireName::read(packet, place)
        .is_some_and(|(found, _)| found.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
}

/// Returns the target of the last alias of a positive reply that has no record of the target. A
/// truncated reply has none, because its client asks again.
pub(crate) fn open_alias(packet: &[u8]) -> Option<WireName> {
    let response = Response::parse(packet)?;
    if response.rcode() != Rcode::NoError as u16 || response.flags & flags::TC != 0 {
        return None;
    }
    let last = aliases(packet, &response).pop()?;
    let answers = records(packet, &response).take_while(|(section, _)| *section == 0);
    let mut behind = answers.filter(|(_, record)| is_at(packet, record.start, &last.target));
    behind.next().is_none().then_some(last.target)
}

/// Writes the reply `head` into `out` up to its alias number `place`, which gets `target`. The
/// other sections stay. Returns `None` if a name is malformed.
pub(crate) fn retarget(
    head: &[u8],
    place: usize,
    target: &WireName,
    question: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let response = Response::parse(head)?;
    let chain = aliases(head, &response);
    let end = chain.iter().position(|alias| alias.place == place)?;
    let mut joiner = Joiner::new(out, question)?;
    for (number, alias) in chain[..=end].iter().enumerate() {
        let record = records(head, &response).nth(alias.place)?.1;
        if number < end {
            joiner.copy(0, head, &record)?;
        } else {
            let ttl = super::u32_at(head, record.fixed + 4)?;
            joiner.alias(&owner(head, &record)?, ttl, target);
        }
    }
    joiner.copy_all(1, head, &response, |_| true)?;
    joiner.copy_all(2, head, &response, |_| true)?;
    Some(joiner.end(response.flags, response.rcode(), packet_error(head, &response)))
}

/// Writes the reply `head`, which ends with an alias, and the answer of `tail` for the alias's
/// target into `out`. The response code is the target's (RFC 6604 §3). If the target is refused,
/// the client gets the alias alone; if it fails, so does the reply, with the aliases of our own
/// zones. Returns `None` if a name is malformed.
pub(crate) fn join(head: &[u8], tail: &[u8], question: &[u8], out: &mut [u8]) -> Option<usize> {
    let (first, second) = (Response::parse(head)?, Response::parse(tail)?);
    let found = second.rcode();
    let mut joiner = Joiner::new(out, question)?;
    let is_own = first.flags & flags::AA != 0;
    if found == Rcode::ServFail as u16 {
        let error = packet_error(tail, &second);
        if !is_own {
            return Some(joiner.end(flags::RA, found, error));
        }
        joiner.copy_all(0, head, &first, |_| true)?;
        // A loop of aliases repeats records that are there already.
        joiner.copy_all(0, tail, &second, |record| !has_set(head, &first, tail, record))?;
        return Some(joiner.end(first.flags & !flags::AD, found, error));
    }
    joiner.copy_all(0, head, &first, |_| true)?;
    let answers = [Rcode::NoError, Rcode::NxDomain, Rcode::YxDomain];
    let is_answer = answers.iter().any(|rcode| found == *rcode as u16);
    if is_answer {
        joiner.copy_all(0, tail, &second, |_| true)?;
    }
    joiner.copy_all(1, head, &first, |_| true)?;
    // The authority section of a head from our own zones has only the proofs of its aliases.
    let ends = is_answer && (is_own || first.counts[1] == 0) && denies(tail, &second);
    if ends {
        joiner.copy_all(1, tail, &second, |_| true)?;
    }
    joiner.copy_all(2, head, &first, |_| true)?;
    if ends {
        // The addresses of a referral.
        joiner.copy_all(2, tail, &second, |_| true)?;
    }
    let rcode = match found {
        _ if is_answer => found,
        _ if first.rcode() == Rcode::NxDomain as u16 => Rcode::NoError as u16,
        _ => first.rcode(),
    };
    let error = match packet_error(head, &first) {
        [] => packet_error(tail, &second),
        error => error,
    };
    // AD requires that both parts are authentic.
    let bits = first.flags & (second.flags | !flags::AD) | second.flags & flags::TC;
    Some(joiner.end(bits, rcode, error))
}

/// Returns true if the answer section of `head` has an RRset of the name and type of `record`,
/// found in `packet`.
fn has_set(head: &[u8], response: &Response, packet: &[u8], record: &Record) -> bool {
    let Some(name) = owner(packet, record) else { return false };
    let mut answers = records(head, response).take_while(|(section, _)| *section == 0);
    answers.any(|(_, found)| found.rtype == record.rtype && is_at(head, found.start, &name))
}

/// Returns true if a reply has no record of the type that was asked for.
fn denies(packet: &[u8], response: &Response) -> bool {
    let Some(question) = Question::parse(packet) else { return false };
    let mut answers = records(packet, response).take_while(|(section, _)| *section == 0);
    !answers.any(|(_, record)| record.rtype == question.rtype || question.rtype == rtype::ANY)
}

/// Restores the spelling of the QNAME in `reply` to `name`, which differs in letter case at most.
pub(crate) fn spell(reply: &mut [u8], name: &WireName) {
    let name = name.as_bytes();
    if let Some(written) = reply.get_mut(HEADER_LEN..HEADER_LEN + name.len())
        && written.eq_ignore_ascii_case(name)
    {
        written.copy_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use super::{Joiner, WireName, aliases, join, open_alias, records, retarget};
    use crate::engine::message::response::Response;
    use crate::engine::message::{Rcode, flags, rtype};

    const QUESTION: &[u8] = b"\x01a\x04test\x00\x00\x01\x00\x01";

    fn name(text: &[u8]) -> WireName {
        WireName::new(text)
    }

    /// A message with these aliases, and an address at the end if there is one.
    fn message(
        question: &[u8],
        chain: &[(&[u8], &[u8])],
        address: Option<&[u8]>,
        rcode: u16,
    ) -> Vec<u8> {
        let mut out = [0; 512];
        let mut joiner = Joiner::new(&mut out, question).unwrap();
        for (owner, target) in chain {
            joiner.alias(&name(owner), 60, &name(target));
        }
        if let Some(owner) = address {
            joiner.answer(&name(owner), rtype::A, 30, &[192, 0, 2, 1]);
        }
        let len = joiner.end(flags::RA, rcode, &[]);
        out[..len].to_vec()
    }

    #[test]
    fn an_alias_is_open_unless_the_reply_has_its_target() {
        let (a, b, c): (&[u8], &[u8], &[u8]) = (b"\x01A\x04test\0", b"\x01b\0", b"\x01c\0");
        let open = |chain: &[_], address| open_alias(&message(QUESTION, chain, address, 0));
        assert!(open(&[], Some(a)).is_none());
        assert_eq!(open(&[(a, b)], None).unwrap().as_bytes(), b);
        assert_eq!(open(&[(b, c), (a, b)], None).unwrap().as_bytes(), c, "any order");
        assert!(open(&[(a, b)], Some(b)).is_none());
        assert!(open_alias(&message(QUESTION, &[(a, b)], None, 3)).is_none());
        let circle = message(QUESTION, &[(a, b), (b, a)], None, 0);
        assert_eq!(aliases(&circle, &Response::parse(&circle).unwrap()).len(), 2);
    }

    #[test]
    fn a_reply_continues_with_the_target_of_its_alias() {
        let (a, b): (&[u8], &[u8]) = (b"\x01a\x04test\0", b"\x01b\0");
        let head = message(QUESTION, &[(a, b)], None, 0);
        let asked = b"\x01b\x00\x00\x01\x00\x01";
        let joined = |tail: &[u8]| {
            let mut out = [0; 512];
            let len = join(&head, tail, QUESTION, &mut out).unwrap();
            let response = Response::parse(&out[..len]).unwrap();
            (response.rcode(), records(&out[..len], &response).count())
        };
        assert_eq!(joined(&message(asked, &[], Some(b), 0)), (0, 2));
        assert_eq!(joined(&message(asked, &[], None, 3)), (3, 1));
        assert_eq!(joined(&message(asked, &[], Some(b), 2)), (2, 0));
        let refused = Rcode::Refused as u16;
        assert_eq!(joined(&message(asked, &[], None, refused)), (0, 1), "the alias is no secret");
    }

    #[test]
    fn aliases_of_our_own_zones_stay_where_their_end_fails() {
        let (a, b, c): (&[u8], &[u8], &[u8]) = (b"\x01a\x04test\0", b"\x01b\0", b"\x01c\0");
        let mut head = message(QUESTION, &[(a, b)], None, 0);
        head[2] |= 4;
        let circle = message(b"\x01b\x00\x00\x01\x00\x01", &[(b, c), (c, a), (a, b)], None, 2);
        let mut out = [0; 512];
        let len = join(&head, &circle, QUESTION, &mut out).unwrap();
        let response = Response::parse(&out[..len]).unwrap();
        assert_eq!((response.rcode(), response.counts), (2, [3, 0, 0]));
        assert_ne!(response.flags & flags::AA, 0);
    }

    #[test]
    fn a_retargeted_alias_has_no_records_behind_it() {
        let (a, b, c): (&[u8], &[u8], &[u8]) = (b"\x01a\x04test\0", b"\x01b\0", b"\x01c\0");
        let head = message(QUESTION, &[(a, b), (b, c)], Some(c), 0);
        let mut out = [0; 512];
        let len = retarget(&head, 1, &name(b"\x01z\0"), QUESTION, &mut out).unwrap();
        let response = Response::parse(&out[..len]).unwrap();
        let chain = aliases(&out[..len], &response);
        let targets: Vec<_> = chain.iter().map(|alias| alias.target.as_bytes()).collect();
        assert_eq!((targets, response.counts), (vec![b, b"\x01z\0"], [2, 0, 0]));
    }
}
