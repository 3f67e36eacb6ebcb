//! Queries in words: those of clients, and those that upstreams receive.
//!
//! [`Ask`] is written to bytes, valid or not. [`Heard`] is parsed by the `domain` crate, which also
//! checks the engine's rules: one question, our ID and OPT, and only those parts of the client's
//! query that a scenario mentions.

use super::common::wire::Writer;
use super::words::{
    EdnsOption, KEEPALIVE, OUR_SIZE, Problem, Question, number, option_of, option_words,
    options_bytes, parts, unknown,
};
use super::world::Arrival;
use domain::base::Message;
use domain::base::iana::Opcode;
use domain::base::opt::UnknownOptData;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A client's query.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    pub(crate) connection: Option<ConnectionOf>,
    pub(crate) from: Option<SocketAddr>,
    pub(crate) to: Option<SocketAddr>,
    pub(crate) beyond_buffer: bool,
    pub(crate) edns: Option<Edns>,
    id: Option<u16>,
    flags: u16,
    questions: u16,
    opts: u16,
    signed: bool,
    cut: Option<usize>,
}

/// The connection on which a query arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConnectionOf {
    /// A new connection.
    Own,
    /// The connection opened by this client.
    Client(usize),
}

/// A client's EDNS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edns {
    size: u16,
    version: u8,
    dnssec_ok: bool,
    options: Vec<EdnsOption>,
}

const QR: u16 = 0x8000;
const RD: u16 = 0x0100;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;

impl Ask {
    /// `NAME TYPE [CLASS][, WORDS]…`
    pub(crate) fn parse(phrase: &str) -> Result<Self, Problem> {
        let parts = parts(phrase);
        let mut ask = Self {
            question: Question::parse(&parts[0])?,
            connection: None,
            from: None,
            to: None,
            beyond_buffer: false,
            edns: None,
            id: None,
            flags: RD,
            questions: 1,
            opts: 1,
            signed: false,
            cut: None,
        };
        parts[1..].iter().try_for_each(|words| ask.read(words))?;
        Ok(ask)
    }

    fn read(&mut self, words: &[&str]) -> Result<(), Problem> {
        let address = |word: &str| word.parse().map_err(|_| format!("`{word}` is no IP:PORT"));
        match words {
            ["over", "tcp"] => self.connection = Some(ConnectionOf::Own),
            ["on", "the", "connection", "of", "client", client] => {
                self.connection = Some(ConnectionOf::Client(number(client)?));
            }
            ["from", from] => self.from = Some(address(from)?),
            ["to", to] => self.to = Some(address(to)?),
            ["id", id] => self.id = Some(number(id)?),
            ["no", "rd"] => self.flags &= !RD,
            ["cd"] => self.flags |= CD,
            ["ad"] => self.flags |= AD,
            ["as", "a", "response"] => self.flags |= QR,
            ["opcode", opcode] => self.flags |= number::<u16>(opcode)? << 11,
            ["edns"] => self.edns().size = OUR_SIZE,
            ["edns", "version", version] => self.edns().version = number(version)?,
            ["edns", size] => self.edns().size = number(size)?,
            ["do"] => self.edns().dnssec_ok = true,
            [count, "questions"] => self.questions = number(count)?,
            [count, "opts"] => {
                self.edns();
                self.opts = number(count)?;
            }
            ["signed"] => self.signed = true,
            ["cut", "to", length, "bytes"] => self.cut = Some(number(length)?),
            ["beyond", "the", "buffer"] => self.beyond_buffer = true,
            words => {
                let option = option_of(words)?.ok_or_else(|| unknown(words))?;
                self.edns().options.push(option);
            }
        }
        Ok(())
    }

    fn edns(&mut self) -> &mut Edns {
        self.edns.get_or_insert(Edns { size: OUR_SIZE, ..Edns::default() })
    }

    /// Returns true if the client wants DNSSEC records.
    pub(crate) fn dnssec_ok(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.dnssec_ok)
    }

    /// The query's packet, with the scenario's ID or this one.
    pub(crate) fn bytes(&self, default_id: u16) -> Vec<u8> {
        let opts = if self.edns.is_some() { self.opts } else { 0 };
        let additionals = opts + u16::from(self.signed);
        let id = self.id.unwrap_or(default_id);
        let mut writer = Writer::new([id, self.flags, self.questions, 0, 0, additionals]);
        for _ in 0..self.questions {
            writer.bytes.extend(self.question.bytes());
        }
        for edns in self.edns.iter().flat_map(|edns| vec![edns; opts.into()]) {
            let options = options_bytes(&edns.options);
            writer.opt(edns.size, 0, edns.version, edns.dnssec_ok, &options);
        }
        if self.signed {
            writer.record(b"\x03key\x00", 250, 255, 0, &[0; 32]);
        }
        writer.bytes.truncate(self.cut.unwrap_or(usize::MAX));
        writer.bytes
    }
}

