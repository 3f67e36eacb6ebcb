//! Replies of our own, written record by record.
//!
//! A [`Composer`] writes a reply into the caller's buffer: header and question first, then records
//! as long as there is room, and last our OPT, for which room is reserved from the start. A record
//! that does not fit is omitted, with TC unless it is additional. Names in records are given in
//! wire format, so an owner can be a pointer to the QNAME ([`super::QNAME`]). The stages choose the
//! records; errors are replies without records.

use super::opt::EDE_LEN;
use super::query::Asked;
use super::rename::{Names, Writer};
use super::reply::{ExtendedError, Finish, opt_len, write_opt};
use super::{HEADER_LEN, Rcode, flags, option, put_u16, u16_at, write_head};

/// Maximum number of bytes of its text that are sent.
pub(crate) const EDE_TEXT_MAX: usize = crate::config::ERROR_TEXT_MAX;

/// Sections of a message, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Section {
    /// Answer section.
    Answer = 0,
    /// Authority section.
    Authority = 1,
    /// Additional section.
    Additional = 2,
}

/// One record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    /// The owner in wire format.
    pub(crate) owner: &'a [u8],
    /// The type.
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// The time to live, in seconds.
    pub(crate) ttl: u32,
    /// The data, in any number of parts.
    pub(crate) data: &'a [&'a [u8]],
}

/// Common fields of the records of an RRset to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSet<'a> {
    /// The owner in wire format, uncompressed.
    pub(crate) owner: &'a [u8],
    /// The type.
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// The time to live, in seconds.
    pub(crate) ttl: u32,
}

/// State of a reply to return to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    counts: [u16; 3],
    len: usize,
    full: bool,
    truncated: bool,
}

/// A reply of our own that is being written.
pub struct Composer<'a> {
    out: &'a mut [u8],
    asked: &'a Asked,
    finish: Finish<'a>,
    /// An extended error's code and text.
    why: Option<(u16, &'a [u8])>,
    questions: u16,
    counts: [u16; 3],
    len: usize,
    /// Limit for the end of the records, so that our OPT fits behind them.
    room: usize,
    /// A record did not fit, so all further ones are omitted.
    full: bool,
    /// A required record did not fit.
    truncated: bool,
}

impl<'a> Composer<'a> {
    /// Begins a reply of at most `limit` bytes in `out`. `question` is empty if the client's could
    /// not be read. `why`: an extended error for our OPT.
    ///
    /// `out` and `limit` hold at least a header, the question and our OPT.
    pub fn new(
        out: &'a mut [u8],
        limit: usize,
        asked: &'a Asked,
        question: &[u8],
        finish: Finish<'a>,
        why: Option<ExtendedError>,
    ) -> Self {
        let len = HEADER_LEN + question.len();
        out[HEADER_LEN..len].copy_from_slice(question);
        let error_len = if why.is_some() { EDE_LEN } else { 0 };
        let room = limit.min(out.len()) - opt_len(asked, error_len, &finish);
        let questions = u16::from(!question.is_empty());
        let (counts, full, truncated) = ([0; 3], false, false);
        let why = why.map(|why| (why as u16, &[][..]));
        Self { out, asked, finish, why, questions, counts, len, room, full, truncated }
    }

