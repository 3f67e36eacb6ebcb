//! Fuzz target: any bytes in any pieces on streams, and streams that end in any way. Each stream
//! has the outcome that a naive reader of RFC 9250 §4.2 expects, and none is left over.
//!
//! The corpus (`tests/fuzz/doq`) is scripts of a client, a line an act: `more STREAM HEX` and `last
//! STREAM HEX` send bytes on the stream with this number, opened if it is new, `last` with its end;
//! `reset STREAM` and `stop STREAM` give it up; `wait` lets time pass. Other lines do nothing. The
//! variables of `tests/fuzz/main.rs` choose the mutations.

#[path = "../../../tests/fuzz/mutate.rs"]
mod mutate;

use super::world::{LEN_MAX, WAY, World, code};
use super::{EXCESSIVE_LOAD, PROTOCOL};
use mutate::Mutator;
use quinn_proto::{ConnectionHandle, StreamId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations by default; each has a handshake.
const ROUNDS: u64 = 150;
/// Acts of a script: time passes with each, less than the server waits for the rest of a query.
const ACTS_MAX: usize = 32;
/// Bytes of an act.
const BYTES_MAX: usize = 512;
const MUTATOR: Mutator = Mutator {
    separators: b" \n",
    words: &[
        b"more ",
        b"last ",
        b"reset ",
        b"stop ",
        b"wait\n",
        b"0 ",
        b"1 ",
        b"2 ",
        b"0003000001",
        b"0000",
        b"00",
        b"1000",
        b"1001",
        b"ffff",
        b"\n",
    ],
};

/// Fate of the bytes of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Query,
    Refused,
    Violation,
}

/// A naive reader of a stream's bytes.
fn outcome(bytes: &[u8], is_ended: bool) -> Outcome {
    let mut prefix = [0; 2];
    prefix.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    let len = usize::from(prefix[0]) * 256 + usize::from(prefix[1]);
    let has_id = bytes.iter().skip(2).take(2).any(|byte| *byte != 0);
    match bytes.len() {
        0 | 1 if is_ended => Outcome::Violation,
        0 | 1 => Outcome::Pending,
        _ if has_id || bytes.len() > 2 + len => Outcome::Violation,
        count if is_ended && count < 2 + len => Outcome::Violation,
        _ if len > LEN_MAX => Outcome::Refused,
        _ if is_ended => Outcome::Query,
        _ => Outcome::Pending,
    }
}

/// Bytes of digits; others are skipped.
fn bytes(words: &[&str]) -> Vec<u8> {
    let digits: Vec<u32> = words.concat().chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes = digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8);
    bytes.take(BYTES_MAX).collect()
}

/// A stream whose query is incomplete.
struct Sending {
    id: StreamId,
    sent: Vec<u8>,
}

struct Script {
    world: World,
    handle: ConnectionHandle,
    /// By the numbers of the script; `None`: the stream is over.
    streams: BTreeMap<usize, Option<Sending>>,
}

impl Script {
    /// Sends bytes on a stream; returns false if the connection has ended by it.
    fn send(&mut self, number: usize, bytes: &[u8], is_last: bool) -> bool {
        let Self { world, handle, streams } = self;
        let handle = *handle;
        if let Entry::Vacant(entry) = streams.entry(number) {
            let Some(id) = world.client(handle).streams().open(quinn_proto::Dir::Bi) else {
                return true;
            };
            entry.insert(Some(Sending { id, sent: Vec::new() }));
        }
        let Some(Some(stream)) = streams.get_mut(&number) else { return true };
        let id = stream.id;
        let count = world.client(handle).send_stream(id).write(bytes).unwrap_or(0);
        stream.sent.extend_from_slice(&bytes[..count]);
        if is_last {
            world.client(handle).send_stream(id).finish().expect("the server reads on");
        }
        let asked = world.queries.len();
        world.run(WAY * 6);
        let received = world.received(handle, id).clone();
        match outcome(&stream.sent, is_last) {
            Outcome::Violation => {
                assert_eq!(world.close_code(), Some(PROTOCOL), "{:?}", world.lost);
                assert_eq!(world.queries.len(), asked);
                return false;
            }
            Outcome::Query => {
                assert_eq!(world.queries.len(), asked + 1, "{received:?}");
                assert_eq!(world.queries[asked].2, stream.sent[2..]);
                assert_eq!((&received.bytes, received.is_finished), (&stream.sent, true));
                streams.insert(number, None);
            }
            Outcome::Refused => {
                assert_eq!(received.reset, Some(EXCESSIVE_LOAD));
                streams.insert(number, None);
            }
            Outcome::Pending => assert_eq!((world.queries.len(), received.reset), (asked, None)),
        }
        assert!(world.lost.is_empty(), "{:?}", world.lost);
        true
    }

    /// Gives up a stream, in one direction or both.
    fn give_up(&mut self, number: usize, is_reset: bool) {
        let Some(Sending { id, .. }) = self.streams.get_mut(&number).and_then(Option::take) else {
            return;
        };
        let client = self.world.client(self.handle);
        // The server may have ended its side already.
        let _ = client.recv_stream(id).stop(code(3));
        if is_reset {
            let _ = client.send_stream(id).reset(code(3));
        }
        self.world.run(WAY * 6);
    }
}

/// Plays a script. Returns true if the server has got a query.
fn play(text: &str) -> bool {
    let mut world = World::new(1);
    let handle = world.connected();
    let mut script = Script { world, handle, streams: BTreeMap::new() };
    for line in text.lines().take(ACTS_MAX) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let rest = words.get(2..).unwrap_or_default();
        let mut is_open = true;
        match words.first().copied() {
            Some(word @ ("more" | "last")) => {
                is_open = script.send(number, &bytes(rest), word == "last");
            }
            Some(word @ ("reset" | "stop")) => script.give_up(number, word == "reset"),
            Some("wait") => script.world.run(WAY),
            _ => {}
        }
        if !is_open {
            return !script.world.queries.is_empty();
        }
    }
    script.world.run(WAY * 4);
    assert!(script.world.lost.is_empty(), "{:?}", script.world.lost);
    let pending = script.streams.values().flatten().count();
    assert_eq!(script.world.endpoint.streams().0, pending);
    !script.world.queries.is_empty()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Plays a script; a panic is that of `what`.
fn caught(input: &[u8], what: &str) -> bool {
    let text = String::from_utf8_lossy(input);
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&text)));
    outcome.unwrap_or_else(|_| panic!("{what}: {text:?}"))
}

#[test]
fn any_script_of_a_client_has_the_expected_outcome() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/doq");
    let entries = std::fs::read_dir(directory).expect("the corpus is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let inputs: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut with_queries = 0;
    for (path, input) in paths.iter().zip(&inputs) {
        with_queries += u64::from(caught(input, &path.display().to_string()));
    }
    assert!(with_queries >= 5, "{with_queries} scripts of the corpus have queries");
    let corpus: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let (seed, only) = (number("FUZZ_SEED").unwrap_or(1), number("FUZZ_ONLY"));
    let rounds = only.map_or(0..number("FUZZ_ROUNDS").unwrap_or(ROUNDS), |only| only..only + 1);
    for round in rounds {
        let mut random = ChaCha12Rng::seed_from_u64(seed << 40 ^ round);
        let input = MUTATOR.mutated(&corpus, &mut random);
        caught(&input, &format!("FUZZ_SEED={seed} FUZZ_ONLY={round}"));
    }
}
