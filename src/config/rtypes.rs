//! Record types by their mnemonics.
//!
//! The language writes types in capitals. The table is that of the IANA registry, as far as types
//! can be asked for; any other is written by number (`TYPE65280`, RFC 3597 §5), which goes beyond
//! the reference.

use std::fmt;

/// A record type that is written by its mnemonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

const MNEMONICS: [(u16, &str); 87] = [
    (1, "A"),
    (2, "NS"),
    (3, "MD"),
    (4, "MF"),
    (5, "CNAME"),
    (6, "SOA"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (14, "MINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (23, "NSAP-PTR"),
    (24, "SIG"),
    (25, "KEY"),
    (26, "PX"),
    (27, "GPOS"),
    (28, "AAAA"),
    (29, "LOC"),
    (30, "NXT"),
    (31, "EID"),
    (32, "NIMLOC"),
    (33, "SRV"),
    (34, "ATMA"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (56, "NINFO"),
    (57, "RKEY"),
    (58, "TALINK"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (100, "UINFO"),
    (101, "UID"),
    (102, "GID"),
    (103, "UNSPEC"),
    (104, "NID"),
    (105, "L32"),
    (106, "L64"),
    (107, "LP"),
    (108, "EUI48"),
    (109, "EUI64"),
    (128, "NXNAME"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (253, "MAILB"),
    (254, "MAILA"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (258, "AVC"),
    (260, "AMTRELAY"),
    (261, "RESINFO"),
    (262, "WALLET"),
    (32_768, "TA"),
    (32_769, "DLV"),
];

impl RecordType {
    /// The type that `text` means.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let known = MNEMONICS.iter().find(|(_, mnemonic)| *mnemonic == text);
        let number = || text.strip_prefix("TYPE").filter(|digits| !digits.starts_with('+'));
        known.map(|(rtype, _)| *rtype).or_else(|| number()?.parse().ok()).map(Self)
    }

    /// Returns the mnemonic, if there is one.
    pub(crate) fn mnemonic(self) -> Option<&'static str> {
        let found = MNEMONICS.binary_search_by_key(&self.0, |(rtype, _)| *rtype);
        found.ok().map(|place| MNEMONICS[place].1)
    }

    /// All mnemonics, for suggestions.
    pub(super) fn mnemonics() -> impl Iterator<Item = &'static str> {
        MNEMONICS.iter().map(|(_, mnemonic)| *mnemonic)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(mnemonic) => f.write_str(mnemonic),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RecordType;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for number in 0..=u16::MAX {
            assert_eq!(
                RecordType::parse(&RecordType(number).to_string()),
                Some(RecordType(number))
            );
        }
        assert_eq!(RecordType::parse("TYPE28"), Some(RecordType(28)));
        for text in ["", "a", "aaaa", "TYPE", "TYPE65536", "TYPE+1", "type1", "*"] {
            assert_eq!(RecordType::parse(text), None, "{text}");
        }
    }
}
