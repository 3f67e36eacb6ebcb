//! Files of `tuning/` for a host, tested with the programs that read them.
//!
//! Units with systemd's own tools, rules with `nft`, interrupt steering on simulated file trees.
//! Missing programs are reported and their tests skipped; no host is changed.

use super::process::directory;
use crate::installed::is_installed;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Path of the program in units, and its replacement in tests.
const INSTALLED: &str = "/usr/local/bin/onward";
/// Maximum exposure by systemd-analyze, in tenths: the rest is inherent in a network server that
/// binds port 53, pins threads and notifies.
const EXPOSURE_MAX: &str = "20";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(path)
}

/// The units, with the paths of existing programs.
fn units(test: &str) -> PathBuf {
    let directory = directory(test);
    for path in ["onward.service", "onward.socket", "anycast/onward-anycast.service"] {
        let text = fs::read_to_string(file(path)).unwrap();
        let helper = file("anycast/onward-anycast");
        let text = text
            .replace(INSTALLED, env!("CARGO_BIN_EXE_onward"))
            .replace("/usr/local/sbin/onward-anycast", &helper.display().to_string());
        fs::write(directory.join(path.rsplit('/').next().unwrap()), text).unwrap();
    }
    directory
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.into_owned()
}

#[test]
fn systemd_accepts_the_units() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let directory = units("units_verify");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).current_dir(&directory);
    verify.args(["./onward.service", "./onward.socket", "./onward-anycast.service"]);
    let said = succeeds(&verify.output().unwrap());
    assert!(!said.contains("onward"), "{said}");
}

#[test]
fn units_leave_little_to_an_attacker() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let directory = units("units_security");
    for unit in ["onward.service", "onward-anycast.service"] {
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]);
        succeeds(&security.arg(directory.join(unit)).output().unwrap());
    }
}

#[test]
fn the_limits_of_a_corefile_are_those_that_check_tells_twice() {
    let directory = directory("limits");
    let corefile = ".:5399 {\n bind 127.0.0.1\n cache 30\n forward . 192.0.2.1\n}\n";
    fs::write(directory.join("Corefile"), corefile).unwrap();
    let said = |format: &str| {
        let arguments = ["check", "--workers", "4", "--format", format];
        succeeds(&super::process::onward_output(&arguments, &directory))
    };
    let report: serde_json::Value = serde_json::from_str(&said("json")).unwrap();
    let all = &report["memory"]["all"];
    let bytes = ["reserved", "caches_max", "client_streams_max", "upstream_streams_max"];
    let bytes: u64 = bytes.iter().map(|name| all[name].as_u64().unwrap()).sum();
    let held = 4 * report["memory"]["per_worker"]["held_max"].as_u64().unwrap();
    let bytes = bytes + held;
    let drop_in = said("systemd");
    let value = |name: &str| {
        let line = drop_in.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in: {drop_in}")).to_owned()
    };
    let memory: u64 = value("MemoryMax=").trim_end_matches('M').parse().unwrap();
    // And the memory of the two processes themselves.
    let least = (2 * bytes) >> 20;
    assert!((least + 100..least + 400).contains(&memory), "{memory} of {least}");
    assert_eq!(value("TasksMax="), "72");
    assert!(drop_in.contains("\n[Service]\n"), "{drop_in}");
    let files: u64 = value("LimitNOFILE=").parse().unwrap();
    assert!(files >= report["descriptors"]["all"].as_u64().unwrap());
}

