//! Validation of records: the owner name, and the form of the data by type.
//!
//! An upstream's records are copied to clients and into caches, so an endless name or data with
//! wrong lengths would hit the next reader. Checked are: names, in the owner and in the data of the
//! types that have any (RFC 1035 §3.3 and those of RFC 3597 §4), whose pointers must each lead to a
//! name that has ended before (RFC 1035 §4.1.4) and whose length is at most 255 octets; that names
//! and numbers fill the data exactly; strings (RFC 1035 §3.3.14); the lengths of addresses. Data
//! behind the names of RRSIG, NSEC, SVCB and the like are not checked, nor are other types.

use super::name::WireName;
use super::{HEADER_LEN, NAME_LEN_MAX, QNAME, Record, class, rtype, u16_at};

/// Maximum number of labels and pointers of a name: bounds the cost of a chain of pointers.
const STEPS_MAX: usize = NAME_LEN_MAX;

/// Reads the record at `start`, behind the header and a whole name; returns `None` if it does not
/// lie within the message or is malformed.
#[inline(always)]
pub(super) fn sound_record(packet: &[u8], start: usize) -> Option<Record> {
    let owner: [u8; 2] = *packet.get(start..)?.first_chunk()?;
    // Most owners are a pointer to the question, or the root (in an OPT).
    let fixed = match owner {
        QNAME if start > HEADER_LEN => start + 2,
        [0, _] => start + 1,
        _ => name_end(packet, start, packet.len())?,
    };
    let record = Record::with_owner(packet, start, fixed)?;
    has_sound_data(packet, &record).then_some(record)
}

/// Reads the record at `start` like [`sound_record`], and writes its data into `out`, with names
/// that are not compressed.
pub(crate) fn expanded_record(packet: &[u8], start: usize, out: &mut Vec<u8>) -> Option<Record> {
    let record = sound_record(packet, start)?;
    out.clear();
    let mut place = record.data;
    if let Some(form) = Form::of(record.rtype) {
        place += form.fixed;
        for _ in 0..form.strings {
            place += 1 + usize::from(*packet.get(place)?);
        }
        out.extend_from_slice(packet.get(record.data..place)?);
        for _ in 0..form.names {
            let (name, end) = WireName::read(packet, place)?;
            out.extend_from_slice(name.as_bytes());
            place = end;
        }
    }
    out.extend_from_slice(packet.get(place..record.end)?);
    Some(record)
}

#[inline]
fn has_sound_data(packet: &[u8], record: &Record) -> bool {
    match (record.rtype, record.class) {
        (rtype::A, class::IN) => record.end - record.data == 4,
        (rtype::AAAA, class::IN) => record.end - record.data == 16,
        _ => Form::of(record.rtype).is_none_or(|form| form.fits(packet, record)),
    }
}

/// Returns the end of the name at `start` or of the pointer that completes it, which lies before
/// `limit`. `None`: it has no end, is too long, or exceeds the limits.
fn name_end(packet: &[u8], start: usize, limit: usize) -> Option<usize> {
    let (mut place, mut len, mut end) = (start, 0, None);
    // Start of the labels before the next pointer, which must point to a name that ended before.
    let (mut piece, mut limit) = (start, limit);
    for _ in 0..STEPS_MAX {
        let length = *packet.get(..limit)?.get(place)?;
        match length {
            0 => return (len < NAME_LEN_MAX).then_some(end.unwrap_or(place + 1)),
            1..=63 => {
                place += 1 + usize::from(length);
                len += 1 + usize::from(length);
            }
            0xc0.. => {
                let target = usize::from(u16_at(&packet[..limit], place)? & 0x3fff);
                if !(HEADER_LEN..piece).contains(&target) {
                    return None;
                }
                end.get_or_insert(place + 2);
                (place, piece, limit) = (target, target, piece);
            }
            _ => return None,
        }
    }
    None
}

/// Form of the data of a type.
struct Form {
    /// Length of numbers in bytes.
    fixed: usize,
    /// Number of strings, each with its length.
    strings: usize,
    names: usize,
    rest: Rest,
}

/// End of a type's data.
enum Rest {
    Nothing,
    Bytes(usize),
    Strings,
    Anything,
}

