//! Facts of the host that configuration depends on, as plain data.
//!
//! The rooms that know the kernel fill this in once, before the Corefile is read. Nothing in
//! `config` asks the system anything itself, which is why a configuration can be checked for one
//! host on another.

use crate::corefile::Sources;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Looks up the addresses of a host name, asking the resolvers in their order, or the system when
/// there are none. The error tells the operator why there is no address.
pub(crate) type Lookup = Box<dyn Fn(&str, &[SocketAddr]) -> Result<Resolved, String>>;

/// The machine and process that a configuration is for.
pub struct Host {
    /// The files and environment variables that a Corefile may refer to.
    pub sources: Sources,
    /// Host name.
    pub name: String,
    /// The network interfaces, which `bind` may name.
    pub interfaces: Vec<Interface>,
    /// The port of server blocks that name none.
    pub default_port: u16,
    /// Number of ephemeral source ports.
    pub ephemeral_ports: usize,
    /// Limit of open files.
    pub open_files: usize,
    /// Lookup of host names.
    pub lookup: Lookup,
    /// Number of workers with connections. At least 1.
    pub workers: usize,
}

/// Addresses of a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// At least one, in the order of the answers.
    pub addresses: Vec<IpAddr>,
    /// TTL of the addresses. `None`: unknown.
    pub ttl: Option<Duration>,
    /// Reason why addresses of one family may be missing. `None`: these are all.
    pub incomplete: Option<String>,
}

/// A host name among the targets of `forward`, as it was looked up last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName {
    /// The name as it is written.
    pub(crate) name: String,
    /// The resolvers to ask, in their order; none: the system is asked.
    pub(crate) resolvers: Vec<SocketAddr>,
    /// Source address of queries to them: only addresses of its family are used.
    pub(crate) source: Option<IpAddr>,
    /// Addresses that are used, in the order of the answers.
    pub(crate) addresses: Vec<IpAddr>,
    /// Time after which the name is looked up again.
    pub ttl: Duration,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, such as `eth0`.
    pub(crate) name: String,
    /// The kernel's number for it, which is also the scope of its link-local addresses.
    pub(crate) index: u32,
    /// Addresses of both families.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Host {
    /// One worker on a host with nothing but a loopback interface, no file, no variable and no
    /// host name, and Linux's usual limits. For tests.
    pub fn plain() -> Self {
        let loopback = Interface {
            name: "lo".into(),
            index: 1,
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        Self {
            sources: Sources::fixed(BTreeMap::new(), BTreeMap::new()),
            name: "host.example".into(),
            interfaces: vec![loopback],
            default_port: 53,
            ephemeral_ports: 28_232,
            open_files: 1 << 20,
            lookup: Box::new(|_, _| Err("no such name".into())),
            workers: 1,
        }
    }

    /// The number of the interface that `zone`, the text after an address's `%`, means.
    pub(super) fn scope_id(&self, zone: &str) -> Option<u32> {
        let named = self.interfaces.iter().find(|interface| interface.name == zone);
        named.map(|interface| interface.index).or_else(|| zone.parse().ok())
    }
}
