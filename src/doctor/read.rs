//! The facts, read from files of the kernel under some root.
//!
//! The formats are those of `proc(5)` and of the kernel's `Documentation/ABI`. A file that is not
//! there or says something else is a fact that is not known. What a kernel can do is asked of
//! sockets that are closed at once. Only reads; what the facts mean is not known here.

mod sockets;

use super::facts::{Card, Counters, Facts, Loss};
use crate::sys::cpu::list;
use crate::sys::{socket, steer};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// Numbers that are looked at, below `proc/sys`.
const SETTINGS: [&str; 8] = [
    "net/core/netdev_max_backlog",
    "net/core/optmem_max",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
];
/// Columns of `proc/net/stat/nf_conntrack` that count packets which were dropped.
const TRACKING_DROPS: [&str; 2] = ["drop", "early_drop"];
/// Counters of a card that found no room.
const CARD_DROPS: [&str; 2] = ["rx_missed_errors", "rx_fifo_errors"];
/// Words in the names of interrupts that are for no receive queue.
const OTHER_INTERRUPTS: [&str; 5] = ["output", "config", "async", "tx-", "control"];

/// All of them, as of now.
pub(super) fn facts(root: &Path) -> Facts {
    let text = |path: &str| fs::read_to_string(root.join(path)).ok();
    let setting = |path: &'static str| Some((path, number(&text(&format!("proc/sys/{path}"))?)?));
    let limits = text("proc/self/limits").unwrap_or_default();
    Facts {
        settings: SETTINGS.into_iter().filter_map(setting).collect(),
        ports: text("proc/sys/net/ipv4/ip_local_port_range").and_then(|text| pair(&text)),
        cards: cards(root),
        nodes: nodes(root),
        governors: governors(root),
        clock_source: text("sys/devices/system/clocksource/clocksource0/current_clocksource")
            .map(|text| text.trim().to_owned()),
        open_files: hard_limit(&limits, "Max open files"),
        locked_bytes: hard_limit(&limits, "Max locked memory"),
        kernel: text("proc/sys/kernel/osrelease").and_then(|text| version(&text)),
        refused: refused(),
        holders: sockets::holders(root),
        counters: counters(root),
        watched: Counters::default(),
        seconds: 0,
    }
}

/// What the kernel that runs here does not do when it is asked, whatever its version is.
fn refused() -> Vec<&'static str> {
    let asked = [
        (steer::can_attach(), "SO_REUSEPORT with BPF (--steer)"),
        (socket::can_segment(), "UDP GSO (queries that leave together: gso)"),
        (socket::can_coalesce(), "UDP GRO (datagrams that arrive together)"),
    ];
    asked.into_iter().filter(|(can, _)| !can).map(|(_, what)| what).collect()
}

/// What only grows.
pub(super) fn counters(root: &Path) -> Counters {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut lost = BTreeMap::new();
    let mut add = |loss, count: Option<u64>| {
        if let Some(count) = count {
            *lost.entry(loss).or_insert(0) += count;
        }
    };
    let (snmp, snmp6) = (text("proc/net/snmp"), text("proc/net/snmp6"));
    for (loss, name) in [(Loss::ReceiveBuffer, "RcvbufErrors"), (Loss::SendBuffer, "SndbufErrors")]
    {
        add(loss.clone(), paired(&snmp, "Udp:", name));
        add(loss, named(&snmp6, &format!("Udp6{name}")));
    }
    add(Loss::Accept, paired(&text("proc/net/netstat"), "TcpExt:", "ListenOverflows"));
    add(Loss::Backlog, backlog(&text("proc/net/softnet_stat")));
    let tracking = text("proc/net/stat/nf_conntrack");
    for column in TRACKING_DROPS {
        add(Loss::Tracking, tracked(&tracking, column));
    }
    for card in entries(&root.join("sys/class/net")) {
        if !root.join("sys/class/net").join(&card).join("device").exists() {
            continue;
        }
        for name in CARD_DROPS {
            let count = text(&format!("sys/class/net/{card}/statistics/{name}"));
            add(Loss::Card(card.clone()), number(&count));
        }
    }
    Counters { lost, steal: steal(&text("proc/stat")).unwrap_or_default() }
}

fn cards(root: &Path) -> Vec<Card> {
    let interrupts = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let all = root.join("sys/class/net");
    let card = |name: String| {
        let path = all.join(&name);
        let device = fs::canonicalize(path.join("device")).ok()?;
        let queues = entries(&path.join("queues")).into_iter();
        let queues = queues.filter(|queue| queue.starts_with("rx-"));
        let queue = |queue| fs::read_to_string(path.join("queues").join(queue).join("rps_cpus"));
        let queues = queues.filter_map(|name| mask(&queue(name).ok()?)).collect();
        let node = fs::read_to_string(path.join("device/numa_node")).ok();
        let node = node.and_then(|text| text.trim().parse().ok());
        // virtio names its interrupts after the device, others after the interface.
        let device = device.file_name().map(|name| name.to_string_lossy().into_owned());
        let names: Vec<String> = [Some(name.clone()), device].into_iter().flatten().collect();
        let affinity = |number: u32| Some((number, affinity(root, number)?));
        let numbers = interrupts_of(&interrupts, &names).into_iter();
        Some(Card { name, node, queues, interrupts: numbers.filter_map(affinity).collect() })
    };
    entries(&all).into_iter().filter_map(card).collect()
}

