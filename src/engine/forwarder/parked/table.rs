//! The table of parked queries.
//!
//! A slab whose keys have generations, so that an answer for a query that has ended is dropped. A
//! client's own query is in a queue ordered by deadline; any query whose answer has arrived, or
//! whose time is over, is in the list of those to resume at the end of the turn. The table is
//! bounded by [`PARKED_MAX`] and [`BYTES_MAX`]; buffers stay in their places and are reused. An
//! answer for which there is no room becomes an error, which is counted.

use super::Errand;
use crate::engine::exchange::Client;
use crate::engine::forwarder::course::{Asker, Original, ParkedKey};
use crate::engine::key::Key;
use crate::engine::list::{Link, List};
use crate::engine::message::name::WireQuestion;
use crate::engine::message::query::{Asked, SUBNET_LEN_MAX, SignedBy};
use crate::engine::message::{HEADER_LEN, Question, Rcode, flags, put_u16, u16_at};
use crate::engine::routes::ZoneMatch;
use crate::engine::tsig::Signer;
use crate::moment::Moment;
use std::time::Duration;

/// Maximum number of parked queries of one worker.
pub(super) const PARKED_MAX: usize = 4_096;
/// Maximum number of bytes of all replies kept by parked queries of one worker: a quarter of the
/// size if each kept 16 KiB. An answer over TCP has up to 64 KiB, and each query keeps up to two.
pub(in crate::engine::forwarder) const BYTES_MAX: usize = 16 << 20;
/// Maximum number of bytes of a buffer that a vacant place keeps; none if half of [`BYTES_MAX`] is
/// in use.
const KEPT_MAX: usize = 1_232;
const _: () = assert!(2 * KEPT_MAX * PARKED_MAX <= BYTES_MAX, "vacant places leave room");

/// A query that waits for the answer to another.
pub(in crate::engine::forwarder) struct Parked {
    /// The client at the start of the chain of queries.
    pub(in crate::engine::forwarder) client: Client,
    pub(in crate::engine::forwarder) asked: Asked,
    /// The client-subnet option, and its length.
    pub(super) subnet: ([u8; SUBNET_LEN_MAX], usize),
    /// The question at the stage that parked the query.
    pub(super) asking: WireQuestion,
    /// The length of the client's packet.
    pub(in crate::engine::forwarder) size: u16,
    /// Signer, whose signature was verified with the keys of its server block.
    pub(super) signed_by: SignedBy,
    pub(in crate::engine::forwarder) since: Moment,
    pub(super) until: Moment,
    /// Server block and label set of the client's question.
    pub(in crate::engine::forwarder) zone_match: ZoneMatch,
    /// The question before rules of `rewrite` changed it, and the query that asked it.
    pub(super) original: Option<Original>,
    pub(super) errand: Errand,
    /// Length of the chain of parked queries that led to this one.
    pub(super) depth: u32,
    /// For a client's own query: number of subqueries asked for it, directly or indirectly.
    pub(super) asks: u32,
    /// The subquery for the missing records has been asked.
    pub(super) is_second: bool,
}

impl Parked {
    /// Returns the parked query for which this one was asked.
    pub(super) fn asker(&self) -> Option<Asker> {
        self.original.as_ref()?.asker
    }

    /// Returns the signer of the reply to the client, if the client's query was signed.
    pub(super) fn signer(&self) -> Option<&Signer> {
        self.original.as_ref()?.signer.as_deref()
    }

    /// Returns the question before rules of `rewrite` changed it.
    pub(in crate::engine::forwarder) fn first_asking(&self) -> &WireQuestion {
        self.original.as_ref().map_or(&self.asking, |original| &original.asking)
    }
}

/// A place of the table.
struct Place {
    generation: u32,
    parked: Option<Parked>,
    /// First part of the reply.
    head: Vec<u8>,
    /// The answer that has arrived and has not been read.
    arrived: Vec<u8>,
    has_arrived: bool,
    is_woken: bool,
    /// Index of its queue in `by_age`.
    class: u32,
    link: Link,
}

/// All parked queries of a worker.
#[derive(Default)]
pub(in crate::engine::forwarder) struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Clients' own queries, in a queue for each client response timer in use.
    by_age: Vec<(Duration, List)>,
    /// Queries to resume, with the time at which they were woken.
    woken: Vec<(ParkedKey, Moment)>,
    /// Total bytes of the buffers of all places.
    bytes: usize,
}

