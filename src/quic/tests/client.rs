//! Connections to an upstream against an endpoint in memory: calls, limits, refusals and the end.
//!
//! Both sides are of this room. The link may lose packets and deliver them late, and time jumps.

use super::world::{SILENCE, WAY, settings, tls};
use crate::engine::key::{ConnectionKey, Key};
use crate::moment::Moment;
use crate::quic::endpoint::some_instant;
use crate::quic::{
    Application, Client, Dialer, End, Endpoint, Event, Id, Keys, Packet, Progress, Query, Reason,
    Refusal, Settings,
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client and a server, with a link between them.
struct Pair {
    now: Moment,
    origin: Instant,
    tls: (Arc<rustls::ServerConfig>, rustls::ClientConfig),
    client: Client,
    endpoint: Endpoint,
    /// Packets under way, by arrival: to the server or not.
    link: BTreeMap<(Moment, u64), (bool, Vec<u8>)>,
    sent: u64,
    dice: ChaCha8Rng,
    /// One packet in this number is lost, and one is late.
    loss: Option<u32>,
    /// Queries are answered at once, with themselves.
    echoes: bool,
    queries: Vec<(Id, u32, Vec<u8>)>,
    ids: Vec<Id>,
    closed: Vec<Option<u32>>,
    progress: Vec<Progress>,
    /// Number of deadlines of the client that were handled.
    wakes: usize,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self::with(seed, settings())
    }

    fn with(seed: u64, settings: Settings) -> Self {
        let (origin, tls) = (some_instant(), tls(Application::Doq));
        let keys = Keys::new(&[7; 32], 1);
        let own = (Arc::clone(&tls.0), settings);
        let endpoint = Endpoint::new(&keys, 0, own, [seed as u8; 32], origin).unwrap();
        Self {
            now: Moment::ZERO,
            origin,
            client: dial(origin, Moment::ZERO, &tls.1, seed),
            tls,
            endpoint,
            link: BTreeMap::new(),
            sent: 0,
            dice: ChaCha8Rng::seed_from_u64(seed),
            loss: None,
            echoes: true,
            queries: Vec::new(),
            ids: Vec::new(),
            closed: Vec::new(),
            progress: Vec::new(),
            wakes: 0,
        }
    }

    /// A pair whose handshake is complete.
    fn connected(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.run(WAY * 6);
        let calls_max = settings().requests_max as usize;
        let silence = Some(SILENCE);
        assert_eq!(pair.take(), [Progress::Connected { calls_max, silence }]);
        pair
    }

    /// Replaces the server, as by another process with the same secret.
    fn restart(&mut self) {
        let keys = Keys::new(&[7; 32], 1);
        let own = (Arc::clone(&self.tls.0), settings());
        self.endpoint = Endpoint::new(&keys, 0, own, [88; 32], self.origin).unwrap();
    }

    fn take(&mut self) -> Vec<Progress> {
        std::mem::take(&mut self.progress)
    }

    fn call(&mut self, len: usize, fill: u8) -> u32 {
        self.client.call(&query(len, fill)).expect("a stream is granted")
    }

    /// Lets time pass until `span` is over, with all packets and deadlines in it.
    fn run(&mut self, span: Duration) {
        let until = self.now.plus(span);
        loop {
            self.pump();
            let next = self.link.keys().next().map(|(at, _)| *at);
            let deadlines = [self.endpoint.next_deadline(), self.client.next_deadline()];
            let next = next.into_iter().chain(deadlines.into_iter().flatten()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.link.first_entry().filter(|own| own.key().0 <= self.now) {
                let (is_to_server, bytes) = entry.remove();
                if !is_to_server {
                    self.client.receive(self.now, &bytes);
                    continue;
                }
                let packet = Packet { peer: peer(), client: None, local: None, bytes: &bytes };
                let out = self.endpoint.receive(self.now, packet, true);
                let out = out.map(|out| out.bytes.to_vec());
                out.into_iter().for_each(|bytes| self.put(false, bytes));
            }
            self.endpoint.on_time(self.now);
            if self.client.next_deadline().is_some_and(|due| due <= self.now) {
                self.wakes += 1;
                self.client.on_time(self.now);
            }
        }
        self.now = until;
    }

    /// Puts a packet on the link.
    fn put(&mut self, is_to_server: bool, bytes: Vec<u8>) {
        let mut way = WAY;
        if let Some(loss) = self.loss {
            if self.dice.next_u32().is_multiple_of(loss) {
                return;
            }
            if self.dice.next_u32().is_multiple_of(loss) {
                way *= 3;
            }
        }
        self.sent += 1;
        self.link.insert((self.now.plus(way), self.sent), (is_to_server, bytes));
    }

    /// Handles all events and sends all packets.
    fn pump(&mut self) {
        while let Some(progress) = self.client.next(self.now) {
            self.progress.push(progress);
        }
        while let Some(event) = self.endpoint.next_event(self.now, |_| true) {
            match event {
                Event::Connected { id, .. } => {
                    let index = self.ids.len() as u32;
                    self.endpoint.admit(id, ConnectionKey(Key { index, generation: 0 }));
                    self.ids.push(id);
                }
                Event::Query { key, stream, query: Query::Message(message), .. } => {
                    let id = self.ids[key.index()];
                    if self.echoes {
                        self.endpoint.answer(id, stream, &message).unwrap();
                    } else {
                        self.queries.push((id, stream, message.to_vec()));
                    }
                }
                Event::Closed { code, .. } => self.closed.push(code),
                Event::Query { query: Query::Request(_), .. } => unreachable!("it is DoQ"),
                Event::Failed(_) | Event::Taken { .. } => {}
            }
        }
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        self.endpoint.transmit(self.now, |out| to_client.push(out.bytes.to_vec()), |_| {});
        self.client.transmit(self.now, &mut Vec::new(), |bytes| to_server.push(bytes.to_vec()));
        to_client.into_iter().for_each(|bytes| self.put(false, bytes));
        to_server.into_iter().for_each(|bytes| self.put(true, bytes));
    }
}

fn peer() -> SocketAddr {
    "192.0.2.9:4000".parse().unwrap()
}

fn dial(origin: Instant, now: Moment, tls: &rustls::ClientConfig, seed: u64) -> Client {
    let dialer = Dialer::new(&[4; 32], origin);
    let server = "192.0.2.1:853".parse().unwrap();
    dialer.dial(now, server, (Arc::new(tls.clone()), "dns.test"), [seed as u8; 32]).unwrap()
}

/// Returns a query of `len` bytes with an ID.
fn query(len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![0xAB, 0xCD];
    bytes.resize(len, fill);
    bytes
}

/// Returns the query as it is sent.
fn anonymous(len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = query(len, fill);
    bytes[..2].fill(0);
    bytes
}

#[test]
fn each_call_gets_its_reply_in_any_order() {
    let mut pair = Pair::connected(1);
    pair.echoes = false;
    let calls: Vec<_> = (0..8).map(|number| pair.call(20 + number, number as u8)).collect();
    pair.run(WAY * 3);
    let asked: Vec<_> = pair.queries.iter().map(|(_, _, message)| message.clone()).collect();
    assert_eq!(
        asked,
        (0..8).map(|number| anonymous(20 + number, number as u8)).collect::<Vec<_>>()
    );
    for (id, stream, message) in std::mem::take(&mut pair.queries).into_iter().rev() {
        pair.endpoint.answer(id, stream, &message).unwrap();
    }
    pair.run(WAY * 3);
    let mut got = pair.take();
    got.sort_by_key(|progress| match progress {
        Progress::Reply(call, _) => *call,
        _ => u32::MAX,
    });
    let expected = calls
        .iter()
        .enumerate()
        .map(|(number, call)| Progress::Reply(*call, anonymous(20 + number, number as u8).into()));
    assert_eq!(got, expected.collect::<Vec<_>>());
}

#[test]
fn there_are_no_more_calls_than_streams_and_replies_make_room() {
    let mut pair = Pair::connected(2);
    pair.echoes = false;
    let max = settings().requests_max as usize;
    (0..max).for_each(|_| _ = pair.call(20, 1));
    assert_eq!(pair.client.call(&query(20, 1)), None);
    pair.run(WAY * 4);
    assert_eq!((pair.queries.len(), pair.client.call(&query(20, 1))), (max, None));
    for (id, stream, message) in std::mem::take(&mut pair.queries) {
        pair.endpoint.answer(id, stream, &message).unwrap();
    }
    pair.run(WAY * 6);
    assert_eq!(pair.take().len(), max);
    assert!(pair.client.call(&query(20, 1)).is_some());
    assert_eq!(pair.client.calls_max(), max);
}

#[test]
fn a_reply_of_maximum_length_arrives_and_one_that_stalls_holds_no_other() {
    let mut pair = Pair::connected(3);
    pair.echoes = false;
    let (first, second) = (pair.call(20, 1), pair.call(20, 2));
    pair.run(WAY * 2);
    let long = anonymous(65_535, 7);
    let (id, stream, _) = pair.queries[0].clone();
    pair.endpoint.answer(id, stream, &long).unwrap();
    let (id, stream, message) = pair.queries[1].clone();
    pair.endpoint.answer(id, stream, &message).unwrap();
    pair.run(WAY * 40);
    let mut got = pair.take();
    got.sort_by_key(|progress| !matches!(progress, Progress::Reply(call, _) if *call == first));
    assert_eq!(got, [Progress::Reply(first, long.into()), Progress::Reply(second, message.into())]);
}

#[test]
fn a_cancelled_call_frees_the_servers_stream_and_has_no_reply() {
    let mut pair = Pair::connected(4);
    pair.echoes = false;
    let call = pair.call(20, 1);
    pair.run(WAY * 2);
    pair.client.cancel(call);
    pair.run(WAY * 4);
    let (id, stream, message) = pair.queries[0].clone();
    assert!(!pair.endpoint.awaits(id, stream), "the server has forgotten it");
    pair.endpoint.answer(id, stream, &message).unwrap();
    pair.run(WAY * 4);
    assert_eq!(pair.take(), []);
    assert_eq!(pair.endpoint.streams(), (0, 0));
}

#[test]
fn a_refused_call_ends_alone() {
    for (reason, refusal) in [
        (Reason::Load, Refusal::Load),
        (Reason::Other, Refusal::Reset),
        (Reason::Cancelled, Refusal::Reset),
    ] {
        let mut pair = Pair::connected(5);
        pair.echoes = false;
        let (first, second) = (pair.call(20, 1), pair.call(20, 2));
        pair.run(WAY * 2);
        let (id, stream, _) = pair.queries[0].clone();
        pair.endpoint.refuse(id, stream, reason);
        let (id, stream, message) = pair.queries[1].clone();
        pair.endpoint.answer(id, stream, &message).unwrap();
        pair.run(WAY * 4);
        let mut got = pair.take();
        got.sort_by_key(|progress| matches!(progress, Progress::Reply(..)));
        let reply = Progress::Reply(second, message.into());
        assert_eq!(got, [Progress::Failed(first, refusal), reply], "{reason:?}");
    }
}

#[test]
fn a_violation_closes_the_connection_of_both_sides() {
    let mut numbered = anonymous(20, 1);
    numbered[1] = 1;
    // Replies without a whole header are none.
    for message in [numbered, vec![], vec![0], vec![0; 11]] {
        let mut pair = Pair::connected(6);
        pair.echoes = false;
        pair.call(20, 1);
        pair.run(WAY * 2);
        let (id, stream, _) = pair.queries[0].clone();
        pair.endpoint.answer(id, stream, &message).unwrap();
        pair.run(WAY * 4);
        assert_eq!(pair.take(), [Progress::Over(End::Violation)], "{message:?}");
        assert_eq!(pair.closed, [None], "the client has closed it");
        assert_eq!((pair.client.call(&query(20, 1)), pair.client.next_deadline()), (None, None));
    }
}

#[test]
fn the_end_has_its_reason() {
    type Act = fn(&mut Pair);
    let cases: [(End, Act); 4] = [
        (End::Closed, |pair| pair.endpoint.close(pair.now, pair.ids[0], Reason::Done)),
        (End::Load, |pair| pair.endpoint.close(pair.now, pair.ids[0], Reason::Load)),
        (End::Violation, |pair| pair.endpoint.close(pair.now, pair.ids[0], Reason::Violation)),
        (End::Reset, |pair| {
            pair.restart();
            pair.call(100, 1);
        }),
    ];
    for (end, act) in cases {
        let mut pair = Pair::connected(7);
        act(&mut pair);
        pair.run(WAY * 10);
        assert_eq!(pair.take(), [Progress::Over(end)]);
    }
}

#[test]
fn an_idle_connection_sleeps_until_both_sides_forget_it() {
    let mut pair = Pair::connected(8);
    pair.call(20, 1);
    pair.run(WAY * 10);
    pair.take();
    let before = pair.wakes;
    pair.run(SILENCE / 2);
    assert!(pair.wakes - before <= 2, "{} wakes in idleness", pair.wakes - before);
    assert_eq!(pair.take(), []);
    pair.run(SILENCE);
    assert_eq!(pair.take(), [Progress::Over(End::Silence)]);
    assert_eq!((pair.client.next_deadline(), pair.endpoint.counts().0), (None, 0));
}

#[test]
fn a_server_that_is_not_trusted_gets_no_query() {
    let mut pair = Pair::new(9);
    let stranger = tls(Application::Doq);
    pair.client = dial(pair.origin, pair.now, &stranger.1, 9);
    assert_eq!(pair.client.call(&query(20, 1)), None);
    pair.run(WAY * 10);
    let got = pair.take();
    assert!(matches!(got[..], [Progress::Over(End::Handshake(_))]), "{got:?}");
    assert!(pair.queries.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_call_is_answered_whatever_the_link_loses(seed in any::<u64>(), loss in 4_u32..20) {
        let mut pair = Pair::new(seed);
        pair.loss = Some(loss);
        let mut asked = BTreeMap::new();
        for round in 0..200_usize {
            if asked.len() == 30 {
                break;
            }
            if let Some(call) = pair.client.call(&query(20 + round * 7, round as u8)) {
                asked.insert(call, anonymous(20 + round * 7, round as u8));
            }
            pair.run(WAY);
        }
        pair.run(SILENCE / 2);
        for progress in pair.take() {
            match progress {
                Progress::Reply(call, message) => {
                    let expected = asked.remove(&call);
                    prop_assert_eq!(expected.as_deref(), Some(&message[..]));
                }
                Progress::Connected { .. } => {}
                // The handshake may fail; then nothing was asked.
                other => prop_assert!(asked.is_empty(), "{other:?}"),
            }
        }
        prop_assert!(asked.is_empty(), "{} calls have no reply", asked.len());
    }
}
