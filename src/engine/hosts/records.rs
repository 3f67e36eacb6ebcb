//! Records of names in the order of their hashes, with a directory.
//!
//! A record is the length of a name, a tag, the name in lower-cased wire format and its addresses.
//! Hashes are spread evenly, so equal ranges of them are buckets of about one record. The directory
//! has a word for each bucket: its first byte, and a filter of 32 bits in which each record sets
//! two. The lookup of a missing name mostly reads that word alone, of another one its record as
//! well.

use super::{Addresses, tag};
use crate::engine::message::u16_at;
use crate::sys::memory::{prefer_huge_pages, prefetch};

/// Length of a word of the directory.
const WORD: usize = size_of::<u64>();
/// Usual maximum length of a bucket; a name with thousands of addresses makes one longer.
const BUCKET_USUAL: usize = 128;
/// Length of a record before its name.
const HEAD: usize = 2;

/// A name with its addresses.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) name: &'a [u8],
    pub(super) tag: u8,
    /// The addresses in the form that `tag` gives.
    data: &'a [u8],
}

impl<'a> Record<'a> {
    /// Splits the first record off `bytes`; returns it and the rest.
    #[inline]
    pub(super) fn split(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let tag = bytes[1];
        let (name, rest) = bytes[HEAD..].split_at(usize::from(bytes[0]));
        let len = match tag & tag::KIND {
            tag::V4 => 4,
            tag::V6 => 16,
            _ => 4 + 4 * count(rest, 0) + 16 * count(rest, 2),
        };
        let (data, rest) = rest.split_at(len);
        (Self { name, tag, data }, rest)
    }

    /// Returns the addresses of the record.
    #[inline]
    pub(super) fn addresses(&self) -> Addresses<'a> {
        let (v4, v6): (&[u8], &[u8]) = match self.tag & tag::KIND {
            tag::V4 => (self.data, &[]),
            tag::V6 => (&[], self.data),
            _ => self.data[4..].split_at(4 * count(self.data, 0)),
        };
        Addresses { v4: v4.as_chunks().0, v6: v6.as_chunks().0 }
    }
}

fn count(data: &[u8], place: usize) -> usize {
    usize::from(u16_at(data, place).unwrap_or(0))
}

/// Names with their addresses, found by their hashes.
pub(super) struct Records {
    /// The directory, then the records: huge pages of one large block are for both.
    bytes: Box<[u8]>,
    buckets: usize,
}

impl Records {
    /// Returns the record of `name`, which has this hash.
    #[inline]
    pub(super) fn find(&self, hash: u32, name: &[u8]) -> Option<Record<'_>> {
        let bucket = bucket_of(hash, self.buckets);
        let word = word_at(&self.bytes, bucket);
        if filter_of(word) & bits_of(hash) != bits_of(hash) {
            return None;
        }
        let mut rest = &self.bytes[start_of(word)..start_of(word_at(&self.bytes, bucket + 1))];
        while !rest.is_empty() {
            let (record, behind) = Record::split(rest);
            if record.name == name {
                return Some(record);
            }
            rest = behind;
        }
        None
    }

    /// Prefetches the word of the directory that [`Records::find`] will read for this hash.
    pub(super) fn prefetch_word(&self, hash: u32) {
        prefetch(&self.bytes[bucket_of(hash, self.buckets) * WORD]);
    }

    /// Prefetches the bucket that [`Records::find`] will search for this hash; reads the word.
    pub(super) fn prefetch_bucket(&self, hash: u32) {
        let bucket = bucket_of(hash, self.buckets);
        let word = word_at(&self.bytes, bucket);
        if filter_of(word) & bits_of(hash) == bits_of(hash) {
            let (start, end) = (start_of(word), start_of(word_at(&self.bytes, bucket + 1)));
            prefetch(&self.bytes[start..end.min(start + BUCKET_USUAL)]);
        }
    }

    pub(super) fn at(&self, place: usize) -> Record<'_> {
        Record::split(&self.bytes[place..]).0
    }

    /// Returns the memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        self.bytes.len()
    }
}

/// Writer of records in the order of their hashes.
pub(super) struct Writer {
    /// The directory and the records so far.
    pub(super) bytes: Vec<u8>,
    buckets: usize,
    /// The last bucket that has its first byte.
    bucket: usize,
}

impl Writer {
    /// Begins a table of `names` records of up to `len` bytes together.
    pub(super) fn new(names: usize, len: usize) -> Self {
        let buckets = names.max(1);
        let directory = (buckets + 1) * WORD;
        // The kernel gives zeros: a page takes no memory until something is written to it, so the
        // directory grows while the parts that were copied are freed.
        let mut bytes = vec![0; directory + len];
        prefer_huge_pages(bytes.as_ptr().addr(), bytes.len());
        bytes.truncate(directory);
        let mut all = Self { bytes, buckets, bucket: 0 };
        all.put(0, directory as u64);
        all
    }

    /// Begins the record of a name with this hash, which is not less than the one before; returns
    /// its place.
    pub(super) fn begin(&mut self, hash: u32) -> usize {
        let bucket = bucket_of(hash, self.buckets);
        debug_assert!(self.bucket <= bucket, "records come in the order of their hashes");
        let place = self.bytes.len();
        self.begin_buckets(bucket);
        let word = word_at(&self.bytes, bucket);
        self.put(bucket, word | u64::from(bits_of(hash)) << 32);
        place
    }

    pub(super) fn finish(mut self) -> Records {
        self.begin_buckets(self.buckets);
        Records { bytes: self.bytes.into(), buckets: self.buckets }
    }

    /// Has all buckets up to this one begin here.
    fn begin_buckets(&mut self, last: usize) {
        let place = self.bytes.len() as u64;
        for bucket in self.bucket + 1..=last {
            self.put(bucket, place);
        }
        self.bucket = last;
    }

    fn put(&mut self, bucket: usize, word: u64) {
        self.bytes[bucket * WORD..][..WORD].copy_from_slice(&word.to_ne_bytes());
    }
}

/// The directory's word of a bucket.
#[inline]
fn word_at(bytes: &[u8], bucket: usize) -> u64 {
    let word = bytes[bucket * WORD..].first_chunk();
    u64::from_ne_bytes(*word.unwrap_or(&[0; WORD]))
}

/// Appends a record of one address; `octets` are its bytes and `tag` gives their number.
pub(super) fn append(bytes: &mut Vec<u8>, tag: u8, name: &[u8], octets: &[u8]) {
    bytes.extend([name.len() as u8, tag]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(octets);
}

/// Returns the bucket of a hash; buckets are in the order of hashes.
#[inline]
fn bucket_of(hash: u32, buckets: usize) -> usize {
    ((u64::from(hash) * buckets as u64) >> 32) as usize
}

/// Returns the place of a bucket's first byte.
#[inline]
fn start_of(word: u64) -> usize {
    word as u32 as usize
}

#[inline]
fn filter_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Returns the filter bits of a hash, taken from its last bits, as the bucket is from the first.
#[inline]
fn bits_of(hash: u32) -> u32 {
    1 << (hash & 31) | 1 << ((hash >> 5) & 31)
}
