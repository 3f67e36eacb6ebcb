//! Names of interfaces, for link-local addresses in log lines.
//!
//! A link-local address is ambiguous without its interface, which the kernel gives as a number and
//! operators know by name. The writer's thread looks up a name when a line needs it and caches it
//! for a while, at most [`INTERFACES_MAX`] of them. A removed interface is shown by its number.

use crate::moment::Moment;
use crate::sys::interfaces;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Maximum number of cached names: more interfaces than a host has with link-local DNS clients.
const INTERFACES_MAX: usize = 64;
/// Time for which names of interfaces are cached: an interface may be renamed, or its number given
/// to another.
const KEPT: Duration = Duration::from_secs(10);

/// Cached names of interfaces.
pub(super) struct Interfaces {
    known: Vec<(u32, String)>,
    /// Time when the cache is cleared.
    until: Moment,
    lookup: fn(u32) -> Option<String>,
}

impl Default for Interfaces {
    fn default() -> Self {
        Self::asking(interfaces::name)
    }
}

impl Interfaces {
    /// Creates a cache in front of `lookup`.
    pub(super) fn asking(lookup: fn(u32) -> Option<String>) -> Self {
        Self { known: Vec::new(), until: Moment::ZERO, lookup }
    }

    /// Clears the cache if it is too old at `now`.
    pub(super) fn on_time(&mut self, now: Moment) {
        if self.until <= now {
            self.known.clear();
            self.until = now.plus(KEPT);
        }
    }

    /// Returns the name of the interface of a link-local `address`; `None` for other addresses.
    pub(super) fn of(&mut self, address: SocketAddr) -> Option<&str> {
        let SocketAddr::V6(address) = address else { return None };
        (address.scope_id() > 0).then(|| self.name(address.scope_id()))
    }

    fn name(&mut self, index: u32) -> &str {
        let place = self.known.iter().position(|(known, _)| *known == index);
        let place = place.unwrap_or_else(|| {
            if self.known.len() == INTERFACES_MAX {
                self.known.clear();
            }
            let name = (self.lookup)(index).unwrap_or_else(|| index.to_string());
            self.known.push((index, name));
            self.known.len() - 1
        });
        &self.known[place].1
    }

    /// Formats an address and its port for messages.
    pub(super) fn show(&mut self, address: SocketAddr) -> String {
        match (address, self.of(address)) {
            (SocketAddr::V6(address), Some(name)) => {
                let (ip, port) = (address.ip(), address.port());
                format!("[{ip}%{name}]:{port}")
            }
            (SocketAddr::V6(address), None) => {
                SocketAddrV6::new(*address.ip(), address.port(), 0, 0).to_string()
            }
            (SocketAddr::V4(address), _) => address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERFACES_MAX, Interfaces, KEPT};
    use crate::moment::Moment;
    use std::cell::Cell;
    use std::net::SocketAddr;

    thread_local! {
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    fn lookup(index: u32) -> Option<String> {
        ASKED.set(ASKED.get() + 1);
        (index != 9).then(|| format!("eth{index}"))
    }

    #[test]
    fn a_removed_interface_is_shown_by_its_number() {
        let mut interfaces = Interfaces::asking(lookup);
        for (address, name, shown) in [
            ("192.0.2.1:53", None, "192.0.2.1:53"),
            ("[2001:db8::1]:53", None, "[2001:db8::1]:53"),
            ("[fe80::1%3]:53", Some("eth3"), "[fe80::1%eth3]:53"),
            ("[fe80::1%9]:53", Some("9"), "[fe80::1%9]:53"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(interfaces.of(address), name);
            assert_eq!(interfaces.show(address), shown);
        }
    }

    #[test]
    fn names_are_looked_up_once_and_forgotten_in_time() {
        let mut interfaces = Interfaces::asking(lookup);
        let address = "[fe80::1%3]:53".parse().unwrap();
        let at = |duration| Moment::ZERO.plus(duration);
        interfaces.on_time(at(KEPT / 2));
        assert_eq!((interfaces.of(address), ASKED.get()), (Some("eth3"), 1));
        interfaces.on_time(at(KEPT));
        assert_eq!((interfaces.of(address), ASKED.get()), (Some("eth3"), 1));
        interfaces.on_time(at(KEPT * 2));
        assert_eq!((interfaces.of(address), ASKED.get()), (Some("eth3"), 2));
        for index in 10..10 + 3 * INTERFACES_MAX {
            interfaces.of(format!("[fe80::1%{index}]:53").parse().unwrap());
            assert!(interfaces.known.len() <= INTERFACES_MAX);
        }
    }
}
