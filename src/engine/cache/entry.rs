//! One cache entry: metadata in one cache line of shared words, and the layout of its bytes in a
//! chain of blocks.
//!
//! ```text
//! name, in lower case │ extended error │ offset of each TTL │ records in wire format
//! ```
//!
//! The name comes first because it is compared first. Options sent upstream are part of it: a name
//! has an end mark, so a longer one cannot be mistaken for it. Offsets are relative to the first
//! record; compression pointers stay valid in every reply, because a question of the same name has
//! the same length. Each TTL is stored within the bounds of its class and equal over its RRset, so
//! that ageing is a subtraction.

use super::admission::{Admission, AnswerClass, Limits, RECORDS_MAX, Received, clamp};
use super::blocks::COPY_LEN;
use super::sequence::{read, write};
use crate::engine::memory::reserved;
use crate::engine::message::compose::extended_error;
use crate::engine::message::lifetime::{negative_ttl, ttl_at};
use crate::engine::message::opt::EDE_LEN;
use crate::engine::message::opt::OPT_LEN;
use crate::engine::message::query::{Asked, OPTIONS_LEN_MAX};
use crate::engine::message::reply::{EDE_LEN_MAX, ExtendedError, ReplyTo, write_cut, write_whole};
use crate::engine::message::response::Response;
use crate::engine::message::{
    HEADER_LEN, NAME_LEN_MAX, Question, Record, flags, put_u32, rtype, u16_at, u32_at,
};
use crate::engine::zones::LowercaseName;
use crate::moment::{Moment, nanos};
use ahash::RandomState;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Key of an entry: everything that may change the answer and that the cache serves.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The name, followed by the options.
    pub(super) name: &'a [u8],
    pub(super) asked: CachedQuestion,
    pub(super) hash: u32,
}

/// Room for a name and options.
pub(crate) type KeyRoom = [u8; NAME_LEN_MAX + OPTIONS_LEN_MAX];

/// The part of a key beside the name, as an entry has it in its first word: type, class, DO and CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CachedQuestion(u64);

impl CachedQuestion {
    /// Bits of an entry's first word.
    const MASK: u64 = (1 << 34) - 1;

    fn new(rtype: u16, class: u16, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let flags = u64::from(dnssec_ok) | u64::from(checking_disabled) << 1;
        Self(u64::from(rtype) | u64::from(class) << 16 | flags << 32)
    }
}

impl<'a> Key<'a> {
    /// Key of a client's query. `hasher` is keyed because strangers choose the names, and is the
    /// same for the life of a cache.
    pub fn new(
        hasher: &RandomState,
        name: &'a LowercaseName,
        question: &Question,
        header: &Asked,
    ) -> Self {
        let dnssec_ok = header.edns.is_some_and(|edns| edns.dnssec_ok);
        let checking_disabled = header.flags & flags::CD != 0;
        let asked =
            CachedQuestion::new(question.rtype, question.class, dnssec_ok, checking_disabled);
        Self::hashed(hasher, name.as_bytes(), asked)
    }

    /// The same key for a query with these options.
    #[cold]
    pub(crate) fn with_options(
        self,
        hasher: &RandomState,
        options: &[u8],
        room: &'a mut KeyRoom,
    ) -> Self {
        let (start, end) = (self.name.len(), self.name.len() + options.len());
        room[..start].copy_from_slice(self.name);
        room[start..end].copy_from_slice(options);
        Self::hashed(hasher, &room[..end], self.asked)
    }

    /// Key of an upstream query, as [`Query::write_upstream`](crate::engine::message::query::Query)
    /// writes it: the same as that of the clients' queries. `name` is its name. Its options are
    /// [`Key::options_of_sent`].
    pub(crate) fn of_sent(hasher: &RandomState, name: &'a LowercaseName, query: &[u8]) -> Self {
        let behind = HEADER_LEN + name.as_bytes().len();
        let word = |place: usize| u16_at(query, place).unwrap_or(0);
        // The flags of EDNS lie in the TTL of the OPT, which stands behind the question.
        let edns_flags = word(behind + 4 + 7);
        let dnssec_ok = edns_flags & 0x8000 != 0;
        let checking_disabled = word(2) & flags::CD != 0;
        let asked =
            CachedQuestion::new(word(behind), word(behind + 2), dnssec_ok, checking_disabled);
        Self::hashed(hasher, name.as_bytes(), asked)
    }

    /// Returns the options of an upstream query for `name`.
    #[inline]
    pub(crate) fn options_of_sent<'q>(name: &LowercaseName, query: &'q [u8]) -> &'q [u8] {
        query.get(HEADER_LEN + name.as_bytes().len() + 4 + OPT_LEN..).unwrap_or_default()
    }

    /// Hash under which the entry is found.
    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    pub(super) fn hashed(hasher: &RandomState, name: &'a [u8], asked: CachedQuestion) -> Self {
        Self { name, asked, hash: hasher.hash_one((name, asked.0)) as u32 }
    }
}

