//! The incident, replayed quickly, on real network namespaces and the kernel's own conntrack.
//!
//! The test needs root, the tools of the lab and the program onward, and is skipped with a message
//! if one of them is missing. The load is modest and latency is not judged, because it is
//! meaningless on a host that runs other tests. Shares, losses and the clean-up are judged.

mod kit;

use kit::directory;
use loadgen::incident::lab;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Returns the namespaces created by the process `of`.
fn namespaces(of: u32) -> Vec<String> {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let prefix = format!("incident-{of}-");
    text.lines().filter(|line| line.starts_with(&prefix)).map(Into::into).collect()
}

/// Returns true if the lab can be built here; otherwise prints the reason.
fn is_possible() -> bool {
    let onward = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("onward");
    let missing = lab::missing()
        .or_else(|| (!onward.is_file()).then(|| format!("there is no {}", onward.display())));
    if let Some(missing) = &missing {
        eprintln!("SKIPPED: {missing}");
    }
    missing.is_none()
}

#[test]
fn a_starved_backend_gets_its_share_back_with_max_age_and_only_then() {
    if !is_possible() {
        return;
    }
    let json = directory("incident").join("incident.json");
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["incident", "--quick", "--json"])
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let number = child.id();
    let output: Output = child.wait_with_output().unwrap();
    assert_eq!(namespaces(number), [""; 0], "they were to be removed");
    let told = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("{output:?}"));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let courses = told["courses"].as_array().unwrap();
    let number = |course: usize, backend: &str, name: &str| {
        courses[course][backend][name].as_f64().unwrap_or(f64::INFINITY)
    };
    for backend in ["failed_backend", "added_backend"] {
        let most = number(0, backend, "part_of_share_at_most");
        assert!(most < 0.2, "{backend} did not starve: {most}\n{output:?}");
        assert!(number(0, backend, "share_after").is_infinite(), "{output:?}");
        for course in [1, 2] {
            // From a second after max_age on. The program itself judges more closely, within three
            // standard deviations of random shares of 2,048 ports; this is eight of them.
            let part = number(course, backend, "part_of_share_from_then");
            assert!((0.7..1.3).contains(&part), "course {course}, {backend}: {part}\n{output:?}");
        }
    }
}

#[test]
fn a_signal_ends_it_and_nothing_is_left_behind() {
    if !is_possible() {
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["incident", "--quick"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let number = child.id();
    while namespaces(number).len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before there was a lab");
    }
    let sent = Command::new("kill").args(["-TERM", &number.to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(namespaces(number), [""; 0]);
}
