//! `onward check` for operators and programs: output, exit codes, and no bound socket.
//!
//! The expected numbers are those of a configuration with explicit sizes, so that they hold on any
//! host; numbers that depend on the host are only checked for presence.

use super::dot::Site;
use super::process::{directory, onward_output};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Two upstreams with explicit pool sizes; {} is the port.
const SIZED: &str = ".:{} {\n    bind 127.0.0.1\n    forward . 192.0.2.1 192.0.2.2 {\n        \
                     spread 3\n        max_conns 7\n    }\n}\n";

fn written(test: &str, corefile: &str) -> PathBuf {
    let directory = directory(test);
    fs::write(directory.join("Corefile"), corefile).unwrap();
    directory
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(arguments: &[&str], directory: &PathBuf, code: i32) -> Value {
    let output = onward_output(&[&["check", "--format", "json"], arguments].concat(), directory);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_valid_configuration_is_printed_and_can_be_read_again() {
    let directory = written("check_good", &SIZED.replace("{}", "5399"));
    let output = onward_output(&["check", "--workers", "3"], &directory);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for line in [
        "        expire 10s",
        "        max_connect_attempts 4",
        "#   127.0.0.1:5399: .",
        "# workers                                                                3  not pinned",
        "#   upstream connections                                  28            84",
        "# UDP source ports kept open (spread)                      6            18",
        "# UDP GSO for queries                                    yes",
        "# UDP GSO for replies                                    yes",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
    }
    let alone = stdout(&onward_output(&["check", "--gso", "off"], &directory));
    assert_eq!(
        alone.lines().filter(|line| line.ends_with(" off (--gso off)")).count(),
        2,
        "{alone}"
    );
    fs::write(directory.join("again"), &text).unwrap();
    let again = onward_output(&["check", "--workers", "3", "--conf", "again"], &directory);
    assert_eq!(stdout(&again), text);
}

#[test]
fn listeners_have_their_transports_and_certificates() {
    let site = Site::new("check_transports");
    let file = site.path("Corefile");
    let text = format!(
        "dns://.:5353 tls://.:5853 quic://.:5853 https3://.:5443 {{\n bind 127.0.0.1\n \
         root {}\n tls cert.pem key.pem\n whoami\n}}\n\
         grpc://.:5444 {{\n bind 127.0.0.1\n whoami\n}}\n",
        site.path("")
    );
    fs::write(&file, text).unwrap();
    let directory = PathBuf::from(site.path(""));
    let output = onward_output(&["check", "--conf", &file], &directory);
    let text = stdout(&output);
    for line in [
        "#   127.0.0.1:5353: .",
        "#   127.0.0.1:5853 (tls over TCP, certificate cert.pem): .",
        "#   127.0.0.1:5853 (quic over UDP, certificate cert.pem): .",
        "#   127.0.0.1:5443 (https3 over UDP, certificate cert.pem): .",
        "#   127.0.0.1:5444 (grpc over TCP, without encryption): .",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
    }
    let report = json(&["--conf", &file], &directory, 0);
    let quic = &report["listeners"][2];
    assert_eq!(
        (&quic["protocol"], &quic["udp"], &quic["tcp"]),
        (&"quic".into(), &true.into(), &false.into())
    );
    assert_eq!(quic["certificates"], serde_json::json!(["cert.pem"]));
}

#[test]
fn addresses_in_use_are_a_warning() {
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = datagrams.local_addr().unwrap().port();
    let streams = TcpListener::bind(("127.0.0.1", port));
    let directory = written("check_taken", &SIZED.replace("{}", &port.to_string()));
    let output = onward_output(&["check"], &directory);
    assert_eq!(output.status.code(), Some(0));
    if streams.is_ok() {
        let told = format!("# [WARNING] 127.0.0.1:{port} is in use: ");
        assert!(stdout(&output).starts_with(&told), "{}", stdout(&output));
    }
}

#[test]
fn json_has_numbers_and_structured_blocks() {
    let directory = written("check_json", &SIZED.replace("{}", "5399"));
    let report = json(&["--workers", "2"], &directory, 0);
    assert_eq!(report["ok"], true);
    assert_eq!(report["workers"], 2);
    assert_eq!(report["listeners"][0]["address"], "127.0.0.1:5399");
    let descriptors = &report["descriptors"];
    assert_eq!(descriptors["per_worker"]["connections"], 28);
    let (each, all) = (&descriptors["per_worker"]["all"], &descriptors["all"]);
    assert_eq!(all.as_u64().unwrap(), 64 + 2 + 2 * each.as_u64().unwrap());
    assert_eq!(report["source_ports"]["all"]["spread"], 12);
    let memory = &report["memory"];
    let reserved = memory["per_worker"]["reserved"].as_u64().unwrap();
    assert!(reserved > 1 << 20);
    assert_eq!(memory["all"]["reserved"], 2 * reserved);
    let forward = &report["blocks"][0]["directives"][1];
    assert_eq!(forward["name"], "forward");
    assert_eq!(forward["arguments"][1], "192.0.2.1:53");
    let options = forward["options"].as_array().unwrap();
    let spread = options.iter().find(|option| option["name"] == "spread").unwrap();
    assert_eq!(spread["arguments"][0], "3");
}

#[test]
fn a_cache_is_printed_with_its_defaults() {
    let corefile = ".:5399 {\n bind 127.0.0.1\n cache 30s\n forward . 192.0.2.1\n}\n";
    let directory = written("check_cache", corefile);
    let text = stdout(&onward_output(&["check"], &directory));
    for line in [
        "# [WARNING] Corefile:3 - plugin/cache: zone '30s': a TTL has no unit: write 30",
        "    cache 30s. {",
        "        denial 10000 1800 5",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
    }
    let report = json(&[], &directory, 0);
    assert_eq!(report["warnings"][0]["line"], 3);
    let cache = &report["blocks"][0]["directives"][1];
    assert_eq!((&cache["name"], &cache["arguments"][0]), (&"cache".into(), &"30s.".into()));
    let options = cache["options"].as_array().unwrap();
    let names: Vec<_> = options.iter().filter_map(|option| option["name"].as_str()).collect();
    let bytes = "capacity_bytes";
    let expected = ["success", "denial", bytes, bytes, "prefetch", "serve_stale", "servfail"];
    assert_eq!(names, expected);
    assert_eq!(options[0]["arguments"], serde_json::json!(["10000", "3600", "5"]));
}

#[test]
fn http_endpoints_are_listed_by_address() {
    let corefile =
        ".:5399 {\n bind 127.0.0.1\n health :8399\n ready :8399\n status [::1]:8398\n}\n";
    let directory = written("check_pages", corefile);
    let text = stdout(&onward_output(&["check"], &directory));
    for line in [
        "# HTTP endpoints",
        "#   [::]:8399: /health /ready",
        "#   [::1]:8398: /",
        "#   HTTP endpoints                                                      70",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
    }
    let report = json(&[], &directory, 0);
    assert_eq!(report["descriptors"]["http"], 70);
    let paths = serde_json::json!(["/", "/status.json"]);
    assert_eq!(report["http"][1], serde_json::json!({ "address": "[::1]:8398", "paths": paths }));
}

#[test]
fn lints_have_file_and_line_and_are_no_failure() {
    let corefile = ".:5399 {\n bind 127.0.0.1\n forward . 192.0.2.1 192.0.2.1\n}\n";
    let directory = written("check_warning", corefile);
    let text = stdout(&onward_output(&["check"], &directory));
    assert!(text.starts_with("# [WARNING] Corefile:3 - "), "{text}");
    let report = json(&[], &directory, 0);
    assert_eq!(report["warnings"][0]["file"], "Corefile");
    assert_eq!(report["warnings"][0]["line"], 3);
}

#[test]
fn configurations_that_cannot_be_served_are_refused() {
    let certificate = "tls://.:5399 {\n bind 127.0.0.1\n tls Corefile Corefile\n}\n";
    for (test, corefile, word, code) in [
        ("check_bind", ".:5399 {\n bind 203.0.113.77\n}\n", "no such address", 1),
        ("check_interface", ".:5399 {\n bind eth99\n}\n", "eth99", 1),
        ("check_resolv", ".:5399 {\n forward . Corefile\n}\n", "no valid upstream", 1),
        ("check_certificate", certificate, "no certificate in the file", 1),
        (
            "check_source",
            ".:5399 {\n forward . 192.0.2.1 {\n source_address 203.0.113.77\n}\n}\n",
            "",
            1,
        ),
        ("check_file", ".:5399 {\n import gone\n}\n", "gone", 1),
        (
            "check_nowhere",
            ".:5399 {\n bind 127.0.0.1 {\n except 127.0.0.1\n }\n}\n",
            "no address",
            2,
        ),
        ("check_twice", "m {\n}\nm {\n}\n", "already defined", 2),
        ("check_missing", "m {\n geoip a\n unbound\n}\n", "run a resolver on this host", 2),
        ("check_empty", "# nothing\n", "a Corefile without a server block", 2),
    ] {
        let directory = written(test, corefile);
        let output = onward_output(&["check"], &directory);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{test}: {error}");
        assert!(error.contains(word) && output.stdout.is_empty(), "{test}: {error}");
        assert!(error.contains(&format!("would exit with status {code}:")), "{test}: {error}");
        let report = json(&[], &directory, code);
        assert_eq!(report["ok"], false);
        let details = &report["error"];
        let message = details["message"].as_str().unwrap();
        let each = report["errors"].as_array().unwrap().iter();
        let each: Vec<_> = each.map(|error| error["message"].as_str().unwrap()).collect();
        assert!(each.is_empty() || each.join("\n") == message, "{test}: {each:?}");
        assert_eq!(each.len() > 1, test == "check_missing", "{test}: {each:?}");
        assert!(error.starts_with(&format!("onward: {message}\n")), "{error}");
        assert_eq!(details["blame"], if code == 2 { "text" } else { "host" }, "{test}");
        assert_eq!(details["exit"], code, "{test}");
        // The server prints the same error and exits with the same code.
        let served = onward_output(&["--workers", "1"], &directory);
        assert_eq!(served.status.code(), Some(code), "{test}");
        let served = String::from_utf8_lossy(&served.stderr).trim_end().to_owned();
        assert!(error.starts_with(&format!("{served}\n")), "{served}\n{error}");
    }
    let output = onward_output(&["check", "--conf", "absent"], &directory("check_absent"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn descriptors_are_counted_though_there_is_no_upstream_and_serving_says_the_same() {
    let keys: String = (5_000..5_100).map(|port| format!(" m:{port}")).collect();
    let directory = written("check_descriptors", &format!("{keys} {{\n bind 127.0.0.1\n}}\n"));
    let told = |arguments: &str| {
        let limited = format!("ulimit -Sn 100; ulimit -Hn 450; exec \"$0\" {arguments}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_onward")]).current_dir(&directory);
        let output = shell.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    };
    let (code, error) = told("check --workers 1");
    assert_eq!(code, Some(1), "{error}");
    for part in [
        "onward: Corefile:1 - plugin/bind: up to 484 file descriptors can be needed, but the \
         limit of open files is 450:",
        "       400  workers 1 × listeners 100 × 2 × UDP and TCP",
        "listen on fewer addresses, start fewer workers, or raise the limit",
    ] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    let (served, said) = told("--workers 1");
    assert!(served == code && error.starts_with(&said), "{said}");
}

#[test]
fn caches_that_could_outgrow_the_host_are_a_warning() {
    let cache = "cache {\n capacity_bytes success 128G\n capacity_bytes denial 128G\n}";
    let corefile = format!(".:5399 {{\n bind 127.0.0.1\n {cache}\n forward . 192.0.2.1\n}}\n");
    let directory = written("check_memory", &corefile);
    let report = json(&["--workers", "16"], &directory, 0);
    let notes = report["notes"].as_array().unwrap();
    let note = notes.iter().filter_map(Value::as_str).find(|note| note.contains("MiB of memory"));
    assert!(
        note.is_some_and(|note| note.contains("lower CAPACITY or capacity_bytes")),
        "{notes:?}"
    );
    let all = &report["memory"]["all"];
    // All workers share it.
    let caches = all["caches_max"].as_u64().unwrap();
    assert!((256 << 30..512 << 30).contains(&caches), "{caches}");
    assert!(all["reserved"].as_u64().unwrap() < 1 << 30);
}

#[test]
fn the_configuration_may_come_from_standard_input() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["check", "--conf", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().unwrap();
    program.stdin.take().unwrap().write_all(b". {\n nothing\n}\n").unwrap();
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("/dev/stdin:2") && error.contains("nothing"), "{error}");
}