/// Number of words of an entry: one cache line. The first is its sequence number, the last counts
/// its hits ([`Order::used`](super::eviction::Order::used)).
pub(super) const ENTRY_WORDS: usize = 8;
/// Word that counts the hits.
pub(super) const USED: usize = 7;

/// Metadata of an answer, all that a hit needs, as it lies in the words between the first and the
/// last: a lookup compares words, and decodes only what it uses.
///
/// ```text
/// type, class, DO, CD │ answer class │ failures
/// time of storage
/// lifetime
/// first block + 1
/// name, error, TTLs, records: lengths
/// counts │ flags
/// ```
#[derive(Clone, Copy)]
pub(super) struct Entry(pub(super) [u64; ENTRY_WORDS - 2]);

/// Lengths of the parts of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) name_len: u16,
    pub(super) error_len: u8,
    pub(super) ttls: u16,
    pub(super) records_len: u16,
    pub(super) counts: [u16; 3],
}

impl Packed {
    /// Total length in bytes.
    pub(super) fn len(&self) -> usize {
        usize::from(self.name_len)
            + usize::from(self.error_len)
            + 2 * usize::from(self.ttls)
            + usize::from(self.records_len)
    }
}

/// Buffers for a packed answer, and for messages to be truncated. They are allocated when the first
/// answer is stored or found.
#[derive(Default)]
pub(super) struct Scratch {
    /// A packed answer; at its full length, so that a copy needs no check.
    pub(super) packed: Vec<u8>,
    message: Vec<u8>,
}

impl Scratch {
    /// Returns the reserved memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        reserved(&self.packed) + reserved(&self.message)
    }

    pub(super) const PACKED_MAX: usize =
        (size_of::<KeyRoom>() + EDE_LEN_MAX + 2 * RECORDS_MAX + u16::MAX as usize)
            .next_multiple_of(COPY_LEN);
    const MESSAGE_MAX: usize = HEADER_LEN + NAME_LEN_MAX + 4 + u16::MAX as usize;
    /// Maximum of reserved memory in bytes.
    pub(super) const RESERVED_MAX: usize = Self::PACKED_MAX + Self::MESSAGE_MAX;

    /// Reserves the maximum, once.
    #[inline(always)]
    pub(super) fn reserve(&mut self) {
        if self.packed.is_empty() {
            self.allocate();
        }
    }

    #[cold]
    fn allocate(&mut self) {
        self.packed = vec![0; Self::PACKED_MAX];
        self.message.reserve_exact(Self::MESSAGE_MAX);
    }
}

/// Age of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Unexpired; whole seconds since it was stored.
    Fresh(u32),
    /// Expired for this time.
    Expired(Duration),
}

/// TTLs in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ttls {
    /// The stored TTLs, reduced by this number of seconds.
    Aged(u32),
    /// The same TTL in each record, because the answer is stale.
    Stale(u32),
}

impl Entry {
    /// Entry for the answer to `key` that [`pack`] has prepared, without its chain. `failures`: for
    /// a failure, the number of failures in a row, this one included.
    pub(super) fn new(
        key: &Key<'_>,
        admission: &Admission,
        failures: u8,
        packed: Packed,
        flags: u16,
        now: Moment,
    ) -> Self {
        let class = u64::from(admission.answer_class as u8);
        let Packed { name_len, error_len, ttls, records_len, counts } = packed;
        // AA and TC of the response applied only to the client that caused it.
        let flags = flags & (flags::RA | flags::AD | flags::RCODE);
        Self([
            key.asked.0 | class << 40 | u64::from(failures) << 48,
            now.as_nanos(),
            nanos(admission.lifetime),
            0,
            four(name_len, error_len.into(), ttls, records_len),
            four(counts[0], counts[1], counts[2], flags),
        ])
    }

    /// The question, without the name.
    pub(super) fn asked(&self) -> CachedQuestion {
        CachedQuestion(self.0[0] & CachedQuestion::MASK)
    }

    /// Reads an entry from its words, which may be torn; `None`: they are no entry, or vacant.
    #[inline(always)]
    pub(super) fn read(words: &[AtomicU64; ENTRY_WORDS]) -> Option<Self> {
        let entry = Self(std::array::from_fn(|place| read(&words[1 + place])));
        let is_entry = entry.0[3] as u32 != 0 && entry.answer_class_known().is_some();
        is_entry.then_some(entry)
    }

    /// Writes the entry to its words, but for the sequence number and the hits.
    pub(super) fn write_to(&self, words: &[AtomicU64; ENTRY_WORDS]) {
        for (word, value) in words[1..].iter().zip(self.0) {
            write(word, value);
        }
    }