/// The cores that an interrupt goes to; those that it may go to where the kernel tells no more.
fn affinity(root: &Path, number: u32) -> Option<Vec<usize>> {
    let files = ["effective_affinity_list", "smp_affinity_list"];
    let read = |file| fs::read_to_string(root.join(format!("proc/irq/{number}/{file}"))).ok();
    files.into_iter().filter_map(read).find_map(|text| list(&text).filter(|it| !it.is_empty()))
}

/// The interrupts of receive queues of the card that has these names.
fn interrupts_of(text: &str, names: &[String]) -> Vec<u32> {
    let of_card = |line: &str| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let name = rest.split_whitespace().last()?;
        let is_ours = names.iter().any(|own| {
            name.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with(['-', '.']))
        });
        let is_other = OTHER_INTERRUPTS.iter().any(|word| name.to_lowercase().contains(word));
        if is_ours && !is_other { number.parse().ok() } else { None }
    };
    text.lines().filter_map(of_card).collect()
}

fn nodes(root: &Path) -> Vec<Vec<usize>> {
    let all = root.join("sys/devices/system/node");
    let number = |name: &String| name.strip_prefix("node")?.parse::<usize>().ok();
    let mut numbers: Vec<usize> = entries(&all).iter().filter_map(number).collect();
    numbers.sort_unstable();
    let cores = |number| fs::read_to_string(all.join(format!("node{number}/cpulist"))).ok();
    numbers
        .into_iter()
        .map(|node| cores(node).and_then(|text| list(&text)).unwrap_or_default())
        .collect()
}

fn governors(root: &Path) -> BTreeMap<usize, String> {
    let all = root.join("sys/devices/system/cpu");
    let core = |name: String| {
        let number = name.strip_prefix("cpu")?.parse().ok()?;
        let text = fs::read_to_string(all.join(name).join("cpufreq/scaling_governor")).ok()?;
        Some((number, text.trim().to_owned()))
    };
    entries(&all).into_iter().filter_map(core).collect()
}

/// The names in a directory, in order.
fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

fn pair(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `6.1.0-18-amd64` → 6, 1.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '\n']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// `00000001,80000000` → 31, 32.
fn mask(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for (word, digits) in text.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| word * 32 + bit));
    }
    Some(cores)
}

/// The hard limit in `proc/self/limits`.
fn hard_limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// A counter in a file of line pairs: names, then values, both behind `title`.
fn paired(text: &str, title: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(title));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// A counter in a file of a name and a value a line.
fn named(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

/// The second column, in hexadecimal, of all cores.
fn backlog(text: &str) -> Option<u64> {
    let counts =
        text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    counts.sum()
}

/// A column, in hexadecimal, of all cores.
fn tracked(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let place = lines.next()?.split_whitespace().position(|word| word == column)?;
    lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(place)?, 16).ok()).sum()
}

/// Ticks stolen, and all: the eighth number of the first line, and the sum of the first eight.
fn steal(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|w| w.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::{backlog, hard_limit, interrupts_of, list, mask, named, paired, steal, tracked};

    #[test]
    fn cores_are_read_as_lists_and_as_masks() {
        assert_eq!(list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!((list("\n"), list("x")), (Some(vec![]), None));
        assert_eq!(mask("00000001,80000001\n"), Some(vec![0, 31, 32]));
        assert_eq!((mask("0"), mask("g")), (Some(vec![]), None));
    }

    #[test]
    fn limits_have_numbers_or_none() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
                    Max locked memory  8388608  unlimited  bytes\n\
                    Max open files  1024  524288  files\n";
        assert_eq!(hard_limit(text, "Max open files"), Some(524_288));
        assert_eq!(hard_limit(text, "Max locked memory"), Some(u64::MAX));
        assert_eq!(hard_limit(text, "Max file locks"), None);
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let snmp = "Tcp: A B\nTcp: 1 2\nUdp: InErrors RcvbufErrors\nUdp: 3 4\n";
        assert_eq!(paired(snmp, "Udp:", "RcvbufErrors"), Some(4));
        assert_eq!(paired(snmp, "Udp:", "SndbufErrors"), None);
        assert_eq!(named("Ip6InReceives 7\nUdp6RcvbufErrors\t9\n", "Udp6RcvbufErrors"), Some(9));
        assert_eq!(backlog("00000001 0000000a 0\n00000002 00000001 0\n"), Some(11));
        assert_eq!(tracked("entries drop\n0 10\n0 2\n", "drop"), Some(18));
        assert_eq!(tracked("", "drop"), None);
        assert_eq!(steal("cpu  1 2 3 4 5 6 7 8 9 9\ncpu0 1\n"), Some((8, 36)));
    }

    #[test]
    fn interrupts_of_receive_queues_are_told_from_others() {
        let text = "  CPU0 CPU1\n 24: 0 1 PCI-MSI 1-edge virtio0-config\n\
                    25: 0 1 PCI-MSI 2-edge virtio0-input.0\n 26: 0 1 PCI-MSI virtio0-output.0\n\
                    27: 0 1 PCI-MSI eth1-TxRx-0\n 28: 0 1 PCI-MSI eth10-TxRx-0\nNMI: 1 2 x\n";
        let of = |names: &[&str]| {
            interrupts_of(text, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["eth0", "virtio0"]), [25]);
        assert_eq!(of(&["eth1", "0000:01:00.0"]), [27]);
    }
}
