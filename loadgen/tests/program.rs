//! The program as a user starts it: exit codes, files, signals, and messages about bad input.
//!
//! Each test ends by itself: runs by their schedule, the upstream by a signal or when it is
//! dropped.

mod kit;

use kit::{directory, installed::is_installed, upstream};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_writes_all_its_reports_and_succeeds() {
    let (_upstream, server) = upstream("", "");
    let directory = directory("reports");
    let path = |name: &str| directory.join(name).display().to_string();
    let (json, html, hdr) = (path("run.json"), path("run.html"), path("run.hdr"));
    let server = server.to_string();
    // A closed loop has no schedule to fall behind, however busy this host is.
    let output = loadgen(&[
        "run",
        "--server",
        &server,
        "--closed",
        "8",
        "--count",
        "500",
        "--verify",
        "--timeout",
        "20s",
        "--json",
        &json,
        "--html",
        &html,
        "--hdr",
        &hdr,
    ]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("NOERROR 500 (100.00 %)"), "{output:?}");
    let told: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&told["counts"]["answered"], &told["open_loop"]), (&500.into(), &false.into()));
    assert_eq!(told["settings"]["server"], server);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("The run met its goals.") && page.contains("closed loop"));
    assert!(std::fs::read_to_string(&hdr).unwrap().contains("Total count    =          500"));
}

#[test]
fn standard_output_can_be_for_machines_alone() {
    let (_upstream, server) = upstream("servfail", "");
    let server = server.to_string();
    let arguments = ["run", "--server", &server, "--closed", "4", "--count", "40", "--json", "-"];
    let output = loadgen(&arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["counts"]["rcodes"]["SERVFAIL"], 40);
    assert!(told["faults"][0].as_str().unwrap().contains("40 a bad response code"), "{told}");
    let allowed = loadgen(&[&arguments[..], &["--rcodes", "servfail"]].concat());
    assert!(allowed.status.success(), "{allowed:?}");
}

#[test]
fn errors_in_files_have_their_place_and_bad_usage_exits_with_two() {
    let directory = directory("bad");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let names = write("names", b"a.test A\nb.test NOSUCH\n");
    let binary = write("binary", b"\0\x03abc");
    let script = write("script", b"a.test los=1%\n");
    let run = |rest: &[&str]| loadgen(&[&["run", "--server", "127.0.0.1:9"][..], rest].concat());
    let cases = [
        (run(&["--queries", &names]), "names:2:8: unknown record type `NOSUCH`"),
        (run(&["--queries-binary", &binary]), "binary:1:1: a message of 3 bytes"),
        (run(&["--pcap", &names]), "names:1:1: not a capture"),
        (run(&["--queries", "/nowhere"]), "/nowhere: "),
        (run(&["--rate", "fast"]), "invalid rate `fast`"),
        (run(&["--closed", "5", "--rate", "7"]), "cannot be used with"),
        (
            loadgen(&["upstream", "--listen", "127.0.0.1:0", "--script", &script]),
            "script:1:8: unknown behaviour `los=1%`",
        ),
        (
            loadgen(&["upstream", "--listen", "127.0.0.1:0", "--behave", "loss=2"]),
            "--behave, column 1: invalid share `2`",
        ),
    ];
    for (output, expected) in cases {
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(expected), "{expected:?}: {output:?}");
    }
}

/// A program that is killed when it is dropped, however the test ends.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Sends SIGINT, as Ctrl-C does.
    fn interrupt(&self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    }

    /// Returns the exit code, and the rest of the output.
    fn end(mut self) -> (Option<i32>, String) {
        let mut output = String::new();
        let stdout = self.0.stdout.take().unwrap();
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| output += &line);
        (self.0.wait().unwrap().code(), output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    let (_upstream, server) = upstream("", "");
    let server = server.to_string();
    let arguments = ["run", "--server", &server, "--rate", "100", "--seconds", "600"];
    let mut run = Running::start(&arguments);
    let mut progress = BufReader::new(run.0.stderr.take().unwrap()).lines();
    assert!(progress.next().unwrap().unwrap().contains("answered"), "a line each second");
    run.interrupt();
    let said: Vec<String> = progress.map_while(Result::ok).collect();
    let (code, output) = run.end();
    assert_eq!(code, Some(1), "{output}");
    assert!(said.iter().any(|line| line.contains("The run was interrupted.")), "{said:?}");
    assert!(output.contains("NOERROR") && output.contains("latency"), "{output}");
}