    /// Makes the words those of a slot that was never used: vacant.
    pub(super) fn vacate(words: &[AtomicU64; ENTRY_WORDS]) {
        Self([0; ENTRY_WORDS - 2]).write_to(words);
    }

    /// Returns true if this can be the entry of `key`, by all but the name.
    #[inline(always)]
    pub(super) fn may_be(&self, key: &Key<'_>) -> bool {
        self.0[0] & CachedQuestion::MASK == key.asked.0 && self.name_len() == key.name.len()
    }

    /// Class of the answer.
    #[inline(always)]
    pub(super) fn answer_class(&self) -> AnswerClass {
        self.answer_class_known().unwrap_or(AnswerClass::Empty)
    }

    #[inline(always)]
    pub(super) fn answer_class_known(&self) -> Option<AnswerClass> {
        AnswerClass::from_number((self.0[0] >> 40) as u8)
    }

    /// For a failure: number of failures in a row, this one included.
    pub(super) fn failures(&self) -> u8 {
        (self.0[0] >> 48) as u8
    }

    /// Time of storage in nanoseconds from the clock's origin; negative: in another process.
    #[inline(always)]
    pub(super) fn stored(&self) -> i64 {
        self.0[1] as i64
    }

    /// Lifetime in nanoseconds.
    pub(super) fn lifetime(&self) -> u64 {
        self.0[2]
    }

    /// First block of the chain.
    #[inline(always)]
    pub(super) fn first(&self) -> u32 {
        (self.0[3] as u32).wrapping_sub(1)
    }

    pub(super) fn set_first(&mut self, first: u32) {
        self.0[3] = first.wrapping_add(1).into();
    }

    /// Length of the packed answer in bytes.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.packed().len()
    }

    #[inline(always)]
    fn name_len(&self) -> usize {
        usize::from(self.0[4] as u16)
    }

    #[inline(always)]
    pub(super) fn packed(&self) -> Packed {
        let [_, _, _, _, lens, counts] = self.0;
        Packed {
            name_len: lens as u16,
            error_len: (lens >> 16) as u8,
            ttls: (lens >> 32) as u16,
            records_len: (lens >> 48) as u16,
            counts: [counts as u16, (counts >> 16) as u16, (counts >> 32) as u16],
        }
    }

    fn flags(&self) -> u16 {
        (self.0[5] >> 48) as u16
    }

    pub(super) fn age(&self, now: Moment) -> Age {
        let age = (now.as_nanos() as i64).wrapping_sub(self.stored()).max(0) as u64;
        let lifetime = self.lifetime();
        if age < lifetime {
            Age::Fresh((age / 1_000_000_000) as u32)
        } else {
            Age::Expired(Duration::from_nanos(age - lifetime))
        }
    }

    /// Writes a client's reply into `out` and returns its length. The packed answer is in
    /// `scratch`.
    pub(super) fn write(
        &self,
        scratch: &mut Scratch,
        ttls: Ttls,
        to: &ReplyTo<'_>,
        out: &mut [u8],
    ) -> usize {
        let lens = self.packed();
        let packed = &scratch.packed[..lens.len()];
        let (_, rest) = packed.split_at(lens.name_len.into());
        let (error, rest) = rest.split_at(lens.error_len.into());
        let (table, records) = rest.split_at(2 * usize::from(lens.ttls));
        let mut errors = [0; EDE_LEN + EDE_LEN_MAX];
        let errors = match self.own_error(ttls) {
            Some(own) => {
                let len = EDE_LEN + error.len();
                errors[..EDE_LEN].copy_from_slice(&extended_error(own));
                errors[EDE_LEN..len].copy_from_slice(error);
                &errors[..len]
            }
            None => error,
        };
        let start = HEADER_LEN + to.question.len();
        let end = start + records.len();
        let response = Response {
            flags: self.flags(),
            counts: lens.counts,
            start,
            end,
            answers_end: end,
            opt: None,
        };
        let fill = |out: &mut [u8]| {
            out.copy_from_slice(records);
            age(out, table, ttls);
        };
        write_whole(out, &response, errors, to, fill).unwrap_or_else(|| {
            let message = &mut scratch.message;
            message.clear();
            message.resize(HEADER_LEN, 0);
            // The records' compression pointers point into the client's question.
            message.extend_from_slice(to.question);
            message.extend_from_slice(records);
            age(&mut message[start..], table, ttls);
            write_cut(out, message, &response, errors, to)
        })
    }

    /// Returns the extended error that marks a stale answer or a cached failure.
    fn own_error(&self, ttls: Ttls) -> Option<ExtendedError> {
        match (self.answer_class(), ttls) {
            (AnswerClass::Failure, _) => Some(ExtendedError::CachedError),
            (_, Ttls::Aged(_)) => None,
            (AnswerClass::NxDomain, Ttls::Stale(_)) => Some(ExtendedError::StaleNxDomain),
            (_, Ttls::Stale(_)) => Some(ExtendedError::StaleAnswer),
        }
    }
}

