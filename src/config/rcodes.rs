//! Sets of response codes, as `next` and `failover` name them.
//!
//! A code is written by its mnemonic in any letter case. Only codes that have one can be in a set,
//! so a set is one word, cheap enough to copy and to ask for each response.

/// A set of response codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rcodes(u32);

/// Each code's number and mnemonic, which the IANA registry and the reference agree on. As the
/// code of a response, 16 means BADVERS; the language knows it by its other name.
const MNEMONICS: [(u16, &str); 20] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (11, "DSOTYPENI"),
    (16, "BADSIG"),
    (17, "BADKEY"),
    (18, "BADTIME"),
    (19, "BADMODE"),
    (20, "BADNAME"),
    (21, "BADALG"),
    (22, "BADTRUNC"),
    (23, "BADCOOKIE"),
];
/// A second name that the reference still reads.
const ALIAS: (u16, &str) = (4, "NOTIMPL");

/// Returns the name of a response code, if it has one.
pub(crate) fn rcode_mnemonic(rcode: u16) -> Option<&'static str> {
    const BAD_VERS: (u16, &str) = (16, "BADVERS");
    let mut known = [BAD_VERS].iter().chain(&MNEMONICS);
    known.find(|(known, _)| *known == rcode).map(|(_, mnemonic)| *mnemonic)
}

/// The name by which the language knows a code.
pub(super) fn rcode_name(rcode: u16) -> Option<&'static str> {
    MNEMONICS.iter().find(|(known, _)| *known == rcode).map(|(_, mnemonic)| *mnemonic)
}

/// All mnemonics, for suggestions.
pub(super) fn mnemonics() -> impl Iterator<Item = &'static str> {
    MNEMONICS.iter().map(|(_, mnemonic)| *mnemonic)
}

impl Rcodes {
    /// Returns true if `rcode`, of 12 bits where there is EDNS, is in the set.
    pub(crate) fn contains(self, rcode: u16) -> bool {
        1_u32.checked_shl(rcode.into()).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Returns true if no code is in the set.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The codes by their mnemonics, in the order of their numbers.
    pub(crate) fn mnemonics(self) -> impl Iterator<Item = &'static str> {
        let named = MNEMONICS.iter().filter(move |(rcode, _)| self.contains(*rcode));
        named.map(|(_, mnemonic)| *mnemonic)
    }

    /// The code that `mnemonic` means.
    pub(super) fn parse(mnemonic: &str) -> Option<u16> {
        let mut known = MNEMONICS.iter().chain([&ALIAS]);
        known.find(|(_, known)| known.eq_ignore_ascii_case(mnemonic)).map(|(rcode, _)| *rcode)
    }
}

impl FromIterator<u16> for Rcodes {
    /// The set of those codes that have a mnemonic.
    fn from_iter<I: IntoIterator<Item = u16>>(rcodes: I) -> Self {
        let mut set = Self::default();
        set.extend(rcodes);
        set
    }
}

impl Extend<u16> for Rcodes {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, rcodes: I) {
        for rcode in rcodes {
            if MNEMONICS.iter().any(|(known, _)| *known == rcode) {
                self.0 |= 1 << rcode;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MNEMONICS, Rcodes};

    #[test]
    fn a_set_contains_what_was_put_in_and_nothing_else() {
        assert!(Rcodes::default().is_empty());
        for (rcode, mnemonic) in MNEMONICS {
            let set = Rcodes::from_iter([rcode]);
            let contained: Vec<u16> = (0..=u16::MAX).filter(|code| set.contains(*code)).collect();
            assert_eq!(contained, [rcode]);
            assert_eq!(set.mnemonics().collect::<Vec<_>>(), [mnemonic]);
            assert!(!set.is_empty());
        }
    }

    #[test]
    fn a_code_without_mnemonic_is_in_no_set() {
        assert!(Rcodes::from_iter([12, 15, 24, 32, u16::MAX]).is_empty());
    }

    #[test]
    fn mnemonics_are_read_in_any_letter_case() {
        for (text, rcode) in
            [("nxdomain", 3), ("ServFail", 2), ("NOTIMPL", 4), ("notimp", 4), ("BADCOOKIE", 23)]
        {
            assert_eq!(Rcodes::parse(text), Some(rcode), "{text}");
        }
        for text in ["", "3", "NXDOMAIN.", "NX"] {
            assert_eq!(Rcodes::parse(text), None, "{text}");
        }
    }
}
