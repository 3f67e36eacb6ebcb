//! The outstanding queries of one socket, and the outcome of each.
//!
//! A slot holds one query as it was sent. The slot's number and as many random bits as are left
//! make the ID (the random bits mask the number, which spreads it over the ID), so an answer finds
//! its slot without a table. Slots are reused in the order in which they became free, so the last
//! query of a slot is remembered as long as possible; that distinguishes a duplicate and a late
//! answer from an unsolicited message. A response to another question ends no query, because a
//! resolver would also go on waiting.
//!
//! Every query ends in one of four ways: answered, answered wrongly, timed out, or lost with its
//! connection. Pure; no allocation once the number of used slots has reached its maximum.

use crate::moment::Moment;
use crate::traffic::wire::{HEADER_LEN, QR, RCODE, TC, u16_at};
use std::collections::VecDeque;
use std::time::Duration;

/// Maximum number of slots of a ledger, which leaves two random bits in an ID.
pub(crate) const SLOTS_MAX: usize = 16_384;
/// Minimum number of slots of a ledger: the number of later queries before a slot is reused.
const SLOTS_MIN: usize = 256;
/// Multiplier that spreads the random bits of an ID over its other bits; odd, so that different
/// bits spread differently.
const SPREAD: u16 = 0x9e35;

/// Classification of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right response to an outstanding query, which ends it.
    Answered(Answer),
    /// A response to an outstanding query with a wrong content. It ends the query.
    Wrong(Answer),
    /// A message with the ID of an outstanding query that is no response or has another question;
    /// the query stays outstanding.
    Mismatched,
    /// Another response to a query that was answered before.
    Duplicate,
    /// The response to a query that had timed out.
    Late,
    /// No match with a remembered query.
    Stray,
}

/// Facts about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Scheduled send time of its query.
    pub intended: Moment,
    /// Send time of its query.
    pub sent: Moment,
    /// Response code, without the bits in an OPT record.
    pub rcode: u8,
    /// The response is truncated.
    pub truncated: bool,
}

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never used, or its query was not sent.
    Idle,
    Outstanding,
    Done,
    TimedOut,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    intended: Moment,
    sent: Moment,
    /// Number of queries that the slot has had.
    serial: u32,
    id: u16,
    length: u16,
    question_end: u16,
    state: State,
}

/// A waiting query, in the order of sending.
#[derive(Clone, Copy, Debug)]
struct Wait {
    slot: u16,
    serial: u32,
}

/// The outstanding queries of a socket.
pub(crate) struct Ledger {
    slots: Vec<Slot>,
    /// Packets one after the other, each in `stride` bytes.
    packets: Vec<u8>,
    stride: usize,
    free: VecDeque<u16>,
    waiting: VecDeque<Wait>,
    capacity: usize,
    mask: u16,
    outstanding: usize,
    timeout: Duration,
}

impl Ledger {
    /// Creates a ledger for at most `outstanding` queries, up to [`SLOTS_MAX`], of at most
    /// `length_max` bytes, each given up `timeout` after it was sent.
    pub(crate) fn new(outstanding: usize, length_max: usize, timeout: Duration) -> Self {
        let capacity = outstanding.clamp(1, SLOTS_MAX);
        let numbers = (2 * capacity).next_power_of_two().clamp(SLOTS_MIN, SLOTS_MAX);
        Self {
            slots: Vec::new(),
            packets: Vec::new(),
            // Not a power of two, otherwise all packets would share a few sets of the cache.
            stride: length_max.max(HEADER_LEN).next_multiple_of(64) + 64,
            free: VecDeque::new(),
            waiting: VecDeque::new(),
            capacity,
            mask: numbers as u16 - 1,
            outstanding: 0,
            timeout,
        }
    }

    /// Returns the time after which a query is given up.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the number of outstanding queries.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Returns the number of queries that can still be sent.
    pub(crate) fn vacancies(&self) -> usize {
        self.capacity - self.outstanding
    }

    /// Takes a slot for a query, to be written into [`Ledger::buffer`] and [`Ledger::launch`]ed;
    /// `None` if the maximum number is outstanding.
    pub(crate) fn reserve(&mut self) -> Option<u16> {
        if self.outstanding == self.capacity {
            return None;
        }
        self.outstanding += 1;
        // The oldest slot is reused only if enough younger ones remember their queries.
        if self.free.len() < SLOTS_MIN.min(usize::from(self.mask) + 1) / 2
            && self.slots.len() <= usize::from(self.mask)
        {
            self.slots.push(Slot {
                intended: Moment::ZERO,
                sent: Moment::ZERO,
                serial: 0,
                id: 0,
                length: 0,
                question_end: 0,
                state: State::Idle,
            });
            self.packets.resize(self.slots.len() * self.stride, 0);
            return Some((self.slots.len() - 1) as u16);
        }
        self.free.pop_front()
    }