/// A reply had no room in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Table {
    /// Returns the reserved bytes.
    pub(in crate::engine::forwarder) fn reserved(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
            + self.bytes
            + self.free.capacity() * size_of::<u32>()
            + self.woken.capacity() * size_of::<(ParkedKey, Moment)>()
    }

    /// Returns the maximum of reserved bytes.
    pub(in crate::engine::forwarder) const fn reserved_max() -> usize {
        let place = size_of::<Place>() + size_of::<u32>() + size_of::<(ParkedKey, Moment)>();
        PARKED_MAX * place + BYTES_MAX
    }

    /// Parks a query. `None`: the table is full.
    pub(super) fn open(&mut self, parked: Parked) -> Option<ParkedKey> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.places.len() < PARKED_MAX => {
                self.places.push(Place::vacant());
                self.places.len() as u32 - 1
            }
            None => return None,
        };
        let (is_own, response_timer) = (parked.asker().is_none(), parked.until.since(parked.since));
        self.places[slot as usize].parked = Some(parked);
        if is_own {
            let class = self.class(response_timer);
            self.places[slot as usize].class = class;
            let queue = &mut self.by_age[class as usize].1;
            queue.push_back(&mut self.places, slot, |place| &mut place.link);
        }
        let generation = self.places[slot as usize].generation;
        Some(ParkedKey(Key { index: slot, generation }))
    }

    /// Returns the query of `key`, unless it has ended.
    pub(super) fn get(&self, key: ParkedKey) -> Option<&Parked> {
        self.places[self.slot(key)?].parked.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: ParkedKey) -> Option<&mut Parked> {
        let slot = self.slot(key)?;
        self.places[slot].parked.as_mut()
    }

    /// Returns the client's own query that led to `key`; `None` if it has ended.
    pub(super) fn root(&self, key: ParkedKey) -> Option<ParkedKey> {
        let mut key = key;
        while let Some(asker) = self.get(key)?.asker() {
            key = asker.key;
        }
        Some(key)
    }

    /// Ends a query.
    pub(super) fn close(&mut self, key: ParkedKey) -> Option<Parked> {
        let slot = self.slot(key)?;
        let class = self.places[slot].class as usize;
        if self.places[slot].link.is_on_list() {
            let queue = &mut self.by_age[class].1;
            queue.remove(&mut self.places, slot as u32, |place| &mut place.link);
        }
        let place = &mut self.places[slot];
        place.generation = place.generation.wrapping_add(1);
        (place.has_arrived, place.is_woken) = (false, false);
        let kept_max = if self.bytes > BYTES_MAX / 2 { 0 } else { KEPT_MAX };
        for buffer in [&mut place.head, &mut place.arrived] {
            self.bytes -= buffer.capacity();
            buffer.clear();
            buffer.shrink_to(kept_max);
            self.bytes += buffer.capacity();
        }
        self.free.push(slot as u32);
        place.parked.take()
    }

    /// Ends a query and all queries that led to it. Returns the last one that was found: the
    /// client's own query, unless that has ended before.
    pub(super) fn close_chain(&mut self, key: ParkedKey) -> Option<Parked> {
        let mut last = self.close(key)?;
        while let Some(before) = last.asker().and_then(|asker| self.close(asker.key)) {
            last = before;
        }
        Some(last)
    }

    /// Stores the first part of a reply.
    ///
    /// # Errors
    /// It would exceed [`BYTES_MAX`].
    pub(super) fn keep_head(&mut self, key: ParkedKey, reply: &[u8]) -> Result<(), NoRoom> {
        match self.slot(key) {
            Some(slot) => keep(&mut self.places[slot].head, reply, &mut self.bytes),
            None => Ok(()),
        }
    }

    /// Returns the first part of the reply.
    pub(super) fn head(&self, key: ParkedKey) -> &[u8] {
        self.slot(key).map_or(&[], |slot| &self.places[slot].head)
    }

    /// Stores the answer for which `key` waits, and resumes the query at the end of the turn.
    ///
    /// # Errors
    /// The answer would exceed [`BYTES_MAX`]: an error is stored in its place.
    pub(super) fn arrive(
        &mut self,
        now: Moment,
        key: ParkedKey,
        answer: &[u8],
    ) -> Result<(), NoRoom> {
        let Some(slot) = self.slot(key) else { return Ok(()) };
        let place = &mut self.places[slot];
        debug_assert!(!place.has_arrived, "it waits for one answer at a time");
        let kept = keep(&mut place.arrived, answer, &mut self.bytes);
        if kept.is_err() {
            self.bytes -= place.arrived.capacity();
            place.arrived = failure_of(answer);
            self.bytes += place.arrived.capacity();
        }
        place.has_arrived = true;
        self.wake(now, key);
        kept
    }

    /// Moves the answer that has arrived into `out` and returns its length; `None` if there is
    /// none.
    pub(super) fn take_arrived(&mut self, key: ParkedKey, out: &mut [u8]) -> Option<usize> {
        let slot = self.slot(key)?;
        let Place { arrived, has_arrived, .. } = &mut self.places[slot];
        std::mem::take(has_arrived).then(|| {
            out[..arrived.len()].copy_from_slice(arrived);
            arrived.len()
        })
    }

    /// Wakes clients' own queries whose time is over, to be resumed at the end of the turn.
    pub(in crate::engine::forwarder) fn wake_overdue(&mut self, now: Moment) {
        for class in 0..self.by_age.len() {
            while let Some(slot) = self.by_age[class].1.front() {
                let place = &self.places[slot as usize];
                if place.parked.as_ref().is_some_and(|parked| parked.until > now) {
                    break;
                }
                let key = ParkedKey(Key { index: slot, generation: place.generation });
                let queue = &mut self.by_age[class].1;
                queue.remove(&mut self.places, slot, |place| &mut place.link);
                self.wake(now, key);
            }
        }
    }

    /// Returns the earliest deadline.
    pub(in crate::engine::forwarder) fn next_deadline(&self) -> Option<Moment> {
        let fronts = self.by_age.iter().filter_map(|(_, queue)| queue.front());
        let until = |slot: u32| Some(self.places[slot as usize].parked.as_ref()?.until);
        fronts.filter_map(until).min()
    }

    /// Returns true if there are queries to resume.
    pub(in crate::engine::forwarder) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Returns the next query to resume, and the time at which it was woken.
    pub(super) fn next_woken(&mut self) -> Option<(ParkedKey, Moment)> {
        let (key, mut at) = self.woken.pop()?;
        if let Some(slot) = self.slot(key) {
            let place = &mut self.places[slot];
            place.is_woken = false;
            // Not in a queue: its deadline has passed between the answer and now.
            let own = place.parked.as_ref().filter(|parked| parked.asker().is_none());
            if let Some(parked) = own.filter(|_| !place.link.is_on_list()) {
                at = at.max(parked.until);
            }
        }
        Some((key, at))
    }

    /// Returns all parked queries, so that their server blocks can be updated.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Parked> {
        self.places.iter_mut().filter_map(|place| place.parked.as_mut())
    }

    fn wake(&mut self, now: Moment, key: ParkedKey) {
        if let Some(slot) = self.slot(key)
            && !std::mem::replace(&mut self.places[slot].is_woken, true)
        {
            self.woken.push((key, now));
        }
    }

    /// Returns the queue for this response timer. Empty queues are reused for other timers, so
    /// there are no more than the server blocks have different timers.
    fn class(&mut self, response_timer: Duration) -> u32 {
        let queues = &mut self.by_age;
        let known = queues.iter().position(|(known, _)| *known == response_timer);
        let empty = || queues.iter().position(|(_, queue)| queue.is_empty());
        let class = known.or_else(empty).unwrap_or(queues.len());
        if class == queues.len() {
            queues.push((response_timer, List::default()));
        }
        queues[class].0 = response_timer;
        class as u32
    }

    fn slot(&self, key: ParkedKey) -> Option<usize> {
        let place = self.places.get(key.0.index as usize)?;
        let is_same = place.parked.is_some() && place.generation == key.0.generation;
        is_same.then_some(key.0.index as usize)
    }
}

