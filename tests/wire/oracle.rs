//! Messages as parsed by `domain`, as a reference for the views.
//!
//! Flat lists of plain data, so that tests compare field by field.

use domain::base::name::{Name, ToName};
use domain::base::opt::{Opt, UnknownOptData};
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, ParsedName};

/// The type of EDNS records.
pub(crate) const OPT: u16 = 41;

/// A question: name, type and class.
pub(crate) type Asking<'a> = (ParsedName<&'a [u8]>, u16, u16);

/// A record as `domain` reads it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) section: usize,
    pub(crate) owner: Name<Vec<u8>>,
    /// True if the owner contains a compression pointer.
    pub(crate) compressed: bool,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Seen {
    pub(crate) fn same_set(&self, other: &Self) -> bool {
        (self.section, self.rtype, self.class) == (other.section, other.rtype, other.class)
            && self.owner == other.owner
    }

    pub(crate) fn same_record(&self, other: &Self) -> bool {
        self.same_set(other) && self.ttl == other.ttl && self.data == other.data
    }
}

/// The questions and records of a message, or `None` if `domain` cannot read them.
pub(crate) fn read(packet: &[u8]) -> Option<(Vec<Asking<'_>>, Vec<Seen>)> {
    let message = Message::from_octets(packet).ok()?;
    let mut questions = Vec::new();
    for question in message.question() {
        let question = question.ok()?;
        let name = *question.qname();
        questions.push((name, question.qtype().to_int(), question.qclass().to_int()));
    }
    let mut section = message.question().next_section().ok()?;
    let mut seen = Vec::new();
    for number in 0..3 {
        loop {
            let start = section.pos();
            let Some(record) = section.next() else { break };
            let record = record.ok()?;
            let data = record.to_record::<UnknownRecordData<&[u8]>>().ok()??;
            seen.push(Seen {
                section: number,
                owner: record.owner().to_vec(),
                compressed: has_pointer(&packet[start..]),
                rtype: record.rtype().to_int(),
                class: record.class().to_int(),
                ttl: record.ttl().as_secs(),
                data: data.data().data().to_vec(),
                start,
                end: section.pos(),
            });
        }
        match section.next_section().ok()? {
            Some(next) => section = next,
            None => break,
        }
    }
    Some((questions, seen))
}

/// Returns true if the complete name at the beginning of `bytes` contains a pointer.
pub(crate) fn has_pointer(bytes: &[u8]) -> bool {
    let mut place = 0;
    while bytes[place] != 0 {
        if bytes[place] >= 0xc0 {
            return true;
        }
        place += 1 + usize::from(bytes[place]);
    }
    false
}

/// An OPT's options as `domain` reads them.
pub(crate) fn options_of(data: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let opt = Opt::from_slice(data).ok()?;
    let options = opt.iter::<UnknownOptData<&[u8]>>().map(|option| {
        let option = option.ok()?;
        Some((option.code().to_int(), option.data().to_vec()))
    });
    options.collect()
}