    /// Returns the buffer for the query of a reserved slot, including its ID, which will be
    /// overwritten.
    pub(crate) fn buffer(&mut self, slot: u16) -> &mut [u8] {
        let start = usize::from(slot) * self.stride;
        &mut self.packets[start..start + self.stride]
    }

    /// Launches the query of `length` bytes in `slot`: makes its ID, with `chance` in the bits that
    /// the slot's number leaves free.
    pub(crate) fn launch(
        &mut self,
        slot: u16,
        length: usize,
        chance: u16,
        intended: Moment,
        now: Moment,
    ) {
        let high = chance & !self.mask;
        let id = high | (slot ^ self.masking(high));
        let packet = &mut self.buffer(slot)[..length];
        packet[..2].copy_from_slice(&id.to_be_bytes());
        let question_end = question_end(packet).unwrap_or(HEADER_LEN) as u16;
        let entry = &mut self.slots[usize::from(slot)];
        let serial = entry.serial.wrapping_add(1);
        *entry = Slot {
            intended,
            sent: now,
            serial,
            id,
            length: length as u16,
            question_end,
            state: State::Outstanding,
        };
        self.waiting.push_back(Wait { slot, serial });
    }

    /// Returns the query in `slot`, as launched.
    pub(crate) fn packet(&self, slot: u16) -> &[u8] {
        let start = usize::from(slot) * self.stride;
        &self.packets[start..start + usize::from(self.slots[usize::from(slot)].length)]
    }

    /// Returns the scheduled instant of the query in `slot`.
    pub(crate) fn intended(&self, slot: u16) -> Moment {
        self.slots[usize::from(slot)].intended
    }

    /// Frees the slot of a query that was never sent.
    pub(crate) fn recall(&mut self, slot: u16) {
        self.slots[usize::from(slot)].state = State::Idle;
        self.outstanding -= 1;
        self.free.push_back(slot);
    }

    /// Classifies a message. `is_right(query, response)` judges the content of a response that
    /// otherwise matches.
    pub(crate) fn settle(
        &mut self,
        message: &[u8],
        is_right: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> Verdict {
        let Some(id) = u16_at(message, 0) else { return Verdict::Stray };
        let number = (id ^ self.masking(id & !self.mask)) & self.mask;
        let Some(&slot) = self.slots.get(usize::from(number)) else { return Verdict::Stray };
        if slot.id != id || slot.state == State::Idle {
            return Verdict::Stray;
        }
        let start = usize::from(number) * self.stride;
        let query = &self.packets[start..start + usize::from(slot.length)];
        let responds = is_response(query, usize::from(slot.question_end), message);
        match slot.state {
            State::Outstanding if responds => {}
            State::Outstanding => return Verdict::Mismatched,
            State::Done if responds => return Verdict::Duplicate,
            State::TimedOut if responds => return Verdict::Late,
            _ => return Verdict::Stray,
        }
        let answer = Answer {
            intended: slot.intended,
            sent: slot.sent,
            rcode: message[3] & RCODE,
            truncated: message[2] & TC != 0,
        };
        let right = is_right(query, message);
        self.end(number, State::Done);
        if right { Verdict::Answered(answer) } else { Verdict::Wrong(answer) }
    }

    /// Gives up the queries that have timed out, and reports the scheduled send time of each.
    pub(crate) fn expire(&mut self, now: Moment, mut given_up: impl FnMut(Moment)) {
        while let Some(&Wait { slot, serial }) = self.waiting.front() {
            let entry = self.slots[usize::from(slot)];
            let waits = entry.serial == serial && entry.state == State::Outstanding;
            if waits && now.since(entry.sent) < self.timeout {
                break;
            }
            self.waiting.pop_front();
            if waits {
                self.end(slot, State::TimedOut);
                given_up(entry.intended);
            }
        }
    }

    /// Gives up all queries after a connection has ended, and reports the scheduled send times.
    pub(crate) fn abandon(&mut self, mut given_up: impl FnMut(Moment)) {
        while let Some(Wait { slot, serial }) = self.waiting.pop_front() {
            let entry = self.slots[usize::from(slot)];
            if entry.serial == serial && entry.state == State::Outstanding {
                self.end(slot, State::TimedOut);
                given_up(entry.intended);
            }
        }
    }

    /// Returns the mask for the slot number of an ID with these random bits.
    fn masking(&self, high: u16) -> u16 {
        (high >> self.mask.count_ones()).wrapping_mul(SPREAD) & self.mask
    }

    fn end(&mut self, slot: u16, state: State) {
        self.slots[usize::from(slot)].state = state;
        self.outstanding -= 1;
        self.free.push_back(slot);
    }
}

/// Returns the end of the first question of `query`; `None` if there is none or it is malformed.
fn question_end(query: &[u8]) -> Option<usize> {
    if u16_at(query, 4)? == 0 {
        return None;
    }
    let mut at = HEADER_LEN;
    loop {
        match *query.get(at)? {
            0 => break,
            label @ 1..=63 => at += 1 + usize::from(label),
            _ => return None,
        }
    }
    let end = at + 1 + 4;
    (end <= query.len()).then_some(end)
}

/// Returns true if `message` responds to `query`, whose question ends at `end` and whose ID it has:
/// QR is set, the operation code is the same, and so is the question, letter case included. An
/// error other than NXDOMAIN may come without a question.
fn is_response(query: &[u8], end: usize, message: &[u8]) -> bool {
    const OPCODE: u8 = crate::traffic::wire::OPCODE;
    if message.len() < HEADER_LEN || message[2] & QR == 0 {
        return false;
    }
    if (message[2] ^ query[2]) & OPCODE != 0 {
        return false;
    }
    if message[4..6] == query[4..6] {
        return message.get(HEADER_LEN..end) == query.get(HEADER_LEN..end);
    }
    message[4..6] == [0, 0] && !matches!(message[3] & RCODE, 0 | 3)
}

#[cfg(test)]
mod tests {
    use super::{Ledger, SLOTS_MAX, SLOTS_MIN, Verdict};
    use crate::moment::Moment;
    use crate::traffic::workload::{Source, Workload};
    use proptest::prelude::{any, proptest};
    use std::collections::HashMap;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_millis(10);