/// Copies `reply` into `buffer`, unless the total `bytes` of all buffers would exceed the maximum.
fn keep(buffer: &mut Vec<u8>, reply: &[u8], bytes: &mut usize) -> Result<(), NoRoom> {
    let others = *bytes - buffer.capacity();
    if others + buffer.capacity().max(reply.len()) > BYTES_MAX {
        return Err(NoRoom);
    }
    buffer.clear();
    buffer.reserve_exact(reply.len());
    buffer.extend_from_slice(reply);
    *bytes = others + buffer.capacity();
    Ok(())
}

/// Returns a SERVFAIL reply with the header and question of `answer`.
fn failure_of(answer: &[u8]) -> Vec<u8> {
    let question = Question::parse(answer).map_or(HEADER_LEN, |question| question.end());
    let mut failure = answer[..question.min(answer.len())].to_vec();
    failure.resize(failure.len().max(HEADER_LEN), 0);
    let word = u16_at(&failure, 2).unwrap_or(0) & !(flags::RCODE | flags::TC);
    put_u16(&mut failure, 2, word | Rcode::ServFail as u16);
    failure[6..HEADER_LEN].fill(0);
    failure
}

impl Place {
    fn vacant() -> Self {
        Self {
            generation: 0,
            parked: None,
            head: Vec::new(),
            arrived: Vec::new(),
            has_arrived: false,
            is_woken: false,
            class: 0,
            link: Link::OFF,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, NoRoom, Parked, Table};
    use crate::engine::exchange::Client;
    use crate::engine::forwarder::parked::Errand;
    use crate::engine::message::name::{WireName, WireQuestion};
    use crate::engine::message::query::{Asked, SignedBy};
    use crate::engine::message::{Rcode, reply};
    use crate::engine::routes::ZoneMatch;
    use crate::moment::Moment;
    use std::time::Duration;

    /// A query of a client, parked at `since` for five seconds.
    fn parked(since: Moment) -> Parked {
        Parked {
            client: Client::NOBODY,
            asked: Asked { id: 7, flags: 0, edns: None },
            subnet: ([0; _], 0),
            asking: WireQuestion { name: WireName::ROOT, rtype: 1, class: 1 },
            size: 17,
            signed_by: SignedBy::Nobody,
            since,
            until: since.plus(Duration::from_secs(5)),
            zone_match: ZoneMatch::NOWHERE,
            original: None,
            errand: Errand::Alias,
            depth: 0,
            asks: 0,
            is_second: false,
        }
    }

    /// A reply of `len` bytes to the question for the root.
    fn answer(len: usize) -> Vec<u8> {
        let mut answer = vec![0; len];
        answer[..17].copy_from_slice(&[0, 7, 0x80, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        answer
    }

    #[test]
    fn replies_that_are_kept_have_a_bound_and_what_exceeds_it_is_a_failure() {
        let mut table = Table::default();
        let large = answer(65_535);
        let mut keys = Vec::new();
        while keys.len() < BYTES_MAX / large.len() {
            let key = table.open(parked(Moment::ZERO)).expect("there is room for the query");
            assert_eq!(table.keep_head(key, &large), Ok(()));
            keys.push(key);
        }
        let last = table.open(parked(Moment::ZERO)).expect("there is room for the query");
        assert_eq!(table.keep_head(last, &large), Err(NoRoom));
        assert_eq!(table.head(last), b"");
        assert_eq!(table.arrive(Moment::ZERO, last, &large), Err(NoRoom));
        let mut out = [0; 64];
        assert_eq!(table.take_arrived(last, &mut out), Some(17));
        assert_eq!(reply::rcode(&out), Rcode::ServFail as u16);
        assert_eq!(out[6..12], [0; 6], "it has no record");
        assert!(table.bytes <= BYTES_MAX + 17 && table.reserved() <= Table::reserved_max());
        // The same place takes another reply, and room comes back with each query that ends.
        assert_eq!(table.keep_head(keys[0], &answer(65_535)), Ok(()));
        table.close(keys[0]);
        assert_eq!(table.keep_head(last, &large), Ok(()));
        keys[1..].iter().for_each(|key| drop(table.close(*key)));
        table.close(last);
        assert!(table.bytes <= BYTES_MAX / 2, "{} bytes in vacant places", table.bytes);
    }

    #[test]
    fn a_query_whose_time_ends_behind_its_answer_goes_on_after_its_time() {
        let mut table = Table::default();
        let key = table.open(parked(Moment::ZERO)).expect("there is room for the query");
        let at = |secs| Moment::ZERO.plus(Duration::from_secs(secs));
        assert_eq!(table.arrive(at(4), key, &answer(17)), Ok(()));
        table.wake_overdue(at(6));
        assert_eq!(table.next_woken(), Some((key, at(5))));
        assert_eq!((table.next_woken(), table.next_deadline()), (None, None));
    }
}
