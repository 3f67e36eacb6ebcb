//! Responses in words: those of upstreams, and replies to clients.
//!
//! [`Said`] is both. An upstream's response is written to bytes, with the scenario's [`Lints`]; a
//! client's reply is parsed by the `domain` crate, and the rules for every reply (ID, question as
//! asked, RD and CD, an OPT if and only if the client sent one) are checked implicitly.

use super::ask::Ask;
use super::common::wire::{Writer, question_of, wire_name, word_at};
use super::words::{
    COOKIE, EdnsOption, OUR_SIZE, Problem, bytes_of, hex, kind_name, number, option_of,
    option_words, options_bytes, parts, rcode_name, rcode_of, rtype_of, unknown,
};
use domain::base::Message;
use domain::base::name::ToName;
use domain::base::opt::UnknownOptData;
use domain::base::rdata::UnknownRecordData;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A message's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    rcode: u16,
    /// AA, TC, RA and AD.
    flags: u16,
    records: Vec<Record>,
    question: bool,
    /// `None` for the default.
    edns: Option<bool>,
    options: Vec<EdnsOption>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    section: usize,
    rtype: u16,
    ttl: u32,
    data: Vec<u8>,
}

/// Deliberate defects and oddities of an upstream's message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lints {
    wrong_id: bool,
    wrong_name: bool,
    wrong_rtype: bool,
    wrong_class: bool,
    is_query: bool,
    opcode: u16,
    questions: Option<u16>,
    more_counted: u16,
    opts: u16,
    dnssec_ok: bool,
    spelt: Option<String>,
    cut: Option<usize>,
    /// True if the message exceeds the receive buffer.
    pub(crate) beyond_buffer: bool,
    /// Query on whose connection the message arrives instead.
    pub(crate) connection_of: Option<String>,
    /// True if our socket is closed already.
    pub(crate) to_closed_port: bool,
}

/// Maximum length of a client's reply.
pub(crate) type LengthMax = Option<usize>;

const FLAGS: [(&str, u16); 4] = [("aa", 0x0400), ("tc", 0x0200), ("ra", 0x0080), ("ad", 0x0020)];
const RA: u16 = 0x0080;
const SECTIONS: [&str; 3] = ["answer", "authority", "additional"];
const TTL: u32 = 300;
const SOA: &[u8] =
    b"\x02ns\x00\x05admin\x00\0\0\0\x01\0\0\x0e\x10\0\0\x02\x58\0\x01\x51\x80\0\0\0\x3c";

