//! Query of a health check, and the check of its response.
//!
//! The question is `DOMAIN NS IN`, with EDNS as long as other queries use it, because some servers
//! drop queries with an OPT. Any response is accepted, whatever its response code: a server that
//! refuses is alive. It must have our id and question, unless it is an error without one; otherwise
//! a forged packet could make a dead upstream appear alive.

use crate::config::HealthCheck;
use crate::engine::message::opt::opt_record;
use crate::engine::message::response::{Response, answers, is_bare_error, is_response};
use crate::engine::message::{HEADER_LEN, UDP_PAYLOAD_MAX, flags, id, put_u16};

/// Type NS, class IN (RFC 1035 §3.2).
const NS_IN: [u8; 4] = [0, 2, 0, 1];

/// Probe of one upstream. Only the id and the OPT change from one to the next.
#[derive(Clone, Debug)]
pub struct ProbeQuery {
    bytes: Vec<u8>,
    question_end: usize,
}

impl ProbeQuery {
    /// Builds the query of `check`.
    pub fn new(check: &HealthCheck) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        put_u16(&mut bytes, 2, if check.recursion_desired { flags::RD } else { 0 });
        put_u16(&mut bytes, 4, 1);
        bytes.extend_from_slice(check.domain.as_wire());
        bytes.extend_from_slice(&NS_IN);
        let question_end = bytes.len();
        Self { bytes, question_end }
    }

    /// Sets the use of EDNS in the next probe.
    pub(crate) fn set_edns(&mut self, edns: bool) {
        self.bytes.truncate(self.question_end);
        put_u16(&mut self.bytes, 10, edns.into());
        if edns {
            self.bytes.extend(opt_record(UDP_PAYLOAD_MAX as u16, false, 0, 0));
        }
    }

    /// Sets the id of the next probe, which must be unpredictable.
    pub fn set_id(&mut self, id: u16) {
        put_u16(&mut self.bytes, 0, id);
    }

    /// Returns the message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns true if `packet` is a whole response with our id and our question, or an error
    /// without one.
    pub fn is_answered_by(&self, packet: &[u8]) -> bool {
        let name_len = self.question_end - HEADER_LEN - NS_IN.len();
        let answers = || {
            is_response(packet)
                && answers(packet, &self.bytes, name_len)
                && Response::parse(packet).is_some()
        };
        let is_error = || is_bare_error(packet) && Response::behind(packet, HEADER_LEN).is_some();
        id(packet) == id(&self.bytes) && (answers() || is_error())
    }
}

#[cfg(test)]
mod tests {
    use super::ProbeQuery;
    use crate::config::{HealthCheck, Name};
    use domain::base::iana::{Class, Opcode, Rcode};
    use domain::base::{Message, MessageBuilder, Rtype};
    use domain::rdata::Ns;

    type DomainName = domain::base::Name<Vec<u8>>;

    fn query(text: &str, recursion_desired: bool) -> ProbeQuery {
        let domain = Name::parse(text).unwrap();
        let mut query =
            ProbeQuery::new(&HealthCheck { recursion_desired, domain, ..HealthCheck::default() });
        query.set_id(0xBEEF);
        query
    }

    fn answer(query: &ProbeQuery, rcode: Rcode) -> Vec<u8> {
        let query = Message::from_octets(query.as_bytes()).unwrap();
        let mut answer =
            MessageBuilder::new_vec().start_answer(&query, rcode).expect("a vector has room");
        let owner: DomainName = "a.test.".parse().unwrap();
        answer.push((owner.clone(), Class::IN, 60, Ns::new(owner))).unwrap();
        answer.finish()
    }

    #[test]
    fn the_probe_asks_for_the_name_servers_of_the_domain() {
        for (name, recursion_desired) in [(".", true), ("a.test", false)] {
            let query = query(name, recursion_desired);
            let message = Message::from_octets(query.as_bytes()).unwrap();
            let header = message.header();
            assert_eq!((header.id(), header.rd()), (0xBEEF, recursion_desired));
            assert_eq!((header.qr(), header.opcode()), (false, Opcode::QUERY));
            let question = message.sole_question().unwrap();
            let asked: DomainName = name.parse().unwrap();
            assert_eq!(*question.qname(), asked);
            assert_eq!((question.qtype(), question.qclass()), (Rtype::NS, Class::IN));
            let counts = message.header_counts();
            assert_eq!((counts.qdcount(), counts.ancount(), counts.arcount()), (1, 0, 0));
        }
    }

    #[test]
    fn any_response_code_is_an_answer() {
        let query = query("a.test", true);
        for rcode in [Rcode::NOERROR, Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NXDOMAIN] {
            assert!(query.is_answered_by(&answer(&query, rcode)), "{rcode}");
        }
    }

    #[test]
    fn the_probe_has_an_opt_if_edns_is_set() {
        let mut query = query("a.test", true);
        let plain = query.as_bytes().to_vec();
        query.set_edns(true);
        let message = Message::from_octets(query.as_bytes()).unwrap();
        let opt = message.opt().expect("an OPT");
        assert_eq!((opt.udp_payload_size(), opt.dnssec_ok()), (1_232, false));
        assert!(query.is_answered_by(&answer(&query, Rcode::NOERROR)));
        query.set_edns(false);
        assert_eq!(query.as_bytes(), plain);
    }

    #[test]
    fn an_error_without_a_question_is_an_answer() {
        let query = query("a.test", true);
        for rcode in 0..16 {
            let error = [0xBE, 0xEF, 0x81, 0x80 | rcode, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(query.is_answered_by(&error), [1, 2, 4, 5].contains(&rcode), "{rcode}");
            let other = [&[0xBE, 0xEE], &error[2..]].concat();
            assert!(!query.is_answered_by(&other), "another's id");
        }
    }

    #[test]
    fn a_changed_or_truncated_answer_is_rejected() {
        let query = query("a.test", true);
        let right = answer(&query, Rcode::NOERROR);
        assert!(!query.is_answered_by(query.as_bytes()), "QR=0");
        // Id, QR, number of questions, name and type, and number of answers.
        for (place, bit) in [(0, 1), (2, 0x80), (5, 2), (13, 1), (21, 1), (7, 2)] {
            let mut wrong = right.clone();
            wrong[place] ^= bit;
            assert!(!query.is_answered_by(&wrong), "byte {place}");
        }
        for cut in 0..right.len() {
            assert!(!query.is_answered_by(&right[..cut]), "cut at {cut}");
        }
    }
}
