//! Check of an answer section: its aliases lead from the QNAME to a record of the QTYPE.
//!
//! Servers nearly always write a chain in its order, so one pass decides. Only where a name turns
//! up out of order are the records searched in any order; two aliases of one name, a loop, or a
//! chain longer than resolvers follow then mean that the answer is useless. A DNAME needs no
//! treatment, because the CNAME that follows from it stands beside it (RFC 6672 §3.1).

use crate::engine::message::response::Response;
use crate::engine::message::{
    HEADER_LEN, NAME_LEN_MAX, Question, Record, expand_name, rtype, u16_at,
};

/// Maximum number of aliases of one answer.
const ALIASES_MAX: usize = 16;

/// Returns true if the answer section of `response`, found in `packet`, reaches the type of
/// `question`.
pub(super) fn reach(packet: &[u8], response: &Response, question: &Question) -> bool {
    in_order(packet, response, question).unwrap_or_else(|| in_any_order(packet, response, question))
}

/// Checks in one pass. `None`: an alias is out of order.
fn in_order(packet: &[u8], response: &Response, question: &Question) -> Option<bool> {
    let mut name = HEADER_LEN;
    let mut reached = false;
    for record in answers(packet, response).filter(|record| record.class == question.class) {
        let wanted = [record.rtype, rtype::ANY].contains(&question.rtype);
        if wanted && !reached {
            reached = owns(packet, name, &record);
        }
        if record.rtype == rtype::CNAME && question.rtype != rtype::CNAME && !wanted {
            if reached || !owns(packet, name, &record) {
                return None;
            }
            name = record.data;
        }
    }
    Some(reached)
}

/// Follows alias by alias from the question's name, in any order of records.
fn in_any_order(packet: &[u8], response: &Response, question: &Question) -> bool {
    let mut name = HEADER_LEN;
    for _ in 0..=ALIASES_MAX {
        let (mut aliases, mut target) = (0, 0);
        for record in answers(packet, response).filter(|record| record.class == question.class) {
            if record.rtype == question.rtype && owns(packet, name, &record) {
                return true;
            }
            if record.rtype == rtype::CNAME && owns(packet, name, &record) {
                (aliases, target) = (aliases + 1, record.data);
            }
        }
        if aliases != 1 {
            return false;
        }
        name = target;
    }
    false
}

/// The records of the answer section.
fn answers(packet: &[u8], response: &Response) -> impl Iterator<Item = Record> {
    let mut place = response.start;
    (0..response.counts[0]).map_while(move |_| {
        let record = Record::parse(packet, place)?;
        place = record.end;
        Some(record)
    })
}

/// Returns true if the name at `name` is the record's owner, which is nearly always a pointer to
/// it.
fn owns(packet: &[u8], name: usize, record: &Record) -> bool {
    if u16_at(packet, record.start).map(usize::from) == Some(0xc000 | name) {
        return true;
    }
    let (mut one, mut other) = ([0; NAME_LEN_MAX], [0; NAME_LEN_MAX]);
    let one_len = expand_name(packet, name, &mut one);
    let other_len = expand_name(packet, record.start, &mut other);
    one_len.zip(other_len).is_some_and(|(len, other_len)| one[..len] == other[..other_len])
}
