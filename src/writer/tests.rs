//! The writer with its channel, its clock and its output.
//!
//! The clock is the real one, so no test waits for a period: pending records come when the writer
//! ends.

use super::{Generations, Writer};
use crate::clock::Clock;
use crate::config::{Config, Host};
use crate::control::ToWriter;
use crate::engine::errors::{QueryError, Reason};
use crate::engine::message::Rcode;
use crate::log::Log;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static WRITTEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note(lines: &str) {
    WRITTEN.with_borrow_mut(|written| written.extend(lines.lines().map(str::to_owned)));
}

fn config(directives: &str) -> Arc<Config> {
    let text = format!(".:0 {{\n bind 127.0.0.1\n {directives}\n}}\n");
    Arc::new(Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0)
}

fn failed(generation: u32, name: &[u8]) -> ToWriter {
    let outcome = (Rcode::ServFail, Reason::NoHealthyUpstream);
    ToWriter::Failed { generation, error: QueryError::new(0, name, 1, outcome, None) }
}

/// Returns the output of a writer for these messages, all generations published before.
fn written(generations: &[&str], messages: Vec<ToWriter>) -> Vec<String> {
    let known = Arc::<Generations>::default();
    for (number, directives) in generations.iter().enumerate() {
        known.publish(number as u32, config(directives), Arc::default());
    }
    let (writer, mailbox) = Writer::new(Clock::start(), known, Log::text(note));
    messages.into_iter().for_each(|message| assert!(mailbox.try_send(message)));
    drop(mailbox);
    writer.run();
    WRITTEN.take()
}

const A: &[u8] = b"\x01a\0";

#[test]
fn each_error_is_a_line_and_all_are_written_before_the_end() {
    let messages = (0..1_000).map(|_| failed(0, A)).collect();
    let lines = written(&["errors"], messages);
    assert_eq!(lines.len(), 1_000);
    assert_eq!(lines[0], "[ERROR] plugin/errors: 2 a. A: no healthy proxies");
}

#[test]
fn sums_pending_at_the_end_are_written() {
    let directives = "errors {\n consolidate 1h healthy warning show_first\n }";
    let lines = written(&[directives], (0..3).map(|_| failed(0, A)).collect());
    assert_eq!(
        lines,
        [
            "[WARNING] plugin/errors: 2 a. A: no healthy proxies",
            "[WARNING] plugin/errors: 3 errors like 'healthy' occurred in last 1h0m0s",
        ]
    );
}

#[test]
fn losses_are_logged_when_the_queue_is_empty_again() {
    let mut messages = vec![ToWriter::Lost(2), failed(0, A), ToWriter::Lost(3)];
    messages.extend((0..200).map(|_| failed(0, A)));
    let lines = written(&["errors"], messages);
    assert_eq!(lines.len(), 202);
    let last = "[WARNING] plugin/errors: errors not logged: 5 (the log writer is too slow)";
    assert_eq!(lines[201], last);
}

#[test]
fn level_debug_is_written_only_with_the_directive() {
    let directives = "errors {\n consolidate 1h . debug show_first\n }";
    assert_eq!(written(&[directives], vec![failed(0, A)]), Vec::<String>::new());
    let lines = written(&[&format!("debug\n {directives}")], vec![failed(0, A)]);
    assert_eq!(lines, ["[DEBUG] plugin/errors: 2 a. A: no healthy proxies"]);
}

#[test]
fn a_generation_has_its_own_rules_for_late_records_too() {
    let counted = "errors {\n consolidate 1h .\n }";
    let messages = vec![failed(1, A), failed(0, A), failed(1, A), failed(0, A)];
    let lines = written(&[counted, "errors"], messages);
    assert_eq!(
        lines,
        [
            "[ERROR] plugin/errors: 2 a. A: no healthy proxies",
            "[ERROR] plugin/errors: 2 a. A: no healthy proxies",
            "[ERROR] plugin/errors: 2 errors like '.' occurred in last 1h0m0s",
        ]
    );
}

#[test]
fn records_of_a_forgotten_generation_are_lost_and_counted() {
    let lines = written(&["errors", "errors", "errors"], vec![failed(0, A), failed(2, A)]);
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("errors not logged: 1 "), "{lines:?}");
}
