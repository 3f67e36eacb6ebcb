//! A reader and a writer of one entry at each of their steps.
//!
//! Each access to a shared word is a step. The reader makes some steps, then the writer makes some,
//! then the reader ends, while the writer holds its locks, and the writer ends last: all pairs of
//! numbers are tried. So each word that the reader reads is of either answer in some run. What it
//! finds is one of the two answers, whole, or nothing, and it never waits for the writer. Steps of
//! one thread are not reordered here; the fences of [`crate::engine::cache::sequence`] see to that.

use super::messages::{A, Made, PLAIN, Written, asked};
use super::{Bed, small};
use crate::engine::cache::blocks::BLOCK_LEN;
use crate::engine::cache::sequence::steps;
use crate::engine::cache::{Cache, Found, Key, Store};
use crate::engine::message::reply::{Finish, ReplyTo};
use crate::engine::message::{Question, flags};
use crate::engine::zones::LowercaseName;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The question and the answers of a run.
struct Scene {
    question: Made,
    old: Made,
    new: Made,
}

/// Work of one thread, in steps.
struct Stepper {
    /// Steps that it may make.
    leave: Sender<usize>,
    /// Notice that it has made them, or has ended.
    rest: Receiver<bool>,
}

impl Stepper {
    /// Allows more steps; returns true if the thread has ended.
    fn go(&self, steps: usize) -> bool {
        self.leave.send(steps).is_err() || self.rest.recv().unwrap_or(true)
    }
}

/// Runs `work` in a thread that waits for leave to make steps.
fn in_steps(work: impl FnOnce() + Send + 'static) -> (Stepper, std::thread::JoinHandle<()>) {
    let (leave, leaves) = channel();
    let (resting, rest) = channel();
    let thread = std::thread::spawn(move || {
        let mut left = leaves.recv().unwrap_or(usize::MAX);
        let told = resting.clone();
        let hook = move || {
            while left == 0 {
                let _ = told.send(false);
                left = leaves.recv().unwrap_or(usize::MAX);
            }
            left -= 1;
        };
        steps::with(hook, work);
        let _ = resting.send(true);
    });
    (Stepper { leave, rest }, thread)
}

/// Returns the number of steps of `work`.
fn count(work: impl FnOnce()) -> usize {
    let steps = Rc::new(Cell::new(0));
    let counted = Rc::clone(&steps);
    steps::with(move || counted.set(counted.get() + 1), work);
    steps.get()
}

fn addresses(count: usize, ttl: u32, last: u8) -> Vec<Written> {
    vec![(0, vec![0xc0, 12], A, ttl, vec![192, 0, 2, last]); count]
}

impl Scene {
    fn new(old: usize, new: usize) -> Self {
        let made = |records: &[Written]| Made::new("w.test", A, PLAIN, records);
        Self {
            question: made(&[]),
            old: made(&addresses(old, 60, 1)),
            new: made(&addresses(new, 90, 2)),
        }
    }

    /// Workers with a cache that has the old answer: the reader's, and the writer's.
    fn beds(&self) -> [Bed; 2] {
        let settings = small(100, 100 * BLOCK_LEN);
        let store = Arc::new(Store::new(&settings).unwrap());
        let mut beds = [(); 2].map(|()| {
            let mut bed = Bed::plain();
            bed.cache = Cache::sharing(&settings, &bed.hasher, Arc::clone(&store));
            bed
        });
        put(&mut beds[1], &self.old);
        beds
    }

    /// Returns the records that the reader finds.
    fn read(&self, bed: &mut Bed) -> Option<Vec<u8>> {
        let question = Question::parse(&self.question.packet).unwrap();
        let name = LowercaseName::new(question.name(&self.question.packet));
        let asked = asked(flags::RD, None);
        let key = Key::new(&bed.hasher, &name, &question, &asked);
        let Found::Reply { entry, .. } = bed.cache.get(bed.now, &key) else { return None };
        let bytes = &self.question.packet[12..question.end()];
        let to = ReplyTo { asked: &asked, question: bytes, limit: 4_096, finish: Finish::PLAIN };
        let mut out = [0; 4_096];
        let len = bed.cache.write(bed.now, entry, &to, &mut out)?;
        Some(out[question.end()..len].to_vec())
    }

    /// Panics unless `found` is one of the answers. Returns which.
    fn check(&self, found: Option<&[u8]>, run: (usize, usize)) -> usize {
        let Some(found) = found else { return 0 };
        let records = |made: &Made| made.packet[self.question.packet.len()..].to_vec();
        let kinds = [records(&self.old), records(&self.new)];
        let kind = kinds.iter().position(|kind| kind == found);
        1 + kind.unwrap_or_else(|| panic!("half of one answer: {run:?}, {found:?}"))
    }
}

fn put(bed: &mut Bed, made: &Made) {
    let question = Question::parse(&made.packet).unwrap();
    let name = LowercaseName::new(question.name(&made.packet));
    let key = Key::new(&bed.hasher, &name, &question, &asked(flags::RD, None));
    bed.cache.put(bed.now, &name, &key, &made.received()).expect("an answer");
}

/// Tries all pairs of steps; returns how often the reader found nothing, the old answer, and the
/// new one.
fn all_runs(old: usize, new: usize) -> [usize; 3] {
    let scene = Arc::new(Scene::new(old, new));
    let [mut reader, mut writer] = scene.beds();
    let reads = count(|| drop(scene.read(&mut reader)));
    let writes = count(|| put(&mut writer, &scene.new));
    assert!(reads > 12 && writes > 12, "a lame run: {reads} and {writes} steps");
    let mut found = [0; 3];
    for reader_steps in 0..reads {
        for writer_steps in 0..=writes {
            let [mut reader, mut writer] = scene.beds();
            let (own, result) = (Arc::clone(&scene), channel());
            let (send, receive) = result;
            let (reading, reader) = in_steps(move || drop(send.send(own.read(&mut reader))));
            let own = Arc::clone(&scene);
            let (writing, writer) = in_steps(move || put(&mut writer, &own.new));
            assert!(!reading.go(reader_steps.max(1)) || reads < 2, "it has more to read");
            let ended = writing.go(writer_steps.max(1));
            while !reading.go(usize::MAX) {}
            if !ended {
                while !writing.go(usize::MAX) {}
            }
            reader.join().unwrap();
            writer.join().unwrap();
            let answer = receive.recv().unwrap();
            found[scene.check(answer.as_deref(), (reader_steps, writer_steps))] += 1;
        }
    }
    found
}

#[test]
fn a_reader_finds_one_of_two_answers_whole_or_nothing() {
    for (old, new) in [(2, 3), (1, 12), (12, 2)] {
        let found = all_runs(old, new);
        // Of the new answer are those runs in which the reader had only searched the index.
        assert!(found[0] > 20 && found[1] > 20 && found[2] > 0, "a lame run: {found:?}");
    }
}
