//! Answers to questions, and their verification.
//!
//! The agreement between the two ends of the traffic: [`address`] derives an address from a name,
//! [`respond`] writes the response that carries it, [`is_right`] checks that a response is that
//! one. The address depends on the case-folded name alone, because a server in between need not
//! preserve letter case, and two names get the same address once in sixteen million.

use super::wire::{
    CD, CLASS_IN, Edns, OPCODE, POINTER_TO_QUESTION, QR, Question, RA, RCODE, RD, Record, TC,
    TYPE_A, TYPE_AAAA, TYPE_SOA, Writer, u16_at,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const RCODE_NOERROR: u8 = 0;
/// REFUSED: the response to a question of another class than IN.
pub(crate) const RCODE_REFUSED: u8 = 5;

/// TTL of answers, in seconds.
const TTL: [u8; 4] = 60u32.to_be_bytes();

/// Behaviour of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends the right answer.
    #[default]
    Answer,
    /// Receives queries without a response.
    Silent,
    /// Answers each with this response code and no record.
    Refuse(u8),
    /// Answers each query with an address that is not the name's.
    Lie,
}

/// Returns the address of `name` (in wire form) for the record type `rtype`, if that is an address
/// type: of 10.0.0.0/8 or 2001:db8::/32, which is not routed.
pub fn address(name: &[u8], rtype: u16) -> Option<IpAddr> {
    // FNV-1a, its high half folded down. Length octets are below every letter, so that folding the
    // case of all octets changes labels only.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for octet in name {
        hash = (hash ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    let folded = hash ^ (hash >> 32);
    match rtype {
        TYPE_A => {
            let [_, b, c, d] = (folded as u32).to_be_bytes();
            Some(Ipv4Addr::new(10, b, c, d).into())
        }
        TYPE_AAAA => {
            let host = u128::from(folded);
            Some(Ipv6Addr::from_bits((0x2001_0db8 << 96) | host).into())
        }
        _ => None,
    }
}

/// Writes the response to `query` and returns its length; `None` if there is none: the behaviour is
/// silence, or `query` is a response, no standard query, or malformed.
pub fn respond(query: &[u8], behaviour: Behaviour, response: &mut [u8]) -> Option<usize> {
    let (&[id_high, id_low, flags, more_flags], _) = query.split_first_chunk()?;
    if behaviour == Behaviour::Silent || flags & (QR | OPCODE) != 0 {
        return None;
    }
    let question = Question::parse(query)?;
    let edns = Edns::find(query, question.end())?;
    let rcode = match behaviour {
        Behaviour::Refuse(rcode) => rcode & RCODE,
        _ if question.class() != CLASS_IN => RCODE_REFUSED,
        _ => RCODE_NOERROR,
    };
    let record = address(question.name(), question.rtype()).filter(|_| rcode == RCODE_NOERROR);
    let nodata = record.is_none() && rcode == RCODE_NOERROR;
    let mut writer = Writer::new(response);
    writer.put(&[id_high, id_low, QR | flags & RD, RA | more_flags & CD | rcode])?;
    for count in [1, u16::from(record.is_some()), u16::from(nodata), edns.count()] {
        writer.put_u16(count)?;
    }
    writer.put(question.bytes)?;
    if let Some(ip) = record {
        write_address(&mut writer, ip, behaviour == Behaviour::Lie)?;
    }
    if nodata {
        write_soa(&mut writer)?;
    }
    edns.write(&mut writer)?;
    Some(writer.len())
}

/// Appends an address record of the question's name: `ip`, or another if `lie`.
fn write_address(writer: &mut Writer<'_>, ip: IpAddr, lie: bool) -> Option<()> {
    let twist = u8::from(lie);
    match ip {
        IpAddr::V4(ip) => {
            let mut octets = ip.octets();
            octets[3] ^= twist;
            write_record(writer, &POINTER_TO_QUESTION, TYPE_A, &octets)
        }
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[15] ^= twist;
            write_record(writer, &POINTER_TO_QUESTION, TYPE_AAAA, &octets)
        }
    }
}

/// Appends the SOA record with the negative TTL (RFC 2308 §2.2).
fn write_soa(writer: &mut Writer<'_>) -> Option<()> {
    // Two root names, then serial, refresh, retry, expire and minimum.
    let mut data = [0; 22];
    for field in data[2..].chunks_exact_mut(4) {
        field.copy_from_slice(&TTL);
    }
    write_record(writer, &[0], TYPE_SOA, &data)
}

fn write_record(writer: &mut Writer<'_>, owner: &[u8], rtype: u16, data: &[u8]) -> Option<()> {
    writer.put(owner)?;
    writer.put_u16(rtype)?;
    writer.put_u16(CLASS_IN)?;
    writer.put(&TTL)?;
    writer.put_u16(data.len() as u16)?;
    writer.put(data)
}

/// Returns true if `response` is the one that [`respond`] makes for `query`: same ID, a complete
/// NOERROR response, the question as it was sent, letter case included, and the one right record.
pub fn is_right(query: &[u8], response: &[u8]) -> bool {
    check(query, response).is_some()
}

fn check(query: &[u8], response: &[u8]) -> Option<()> {
    let (&[_, _, flags, more_flags], _) = response.split_first_chunk()?;
    let asked = Question::parse(query)?;
    let answered = Question::parse(response)?;
    let whole = flags & (QR | OPCODE | TC) == QR && more_flags & RCODE == RCODE_NOERROR;
    let same = query[..2] == response[..2] && asked == answered;
    let (record, _) = Record::parse(response, answered.end())?;
    let owned =
        record.owner == POINTER_TO_QUESTION || record.owner.eq_ignore_ascii_case(asked.name());
    let expected = match address(asked.name(), asked.rtype())? {
        IpAddr::V4(ip) => ip.octets() == record.data,
        IpAddr::V6(ip) => ip.octets() == record.data,
    };
    let one =
        u16_at(response, 6)? == 1 && record.class == CLASS_IN && record.rtype == asked.rtype();
    (whole && same && owned && expected && one).then_some(())
}

