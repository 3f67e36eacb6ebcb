//! Facts about a host, and requirements of a configuration: plain data.
//!
//! `None` and empty lists mean unknown, which is no fault of the host.

use crate::check::Report;
use crate::server::Steer;
use crate::topology::Topology;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Facts about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Numbers under `/proc/sys`, by path.
    pub(crate) settings: BTreeMap<&'static str, u64>,
    /// First and last ephemeral port.
    pub(crate) ports: Option<(u16, u16)>,
    /// Network cards and NUMA nodes.
    pub(crate) topology: Topology,
    /// Frequency governors by core.
    pub(crate) governors: BTreeMap<usize, String>,
    /// Clock source of the kernel.
    pub(crate) clock_source: Option<String>,
    /// Hard limit of open descriptors for a process started here.
    pub(crate) open_files: Option<u64>,
    /// Limit of locked memory in bytes; `u64::MAX`: unlimited.
    pub(crate) locked_bytes: Option<u64>,
    /// Version of the kernel.
    pub(crate) kernel: Option<(u32, u32)>,
    /// Features that the kernel refused.
    pub(crate) refused: Vec<&'static str>,
    /// Sockets on port 53.
    pub(crate) holders: Vec<Holder>,
    /// Losses since boot.
    pub(crate) counters: Counters,
    /// Losses during the observation.
    pub(crate) watched: Counters,
    /// Length of the observation.
    pub(crate) seconds: u64,
}

/// A socket on port 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(crate) address: SocketAddr,
    /// `udp` or `tcp`.
    pub(crate) protocol: &'static str,
    /// The program, if known.
    pub(crate) program: Option<String>,
}

/// Counters that only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Packets lost, by owner.
    pub(crate) lost: BTreeMap<Loss, u64>,
    /// Ticks stolen by the hypervisor, and all ticks.
    pub(crate) steal: (u64, u64),
}

/// Place where a packet is lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// A full receive buffer.
    ReceiveBuffer,
    /// A full send buffer.
    SendBuffer,
    /// A full backlog queue of a core (softnet).
    Backlog,
    /// A full listen backlog.
    Accept,
    /// The full table of connection tracking.
    Tracking,
    /// A network card without a free buffer.
    Card(String),
}

impl Counters {
    /// Returns the increase since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |loss| earlier.lost.get(loss).copied().unwrap_or(0);
        let lost = self.lost.iter();
        let lost = lost.map(|(loss, now)| (loss.clone(), now.saturating_sub(before(loss))));
        let (stolen, all) = (self.steal, earlier.steal);
        Self {
            lost: lost.collect(),
            steal: (stolen.0.saturating_sub(all.0), stolen.1.saturating_sub(all.1)),
        }
    }
}

/// Requirements of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(crate) workers: usize,
    /// The cores that they are pinned to.
    pub(crate) cores: Vec<usize>,
    /// Datagrams stay on the core that received them.
    pub(crate) steer_by_core: bool,
    /// Maximum number of source ports, of all workers.
    pub(crate) ports: usize,
    /// Maximum number of descriptors.
    pub(crate) descriptors: usize,
    /// Addresses of the listeners.
    pub(crate) listeners: Vec<SocketAddr>,
}

impl Wanted {
    /// Returns the requirements of a configuration that can be served.
    pub(super) fn of(report: &Report, steer: Steer) -> Self {
        let workers = report.workers();
        Self {
            workers,
            cores: report.cores.iter().copied().flatten().collect(),
            steer_by_core: steer == Steer::Cpu,
            ports: report.ports.most * workers,
            descriptors: report.descriptors.all(workers),
            listeners: report.config.listeners.iter().map(|listener| listener.address).collect(),
        }
    }
}
