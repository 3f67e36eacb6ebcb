//! Style of a query: header, question, OPT record.
//!
//! A [`Style`] has the common settings of all queries of a run; [`TypeShares`] draws the type of
//! each. Only letters of names change case: length octets and the bytes after the name are left
//! alone. Pure; writes into a caller's buffer.

use crate::traffic::wire::{CLASS_IN, HEADER_LEN, RD, TYPE_A, TYPE_OPT, Writer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::net::IpAddr;

/// The number of the Client Subnet option (RFC 7871).
const OPTION_SUBNET: u16 = 8;
/// The DO bit in an OPT record (RFC 3225).
const DNSSEC_OK: u8 = 0x80;

/// Client subnet (RFC 7871).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Address; bits beyond the prefix are not sent.
    pub address: IpAddr,
    /// Length of the prefix.
    pub prefix: u8,
    /// Each query has random bits here: a different client each time.
    pub random: bool,
}

/// Settings of all queries of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The RD bit is set.
    pub recursion: bool,
    /// UDP size in the OPT record; `None`: no OPT record.
    pub edns: Option<u16>,
    /// The DO bit is set, if there is an OPT record.
    pub dnssec_ok: bool,
    /// Client subnet.
    pub subnet: Option<Subnet>,
}

impl Default for Style {
    /// RD, and EDNS with 1,232 bytes (RFC 9715 §3.1).
    fn default() -> Self {
        let edns = Some(crate::traffic::wire::PAYLOAD_LEN);
        Self { recursion: true, edns, dnssec_ok: false, subnet: None }
    }
}

impl Style {
    /// Returns the length of a query without its name.
    pub(crate) fn room(&self) -> usize {
        HEADER_LEN + 4 + 11 + 4 + 4 + 16
    }

    /// Writes a query for `name` (in wire form) and returns its length; `None` if it does not fit.
    pub fn write(
        &self,
        name: &[u8],
        rtype: u16,
        random: &mut ChaCha8Rng,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let mut writer = Writer::new(buffer);
        let flags = if self.recursion { u16::from(RD) << 8 } else { 0 };
        for field in [0, flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            writer.put_u16(field)?;
        }
        writer.put(name)?;
        writer.put_u16(rtype)?;
        writer.put_u16(CLASS_IN)?;
        if let Some(size) = self.edns {
            self.write_opt(&mut writer, size, random)?;
        }
        Some(writer.len())
    }

    fn write_opt(&self, writer: &mut Writer<'_>, size: u16, random: &mut ChaCha8Rng) -> Option<()> {
        writer.put(&[0])?;
        writer.put_u16(TYPE_OPT)?;
        writer.put_u16(size)?;
        writer.put(&[0, 0, if self.dnssec_ok { DNSSEC_OK } else { 0 }, 0])?;
        let Some(subnet) = self.subnet else { return writer.put_u16(0) };
        let mut bits = match subnet.address {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        if subnet.random {
            bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        }
        let prefix = u32::from(subnet.prefix);
        bits &= u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        let octets = usize::from(subnet.prefix.div_ceil(8));
        writer.put_u16(4 + 4 + octets as u16)?;
        writer.put_u16(OPTION_SUBNET)?;
        writer.put_u16(4 + octets as u16)?;
        writer.put_u16(if subnet.address.is_ipv4() { 1 } else { 2 })?;
        writer.put(&[subnet.prefix, 0])?;
        writer.put(&bits.to_be_bytes()[..octets])
    }
}

/// Sets the case of each letter of the query's name at random.
pub(crate) fn mix_case(query: &mut [u8], random: &mut ChaCha8Rng) {
    let (mut at, mut bits, mut left) = (HEADER_LEN, 0u64, 0);
    while let Some(&label @ 1..=63) = query.get(at) {
        let end = (at + 1 + usize::from(label)).min(query.len());
        for octet in query[at + 1..end].iter_mut().filter(|octet| octet.is_ascii_alphabetic()) {
            if left == 0 {
                (bits, left) = (random.next_u64(), u64::BITS);
            }
            *octet = (*octet & !0x20) | ((bits as u8 & 1) << 5);
            (bits, left) = (bits >> 1, left - 1);
        }
        at = end;
    }
}

/// Types, and the share of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeShares {
    /// Cumulative weights, each with its type.
    steps: Vec<(u64, u16)>,
}

impl Default for TypeShares {
    /// Type A only.
    fn default() -> Self {
        Self { steps: vec![(1, TYPE_A)] }
    }
}

