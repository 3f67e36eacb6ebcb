//! `onward doctor` on simulated hosts: trees of files as the kernel would show them.
//!
//! The verdict on each fact is tested beside its code; here the whole program reads the files, and
//! its exit code and both formats are compared with them.

use super::process::{directory, onward_output};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Files of a host without any problem.
const GOOD: [(&str, &str); 18] = [
    ("proc/sys/net/core/rmem_max", "4194304\n"),
    ("proc/sys/net/core/wmem_default", "212992\n"),
    ("proc/sys/net/core/optmem_max", "131072\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "16384\t65535\n"),
    ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
    ("proc/self/limits", "Max open files  1024  524288  files\n"),
    ("proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\n"),
    ("proc/net/snmp", "Udp: RcvbufErrors SndbufErrors\nUdp: 7 0\n"),
    ("proc/net/softnet_stat", "00000001 00000000\n"),
    ("proc/net/udp", "  sl  local_address\n"),
    ("proc/interrupts", "  CPU0\n 25: 1 PCI-MSI virtio7-input.0\n"),
    ("proc/irq/25/smp_affinity_list", "0\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
    ("sys/devices/virtio7/numa_node", "-1\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
];

fn host(test: &str) -> PathBuf {
    let root = directory(test);
    for (path, text) in GOOD {
        write(&root, path, text);
    }
    symlink("../../../devices/virtio7", root.join("sys/class/net/eth0/device")).unwrap();
    root
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Returns the exit code and the JSON report.
fn examine(root: &PathBuf, more: &[&str]) -> (Option<i32>, Value) {
    let path = root.display().to_string();
    let mut arguments = vec!["doctor", "--root", &path, "--seconds", "0", "--format", "json"];
    arguments.extend(more);
    let output = onward_output(&arguments, root);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// The verdict on each topic that is not `fine`.
fn complaints(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    let words = findings.map(|it| (it["topic"].as_str().unwrap(), it["verdict"].as_str().unwrap()));
    words.filter(|(_, verdict)| *verdict != "fine").collect()
}

#[test]
fn a_good_host_is_fine_in_both_formats() {
    let root = host("doctor_fine");
    let (code, report) = examine(&root, &[]);
    assert_eq!((complaints(&report), code), (vec![], Some(0)));
    assert_eq!(report["verdict"], "fine");
    let topics = report["findings"].as_array().unwrap().iter();
    let topics: Vec<_> = topics.map(|finding| finding["topic"].as_str().unwrap()).collect();
    for topic in ["port 53", "kernel settings", "source ports", "packet intake", "frequency"] {
        assert!(topics.contains(&topic), "{topics:?}");
    }
    let path = root.display().to_string();
    let output = onward_output(&["doctor", "--root", &path, "--seconds", "0"], &root);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("no findings\n") && text.contains("7 since boot"), "{text}");
}

#[test]
fn costly_settings_are_advice_with_the_command_to_fix_them() {
    let root = host("doctor_advice");
    write(&root, "proc/sys/net/core/rmem_max", "212992\n");
    write(&root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    let (code, report) = examine(&root, &[]);
    let expected = vec![("kernel settings", "advice"), ("frequency", "advice")];
    assert_eq!((complaints(&report), code), (expected, Some(1)));
    let path = root.display().to_string();
    let output = onward_output(&["doctor", "--root", &path, "--seconds", "0"], &root);
    let text = String::from_utf8_lossy(&output.stdout);
    for words in ["advice  kernel settings: net.core.rmem_max is 212992", "why: ", "fix: sysctl"] {
        assert!(text.contains(words), "no {words:?} in: {text}");
    }
}

#[test]
fn a_port_in_use_is_broken_and_its_owner_is_named() {
    let root = host("doctor_port");
    // 127.0.0.53:53 in this host's byte order.
    let address = format!("{:08X}:0035", u32::from_ne_bytes([127, 0, 0, 53]));
    let line = format!("  sl\n 9: {address} 00000000:0000 07 0:0 0:0 0 101 0 4711 2\n");
    write(&root, "proc/net/udp", &line);
    write(&root, "proc/612/comm", "systemd-resolve\n");
    fs::create_dir_all(root.join("proc/612/fd")).unwrap();
    symlink("socket:[4711]", root.join("proc/612/fd/13")).unwrap();
    let (code, report) = examine(&root, &["--listen", "0.0.0.0", "--forward", "192.0.2.53"]);
    assert_eq!(code, Some(2), "{report:#}");
    assert!(complaints(&report).contains(&("port 53", "broken")), "{report:#}");
    assert!(report.to_string().contains("DNSStubListener=no"), "{report:#}");
    // On another address it does not conflict.
    let (_, report) = examine(&root, &["--listen", "127.0.0.1", "--forward", "192.0.2.53"]);
    assert!(complaints(&report).iter().all(|(topic, _)| *topic != "port 53"), "{report:#}");
}

#[test]
fn workers_far_from_the_nic_get_its_numa_node() {
    let root = host("doctor_numa");
    // The NIC's node has cores that no host has, so that the workers are always on the other node.
    for (path, text) in [
        ("sys/devices/system/node/node0/cpulist", "0-4095\n"),
        ("sys/devices/system/node/node2/cpulist", "4096-4099\n"),
        ("sys/devices/virtio7/numa_node", "2\n"),
        ("proc/irq/25/effective_affinity_list", "4097\n"),
    ] {
        write(&root, path, text);
    }
    let what = ["--listen", "127.0.0.1", "--forward", "192.0.2.53"];
    let numa = |report: &Value| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|it| it["topic"] == "NUMA").cloned().collect::<Vec<_>>()
    };
    let (_, report) = examine(&root, &what);
    let [finding] = &numa(&report)[..] else { panic!("{report:#}") };
    assert_eq!(finding["verdict"], "advice");
    let found = finding["found"].as_str().unwrap();
    assert!(found.starts_with("eth0 is on node 2, workers on core"), "{found}");
    assert!(found.contains("receive interrupts go to core 4097"), "{found}");
    // A NIC that is down receives nothing and is ignored.
    write(&root, "sys/class/net/eth0/operstate", "down\n");
    assert!(numa(&examine(&root, &what).1).is_empty());
    // Here everything is on one node.
    write(&root, "sys/class/net/eth0/operstate", "up\n");
    write(&root, "sys/devices/virtio7/numa_node", "0\n");
    write(&root, "proc/irq/25/effective_affinity_list", "0\n");
    let (_, report) = examine(&root, &what);
    assert_eq!(numa(&report)[0]["verdict"], "fine", "{report:#}");
}

#[test]
fn a_configuration_that_cannot_be_served_is_broken() {
    let root = host("doctor_configuration");
    fs::write(root.join("Corefile"), ". {\n forwards . 192.0.2.1\n}\n").unwrap();
    let (code, report) = examine(&root, &["--conf", "Corefile"]);
    assert_eq!((complaints(&report), code), (vec![("configuration", "broken")], Some(2)));
    assert!(report.to_string().contains("Corefile:2"), "{report:#}");
}

#[test]
fn a_configuration_that_is_odd_is_served_and_judged_by_the_host_that_is_read() {
    let root = host("doctor_odd");
    // One port fewer than one connection to each upstream needs.
    write(&root, "proc/sys/net/ipv4/ip_local_port_range", "40000\t40000\n");
    let corefile = ". {\n bind 127.0.0.1\n forward . 192.0.2.1 192.0.2.2\n}\n10.9.3.0/18 {\n}\n";
    fs::write(root.join("Corefile"), corefile).unwrap();
    let (code, report) = examine(&root, &["--conf", "Corefile"]);
    let complaints = complaints(&report);
    assert_eq!(code, Some(2));
    assert!(complaints.contains(&("source ports", "broken")), "{report:#}");
    assert!(complaints.iter().all(|(topic, _)| *topic != "configuration"), "{report:#}");
    assert!(report.to_string().contains("onward check prints "), "{report:#}");
}

#[test]
fn this_very_host_can_be_looked_at() {
    let output = onward_output(&["doctor", "--seconds", "0"], &directory("doctor_here"));
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{code:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("kernel") && text.contains("port 53"), "{text}");
}
