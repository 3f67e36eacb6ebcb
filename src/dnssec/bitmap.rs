//! Type bitmaps of NSEC records (RFC 4034 §4.1.2).
//!
//! Types are collected in any order, then written as windows of 256 types each, without those that
//! are empty.

/// Types at a name, in any order.
#[derive(Debug, Default)]
pub(crate) struct Types(Vec<u16>);

impl Types {
    /// Removes all types.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a type.
    pub(crate) fn add(&mut self, rtype: u16) {
        self.0.push(rtype);
    }

    /// Adds these types.
    pub(crate) fn extend(&mut self, rtypes: &[u16]) {
        self.0.extend(rtypes);
    }

    /// Removes a type.
    pub(crate) fn remove(&mut self, rtype: u16) {
        self.0.retain(|other| *other != rtype);
    }

    /// Appends the bitmap to `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        self.0.sort_unstable();
        self.0.dedup();
        for window in self.0.chunk_by(|one, other| one >> 8 == other >> 8) {
            let last = window.last().map_or(0, |rtype| rtype & 0xff);
            let len = usize::from(last / 8) + 1;
            out.extend([(window[0] >> 8) as u8, len as u8]);
            let begin = out.len();
            out.resize(begin + len, 0);
            for rtype in window {
                out[begin + usize::from(rtype & 0xff) / 8] |= 0x80 >> (rtype & 7);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Types;

    /// The example of RFC 4034 §4.3.
    #[test]
    fn bits_are_in_windows() {
        let (mut types, mut out) = (Types::default(), Vec::new());
        types.extend(&[1234, 1, 47, 15, 46, 1]);
        types.write(&mut out);
        let mut known = vec![0x00, 0x06, 0x40, 0x01, 0x00, 0x00, 0x00, 0x03, 0x04, 0x1b];
        known.extend([0; 26]);
        known.push(0x20);
        assert_eq!(out, known);
    }
}