#[test]
fn rules_past_connection_tracking_are_rules_and_may_be_loaded_again() {
    if !is_installed("nft") || !is_installed("unshare") {
        return;
    }
    // In a network namespace; an account that may not create one may not load rules either.
    let rules = file("onward.nft");
    let rules = rules.display();
    let script = format!("nft -f {rules} && nft -f {rules} && nft list ruleset");
    let output = Command::new("unshare").args(["-n", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && said.contains("Operation not permitted") {
        return eprintln!("SKIPPED: only root makes namespaces");
    }
    let said = succeeds(&output);
    assert_eq!(said.matches("notrack").count(), 4, "{said}");
}

#[test]
fn keepalived_accepts_its_file() {
    if !is_installed("keepalived") || !is_installed("unshare") {
        return;
    }
    // With the interface that the file names, and without the host's keepalived. Errors are in its
    // log; its exit status says nothing, because it ends itself with a signal.
    let log = directory("keepalived").join("log");
    let script = format!(
        "ip link add eth0 type veth && {{ keepalived --config-test={log} --use-file {file}; \
         test -f {log}; }}",
        log = log.display(),
        file = file("vrrp/keepalived.conf").display()
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["-n", "-p", "--fork", "--mount-proc", "sh", "-c", &script]);
    let output = unshare.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && said.contains("Operation not permitted") {
        return eprintln!("SKIPPED: only root makes namespaces");
    }
    succeeds(&output);
    assert_eq!(fs::read_to_string(log).unwrap().trim(), "");
}

#[test]
fn the_corefile_of_the_package_and_of_a_cluster_are_corefiles() {
    let manifest = fs::read_to_string(file("kubernetes/node-local.yaml")).unwrap();
    let inside = manifest.split("  Corefile: |\n").nth(1).unwrap();
    let lines = inside.lines().take_while(|line| line.starts_with("    "));
    // The address is a node's, inserted by the manifest.
    let cluster: String =
        lines.map(|line| line.replace("169.254.20.10", "127.0.0.1") + "\n").collect();
    let package = fs::read_to_string(file("package/Corefile")).unwrap();
    for (name, text) in [("cluster", cluster), ("package", package)] {
        let directory = directory(&format!("corefile_{name}"));
        // The host's resolvers are not the subject of the file.
        let text = text.replace("/etc/resolv.conf", "192.0.2.53");
        fs::write(directory.join("Corefile"), text).unwrap();
        succeeds(&super::process::onward_output(&["check", "--workers", "2"], &directory));
    }
}

#[test]
fn shellcheck_accepts_the_scripts() {
    if !is_installed("shellcheck") {
        return;
    }
    for script in ["steer-interrupts", "anycast/onward-anycast", "package/build", "package/try"] {
        succeeds(&Command::new("shellcheck").arg(file(script)).output().unwrap());
    }
}

/// A host with four cores and a card with two receive queues.
struct Host(PathBuf);

impl Host {
    fn new(test: &str) -> Self {
        let root = directory(test);
        let host = Self(root);
        host.write("sys/devices/system/cpu/online", "0-3\n");
        for core in 0..4 {
            host.write(&format!("sys/devices/system/cpu/cpu{core}/online"), "1\n");
        }
        for queue in 0..2 {
            host.write(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "0\n");
            host.write(&format!("proc/irq/{}/smp_affinity_list", 25 + queue), "0-3\n");
        }
        host.write(
            "proc/interrupts",
            "      CPU0 CPU1\n 24: 1 0 PCI-MSI 1-edge eth0\n 25: 1 0 PCI-MSI 2-edge eth0-TxRx-0\n \
             26: 1 0 PCI-MSI 3-edge eth0-TxRx-1\n 27: 1 0 PCI-MSI 4-edge eth1-TxRx-0\n",
        );
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns the cores of the two interrupts, and the RPS mask of the first queue.
    fn state(&self) -> [String; 3] {
        let paths = [
            "proc/irq/25/smp_affinity_list",
            "proc/irq/26/smp_affinity_list",
            "sys/class/net/eth0/queues/rx-0/rps_cpus",
        ];
        paths.map(|path| fs::read_to_string(self.0.join(path)).unwrap().trim().to_owned())
    }

    fn steer(&self, arguments: &[&str]) -> Output {
        let mut script = Command::new(file("steer-interrupts"));
        script.arg("--root").arg(&self.0).args(arguments).output().unwrap()
    }
}

#[test]
fn queues_go_to_the_cores_that_are_named_and_back() {
    let host = Host::new("steer_and_back");
    let said = succeeds(&host.steer(&["--dry-run", "--cores", "2,3", "eth0"]));
    assert!(said.contains("would write 2 to /proc/irq/25/smp_affinity_list (now 0-3)"), "{said}");
    assert_eq!(host.state(), ["0-3", "0-3", "0"]);
    succeeds(&host.steer(&["--cores", "2,3", "eth0"]));
    assert_eq!(host.state(), ["2", "3", "0"]);
    let again = succeeds(&host.steer(&["--cores", "2,3", "eth0"]));
    assert_eq!(again, "", "it is as it should be");
    succeeds(&host.steer(&["--cores", "0,1", "eth0"]));
    assert_eq!(host.state(), ["0", "1", "0"]);
    succeeds(&host.steer(&["--undo", "eth0"]));
    assert_eq!(host.state(), ["0-3", "0-3", "0"]);
    let said = succeeds(&host.steer(&["--undo", "eth0"]));
    assert!(said.contains("nothing was changed"), "{said}");
}

#[test]
fn where_queues_are_fewer_than_cores_the_kernel_hands_packets_on() {
    let host = Host::new("steer_rps");
    succeeds(&host.steer(&["eth0"]));
    assert_eq!(host.state(), ["0", "1", "0000000f"]);
    // The kernel writes the same mask without leading zeros.
    host.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "f\n");
    host.write("sys/class/net/eth0/queues/rx-1/rps_cpus", "f\n");
    assert_eq!(succeeds(&host.steer(&["eth0"])), "");
}

#[test]
fn interrupts_are_found_as_each_driver_names_them() {
    for (number, [one, other]) in [
        ["i40e-eth0-TxRx-0", "i40e-eth0-TxRx-1"],
        ["eth0-Tx-Rx-0", "eth0-Tx-Rx-1"],
        ["mlx5_comp0@pci:0000:3b:00.0", "mlx5_comp1@pci:0000:3b:00.0"],
        ["mlx4-1@0000:3b:00.0", "mlx4-2@0000:3b:00.0"],
    ]
    .into_iter()
    .enumerate()
    {
        let host = Host::new(&format!("steer_driver_{number}"));
        symlink("../../../devices/0000:3b:00.0", host.0.join("sys/class/net/eth0/device")).unwrap();
        host.write(
            "proc/interrupts",
            &format!(
                "      CPU0 CPU1\n 24: 1 0 PCI-MSI mlx5_async0@pci:0000:3b:00.0\n \
                 25: 1 0 PCI-MSI {one}\n 26: 1 0 PCI-MSI {other}\n \
                 27: 1 0 PCI-MSI eth0-tx-1\n 28: 1 0 PCI-MSI mlx5_comp0@pci:0000:3b:00.1\n",
            ),
        );
        succeeds(&host.steer(&["--cores", "2,3", "eth0"]));
        assert_eq!(host.state(), ["2", "3", "0"], "{one}");
    }
}

#[test]
fn invalid_steering_arguments_are_refused_and_nothing_is_written() {
    let host = Host::new("steer_refused");
    for (arguments, word) in [
        (&["eth7"][..], "no interface eth7"),
        (&["--cores", "0,9", "eth0"], "no core 9"),
        (&["--cores", "0-x", "eth0"], "invalid list of cores"),
        (&[], "Usage"),
        (&["--fast", "eth0"], "Usage"),
    ] {
        let output = host.steer(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
        assert_eq!(host.state(), ["0-3", "0-3", "0"]);
    }
}
