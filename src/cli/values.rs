//! Values of options with a syntax of their own: lists of cores, addresses, intervals.
//!
//! Only syntax is checked here; the program later checks that cores and addresses exist. The cores
//! of a NUMA node come from the kernel. An error has the expected syntax, because the operator
//! reads it beside the option's name.

use crate::sys::cpu;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Maximum number of cores that Linux can be built for.
const CORES_MAX: usize = 8192;

/// Value of `--cores` (`0-3,6`, `node0`), in the order typed, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoreList(pub(super) Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let core = digits.parse().ok().filter(|&core| core < CORES_MAX);
            core.ok_or_else(|| format!("invalid core '{digits}': expected a list such as 0-3,6"))
        };
        let mut cores = Vec::new();
        for piece in text.split(',') {
            if let Some(node) = piece.strip_prefix("node") {
                let node: usize = node.parse().map_err(|_| {
                    format!("invalid node '{piece}': expected a number, such as node0")
                })?;
                let own = cpu::cores_of_node(node);
                let own = own.map_err(|_| format!("this host has no NUMA node {node}"))?;
                if let Some(core) = own.iter().find(|core| cores.contains(*core)) {
                    return Err(format!("core {core} is named twice"));
                }
                cores.extend(own);
                continue;
            }
            let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
            let (first, last): (usize, usize) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!(
                    "invalid range '{piece}': the first core is greater than the last"
                ));
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(format!("core {core} is named twice"));
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

/// Value of `--interval`: `500ms`, `2s`, `1m`.
#[cfg(feature = "top")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval(pub(super) std::time::Duration);

#[cfg(feature = "top")]
impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Bounds of a useful interval, in milliseconds.
        const BETWEEN: (u64, u64) = (100, 3_600_000);
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: Option<u64> = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            _ => None,
        };
        let ms = number.parse().ok().zip(unit).and_then(|(number, unit)| unit.checked_mul(number));
        let ms = ms.filter(|ms| (BETWEEN.0..=BETWEEN.1).contains(ms));
        let ms =
            ms.ok_or_else(|| "expected a duration from 100ms to 60m, with its unit".to_owned())?;
        Ok(Self(std::time::Duration::from_millis(ms)))
    }
}

/// Value of `--listen` and `--forward`: `IP`, `IPv4:PORT` or `[IPv6]:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The address.
    pub(crate) ip: IpAddr,
    /// The port, if one was given.
    pub(crate) port: Option<u16>,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        match text.parse::<SocketAddr>() {
            // A link-local address would lose its interface in the Corefile.
            Ok(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                Err("an address with an interface is not supported here: use a Corefile".into())
            }
            Ok(address) => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            Err(_) => Err("expected an address as IP, IPv4:PORT or [IPv6]:PORT".into()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.ip.fmt(out),
            Some(port) => SocketAddr::new(self.ip, port).fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CoreList, Endpoint};

    #[test]
    fn cores_are_ranges_and_numbers_in_the_order_typed() {
        assert_eq!("6,0-3".parse(), Ok(CoreList(vec![6, 0, 1, 2, 3])));
        for (bad, why) in [
            ("1,1", "named twice"),
            ("0-2,1", "named twice"),
            ("3-1", "greater than the last"),
            ("x", "invalid core"),
            ("0-", "invalid core"),
            ("0,,1", "invalid core"),
            ("0-99999999", "invalid core"),
        ] {
            assert!(bad.parse::<CoreList>().unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn a_node_stands_for_its_cores() {
        let node = crate::sys::cpu::cores_of_node(0).unwrap();
        assert_eq!("node0".parse(), Ok(CoreList(node)));
        for (bad, why) in [
            ("node", "invalid node"),
            ("node99999", "no NUMA node"),
            ("node0,node0", "named twice"),
        ] {
            assert!(bad.parse::<CoreList>().unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn addresses_are_printed_as_they_were_typed() {
        for text in ["192.0.2.1", "192.0.2.1:99", "2001:db8::1", "[2001:db8::1]:99"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for bad in ["name", "::1:53:x", "[::1]", "1.2.3.4:70000", ""] {
            assert!(
                bad.parse::<Endpoint>().unwrap_err().contains("expected an address as"),
                "{bad}"
            );
        }
        assert!("[fe80::1%2]:53".parse::<Endpoint>().unwrap_err().contains("interface"));
    }
}