impl Form {
    /// Returns the form of a type's data; `None`: any bytes.
    fn of(rtype: u16) -> Option<Self> {
        let form = |fixed, strings, names, rest| Some(Self { fixed, strings, names, rest });
        match rtype {
            // MD, MF, MB, MG, MR and DNAME.
            rtype::NS | rtype::CNAME | rtype::PTR | 3 | 4 | 7..=9 | 39 => {
                form(0, 0, 1, Rest::Nothing)
            }
            rtype::SOA => form(0, 0, 2, Rest::Bytes(20)),
            // MINFO and RP.
            14 | 17 => form(0, 0, 2, Rest::Nothing),
            // MX, AFSDB, RT and KX.
            15 | 18 | 21 | 36 => form(2, 0, 1, Rest::Nothing),
            // PX.
            26 => form(2, 0, 2, Rest::Nothing),
            rtype::SRV => form(6, 0, 1, Rest::Nothing),
            // NAPTR.
            35 => form(4, 3, 1, Rest::Nothing),
            // X25, ISDN and SPF.
            rtype::TXT | rtype::HINFO | 19 | 20 | 99 => form(0, 0, 0, Rest::Strings),
            // SIG.
            rtype::RRSIG | 24 => form(18, 0, 1, Rest::Anything),
            // NXT.
            rtype::NSEC | 30 => form(0, 0, 1, Rest::Anything),
            // SVCB and HTTPS.
            64 | 65 => form(2, 0, 1, Rest::Anything),
            _ => None,
        }
    }

