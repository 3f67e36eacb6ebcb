//! Responses for the cache's tests, written record by record and without compression.
//!
//! Names are text without escapes. Everything is of class IN. Defaults are those of an ordinary
//! answer to a recursive query.

use crate::engine::cache::admission::Received;
use crate::engine::message::query::{Asked, Edns};
use crate::engine::message::response::Response;
use crate::engine::message::{Question, flags, put_u16, rtype};

/// The type of an address.
pub(crate) const A: u16 = 1;
/// Calendar time in the tests.
pub(crate) const UNIX: u32 = 1_800_000_000;
/// The header of an ordinary response.
pub(crate) const PLAIN: u16 = flags::QR | flags::RD | flags::RA;

/// A record: section, owner, type, TTL and data.
pub(crate) type Written = (usize, Vec<u8>, u16, u32, Vec<u8>);

/// A response with its layout.
pub(crate) struct Made {
    pub(crate) packet: Vec<u8>,
    pub(crate) response: Response,
}

impl Made {
    /// Response to a question for `rtype` of `name`.
    pub(crate) fn new(name: &str, rtype: u16, header: u16, records: &[Written]) -> Self {
        let mut packet = vec![0; 12];
        put_u16(&mut packet, 2, header);
        put_u16(&mut packet, 4, 1);
        packet.extend(question(name, rtype));
        for section in 0..3 {
            let of_section = records.iter().filter(|record| record.0 == section);
            for (count, (_, owner, rtype, ttl, data)) in (1..).zip(of_section) {
                packet.extend_from_slice(owner);
                packet.extend(rtype.to_be_bytes());
                packet.extend([0, 1]);
                packet.extend(ttl.to_be_bytes());
                packet.extend((data.len() as u16).to_be_bytes());
                packet.extend_from_slice(data);
                put_u16(&mut packet, 6 + 2 * section, count);
            }
        }
        Self::read(packet)
    }

    pub(crate) fn read(packet: Vec<u8>) -> Self {
        let response = Response::parse(&packet).expect("it is well-formed");
        Self { packet, response }
    }

    /// Adds an OPT with these options.
    pub(crate) fn with_opt(mut self, high: u8, options: &[u8]) -> Self {
        self.packet.extend([0, 0, 41, 4, 208, high, 0, 0, 0, 0, options.len() as u8]);
        self.packet.extend_from_slice(options);
        put_u16(&mut self.packet, 10, self.response.counts[2] + 1);
        Self::read(self.packet)
    }

    pub(crate) fn received(&self) -> Received<'_> {
        Received { packet: &self.packet, response: &self.response, recursion: true, unix: UNIX }
    }
}

/// A name in wire format.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

/// A question's bytes.
pub(crate) fn question(text: &str, rtype: u16) -> Vec<u8> {
    let question = [name(text), vec![(rtype >> 8) as u8, rtype as u8, 0, 1]].concat();
    debug_assert!(Question::parse(&[&[0; 12][..], &question].concat()).is_some());
    question
}

/// Returns the flags of a client's query: the second word of its header, and DO if it has EDNS.
pub(crate) fn asked(flags: u16, dnssec_ok: Option<bool>) -> Asked {
    let edns = |dnssec_ok| Edns {
        udp_size: 1_232,
        dnssec_ok,
        compact_ok: false,
        keepalive: false,
        nsid: false,
        padding: false,
        cookie: None,
    };
    Asked { id: 0x1234, flags, edns: dnssec_ok.map(edns) }
}

/// An address in the answer.
pub(crate) fn a(owner: &str, ttl: u32) -> Written {
    (0, name(owner), A, ttl, vec![192, 0, 2, 1])
}

/// An alias in the answer.
pub(crate) fn cname(owner: &str, target: &str, ttl: u32) -> Written {
    (0, name(owner), rtype::CNAME, ttl, name(target))
}

/// A start of authority.
pub(crate) fn soa(owner: &str, ttl: u32, minimum: u32) -> Written {
    let numbers = [1, 7_200, 900, 86_400, minimum].map(u32::to_be_bytes).concat();
    (1, name(owner), rtype::SOA, ttl, [name("ns"), name("root"), numbers].concat())
}

/// A name server in the authority section.
pub(crate) fn ns(owner: &str, ttl: u32) -> Written {
    (1, name(owner), rtype::NS, ttl, name("ns.test"))
}

/// An RRSIG over addresses in the answer, valid between these times.
pub(crate) fn rrsig(owner: &str, ttl: u32, begins: u32, ends: u32) -> Written {
    let head = [0, 1, 13, 2, 0, 0, 1, 44];
    let times = [ends.to_be_bytes(), begins.to_be_bytes()].concat();
    let data = [&head[..], &times, &[0, 7], &name("test"), &[9; 64]].concat();
    (0, name(owner), rtype::RRSIG, ttl, data)
}