#[cfg(test)]
mod tests {
    use super::{Behaviour, address, is_right, respond};
    use crate::traffic::wire::{TYPE_A, TYPE_AAAA};
    use domain::base::Message;
    use domain::base::iana::Rcode;
    use proptest::prelude::{any, proptest};

    /// Room for any response: header, the longest question, SOA and OPT take 315 bytes.
    const RESPONSE_LEN_MAX: usize = 320;

    /// A query for a.Example. with RD and an OPT record with the DO bit.
    fn query(rtype: u8, class: u8) -> Vec<u8> {
        let mut query = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\x01\x01a\x07Example\0".to_vec();
        query.extend([0, rtype, 0, class]);
        query.extend(b"\0\0\x29\x04\xd0\0\0\x80\0\0\0");
        query
    }

    fn response(query: &[u8], behaviour: Behaviour) -> Vec<u8> {
        let mut buffer = [0; RESPONSE_LEN_MAX];
        let length = respond(query, behaviour, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn an_address_depends_on_the_folded_name_and_the_type() {
        assert_eq!(address(b"\x01a\0", TYPE_A), address(b"\x01A\0", TYPE_A));
        assert_ne!(address(b"\x01a\0", TYPE_A), address(b"\x01b\0", TYPE_A));
        assert!(address(b"\x01a\0", TYPE_AAAA).unwrap().is_ipv6());
        assert_eq!(address(b"\x01a\0", 16), None);
    }

    #[test]
    fn addresses_are_answered_and_the_question_is_echoed() {
        for rtype in [1, 28] {
            let query = query(rtype, 1);
            let response = response(&query, Behaviour::Answer);
            assert!(is_right(&query, &response));
            assert_eq!(response[12..25], query[12..25]);
            let message = Message::from_octets(&response[..]).unwrap();
            let header = message.header();
            assert!(header.qr() && header.rd() && header.ra() && header.cd() && !header.aa());
            let opt = message.opt().unwrap();
            assert_eq!((opt.udp_payload_size(), opt.dnssec_ok()), (1232, true));
            assert_eq!(message.answer().unwrap().count(), 1);
        }
    }

    #[test]
    fn other_types_have_no_data_and_other_classes_are_refused() {
        let nodata = response(&query(16, 1), Behaviour::Answer);
        let message = Message::from_octets(&nodata[..]).unwrap();
        assert_eq!(message.header().rcode(), Rcode::NOERROR);
        assert_eq!(message.header_counts().ancount(), 0);
        assert_eq!(message.authority().unwrap().count(), 1);
        let chaos = response(&query(1, 3), Behaviour::Answer);
        assert_eq!(Message::from_octets(&chaos[..]).unwrap().header().rcode(), Rcode::REFUSED);
    }

    #[test]
    fn edns_is_in_the_answer_only_if_in_the_query() {
        let mut plain = query(1, 1);
        plain.truncate(plain.len() - 11);
        plain[11] = 0;
        let response = response(&plain, Behaviour::Answer);
        assert!(Message::from_octets(&response[..]).unwrap().opt().is_none());
        assert!(is_right(&plain, &response));
    }

    #[test]
    fn behaviours_are_kept() {
        let query = query(1, 1);
        let mut buffer = [0; RESPONSE_LEN_MAX];
        assert_eq!(respond(&query, Behaviour::Silent, &mut buffer), None);
        assert!(!is_right(&query, &response(&query, Behaviour::Lie)));
        let refusal = response(&query, Behaviour::Refuse(2));
        assert_eq!(Message::from_octets(&refusal[..]).unwrap().header().rcode(), Rcode::SERVFAIL);
        assert!(!is_right(&query, &refusal));
    }

    #[test]
    fn a_response_is_not_answered() {
        let query = query(1, 1);
        let response = response(&query, Behaviour::Answer);
        assert_eq!(respond(&response, Behaviour::Answer, &mut [0; 512]), None);
    }

    #[test]
    fn any_octet_changed_makes_an_answer_wrong() {
        let query = query(1, 1);
        let right = response(&query, Behaviour::Answer);
        // AA, RD and the flags of the fourth octet except the response code are not checked, nor
        // are the TTL and the OPT record.
        let free = |at: usize| matches!(at, 8..=11 | 33..=36) || at >= right.len() - 11;
        for at in (0..right.len()).filter(|&at| !free(at)) {
            let mut wrong = right.clone();
            wrong[at] ^= 0x02;
            assert!(!is_right(&query, &wrong), "octet {at}");
        }
        let mut shouted = right.clone();
        shouted[13] = b'A';
        assert!(!is_right(&query, &shouted), "the letter case is part of the question");
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in any::<Vec<u8>>(), flips in any::<[(u8, u8); 3]>()) {
            let mut mutated = query(1, 1);
            for (at, mask) in flips {
                let at = usize::from(at) % mutated.len();
                mutated[at] ^= mask;
            }
            for message in [&bytes, &mutated] {
                let _ = respond(message, Behaviour::Answer, &mut [0; RESPONSE_LEN_MAX]);
                let _ = respond(message, Behaviour::Answer, &mut [0; 20]);
                let _ = is_right(&query(1, 1), message);
                let _ = is_right(message, &bytes);
            }
        }
    }
}
