//! The command line: arguments, messages, exit codes, signals.
//!
//! Each test runs the real binary. Its output is matched on the words an operator needs, not on
//! whole sentences.

use super::process::{directory, free_port, onward, onward_output, send};
use super::until::until;
use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Output};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

fn refused_corefile(name: &str, corefile: &str, words: &[&str]) {
    let directory = directory(name);
    fs::write(directory.join("Corefile"), corefile).unwrap();
    assert_refused(&onward_output(&[], &directory), 2, words);
}

#[test]
fn with_nothing_to_do_it_says_what_to_try() {
    let output = onward_output(&[], &directory("nothing"));
    assert_refused(&output, 2, &["onward demo", "--forward", "--conf"]);
    assert!(stderr(&output).lines().count() <= 4);
}

#[test]
fn help_explains_and_is_no_error() {
    for flag in ["--help", "-help", "-h"] {
        let output = onward_output(&[flag], &directory("help"));
        assert_eq!(output.status.code(), Some(0), "{flag}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for word in ["Exit codes", "--cores", "--steer <HOW>", "name (QNAME)"] {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
    }
}

#[test]
fn an_unknown_steer_mode_is_refused_with_the_known_ones() {
    let arguments = ["--steer", "names", "--forward", "127.0.0.1"];
    let output = onward_output(&arguments, &directory("steer"));
    assert_refused(&output, 2, &["'names'", "--steer", "name, cpu, flow"]);
}

#[test]
fn max_age_below_expire_is_refused_with_both_values_file_and_line() {
    let corefile = ". {\n  forward . 127.0.0.1 {\n    expire 30s\n    max_age 20s\n  }\n}\n";
    refused_corefile("max_age", corefile, &["Corefile:4", "20s", "30s", "max_age", "expire"]);
}

#[test]
fn a_source_address_that_the_host_lacks_is_refused_in_one_line() {
    let directory = directory("source_address");
    let corefile = ".:0 {\n bind 127.0.0.1\n forward . 192.0.2.1 {\n  \
                    source_address 203.0.113.77\n }\n}\n";
    fs::write(directory.join("Corefile"), corefile).unwrap();
    let output = onward_output(&[], &directory);
    assert_refused(&output, 1, &["source_address 203.0.113.77", "this host has no such"]);
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn descriptors_are_counted_against_the_hard_limit() {
    let directory = directory("descriptors");
    let corefile = ".:0 {\n bind 127.0.0.1\n forward . 192.0.2.1 {\n  max_conns 900\n }\n}\n";
    fs::write(directory.join("Corefile"), corefile).unwrap();
    let mut shell = Command::new("sh");
    let limited = "ulimit -Sn 100; ulimit -Hn 1000; exec \"$0\" --workers 1";
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_onward")]).current_dir(directory);
    let words =
        ["Corefile:3", "1889 file", "limit of open files is 1000", "max_conns 900", "total"];
    assert_refused(&shell.output().unwrap(), 1, &words);
}

#[test]
fn a_misspelt_directive_gets_the_nearest_known_name() {
    refused_corefile("misspelt", ". {\n  forwrd . 127.0.0.1\n}\n", &["Corefile:2", "forward"]);
}

#[test]
fn a_core_that_the_host_lacks_is_refused_with_those_it_has() {
    let arguments = ["--cores", "8000", "--forward", "127.0.0.1"];
    let output = onward_output(&arguments, &directory("cores"));
    assert_refused(&output, 2, &["8000", "allowed: core"]);
}

#[test]
fn an_unreadable_file_is_named() {
    let output = onward_output(&["-conf", "gone"], &directory("gone"));
    assert_refused(&output, 1, &["gone", "No such file", "--conf"]);
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn a_taken_port_is_a_failure_that_says_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--listen", &address, "--forward", "127.0.0.1:9"];
    let output = onward_output(&arguments, &directory("taken"));
    assert_refused(&output, 1, &[&address, "another program", "another port"]);
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn both_stopping_signals_end_it_with_success() {
    for signal in ["TERM", "INT"] {
        let (program, _) = onward(&["--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9"]);
        assert_eq!(program.end(signal), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_full_log_disk_does_not_stop_service() {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--listen", &address, "--forward", "127.0.0.1:9"]);
    command.args(["-pidfile", "/nonexistent/pid"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(full).spawn().unwrap();
    until("it listens", || TcpStream::connect(&address).ok());
    send("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
