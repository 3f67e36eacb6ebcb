//! Port 53: the program that has it, and commands to free it.
//!
//! Another program matters if its address and one of ours are equal or one of them is a wildcard.
//! Without a configuration any program except onward may matter.

use super::super::facts::{Facts, Holder, Wanted};
use super::Finding;
use std::net::SocketAddr;

const TOPIC: &str = "port 53";
/// Name of systemd-resolved, cut to 15 characters by the kernel.
const RESOLVED: &str = "systemd-resolve";
/// Name of our own program.
const ONWARD: &str = "onward";

/// Returns a finding for each program on port 53.
pub(super) fn judge(facts: &Facts, wanted: Option<&Wanted>) -> Vec<Finding> {
    let mut programs: Vec<Option<&str>> =
        facts.holders.iter().map(|holder| holder.program.as_deref()).collect();
    programs.sort_unstable();
    programs.dedup();
    if programs.is_empty() {
        return vec![Finding::fine(TOPIC, "not in use")];
    }
    let of = |program: &Option<&str>| {
        let held = facts.holders.iter().filter(|holder| holder.program.as_deref() == *program);
        program_finding(*program, &held.collect::<Vec<_>>(), wanted)
    };
    programs.iter().map(of).collect()
}

fn program_finding(program: Option<&str>, held: &[&Holder], wanted: Option<&Wanted>) -> Finding {
    let mut addresses: Vec<String> =
        held.iter().map(|holder| format!("{} {}", holder.protocol, holder.address)).collect();
    addresses.dedup();
    let addresses = addresses.join(", ");
    let name = program.unwrap_or("a program that only root can see");
    let found = format!("{name} listens on {addresses}");
    if program == Some(ONWARD) {
        return Finding::fine(TOPIC, found);
    }
    let collides = |wanted: &Wanted| {
        let pairs = wanted.listeners.iter();
        pairs.copied().any(|ours| held.iter().any(|holder| collide(ours, holder.address)))
    };
    let finding = match wanted {
        Some(wanted) if !collides(wanted) => {
            return Finding::fine(TOPIC, format!("{found}; onward does not use them"));
        }
        Some(_) => Finding::broken(TOPIC, found).because(
            "onward is configured to listen there and cannot start while another program does",
        ),
        None => Finding::advice(TOPIC, found).because("onward cannot listen on the same address"),
    };
    match program {
        Some(RESOLVED) => finding
            .mend("mkdir -p /etc/systemd/resolved.conf.d")
            .mend(
                "printf '[Resolve]\\nDNSStubListener=no\\n' \
                 > /etc/systemd/resolved.conf.d/onward.conf",
            )
            .mend("ln -sf /run/systemd/resolve/resolv.conf /etc/resolv.conf")
            .mend("systemctl restart systemd-resolved")
            .mend(
                "# or give this host's own addresses to bind: the stub listens only on 127.0.0.53",
            ),
        Some(name) => finding
            .mend(format!("systemctl disable --now {name}   # or the unit that starts it"))
            .mend("# or give other addresses to bind"),
        None => finding.mend("sudo ss -tulnp 'sport = 53'   # shows the program"),
    }
}

/// Returns true if both addresses cannot be bound at the same time.
fn collide(ours: SocketAddr, theirs: SocketAddr) -> bool {
    let (one, other) = (ours.ip(), theirs.ip());
    let same = one == other || one.is_unspecified() || other.is_unspecified();
    ours.port() == theirs.port() && ours.is_ipv4() == theirs.is_ipv4() && same
}