#[test]
fn an_upstream_prints_the_sources_of_queries() {
    let mut upstream = Running::start(&["upstream", "--listen", "127.0.0.1:0", "--ports"]);
    let mut lines = BufReader::new(upstream.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let server = first.strip_prefix("listening on ").unwrap();
    let output = loadgen(&[
        "run",
        "--server",
        server,
        "--closed",
        "32",
        "--count",
        "20000",
        "--sockets",
        "4",
        "--timeout",
        "20s",
    ]);
    assert!(output.status.success(), "{output:?}");
    upstream.interrupt();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let row = rest.iter().find(|line| line.contains(server)).unwrap();
    assert!(row.contains("20,000"), "{rest:?}");
    assert_eq!(rest.iter().filter(|line| line.contains("chi-square")).count(), 2, "{rest:?}");
    let ports = rest.iter().position(|line| line.contains("first seen")).unwrap();
    assert_eq!(rest.len() - ports - 1, 4, "{rest:?}");
    assert_eq!(upstream.0.wait().unwrap().code(), Some(0));
}

#[test]
fn openssl_takes_the_certificate_that_an_upstream_makes() {
    // The authority must have another name than the server, which only some clients check.
    if !is_installed("openssl") {
        return;
    }
    let file = directory("openssl").join("authority.pem").display().to_string();
    let arguments = ["upstream", "--listen", "127.0.0.1:0", "--tls", &file];
    for (more, alpn) in [(&[][..], "dot"), (&["--doh"], "h2"), (&["--doh"], "http/1.1")] {
        let mut upstream = Running::start(&[&arguments[..], more].concat());
        let mut lines = BufReader::new(upstream.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let server = first.strip_prefix("listening on ").unwrap();
        let verified = Command::new("openssl")
            .args(["s_client", "-connect", server, "-CAfile", &file, "-verify_return_error"])
            .args(["-verify_ip", "127.0.0.1", "-alpn", alpn])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = text(&verified.stdout);
        assert!(told.contains("Verify return code: 0 (ok)"), "{verified:?}");
        assert!(told.contains(&format!("ALPN protocol: {alpn}")), "{verified:?}");
    }
}

#[test]
fn the_highest_rate_is_found() {
    let (_upstream, server) = upstream("", "");
    let server = server.to_string();
    let output = loadgen(&[
        "find-max",
        "--server",
        &server,
        "--from",
        "200",
        "--to",
        "400",
        "--seconds",
        "0.2",
        "--repeats",
        "2",
        "--timeout",
        "20s",
        "--json",
    ]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let trials = told["trials"].as_array().unwrap();
    assert!(trials.len() >= 3, "{told}");
    let found = &told["found"];
    // A busy host makes the client fall behind, which the verdict shows.
    let behind = trials.iter().any(|trial| trial["verdict"] != "passed");
    assert!(found["rate"] == 400.0 || behind, "{told}");
    let (_upstream, silent) = upstream("silent", "");
    let silent = silent.to_string();
    let output = loadgen(&[
        "find-max",
        "--server",
        &silent,
        "--from",
        "8",
        "--seconds",
        "0.2",
        "--timeout",
        "10ms",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("No rate passed."), "{output:?}");
}

#[test]
fn two_servers_are_compared_in_turn() {
    let (_quick, a) = upstream("", "");
    let (_slow, b) = upstream("delay=20ms", "");
    let own = std::process::id().to_string();
    let output = loadgen(&[
        "compare",
        "--a",
        &a.to_string(),
        "--b",
        &b.to_string(),
        "--closed",
        "4",
        "--rounds",
        "4",
        "--seconds",
        "0.2",
        "--a-pid",
        &own,
        "--b-pid",
        &own,
        "--json",
    ]);
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = told["figures"].as_array().unwrap();
    let median = figures.iter().find(|figure| figure["name"] == "median latency").unwrap();
    assert!(median["ratio"]["low"].as_f64().unwrap() > 1.0, "{median}");
    assert!(figures.iter().any(|figure| figure["name"] == "CPU time per answer"));
    assert_eq!(told["rounds"].as_array().unwrap().len(), 4);
}