    /// Appends a record, sections in their order. If it does not fit, it and all further ones are
    /// omitted.
    pub(crate) fn record(&mut self, section: Section, record: &NewRecord<'_>) {
        let data_len: usize = record.data.iter().map(|part| part.len()).sum();
        let fixed = self.len + record.owner.len();
        if self.full || fixed + 10 + data_len > self.room {
            self.full = true;
            self.truncated |= section != Section::Additional;
            return;
        }
        self.out[self.len..fixed].copy_from_slice(record.owner);
        let ttl = [(record.ttl >> 16) as u16, record.ttl as u16];
        let words = [record.rtype, record.class, ttl[0], ttl[1], data_len as u16];
        words.iter().enumerate().for_each(|(i, word)| put_u16(self.out, fixed + 2 * i, *word));
        self.len = fixed + 10;
        for part in record.data {
            self.out[self.len..self.len + part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        self.counts[section as usize] += 1;
    }

    /// Returns the current state.
    pub(crate) fn mark(&self) -> Mark {
        let Self { counts, len, full, truncated, .. } = *self;
        Mark { counts, len, full, truncated }
    }

    /// Removes everything written since `mark`.
    pub(crate) fn back_to(&mut self, mark: &Mark) {
        let Mark { counts, len, full, truncated } = *mark;
        (self.counts, self.len, self.full, self.truncated) = (counts, len, full, truncated);
    }

    /// Returns the names of the question, as the initial state for [`Composer::set`].
    pub(crate) fn names(&mut self) -> Names {
        let mut writer = Writer { out: self.out, end: HEADER_LEN, names: Names::NONE };
        let mut name = [0; super::NAME_LEN_MAX];
        let len = self.len.saturating_sub(HEADER_LEN + 4).min(name.len());
        name[..len].copy_from_slice(&writer.out[HEADER_LEN..HEADER_LEN + len]);
        // The name is written already; this records its offset.
        writer.name(&name[..len], false);
        writer.names
    }

    /// Appends a whole RRset, sections in their order, with its names compressed. Returns false and
    /// writes nothing if it does not fit. `names` are those of the message so far.
    pub(crate) fn set<'d>(
        &mut self,
        section: Section,
        set: &NewSet<'_>,
        data: impl Iterator<Item = &'d [u8]>,
        names: &mut Names,
    ) -> bool {
        let out = &mut self.out[..self.room];
        let own = std::mem::replace(names, Names::NONE);
        let mut writer = Writer { out, end: self.len, names: own };
        let mark = writer.mark();
        let mut count = 0;
        let mut pointer = None;
        let is_whole =
            data.map(|data| write_of(&mut writer, set, data, &mut pointer)).all(|done| {
                count += 1;
                done.is_some()
            });
        if is_whole {
            self.len = writer.end;
            self.counts[section as usize] += count;
        } else {
            writer.back_to(mark);
        }
        *names = writer.names;
        is_whole
    }

    /// Sets TC, because a required record did not fit.
    pub(crate) fn lacks(&mut self) {
        self.truncated = true;
    }

    /// Removes everything written since `mark` if not all of it fit: for optional records, so that
    /// TC does not make the client retry over TCP (RFC 2181 §9).
    pub(crate) fn keep_whole(&mut self, mark: &Mark) {
        if self.full && !mark.full {
            (self.counts, self.len) = (mark.counts, mark.len);
            (self.full, self.truncated) = (false, mark.truncated);
        }
    }

    /// Adds an extended error of any code, if the client uses EDNS. `text` is cut to the room that
    /// there is and to [`EDE_TEXT_MAX`] bytes. To be called before any record.
    pub(crate) fn explain(&mut self, code: u16, text: &'a [u8]) {
        if self.asked.edns.is_none() || self.why.is_some() {
            return;
        }
        let Some(room) = self.room.checked_sub(self.len + EDE_LEN) else { return };
        let text = &text[..text.len().min(room).min(EDE_TEXT_MAX)];
        self.room -= EDE_LEN + text.len();
        self.why = Some((code, text));
    }

    /// Returns true if a record did not fit, so that further ones are useless.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Completes the reply and returns its length. Opcode, RD and CD are the client's; `bits` are
    /// set in addition.
    pub(crate) fn end(self, bits: u16, rcode: Rcode) -> usize {
        self.end_as(bits, rcode as u16)
    }

    /// The same with any response code; one that needs EDNS becomes SERVFAIL for a client without.
    pub(crate) fn end_as(self, bits: u16, code: u16) -> usize {
        let fits = code <= flags::RCODE || self.asked.edns.is_some();
        let code = if fits { code } else { Rcode::ServFail as u16 };
        let carried = self.asked.flags & (flags::OPCODE | flags::RD | flags::CD);
        let cut = if self.truncated { flags::TC } else { 0 };
        let word = flags::QR | bits | cut | carried | (code & flags::RCODE);
        let [answers, authorities, additionals] = self.counts;
        let additionals = additionals + u16::from(self.asked.edns.is_some());
        let word = self.finish.header.apply(word);
        let header = [self.asked.id, word, self.questions, answers, authorities, additionals];
        write_head(self.out, header);
        let Self { out, len, asked, finish, why, .. } = self;
        let high = (code >> 4) as u8;
        len + match why {
            None => write_opt(out, len, asked, high, &[], &finish),
            Some((code, [])) => write_opt(out, len, asked, high, &error_option(code, 0), &finish),
            Some((code, text)) => {
                let mut error = [0; EDE_LEN + EDE_TEXT_MAX];
                error[..EDE_LEN].copy_from_slice(&error_option(code, text.len()));
                error[EDE_LEN..EDE_LEN + text.len()].copy_from_slice(text);
                write_opt(out, len, asked, high, &error[..EDE_LEN + text.len()], &finish)
            }
        }
    }
}

/// Writes a record of `set`. `pointer` refers to its owner, once that is written.
fn write_of(
    writer: &mut Writer<'_>,
    set: &NewSet<'_>,
    data: &[u8],
    pointer: &mut Option<u16>,
) -> Option<()> {
    let start = writer.end;
    match pointer {
        Some(pointer) => writer.bytes(&pointer.to_be_bytes())?,
        None => {
            writer.name(set.owner, true)?;
            let is_pointer = writer.end == start + 2 && writer.out[start] >= 0xc0;
            let own = (start < 0x4000 && set.owner.len() > 1).then_some(0xc000 | start as u16);
            *pointer = if is_pointer { u16_at(writer.out, start) } else { own };
        }
    }
    let ttl = [(set.ttl >> 16) as u16, set.ttl as u16];
    for word in [set.rtype, set.class, ttl[0], ttl[1], 0] {
        writer.bytes(&word.to_be_bytes())?;
    }
    let begin = writer.end;
    writer.plain_data(set.rtype, data)?;
    let len = u16::try_from(writer.end - begin).ok()?;
    put_u16(writer.out, begin - 2, len);
    Some(())
}

/// Option of an extended error, code and length included.
pub(crate) fn extended_error(why: ExtendedError) -> [u8; EDE_LEN] {
    error_option(why as u16, 0)
}

/// The same for any code, followed by a text of `text_len` bytes.
fn error_option(code: u16, text_len: usize) -> [u8; EDE_LEN] {
    let mut error = [0; EDE_LEN];
    let words = [option::EDE, 2 + text_len as u16, code];
    words.iter().enumerate().for_each(|(i, word)| put_u16(&mut error, 2 * i, *word));
    error
}

/// Writes an error into `out`, which holds at least [`super::reply::ERROR_LEN_MAX`] bytes, and
/// returns its length. `question` is empty if the client's could not be read. RA is set because
/// this server offers recursion.
pub fn write_error(
    out: &mut [u8],
    asked: &Asked,
    question: &[u8],
    rcode: Rcode,
    why: Option<ExtendedError>,
    finish: Finish<'_>,
) -> usize {
    let limit = out.len();
    let finish = Finish { header: Finish::PLAIN.header, ..finish };
    Composer::new(out, limit, asked, question, finish, why).end(flags::RA, rcode)
}

#[cfg(test)]
mod tests {
    use super::{Composer, NewRecord, Section};
    use crate::engine::message::QNAME;
    use crate::engine::message::UDP_PAYLOAD_MAX;
    use crate::engine::message::query::{Asked, Edns};
    use crate::engine::message::reply::Finish;
    use crate::engine::message::response::Response;
    use crate::engine::message::{Rcode, flags};