impl TypeShares {
    /// Creates the shares from types and weights; `None` if no weight is above zero.
    pub fn new(shares: &[(u16, u32)]) -> Option<Self> {
        let mut sum = 0;
        let weighted = shares.iter().filter(|(_, weight)| *weight > 0);
        let steps: Vec<_> = weighted
            .map(|&(rtype, weight)| {
                sum += u64::from(weight);
                (sum, rtype)
            })
            .collect();
        (!steps.is_empty()).then_some(Self { steps })
    }

    /// Returns the type for this draw.
    pub(crate) fn pick(&self, draw: u32) -> u16 {
        let &(sum, last) = self.steps.last().expect("there is a type");
        if self.steps.len() == 1 {
            return last;
        }
        let level = (u64::from(draw) * sum) >> 32;
        self.steps[self.steps.partition_point(|&(step, _)| step <= level)].1
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, Subnet, TypeShares, mix_case};
    use domain::base::Message;
    use domain::base::opt::ClientSubnet;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn written(style: Style) -> Vec<u8> {
        let mut buffer = [0; 300];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let length = style.write(b"\x01a\x04test\0", 28, &mut random, &mut buffer).unwrap();
        assert!(length <= b"\x01a\x04test\0".len() + style.room());
        buffer[..length].to_vec()
    }

    #[test]
    fn queries_have_the_settings_of_their_style() {
        let subnet = Subnet { address: [192, 0, 2, 255].into(), prefix: 22, random: false };
        let style = Style { dnssec_ok: true, subnet: Some(subnet), ..Style::default() };
        let packet = written(style);
        let message = Message::from_octets(&packet[..]).unwrap();
        assert!(message.header().rd() && !message.header().qr());
        assert_eq!(message.sole_question().unwrap().qtype().to_int(), 28);
        let opt = message.opt().unwrap();
        assert_eq!((opt.udp_payload_size(), opt.dnssec_ok()), (1232, true));
        let told = opt.opt().iter::<ClientSubnet>().next().unwrap().unwrap();
        assert_eq!((told.addr().to_string(), told.source_prefix_len()), ("192.0.0.0".into(), 22));
        let plain = written(Style { recursion: false, edns: None, ..Style::default() });
        let message = Message::from_octets(&plain[..]).unwrap();
        assert!(!message.header().rd() && message.opt().is_none());
    }

    #[test]
    fn any_prefix_fits() {
        for (address, most) in [("192.0.2.1", 32), ("2001:db8::1", 128)] {
            for prefix in 0..=most {
                let address = address.parse().unwrap();
                let subnet = Some(Subnet { address, prefix, random: true });
                let packet = written(Style { subnet, ..Style::default() });
                let message = Message::from_octets(&packet[..]).unwrap();
                let opt = message.opt().unwrap();
                let told = opt.opt().iter::<ClientSubnet>().next().unwrap().unwrap();
                assert_eq!(told.source_prefix_len(), prefix);
            }
        }
    }

    #[test]
    fn types_are_drawn_by_their_weights() {
        let shares = TypeShares::new(&[(1, 3), (15, 0), (28, 1)]).unwrap();
        let quarters = [0, 1 << 30, 2 << 30, 3 << 30].map(|draw: u64| shares.pick(draw as u32));
        assert_eq!(quarters, [1, 1, 1, 28]);
        assert_eq!((shares.pick(u32::MAX), shares.pick((3 << 30) - 1)), (28, 1));
        assert_eq!(TypeShares::new(&[(1, 0)]), None);
    }

    #[test]
    fn only_letters_of_the_name_change_case() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let original = *b"AAAAAAAAAAAA\x04a-9Z\x03@[`\0AAAA";
        let mut changed = original;
        let mut both = [false; 2];
        for _ in 0..64 {
            mix_case(&mut changed, &mut random);
            assert!(changed.eq_ignore_ascii_case(&original));
            assert_eq!((&changed[..13], &changed[17..]), (&original[..13], &original[17..]));
            both[usize::from(changed[13] == b'A')] = true;
        }
        assert_eq!(both, [true; 2]);
        mix_case(&mut [0; 3], &mut random);
        let mut cut = *b"AAAAAAAAAAAA\x3fabc";
        mix_case(&mut cut, &mut random);
        assert!(cut.eq_ignore_ascii_case(b"AAAAAAAAAAAA\x3fabc"));
    }
}