impl Said {
    /// Parses an upstream's response: `RCODE [RECORDS][, WORDS]…`
    pub(crate) fn by_upstream(phrase: &str) -> Result<(Self, Lints), Problem> {
        let mut odd = Lints { opts: 1, ..Lints::default() };
        let said = Self::parse(phrase, |words| {
            match words {
                ["wrong", "id"] => odd.wrong_id = true,
                ["wrong", "name"] => odd.wrong_name = true,
                ["wrong", "type"] => odd.wrong_rtype = true,
                ["wrong", "class"] => odd.wrong_class = true,
                ["as", "a", "query"] => odd.is_query = true,
                ["opcode", opcode] => odd.opcode = number(opcode)?,
                [count, "questions"] => odd.questions = Some(number(count)?),
                ["counting", count, "more"] => odd.more_counted = number(count)?,
                [count, "opts"] => odd.opts = number(count)?,
                ["do"] => odd.dnssec_ok = true,
                ["spelt", name] => odd.spelt = Some((*name).to_owned()),
                ["cut", "to", length, "bytes"] => odd.cut = Some(number(length)?),
                ["beyond", "the", "buffer"] => odd.beyond_buffer = true,
                ["on", "the", "connection", "of", query] => {
                    odd.connection_of = Some((*query).to_owned());
                }
                ["to", "a", "closed", "port"] => odd.to_closed_port = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((said, odd))
    }

    /// Parses a client's reply: `RCODE [RECORDS][, WORDS]…`
    pub(crate) fn to_client(phrase: &str) -> Result<(Self, LengthMax), Problem> {
        let mut length_max = None;
        let said = Self::parse(phrase, |words| {
            let ["in", "at", "most", length, "bytes"] = words else { return Ok(false) };
            length_max = Some(number(length)?);
            Ok(true)
        })?;
        Ok((said, length_max))
    }

    fn parse(
        phrase: &str,
        mut special: impl FnMut(&[&str]) -> Result<bool, Problem>,
    ) -> Result<Self, Problem> {
        let mut parts = parts(phrase);
        let rcode = rcode_of(parts[0].first().unwrap_or(&""))?;
        parts[0].remove(0);
        let mut said = Self {
            rcode,
            flags: RA,
            records: Vec::new(),
            question: true,
            edns: None,
            options: Vec::new(),
        };
        let mut ttl = TTL;
        for words in parts.iter().enumerate().filter(|(at, part)| *at > 0 || !part.is_empty()) {
            match &words.1[..] {
                ["ttl", seconds] => ttl = number(seconds)?,
                ["no", "question"] => said.question = false,
                ["no", "edns"] => said.edns = Some(false),
                ["no", "ra"] => said.flags &= !RA,
                [flag] if FLAGS.iter().any(|(name, _)| name == flag) => {
                    let known = FLAGS.iter().find(|(name, _)| name == flag);
                    said.flags |= known.map_or(0, |(_, bit)| *bit);
                }
                words if special(words)? => {}
                words => match option_of(words)? {
                    Some(option) => said.options.push(option),
                    None => said.records.extend(records(words)?),
                },
            }
        }
        said.records.iter_mut().for_each(|record| record.ttl = ttl);
        said.records.sort_by_key(|record| record.section);
        Ok(said)
    }

    /// The bytes of an upstream's response to `query`.
    pub(crate) fn bytes(&self, query: &[u8], odd: &Lints) -> Vec<u8> {
        let mut flags = 0x8000 | self.flags | word_at(query, 2) & 0x0110 | odd.opcode << 11;
        flags |= self.rcode & 0x000f;
        if odd.is_query {
            flags &= !0x8000;
        }
        let count = |section| self.records.iter().filter(|r| r.section == section).count() as u16;
        let opts = if self.edns == Some(false) { 0 } else { odd.opts };
        let questions = odd.questions.unwrap_or(u16::from(self.question));
        let mut counts = [questions, count(0), count(1), count(2) + opts];
        counts[1] += odd.more_counted;
        let id = word_at(query, 0) ^ u16::from(odd.wrong_id);
        let mut writer = Writer::new([id, flags, counts[0], counts[1], counts[2], counts[3]]);
        for _ in 0..questions {
            writer.bytes.extend(odd.question(query));
        }
        let owner: &[u8] = if questions > 0 { &[0xc0, 12] } else { &[0] };
        for record in &self.records {
            writer.record(owner, record.rtype, 1, record.ttl, &record.data);
        }
        for _ in 0..opts {
            let high = (self.rcode >> 4) as u8;
            writer.opt(OUR_SIZE, high, 0, odd.dnssec_ok, &options_bytes(&self.options));
        }
        writer.bytes.truncate(odd.cut.unwrap_or(usize::MAX));
        writer.bytes
    }

    /// Parses the `reply` to `query`, which `ask` describes unless it was raw.
    pub(crate) fn read(reply: &[u8], query: &[u8], ask: Option<&Ask>) -> Result<Self, Problem> {
        let broken = |what: &str| format!("a client got a reply with {what}: {}", hex(reply));
        let message = Message::from_octets(reply).map_err(|_| broken("half a header"))?;
        let (was, is) = (word_at(query, 2), word_at(reply, 2));
        if word_at(query, 0) != word_at(reply, 0) {
            return Err(broken("another id"));
        }
        // QR, the opcode, RD and CD; the bit between AD and RA is reserved.
        if is & 0xf950 != 0x8000 | was & 0x7910 {
            return Err(broken("wrong header flags"));
        }
        let asked = ask.map(|ask| ask.question.bytes());
        let questions = message.header_counts().qdcount();
        if questions > 1 || questions == 1 && Some(question_of(reply)) != asked.as_deref() {
            return Err(broken("another question"));
        }
        let opts = message.header_counts().arcount().min(1);
        let mut said = Self {
            rcode: is & 0x000f,
            flags: is & FLAGS.iter().fold(0, |all, (_, bit)| all | bit),
            records: Vec::new(),
            question: questions == 1,
            edns: Some(opts > 0 && message.opt().is_some()),
            options: Vec::new(),
        };
        said.read_records(&message, ask).ok_or_else(|| broken("broken or foreign records"))?;
        if let Some(opt) = message.opt() {
            let dnssec_ok = ask.is_some_and(Ask::dnssec_ok);
            if (opt.udp_payload_size(), opt.version(), opt.dnssec_ok()) != (OUR_SIZE, 0, dnssec_ok)
            {
                return Err(broken("an OPT that is not ours"));
            }
            said.rcode = opt.rcode(message.header()).to_int();
            for option in opt.opt().iter::<UnknownOptData<_>>() {
                let option = option.map_err(|_| broken("broken options"))?;
                let (code, mut data) = (option.code().to_int(), option.as_slice().to_vec());
                if code == COOKIE {
                    // The server cookie behind the client's is unpredictable.
                    data.truncate(8);
                }
                said.options.push((code, data));
            }
        }
        Ok(said)
    }

    fn read_records(&mut self, message: &Message<&[u8]>, ask: Option<&Ask>) -> Option<()> {
        let mut section = message.answer().ok()?;
        for number in 0..3 {
            for record in section.by_ref() {
                let record = record.ok()?;
                if record.rtype().to_int() == 41 {
                    continue;
                }
                let owner = record.owner().to_vec();
                let asked = wire_name(&ask?.question.name);
                if owner.as_slice() != asked || record.class().to_int() != 1 {
                    return None;
                }
                let data = record.to_record::<UnknownRecordData<&[u8]>>().ok()??;
                self.records.push(Record {
                    section: number,
                    rtype: record.rtype().to_int(),
                    ttl: record.ttl().as_secs(),
                    data: data.data().data().to_vec(),
                });
            }
            match section.next_section().ok()? {
                Some(next) => section = next,
                None => break,
            }
        }
        Some(())
    }

    /// Adds the defaults of a reply to `ask`.
    pub(crate) fn for_ask(mut self, ask: Option<&Ask>) -> Self {
        self.edns.get_or_insert(ask.is_some_and(|ask| ask.edns.is_some()));
        self
    }
}

impl Lints {
    fn question(&self, query: &[u8]) -> Vec<u8> {
        let mut question = question_of(query).to_vec();
        if let Some(spelt) = &self.spelt {
            let name = wire_name(spelt);
            question[..name.len()].copy_from_slice(&name);
        }
        if self.wrong_name {
            // Another first letter, of the same length.
            question[1] = if question[1] == b'x' { b'y' } else { b'x' };
        }
        let end = question.len();
        question[end - 3] ^= if self.wrong_rtype { 0x40 } else { 0 };
        question[end - 1] ^= if self.wrong_class { 2 } else { 0 };
        question
    }
}

/// Parses `[SECTION] TYPE DATA…` or `COUNT addresses`.
fn records(words: &[&str]) -> Result<Vec<Record>, Problem> {
    if let [count, "addresses"] = words {
        let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number).octets().to_vec();
        let record = |number| Record { section: 0, rtype: 1, ttl: TTL, data: address(number) };
        return Ok((1..=number(count)?).map(record).collect());
    }
    let named = words.first().and_then(|word| SECTIONS.iter().position(|name| name == word));
    let words = if named.is_some() { &words[1..] } else { words };
    let [rtype, data @ ..] = words else { return Err(unknown(words)) };
    let rtype = rtype_of(rtype).map_err(|_| unknown(words))?;
    let data: Result<Vec<_>, _> = match (rtype, data) {
        (6, []) => Ok(vec![SOA.to_vec()]),
        (_, []) => Err(format!("`{}` says nothing", words.join(" "))),
        (_, data) => data.iter().map(|word| data_of(rtype, word)).collect(),
    };
    let record = |data| Record { section: named.unwrap_or(0), rtype, ttl: TTL, data };
    Ok(data?.into_iter().map(record).collect())
}

fn data_of(rtype: u16, word: &str) -> Result<Vec<u8>, Problem> {
    let wrong = |_| format!("`{word}` is no address");
    Ok(match rtype {
        1 => word.parse::<Ipv4Addr>().map_err(wrong)?.octets().to_vec(),
        28 => word.parse::<Ipv6Addr>().map_err(wrong)?.octets().to_vec(),
        2 | 5 => wire_name(word),
        _ => bytes_of(word)?,
    })
}

fn data_words(record: &Record) -> String {
    match (record.rtype, &record.data[..]) {
        (1, data) if data.len() == 4 => {
            Ipv4Addr::from(*data.first_chunk::<4>().expect("four bytes")).to_string()
        }
        (28, data) if data.len() == 16 => {
            Ipv6Addr::from(*data.first_chunk::<16>().expect("sixteen bytes")).to_string()
        }
        (6, SOA) => String::new(),
        (_, data) => hex(data),
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", rcode_name(self.rcode))?;
        for record in self.records.iter().take(8) {
            let section = SECTIONS[record.section];
            write!(f, ", {section} {} {}", kind_name(record.rtype), data_words(record))?;
            if record.ttl != TTL {
                write!(f, " (ttl {})", record.ttl)?;
            }
        }
        if self.records.len() > 8 {
            write!(f, " … {} records", self.records.len())?;
        }
        for (name, bit) in FLAGS {
            if self.flags & bit != 0 && bit != RA {
                write!(f, ", {name}")?;
            }
        }
        let words = [
            (self.flags & RA == 0, "no ra"),
            (!self.question, "no question"),
            (self.edns == Some(true), "edns"),
            (self.edns == Some(false), "no edns"),
        ];
        words.iter().filter(|(on, _)| *on).try_for_each(|(_, word)| write!(f, ", {word}"))?;
        self.options.iter().try_for_each(|option| write!(f, ", {}", option_words(option)))
    }
}