/// Four numbers in a word.
fn four(low: u16, second: u16, third: u16, high: u16) -> u64 {
    let low_half = u64::from(low) | u64::from(second) << 16;
    low_half | u64::from(third) << 32 | u64::from(high) << 48
}

/// Rewrites the TTLs, whose offsets are in `table`.
fn age(records: &mut [u8], table: &[u8], ttls: Ttls) {
    for offset in table.as_chunks::<2>().0 {
        let place = usize::from(u16::from_be_bytes(*offset));
        let ttl = match ttls {
            Ttls::Aged(secs) => u32_at(records, place).unwrap_or(0).saturating_sub(secs),
            Ttls::Stale(ttl) => ttl,
        };
        put_u32(records, place, ttl);
    }
}

/// Packs a response into `scratch`, which has room for the longest.
pub(super) fn pack(
    scratch: &mut [u8],
    key: &Key<'_>,
    received: &Received<'_>,
    limits: &Limits<'_>,
    answer_class: AnswerClass,
) -> Packed {
    let Received { packet, response, .. } = *received;
    let error = response.opt.and_then(|opt| opt.extended_error);
    let error = error.map_or(&[][..], |(start, end)| &packet[start..end]);
    let error = if error.len() <= EDE_LEN_MAX { error } else { &[] };
    let records = &packet[response.start..response.end];
    let ttls: u16 = response.counts.iter().sum();
    let mut packed = Packed { ttls, ..pack_head(scratch, key, error) };
    (packed.records_len, packed.counts) = (records.len() as u16, response.counts);
    let len = packed.len();
    let own = &mut scratch[key.name.len() + error.len()..len];
    let (table, own) = own.split_at_mut(2 * usize::from(ttls));
    own.copy_from_slice(records);
    table.fill(0);
    let mut sets = Sets { packet, from: response.start, records: own, set: None };
    let mut place = response.start;
    for offset in table.chunks_exact_mut(2) {
        let Some(record) = Record::parse(packet, place) else { break };
        place = record.end;
        let ttl = if answer_class.is_denial() {
            negative_ttl(packet, &record)
        } else {
            ttl_at(packet, record.fixed)
        };
        let written = sets.add(&record, clamp(limits.ttls(answer_class), ttl));
        offset.copy_from_slice(&(written as u16).to_be_bytes());
    }
    sets.finish();
    packed
}

/// Packs a failure of our own, which has no records.
pub(super) fn pack_failure(scratch: &mut [u8], key: &Key<'_>, why: ExtendedError) -> Packed {
    pack_head(scratch, key, &extended_error(why))
}

fn pack_head(scratch: &mut [u8], key: &Key<'_>, error: &[u8]) -> Packed {
    let (name_len, error_len) = (key.name.len(), error.len());
    scratch[..name_len].copy_from_slice(key.name);
    scratch[name_len..name_len + error_len].copy_from_slice(error);
    let (name_len, error_len) = (name_len as u16, error_len as u8);
    Packed { name_len, error_len, ..Packed::default() }
}

/// Writes the TTLs of records by RRset: all of one set get the lowest (RFC 2181 §5.2). Only
/// adjacent records form a set; RRSIGs over different types are no set.
struct Sets<'a> {
    packet: &'a [u8],
    /// Offset of the first record in the packet.
    from: usize,
    records: &'a mut [u8],
    /// First and last record of the set so far, and its lowest and highest TTL.
    set: Option<(Record, Record, u32, u32)>,
}

impl Sets<'_> {
    /// Adds the next record and returns the offset of its TTL.
    fn add(&mut self, record: &Record, ttl: u32) -> usize {
        let place = record.fixed + 4 - self.from;
        put_u32(self.records, place, ttl);
        match &mut self.set {
            Some((_, last, low, high))
                if record.rtype != rtype::RRSIG && last.is_of_set(record, self.packet) =>
            {
                (*last, *low, *high) = (*record, ttl.min(*low), ttl.max(*high));
            }
            _ => {
                self.finish();
                self.set = Some((*record, *record, ttl, ttl));
            }
        }
        place
    }

    /// Ends the last set.
    fn finish(&mut self) {
        let Some((first, last, low, high)) = self.set.take() else { return };
        if low == high {
            return;
        }
        let mut place = first.start;
        while place < last.end {
            let Some(record) = Record::parse(self.packet, place) else { return };
            put_u32(self.records, record.fixed + 4 - self.from, low);
            place = record.end;
        }
    }
}