    fn fits(&self, packet: &[u8], record: &Record) -> bool {
        let mut place = record.data + self.fixed;
        for _ in 0..self.strings {
            if place >= record.end {
                return false;
            }
            place += 1 + usize::from(packet[place]);
        }
        for _ in 0..self.names {
            let Some(end) = name_end(packet, place, record.end) else { return false };
            place = end;
        }
        match self.rest {
            Rest::Nothing => place == record.end,
            Rest::Bytes(len) => place + len == record.end,
            Rest::Anything => place <= record.end,
            Rest::Strings => {
                while place < record.end {
                    place += 1 + usize::from(packet[place]);
                }
                place == record.end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::name_end;
    use crate::engine::message::response::Response;
    use crate::engine::message::{HEADER_LEN, NAME_LEN_MAX};

    /// Offset of the first record of [`believed`].
    const FIRST: usize = HEADER_LEN + 7;

    /// Returns true if a response with these records is accepted: owner, type, class and data.
    fn believed(records: &[(&[u8], u16, u16, &[u8])]) -> bool {
        let mut packet = vec![0, 1, 0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        packet.extend(b"\x01a\0\0\x01\0\x01");
        assert_eq!(packet.len(), FIRST);
        for (owner, rtype, class, data) in records {
            packet.extend_from_slice(owner);
            packet.extend([rtype.to_be_bytes(), class.to_be_bytes()].concat());
            packet.extend([0, 0, 0, 60]);
            packet.extend((data.len() as u16).to_be_bytes());
            packet.extend_from_slice(data);
        }
        Response::parse(&packet).is_some()
    }

    fn with_owner(owner: &[u8]) -> bool {
        believed(&[(owner, 1, 1, &[192, 0, 2, 1])])
    }

    fn with_data(rtype: u16, data: &[u8]) -> bool {
        believed(&[(b"\xc0\x0c", rtype, 1, data)])
    }

    #[test]
    fn an_owner_that_loops_or_points_forward_is_rejected() {
        assert!(with_owner(b"\xc0\x0c") && with_owner(b"\x01b\xc0\x0c") && with_owner(b"\0"));
        // To itself, to its own first label, to its own second label, forward, into the header.
        for owner in
            [&b"\xc0\x13"[..], b"\x01b\xc0\x13", b"\x01b\x01c\xc0\x15", b"\xc0\x40", b"\xc0\x02"]
        {
            assert!(!with_owner(owner), "{owner:x?}");
        }
        // An earlier name that runs into the one that points to it.
        let before: (&[u8], u16, u16, &[u8]) = (b"\xc0\x0c", 65_280, 1, b"\x03b");
        assert!(!believed(&[before, (b"\xc0\x1f", 1, 1, &[192, 0, 2, 1])]));
        // Unknown data with bytes that point forward, and an owner that points to them.
        let data = [0xc0, FIRST as u8 + 16];
        let owner = [0xc0, FIRST as u8 + 12];
        let first: (&[u8], u16, u16, &[u8]) = (b"\xc0\x0c", 65_280, 1, &data);
        assert!(believed(&[first]) && !believed(&[first, (&owner, 1, 1, &[192, 0, 2, 1])]));
    }

    #[test]
    fn a_name_is_at_most_255_octets_long_and_its_pointers_are_bounded() {
        let label = [&[63][..], &[b'x'; 63]].concat();
        let longest = [&label.repeat(3)[..], &[61], &[b'x'; 61], &[0]].concat();
        let too_long = [&label.repeat(3)[..], &[62], &[b'x'; 62], &[0]].concat();
        assert_eq!(longest.len(), NAME_LEN_MAX);
        assert!(with_owner(&longest) && !with_owner(&too_long));
        let joined = [&label.repeat(2)[..], &[0xc0, 12]].concat();
        assert!(with_owner(&joined));
        let mut chain = vec![0; HEADER_LEN + 1];
        (0..300).for_each(|step: u16| {
            let before = if step == 0 { 12 } else { 11 + 2 * step };
            chain.extend((0xc000 | before).to_be_bytes());
        });
        let end_of = |step: usize| name_end(&chain, 13 + 2 * step, chain.len());
        assert_eq!((end_of(100), end_of(299)), (Some(13 + 2 * 101), None));
    }

    #[test]
    fn addresses_of_class_in_have_a_fixed_length() {
        for len in 0..20 {
            let data = [1; 20];
            assert_eq!(with_data(1, &data[..len]), len == 4, "A of {len}");
            assert_eq!(with_data(28, &data[..len]), len == 16, "AAAA of {len}");
            assert!(believed(&[(b"\xc0\x0c", 1, 3, &data[..len])]), "of another class");
        }
    }

    #[test]
    fn names_and_numbers_fill_the_data() {
        let name = b"\x01b\xc0\x0c";
        let two = [&name[..], name].concat();
        let soa = [&two[..], &[0; 20]].concat();
        for (kinds, right) in [
            (&[2, 3, 4, 5, 7, 8, 9, 12, 39][..], name.to_vec()),
            (&[6], soa),
            (&[14, 17], two.clone()),
            (&[15, 18, 21, 36], [&[0, 1][..], name].concat()),
            (&[26], [&[0, 1][..], &two].concat()),
            (&[33], [&[0; 6][..], name].concat()),
            (&[35], [&[0; 4][..], b"\x01u\0\x02xy", name].concat()),
        ] {
            for rtype in kinds {
                assert!(with_data(*rtype, &right), "{rtype}");
                assert!(!with_data(*rtype, &[&right[..], &[0]].concat()), "{rtype} and more");
                for cut in 0..right.len() {
                    assert!(!with_data(*rtype, &right[..cut]), "{rtype} cut at {cut}");
                }
                let mut looping = right.clone();
                let last = right.len() - if *rtype == 6 { 21 } else { 1 };
                looping[last] = 0xff;
                assert!(!with_data(*rtype, &looping), "{rtype} leads forward");
            }
        }
    }

    #[test]
    fn strings_fill_the_data_and_bytes_after_a_name_are_not_checked() {
        for rtype in [13, 16, 19, 20, 99] {
            assert!(with_data(rtype, b"\x02ab\0\x01c") && with_data(rtype, b""), "{rtype}");
            assert!(!with_data(rtype, b"\x02ab\x02c") && !with_data(rtype, b"\x01"), "{rtype}");
        }
        for (rtype, fixed) in [(46, 18), (24, 18), (47, 0), (30, 0), (64, 2), (65, 2)] {
            let right = [&vec![0; fixed][..], b"\x01b\0"].concat();
            assert!(with_data(rtype, &right), "{rtype}");
            assert!(with_data(rtype, &[&right[..], b"bytes"].concat()), "{rtype}");
            for cut in 0..right.len() {
                assert!(!with_data(rtype, &right[..cut]), "{rtype} cut at {cut}");
            }
        }
    }
}
