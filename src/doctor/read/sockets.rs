//! Programs on port 53, from the kernel's tables of sockets and the descriptors of processes.
//!
//! Only root, or the owner, can see the process of a socket; otherwise the address alone is known.

use super::super::facts::Holder;
use crate::topology::entries;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The port of DNS.
const PORT: u16 = 53;
/// State of a listening TCP socket (TCP_LISTEN).
const LISTENING: &str = "0A";
/// The tables, and whether they are of TCP.
const TABLES: [(&str, &str); 4] =
    [("udp", "udp"), ("udp6", "udp"), ("tcp", "tcp"), ("tcp6", "tcp")];

/// Returns all sockets on the port, each address once.
pub(super) fn holders(root: &Path) -> Vec<Holder> {
    let mut found = Vec::new();
    for (table, protocol) in TABLES {
        let text = fs::read_to_string(root.join("proc/net").join(table)).unwrap_or_default();
        let listed = text.lines().skip(1).filter_map(|line| entry(line, protocol == "tcp"));
        found.extend(listed.map(|(address, inode)| (address, protocol, inode)));
    }
    let on_port = |(address, ..): &(SocketAddr, _, _)| address.port() == PORT;
    found.retain(on_port);
    let inodes: Vec<String> = found.iter().map(|(.., inode)| format!("socket:[{inode}]")).collect();
    let programs = programs(root, &inodes);
    let holders = found.into_iter().zip(programs);
    let holders =
        holders.map(|((address, protocol, _), program)| Holder { address, protocol, program });
    let mut holders: Vec<Holder> = holders.collect();
    holders.dedup();
    holders
}

/// Returns the local address and the inode of a line.
fn entry(line: &str, is_tcp: bool) -> Option<(SocketAddr, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if is_tcp && *words.get(3)? != LISTENING {
        return None;
    }
    let (address, port) = words.get(1)?.split_once(':')?;
    let address = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
    Some((address, words.get(9)?.parse().ok()?))
}

/// Parses an address: 32-bit words in host byte order, as the kernel prints them.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into());
    }
    let mut bytes = [0; 16];
    for (number, place) in bytes.chunks_exact_mut(4).enumerate() {
        place.copy_from_slice(&word(8 * number)?.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes).into())
}

/// Returns the program of each of the sockets, as far as permitted.
fn programs(root: &Path, sockets: &[String]) -> Vec<Option<String>> {
    let mut found = vec![None; sockets.len()];
    if sockets.is_empty() {
        return found;
    }
    let processes = entries(&root.join("proc")).into_iter();
    for process in processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let path = root.join("proc").join(process);
        for descriptor in entries(&path.join("fd")) {
            let Ok(target) = fs::read_link(path.join("fd").join(descriptor)) else { continue };
            let target = target.to_string_lossy();
            for (socket, program) in sockets.iter().zip(&mut found) {
                if *socket == target {
                    let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                    *program = Some(name.trim().to_owned());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        let of = |local: &str, state: &str| {
            entry(&format!(" 1: {local} 00000000:0000 {state} 0:0 0:0 0 101 0 4711 2"), true)
        };
        let (address, inode) = of("3500007F:0035", "0A").unwrap();
        assert_eq!((address.to_string().as_str(), inode), ("127.0.0.53:53", 4_711));
        let (address, _) = of("00000000000000000000000001000000:0035", "0A").unwrap();
        assert_eq!(address.to_string(), "[::1]:53");
        assert_eq!(of("3500007F:0035", "01"), None);
        assert_eq!(of("x", "0A"), None);
    }
}