    fn at(micros: u64) -> Moment {
        Moment::from_nanos(micros * 1_000)
    }

    struct Bench {
        ledger: Ledger,
        workload: Workload,
        chance: u16,
    }

    impl Bench {
        fn new(outstanding: usize) -> Self {
            let source = Source::unique();
            let ledger = Ledger::new(outstanding, source.length_max(), TIMEOUT);
            Self { ledger, workload: Workload::new(source, 1, 0, 1, None, true), chance: 0 }
        }

        /// Sends a query at `micros`, 5 µs after its scheduled time; returns its slot and bytes.
        fn send(&mut self, micros: u64) -> Option<(u16, Vec<u8>)> {
            let slot = self.ledger.reserve()?;
            let mut packet = [0; 128];
            let length = self.workload.write(&mut packet);
            self.ledger.buffer(slot)[..length].copy_from_slice(&packet[..length]);
            self.chance = self.chance.wrapping_mul(25_173).wrapping_add(13_849);
            self.ledger.launch(slot, length, self.chance, at(micros - 5), at(micros));
            Some((slot, self.ledger.packet(slot).to_vec()))
        }

        fn settle(&mut self, message: &[u8]) -> Verdict {
            self.ledger.settle(message, |_, _| true)
        }
    }

    fn response(query: &[u8]) -> Vec<u8> {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response
    }

    #[test]
    fn ids_are_spread_and_found_again() {
        let mut bench = Bench::new(200);
        let mut octets = [[0u64; 256]; 2];
        for _ in 0..100_000 {
            let (_, query) = bench.send(5).unwrap();
            octets[0][usize::from(query[0])] += 1;
            octets[1][usize::from(query[1])] += 1;
            assert!(matches!(bench.settle(&response(&query)), Verdict::Answered(_)));
        }
        for counts in octets {
            let most = counts.iter().max().unwrap();
            assert!(*most < 1_000, "an octet that should occur 400 times occurs {most} times");
        }
    }

    #[test]
    fn an_answer_has_the_scheduled_time_of_its_query() {
        let mut bench = Bench::new(4);
        let (_, query) = bench.send(20).unwrap();
        let mut refused = response(&query);
        refused[3] |= 5;
        refused[2] |= 2;
        let Verdict::Answered(answer) = bench.settle(&refused) else { panic!() };
        assert_eq!((answer.intended, answer.sent), (at(15), at(20)));
        assert_eq!((answer.rcode, answer.truncated), (5, true));
        assert_eq!(bench.ledger.outstanding(), 0);
    }