/// A query received by an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) question: Question,
    pub(crate) tcp: bool,
    source: Option<IpAddr>,
    recursion_desired: bool,
    authentic_data: bool,
    checking_disabled: bool,
    dnssec_ok: bool,
    options: Vec<EdnsOption>,
}

/// Names that a scenario gives to parts of the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// The query's name in later steps.
    pub(crate) query: Option<String>,
    /// The name of its source port or connection.
    pub(crate) port: Option<String>,
}

impl Heard {
    /// `NAME TYPE [CLASS] [as QUERY][, WORDS]…`
    pub(crate) fn parse(phrase: &str) -> Result<(Self, Names), Problem> {
        let parts = parts(phrase);
        let mut names = Names::default();
        let mut question = &parts[0][..];
        if let [head @ .., "as", query] = question {
            names.query = Some((*query).to_owned());
            question = head;
        }
        let mut heard = Self {
            question: Question::parse(question)?,
            tcp: false,
            source: None,
            recursion_desired: true,
            authentic_data: false,
            checking_disabled: false,
            dnssec_ok: false,
            options: Vec::new(),
        };
        for words in &parts[1..] {
            match words[..] {
                ["over", "tcp"] => heard.tcp = true,
                ["no", "rd"] => heard.recursion_desired = false,
                ["ad"] => heard.authentic_data = true,
                ["cd"] => heard.checking_disabled = true,
                ["do"] => heard.dnssec_ok = true,
                ["from", "address", source] => {
                    let wrong = |_| format!("`{source}` is no address");
                    heard.source = Some(source.parse().map_err(wrong)?);
                }
                ["from", "port", port] => names.port = Some(port.to_owned()),
                ["on", "connection", connection] => {
                    heard.tcp = true;
                    names.port = Some(connection.to_owned());
                }
                ref words => {
                    heard.options.push(option_of(words)?.ok_or_else(|| unknown(words))?);
                }
            }
        }
        Ok((heard, names))
    }

    /// Parses a query that reached an upstream.
    pub(crate) fn read(arrival: &Arrival) -> Result<Self, Problem> {
        let Arrival { source, tcp, ref packet, .. } = *arrival;
        let broken = |what: &str| format!("an upstream got a query with {what}");
        let message = Message::from_octets(&packet[..]).map_err(|_| broken("half a header"))?;
        let question = message.sole_question().map_err(|_| broken("a broken question"))?;
        let header = message.header();
        let stray = [header.qr(), header.aa(), header.tc(), header.ra(), header.z()];
        if stray.contains(&true) || header.opcode() != Opcode::QUERY {
            return Err(broken("flags of a response"));
        }
        let counts = message.header_counts();
        if (counts.ancount(), counts.nscount(), counts.arcount()) != (0, 0, 1) {
            return Err(broken("other records than an OPT"));
        }
        let opt = message.opt().ok_or_else(|| broken("no OPT"))?;
        if (opt.udp_payload_size(), opt.version()) != (OUR_SIZE, 0) {
            return Err(broken("an OPT that is not ours"));
        }
        let mut options = Vec::new();
        for option in opt.opt().iter::<UnknownOptData<_>>() {
            let option = option.map_err(|_| broken("broken options"))?;
            options.push((option.code().to_int(), option.as_slice().to_vec()));
        }
        let (rtype, class) = (question.qtype().to_int(), question.qclass().to_int());
        let name = format!("{}.", question.qname()).replace("..", ".");
        // Every query on a connection asks for its idle timeout, and no other query does.
        let asks = options.last() == Some(&(KEEPALIVE, Vec::new()));
        if asks != tcp {
            return Err(broken("a keepalive option missing or misplaced"));
        }
        options.truncate(options.len() - usize::from(asks));
        Ok(Self {
            question: Question { name, rtype, class },
            tcp,
            source,
            recursion_desired: header.rd(),
            authentic_data: header.ad(),
            checking_disabled: header.cd(),
            dnssec_ok: opt.dnssec_ok(),
            options,
        })
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.question)?;
        let words = [
            (self.tcp, "over tcp"),
            (!self.recursion_desired, "no rd"),
            (self.authentic_data, "ad"),
            (self.checking_disabled, "cd"),
            (self.dnssec_ok, "do"),
        ];
        words.iter().filter(|(on, _)| *on).try_for_each(|(_, word)| write!(f, ", {word}"))?;
        self.source.iter().try_for_each(|source| write!(f, ", from address {source}"))?;
        self.options.iter().try_for_each(|option| write!(f, ", {}", option_words(option)))
    }
}
