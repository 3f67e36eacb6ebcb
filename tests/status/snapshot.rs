//! `onward top` as a program: `--once` for scripts, and errors where it cannot work.
//!
//! Runs the real binary with a scripted server.

use super::fixtures::{EVIL, hostile, ordinary};
use super::serving::{Server, response};
use onward::status::Status;
use std::net::TcpListener;
use std::process::{Command, Output};

fn top(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onward")).arg("top").args(arguments).output().unwrap()
}

fn once(status: &Status) -> Output {
    let body = serde_json::to_string(status).unwrap();
    let server = Server::with_bytes(response("application/json", "", &body));
    top(&[&server.address.to_string(), "--once"])
}

#[test]
fn once_prints_everything_and_succeeds() {
    let output = once(&ordinary());
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "44.3 k/s",
        "▲ probing",
        "130 of 1,024",
        "1 min 11 s",
        "Workers",
        "Caches",
        "NXDOMAIN",
        "lame.delegation",
    ] {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn hostile_names_are_escaped() {
    let mut status = ordinary();
    status.top = hostile(EVIL[3]).top;
    status.top.names.iter_mut().for_each(|line| line.rate = 0.0);
    status.top.clients.clear();
    status.top.failing.clear();
    let output = once(&status);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r"\u{202e}moc.elpmaxe"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
}

#[test]
fn without_an_answer_it_says_what_to_do_and_fails() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = top(&[&gone, "--once"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&gone) && text.contains("check that the Corefile has `status`"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn without_a_terminal_it_names_the_alternative() {
    let output = top(&["192.0.2.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--once"), "{text}");
}