    #[test]
    fn a_second_answer_is_a_duplicate_and_one_after_the_time_out_is_late() {
        let mut bench = Bench::new(4);
        let (_, first) = bench.send(20).unwrap();
        let (_, second) = bench.send(30).unwrap();
        assert!(matches!(bench.settle(&response(&first)), Verdict::Answered(_)));
        assert_eq!(bench.settle(&response(&first)), Verdict::Duplicate);
        let mut given_up = Vec::new();
        bench.ledger.expire(at(10_029), |moment| given_up.push(moment));
        assert_eq!(given_up, []);
        bench.ledger.expire(at(10_030), |moment| given_up.push(moment));
        assert_eq!(given_up, [at(25)]);
        assert_eq!(bench.settle(&response(&second)), Verdict::Late);
        assert_eq!(bench.ledger.outstanding(), 0);
    }

    #[test]
    fn a_response_to_another_question_ends_no_query() {
        let mut bench = Bench::new(4);
        let (_, query) = bench.send(20).unwrap();
        let right = response(&query);
        let mut other = right.clone();
        other[14] ^= 0x20;
        let mut status = right.clone();
        status[2] |= 0x10;
        let mut bare = right[..12].to_vec();
        bare[5] = 0;
        for message in [&query, &other, &status, &bare, &right[..20].to_vec()] {
            assert_eq!(bench.settle(message), Verdict::Mismatched, "{message:?}");
        }
        bare[3] |= 1;
        assert!(matches!(bench.settle(&bare), Verdict::Answered(_)), "FORMERR needs no question");
    }

    #[test]
    fn wrong_and_right_answers_are_distinguished() {
        let mut bench = Bench::new(4);
        let (_, query) = bench.send(20).unwrap();
        let verdict = bench.ledger.settle(&response(&query), |asked, got| {
            assert_eq!((asked, got), (&query[..], &response(&query)[..]));
            false
        });
        assert!(matches!(verdict, Verdict::Wrong(_)));
    }

    #[test]
    fn messages_without_a_query_are_strays() {
        let mut bench = Bench::new(4);
        let (slot, query) = bench.send(20).unwrap();
        let mut stranger = response(&query);
        stranger[0] ^= 0x55;
        for message in [&[][..], &[1], &stranger, b"\0\0\x80\0"] {
            assert_eq!(bench.settle(message), Verdict::Stray);
        }
        bench.ledger.recall(slot);
        assert_eq!(bench.settle(&response(&query)), Verdict::Stray, "it never left");
    }

    #[test]
    fn the_past_is_remembered_for_as_many_queries_as_the_smallest_ledger_has_slots() {
        let mut bench = Bench::new(1);
        let (_, first) = bench.send(20).unwrap();
        bench.settle(&response(&first));
        for _ in 0..SLOTS_MIN / 2 - 1 {
            let (_, query) = bench.send(20).unwrap();
            bench.settle(&response(&query));
        }
        assert_eq!(bench.settle(&response(&first)), Verdict::Duplicate);
    }

    #[test]
    fn queries_are_bounded_and_those_of_a_dead_connection_are_given_up() {
        let mut bench = Bench::new(1_000_000);
        for _ in 0..SLOTS_MAX {
            bench.send(20).unwrap();
        }
        assert!(bench.send(20).is_none());
        assert_eq!(bench.ledger.vacancies(), 0);
        let mut count = 0;
        bench.ledger.abandon(|_| count += 1);
        assert_eq!((count, bench.ledger.outstanding()), (SLOTS_MAX, 0));
        assert!(bench.send(20).is_some());
    }

    proptest! {
        /// Against a naive twin that keeps every outstanding query in a map.
        #[test]
        fn it_agrees_with_a_naive_twin(steps in any::<Vec<(u8, u16)>>()) {
            let mut bench = Bench::new(40);
            let mut twin: HashMap<Vec<u8>, u64> = HashMap::new();
            let mut sent = Vec::new();
            let mut now = 10;
            for (rtype, pick) in steps {
                now += u64::from(pick % 700);
                match rtype % 3 {
                    0 => match bench.send(now) {
                        Some((_, query)) => {
                            twin.insert(query.clone(), now);
                            sent.push(query);
                        }
                        None => assert_eq!(twin.len(), 40),
                    },
                    1 if !sent.is_empty() => {
                        let query = &sent[usize::from(pick) % sent.len()];
                        let verdict = bench.settle(&response(query));
                        let expected = twin.remove(query).is_some();
                        assert_eq!(matches!(verdict, Verdict::Answered(_)), expected);
                    }
                    _ => {
                        let mut given_up = 0;
                        bench.ledger.expire(at(now), |_| given_up += 1);
                        let before = twin.len();
                        twin.retain(|_, sent| at(now).since(at(*sent)) < TIMEOUT);
                        assert_eq!(before - twin.len(), given_up);
                    }
                }
                assert_eq!(bench.ledger.outstanding(), twin.len());
            }
        }
    }
}