    const QUESTION: &[u8] = b"\x01a\x04test\x00\x00\x10\x00\x03";

    fn asked() -> Asked {
        let edns = Edns {
            udp_size: 512,
            dnssec_ok: false,
            compact_ok: false,
            keepalive: false,
            nsid: true,
            padding: false,
            cookie: None,
        };
        Asked { id: 7, flags: flags::RD, edns: Some(edns) }
    }

    #[test]
    fn records_go_to_their_sections_and_our_opt_comes_last() {
        let (asked, mut out) = (asked(), [0; UDP_PAYLOAD_MAX]);
        let finish = Finish { nsid: Some(b"me"), ..Finish::PLAIN };
        let mut composer = Composer::new(&mut out, 512, &asked, QUESTION, finish, None);
        let record =
            NewRecord { owner: &QNAME, rtype: 16, class: 3, ttl: 1, data: &[b"\x01", b"x"] };
        composer.record(Section::Answer, &record);
        composer.record(Section::Additional, &record);
        let len = composer.end(flags::AA, Rcode::NoError);
        let response = Response::parse(&out[..len]).unwrap();
        assert_eq!(response.counts, [1, 0, 1]);
        assert_eq!(response.flags, flags::QR | flags::AA | flags::RD);
        assert!(response.opt.is_some());
        assert!(out[..len].ends_with(b"\x00\x06\x00\x03\x00\x02me"), "{:x?}", &out[..len]);
    }

    #[test]
    fn records_that_do_not_fit_are_omitted_with_tc() {
        let (asked, mut out) = (asked(), [0; UDP_PAYLOAD_MAX]);
        let finish = Finish { nsid: Some(&[b'n'; 64]), ..Finish::PLAIN };
        let mut composer = Composer::new(&mut out, 512, &asked, QUESTION, finish, None);
        for _ in 0..3 {
            let record =
                NewRecord { owner: &QNAME, rtype: 16, class: 3, ttl: 0, data: &[&[1; 180]] };
            composer.record(Section::Answer, &record);
        }
        let len = composer.end(0, Rcode::NoError);
        let response = Response::parse(&out[..len]).unwrap();
        assert_eq!(response.counts, [2, 0, 0]);
        assert!(response.flags & flags::TC != 0 && len <= 512, "{len}");
    }

    #[test]
    fn an_additional_record_that_does_not_fit_sets_no_tc() {
        let (asked, mut out) = (asked(), [0; UDP_PAYLOAD_MAX]);
        let mut composer = Composer::new(&mut out, 512, &asked, QUESTION, Finish::PLAIN, None);
        for section in [Section::Answer, Section::Additional, Section::Additional] {
            let data: &[&[u8]] = &[&[1; 250]];
            composer
                .record(section, &NewRecord { owner: &QNAME, rtype: 16, class: 3, ttl: 0, data });
        }
        let len = composer.end(0, Rcode::NoError);
        let response = Response::parse(&out[..len]).unwrap();
        assert_eq!((response.counts, response.flags & flags::TC), ([1, 0, 0], 0));
    }
}
