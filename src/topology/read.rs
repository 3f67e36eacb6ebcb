//! Cards, interrupts and nodes, read from files of the kernel under some root.
//!
//! The formats are those of `proc(5)` and of the kernel's `Documentation/ABI`. A file that is
//! missing or malformed makes its fact unknown. This module only reads; the judgement is in the
//! parent.

use super::{Card, Topology};
use crate::sys::cpu::{list, mask};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words in the names of interrupts that belong to no receive queue.
const OTHER_INTERRUPTS: [&str; 6] = ["output", "config", "async", "tx-", "control", "mgmnt"];

impl Topology {
    /// Reads the current topology of the host whose `proc` and `sys` are in `root`.
    pub(crate) fn read(root: &Path) -> Self {
        Self { nodes: nodes(root), cards: cards(root) }
    }
}

fn nodes(root: &Path) -> BTreeMap<usize, Vec<usize>> {
    let all = root.join("sys/devices/system/node");
    let node = |name: String| {
        let number = name.strip_prefix("node")?.parse().ok()?;
        let text = fs::read_to_string(all.join(name).join("cpulist")).unwrap_or_default();
        Some((number, list(&text).unwrap_or_default()))
    };
    entries(&all).into_iter().filter_map(node).collect()
}

fn cards(root: &Path) -> Vec<Card> {
    let interrupts = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let all = root.join("sys/class/net");
    let card = |name: String| {
        let path = all.join(&name);
        let device = fs::canonicalize(path.join("device")).ok()?;
        // No packets arrive on a card that is down, whatever its node.
        if fs::read_to_string(path.join("operstate")).is_ok_and(|state| state.trim() == "down") {
            return None;
        }
        let queues = entries(&path.join("queues")).into_iter();
        let queues = queues.filter(|queue| queue.starts_with("rx-"));
        let queue = |queue| fs::read_to_string(path.join("queues").join(queue).join("rps_cpus"));
        let queues = queues.filter_map(|name| mask(&queue(name).ok()?)).collect();
        let node = fs::read_to_string(path.join("device/numa_node")).ok();
        let node = node.and_then(|text| text.trim().parse().ok());
        // Some drivers name their interrupts after the device, others after the interface.
        let device = device.file_name().map(|name| name.to_string_lossy().into_owned());
        let names: Vec<String> = [Some(name.clone()), device].into_iter().flatten().collect();
        let affinity = |number: u32| Some((number, affinity(root, number)?));
        let numbers = interrupts_of(&interrupts, &names).into_iter();
        Some(Card { name, node, queues, interrupts: numbers.filter_map(affinity).collect() })
    };
    entries(&all).into_iter().filter_map(card).collect()
}

/// Returns the cores that an interrupt goes to, or if unknown, those that it may go to.
fn affinity(root: &Path, number: u32) -> Option<Vec<usize>> {
    let files = ["effective_affinity_list", "smp_affinity_list"];
    let read = |file| fs::read_to_string(root.join(format!("proc/irq/{number}/{file}"))).ok();
    files.into_iter().filter_map(read).find_map(|text| list(&text).filter(|it| !it.is_empty()))
}

/// Returns the interrupts of receive queues of the card with these names.
fn interrupts_of(text: &str, names: &[String]) -> Vec<u32> {
    let of_card = |line: &str| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let name = rest.split_whitespace().last()?;
        let is_ours = names.iter().any(|own| is_of(name, own));
        if is_ours && !is_other(name) { number.parse().ok() } else { None }
    };
    text.lines().filter_map(of_card).collect()
}

/// Returns true if a driver's `name` of an interrupt contains the name of the card: before the
/// queue, as in `eth0-TxRx-0` and `i40e-eth0-TxRx-0`, or after it, as in
/// `mlx5_comp0@pci:0000:3b:00.0`.
fn is_of(name: &str, own: &str) -> bool {
    name.match_indices(own).any(|(place, _)| {
        let (before, after) = (&name[..place], &name[place + own.len()..]);
        let is_before =
            (before.is_empty() || before.ends_with('-')) && after.starts_with(['-', '.']);
        let is_behind = before.ends_with(['@', ':']) && after.is_empty();
        is_before || is_behind
    })
}

/// Returns true if the interrupt is of no receive queue; `Tx-Rx` is of both directions.
fn is_other(name: &str) -> bool {
    let name = name.to_lowercase();
    !name.contains("tx-rx") && OTHER_INTERRUPTS.iter().any(|word| name.contains(word))
}

/// The names in a directory, in order.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::interrupts_of;

    #[test]
    fn interrupts_of_receive_queues_are_recognised() {
        let text = "  CPU0 CPU1\n 24: 0 1 PCI-MSI 1-edge virtio0-config\n\
                    25: 0 1 PCI-MSI 2-edge virtio0-input.0\n 26: 0 1 PCI-MSI virtio0-output.0\n\
                    27: 0 1 PCI-MSI eth1-TxRx-0\n 28: 0 1 PCI-MSI eth10-TxRx-0\nNMI: 1 2 x\n";
        let of = |names: &[&str]| {
            interrupts_of(text, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["eth0", "virtio0"]), [25]);
        assert_eq!(of(&["eth1", "0000:01:00.0"]), [27]);
    }

    #[test]
    fn names_of_different_drivers_are_recognised() {
        let names = ["eth0".to_owned(), "0000:3b:00.0".to_owned()];
        for (name, is_ours) in [
            ("eth0-TxRx-0", true),
            ("eth0-rx-1", true),
            ("eth0-Tx-Rx-0", true),
            ("i40e-eth0-TxRx-7", true),
            ("mlx4-5@0000:3b:00.0", true),
            ("mlx5_comp3@pci:0000:3b:00.0", true),
            ("mlx5_comp3@pci:0000:3b:00.1", false),
            ("mlx5_async0@pci:0000:3b:00.0", false),
            ("ena-mgmnt@pci:0000:3b:00.0", false),
            ("i40e-0000:3b:00.0:misc", false),
            ("eth0-tx-1", false),
            // The affinity of the link, if its queues have their own.
            ("eth0", false),
            ("eth01-TxRx-0", false),
            ("veth0-TxRx-0", false),
        ] {
            let text = format!(" 31: 5 0 PCI-MSI 524288-edge {name}\n");
            assert_eq!(
                interrupts_of(&text, &names),
                if is_ours { vec![31] } else { vec![] },
                "{name}"
            );
        }
    }
}
