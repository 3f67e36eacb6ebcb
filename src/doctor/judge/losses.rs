//! Packets that the kernel loses during the observation, and those that it lost before.
//!
//! A counter that moves means that something is broken now; old losses since boot are only
//! reported.

use super::super::facts::{Facts, Loss};
use super::Finding;

const TOPIC: &str = "losses";

/// Returns a finding for each counter that moves, or one for all.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let moving = facts.watched.lost.iter().filter(|(_, count)| **count > 0);
    let findings: Vec<Finding> =
        moving.map(|(loss, count)| moves(loss, *count, facts.seconds)).collect();
    if !findings.is_empty() {
        return findings;
    }
    let before: u64 = facts.counters.lost.values().sum();
    let found = format!("none in {} s; {before} since boot", facts.seconds);
    vec![Finding::fine(TOPIC, found)]
}

fn moves(loss: &Loss, count: u64, seconds: u64) -> Finding {
    let (whose, why, mend): (String, _, _) = match loss {
        Loss::ReceiveBuffer => (
            "by full receive buffers".into(),
            "a worker was busy for longer than its receive buffer lasts; the socket may belong to \
             another program (see ss -uamn 'sport = :53')",
            "sysctl -w net.core.rmem_max=4194304   # add workers if it continues",
        ),
        Loss::SendBuffer => (
            "by full send buffers".into(),
            "the network takes packets more slowly than replies are sent",
            "sysctl -w net.core.wmem_default=425984",
        ),
        Loss::Backlog => (
            "by the kernel's full backlog".into(),
            "a core that receives packets by RPS is too slow",
            "sysctl -w net.core.netdev_max_backlog=4096",
        ),
        Loss::Accept => (
            "by full queues of new TCP connections".into(),
            "connections arrive faster than they are accepted",
            "sysctl -w net.core.somaxconn=4096",
        ),
        Loss::Tracking => (
            "by connection tracking".into(),
            "the connection tracking table is full",
            "nft -f tuning/onward.nft   # NOTRACK for port 53",
        ),
        Loss::Card(name) => {
            let finding =
                Finding::broken(TOPIC, format!("{count} packets in {seconds} s by {name}"));
            return finding
                .because(
                    "the network card had no free buffer: its ring is small or its core is busy",
                )
                .mend(format!("ethtool -g {name}; ethtool -G {name} rx 4096"));
        }
    };
    Finding::broken(TOPIC, format!("{count} packets in {seconds} s {whose}"))
        .because(why)
        .mend(mend)
}
