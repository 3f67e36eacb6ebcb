//! DNS messages, written byte by byte.
//!
//! [`Ask`] describes a client's query; [`answer`] and [`Writer`] make upstreams' responses. All of
//! it is independent of the engine's views, which the tests compare with it.

use super::Dice;

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u16,
    /// The header's second word: flags and response code.
    pub(crate) flags: u16,
    /// The name, as text; a trailing dot is not needed.
    pub(crate) name: String,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// UDP size, version, DO and options; `None` without EDNS.
    pub(crate) edns: Option<(u16, u8, bool, Vec<u8>)>,
}

impl Ask {
    /// A recursive query for an address, without EDNS.
    pub(crate) fn new(id: u16, name: &str) -> Self {
        Self { id, flags: 0x0100, name: name.to_owned(), rtype: 1, class: 1, edns: None }
    }

    /// The same with an OPT without options.
    pub(crate) fn with_edns(mut self, udp_size: u16) -> Self {
        self.edns = Some((udp_size, 0, false, Vec::new()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let extras = u16::from(self.edns.is_some());
        let mut writer = Writer::new([self.id, self.flags, 1, 0, 0, extras]);
        writer.question(&wire_name(&self.name), self.rtype, self.class);
        if let Some((size, version, dnssec_ok, options)) = &self.edns {
            writer.opt(*size, 0, *version, *dnssec_ok, options);
        }
        writer.bytes
    }

    pub(crate) fn question(&self) -> Vec<u8> {
        let mut writer = Writer { bytes: Vec::new() };
        writer.question(&wire_name(&self.name), self.rtype, self.class);
        writer.bytes
    }
}

/// A message under construction.
pub(crate) struct Writer {
    /// The bytes written so far.
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    /// A message with this header.
    pub(crate) fn new(header: [u16; 6]) -> Self {
        Self { bytes: header.iter().flat_map(|word| word.to_be_bytes()).collect() }
    }

    /// Appends a question.
    pub(crate) fn question(&mut self, name: &[u8], rtype: u16, class: u16) {
        self.bytes.extend_from_slice(name);
        self.words(&[rtype, class]);
    }

    /// Appends a record with an owner in wire format, compression pointers included.
    pub(crate) fn record(&mut self, owner: &[u8], rtype: u16, class: u16, ttl: u32, data: &[u8]) {
        self.bytes.extend_from_slice(owner);
        self.words(&[rtype, class, (ttl >> 16) as u16, ttl as u16, data.len() as u16]);
        self.bytes.extend_from_slice(data);
    }

    /// Appends an OPT record.
    pub(crate) fn opt(
        &mut self,
        size: u16,
        rcode_high: u8,
        version: u8,
        dnssec_ok: bool,
        options: &[u8],
    ) {
        let flags = u32::from(dnssec_ok) << 15;
        let ttl = u32::from(rcode_high) << 24 | u32::from(version) << 16 | flags;
        self.record(&[0], 41, size, ttl, options);
    }

    fn words(&mut self, words: &[u16]) {
        self.bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    }
}

/// A name in wire format.
pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The 16 bits at `offset`.
pub(crate) fn word_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

/// The length of the question behind the header, whose name is uncompressed.
pub(crate) fn question_len(packet: &[u8]) -> usize {
    let mut end = 12;
    while packet[end] != 0 {
        end += 1 + usize::from(packet[end]);
    }
    end + 5 - 12
}

/// The question behind a header.
pub(crate) fn question_of(packet: &[u8]) -> &[u8] {
    &packet[12..12 + question_len(packet)]
}

/// An upstream's response to `query`: the same ID and question, one address record, an OPT.
pub(crate) fn answer(query: &[u8]) -> Vec<u8> {
    let flags = 0x8080 | word_at(query, 2) & 0x0110;
    let mut writer = Writer::new([word_at(query, 0), flags, 1, 1, 0, 1]);
    writer.bytes.extend_from_slice(question_of(query));
    writer.record(&[0xc0, 12], 1, 1, 300, &[203, 0, 113, 7]);
    writer.opt(1232, 0, 0, false, &[]);
    writer.bytes
}

/// `text` with each letter's case chosen at random.
pub(crate) fn random_case(dice: &mut Dice, text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if dice.one_in(2) { swap_case(*byte) } else { *byte }).collect()
}

fn swap_case(byte: u8) -> u8 {
    if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte }
}

/// A random name in wire format; its labels come from a small set so that names repeat.
pub(crate) fn random_name(dice: &mut Dice) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..dice.below(6) {
        let labels: [&[u8]; 7] = [b"a", b"B", b"www", b"Example", b"com", b"x\x00.\xff", b"0"];
        let label = dice.pick(&labels);
        wire.push(label.len() as u8);
        wire.extend(random_case(dice, label));
    }
    if dice.one_in(16) {
        // Up to the maximum length of a name.
        while wire.len() < 254 {
            let room = (254 - wire.len() - 1).min(63);
            let length = if room <= 1 || dice.one_in(2) { room } else { 1 + dice.below(room) };
            if length == 0 {
                break;
            }
            wire.push(length as u8);
            wire.extend(dice.bytes(length));
        }
    }
    wire.push(0);
    wire
}
