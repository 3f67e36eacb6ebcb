//! The rules of the lab for `nft`, as text. Pure.
//!
//! One table translates the virtual address, another makes backends fail. Each text is one
//! transaction: a packet meets either the old or the new rules, never half of them.

use clap::ValueEnum;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Failure mode of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Packets are dropped
    Silent,
    /// ICMP port unreachable, or TCP resets
    Refusing,
    /// The link is down
    LinkDown,
}

/// Translation at the output of the client's namespace. `VIRTUAL` stands for the address.
pub(super) const SERVICE_SETUP: &str = "\
table ip service {
    chain translate {
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip daddr VIRTUAL jump translate
    }
}
";

/// Input chain of the backends' namespace.
pub(super) const FAULT_SETUP: &str = "\
table ip fault {
    chain input {
        type filter hook input priority 0; policy accept;
    }
}
";

/// Rules for no failure.
pub(super) const FAULT_END: &str = "flush chain ip fault input\n";

/// Returns the rules by which new flows to `virtual_address` draw one of `backends`; without
/// backends they are dropped.
pub(super) fn service(virtual_address: SocketAddr, backends: &[SocketAddr]) -> String {
    let mut rules = String::from("flush chain ip service translate\n");
    let (count, port) = (backends.len(), virtual_address.port());
    let drawn = backends.iter().enumerate().map(|(i, backend)| format!("{i} : {}", backend.ip()));
    let map = drawn.collect::<Vec<_>>().join(", ");
    for protocol in ["udp", "tcp"].iter().filter(|_| count > 0) {
        let _ = writeln!(
            rules,
            "add rule ip service translate {protocol} dport {port} dnat to \
             numgen random mod {count} map {{ {map} }}"
        );
    }
    rules
}

/// Returns the rules by which `backend` fails; `None` if its link fails.
pub(super) fn fault(fault: Fault, backend: IpAddr) -> Option<String> {
    let rule = |verdict: &str| format!("add rule ip fault input ip daddr {backend} {verdict}\n");
    match fault {
        Fault::Silent => Some(rule("drop")),
        Fault::Refusing => Some(
            rule("meta l4proto tcp reject with tcp reset")
                + &rule("reject with icmp type port-unreachable"),
        ),
        Fault::LinkDown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, fault, service};

    #[test]
    fn each_flow_draws_one_of_the_backends() {
        let backends = ["10.77.1.2:53", "10.77.3.2:53"].map(|text| text.parse().unwrap());
        let rules = service("10.96.0.53:53".parse().unwrap(), &backends);
        let map = "numgen random mod 2 map { 0 : 10.77.1.2, 1 : 10.77.3.2 }\n";
        assert!(rules.contains(&format!("translate udp dport 53 dnat to {map}")), "{rules}");
        assert!(rules.contains(&format!("translate tcp dport 53 dnat to {map}")), "{rules}");
        assert_eq!(service("10.96.0.53:53".parse().unwrap(), &[]).lines().count(), 1);
    }

    #[test]
    fn faults_are_rules_or_the_link() {
        let backend = "10.77.1.2".parse().unwrap();
        assert_eq!(
            fault(Fault::Silent, backend).unwrap(),
            "add rule ip fault input ip daddr 10.77.1.2 drop\n"
        );
        assert!(fault(Fault::Refusing, backend).unwrap().contains("tcp reset"));
        assert_eq!(fault(Fault::LinkDown, backend), None);
    }
}
