//! The Huffman code of field names and values (RFC 7541 Appendix B, RFC 9204 §4.1.2).
//!
//! The code is canonical: shorter codes come before longer ones, and codes of one length are
//! consecutive numbers in the order of their symbols. So the lengths alone define it, and a code of
//! one length is found by a comparison.

/// Number of symbols: all bytes, and the end of a string.
const SYMBOLS: usize = 257;
/// Symbol of the end of a string, which must not be sent.
const END: u16 = 256;
/// Length of the longest code.
const LEN_MAX: usize = 30;
/// Lengths of the codes of all symbols, in bits.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const CODE: Code = Code::new();

/// The code, by symbol and by length.
struct Code {
    /// Codes by symbol.
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    order: [u16; SYMBOLS],
    /// By length: the place in `order` of the first symbol.
    starts: [u16; LEN_MAX + 1],
    /// By length: the first code.
    firsts: [u32; LEN_MAX + 1],
    /// By length: the number behind the last code, as the first bits of 32.
    limits: [u64; LEN_MAX + 1],
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            codes: [0; SYMBOLS],
            order: [0; SYMBOLS],
            starts: [0; LEN_MAX + 1],
            firsts: [0; LEN_MAX + 1],
            limits: [0; LEN_MAX + 1],
        };
        let mut next = 0;
        let mut place = 0;
        let mut len = 1;
        while len <= LEN_MAX {
            next <<= 1;
            code.starts[len] = place as u16;
            code.firsts[len] = next;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == len {
                    code.codes[symbol] = next;
                    code.order[place] = symbol as u16;
                    place += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.limits[len] = (next as u64) << (32 - len);
            len += 1;
        }
        code
    }

    /// Returns the symbol that the first bits of `window` are the code of, and their number.
    fn symbol(&self, window: u32) -> (u16, usize) {
        let below = |len: &usize| u64::from(window) < self.limits[*len];
        let len = (1..LEN_MAX).find(below).unwrap_or(LEN_MAX);
        let place = (window >> (32 - len)) - self.firsts[len];
        let place = usize::from(self.starts[len]) + place as usize;
        (self.order.get(place).copied().unwrap_or(END), len)
    }
}

/// Appends the string that `bytes` are the code of. `None`: they are the code of none.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = bytes.iter();
    // The next bits, from the highest on; `count` of them were received, and ones follow.
    let (mut bits, mut count) = (u64::MAX, 0);
    loop {
        while count <= 32
            && let Some(byte) = rest.next()
        {
            let place = 56 - count;
            bits &= !(0xff << place) | u64::from(*byte) << place;
            count += 8;
        }
        let (symbol, len) = CODE.symbol((bits >> 32) as u32);
        if len > count {
            // Less than a byte, of the first bits of the code of the end.
            return (count < 8 && bits == u64::MAX).then_some(());
        }
        out.push(u8::try_from(symbol).ok()?);
        bits = !(!bits << len);
        count -= len;
    }
}

/// Returns the length of the code of `text` in bytes.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut bits = 0;
    let mut count = 0;
    for byte in text {
        let symbol = usize::from(*byte);
        bits = bits << LENGTHS[symbol] | u64::from(CODE.codes[symbol]);
        count += u32::from(LENGTHS[symbol]);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

#[cfg(test)]
mod tests {
    use super::{CODE, END, LENGTHS, decode, encode, encoded_len};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn bytes(digits: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn examples_of_the_standard_are_coded_in_both_directions() {
        // RFC 7541 Appendix C.4 and C.6, and RFC 9204 Appendix B.
        for (text, code) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            ("307", "640eff"),
            ("gzip", "9bd9ab"),
            ("", ""),
        ] {
            let (mut coded, mut decoded) = (Vec::new(), Vec::new());
            encode(text.as_bytes(), &mut coded);
            assert_eq!(coded, bytes(code), "{text}");
            assert_eq!(encoded_len(text.as_bytes()), coded.len());
            assert_eq!(decode(&coded, &mut decoded), Some(()), "{text}");
            assert_eq!(decoded, text.as_bytes());
        }
    }

    #[test]
    fn single_codes_are_those_of_the_standard() {
        for (symbol, len, code) in [
            (0, 13, 0x1ff8),
            (1, 23, 0x7fffd8),
            (usize::from(b'0'), 5, 0),
            (usize::from(b'&'), 8, 0xf8),
            (usize::from(b'\\'), 19, 0x7fff0),
            (127, 28, 0xffffffc),
            (255, 26, 0x3ffffee),
            (usize::from(END), 30, 0x3fffffff),
        ] {
            assert_eq!((LENGTHS[symbol], CODE.codes[symbol]), (len, code), "{symbol}");
        }
    }

    #[test]
    fn bad_padding_and_the_end_are_refused() {
        for code in [
            // Padding of a whole byte, of zeros, and the end of a string.
            "1fff", "18", "ffffffff", "fffffffc", "00", "ff",
        ] {
            assert_eq!(decode(&bytes(code), &mut Vec::new()), None, "{code}");
        }
        assert_eq!(decode(&bytes("1f"), &mut Vec::new()), Some(()), "a with padding");
    }

    proptest! {
        #[test]
        fn any_text_is_decoded_from_its_code(
            text in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            let (mut coded, mut decoded) = (Vec::new(), Vec::new());
            encode(&text, &mut coded);
            prop_assert_eq!(encoded_len(&text), coded.len());
            prop_assert!(decode(&coded, &mut decoded).is_some());
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn any_bytes_are_the_code_of_one_text_or_none(
            code in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            let mut text = Vec::new();
            if decode(&code, &mut text).is_some() {
                let mut again = Vec::new();
                encode(&text, &mut again);
                prop_assert_eq!(again, code);
            }
        }
    }
}
