//! The host's network interfaces and their addresses.
//!
//! A configuration may name an interface instead of an address, and a link-local address is
//! ambiguous without its interface; the kernel lists both at once.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::address::RawAddress;
use super::cvt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    /// The interface's name.
    pub(crate) name: String,
    /// The kernel's number of it.
    pub(crate) index: u32,
    /// The address.
    pub(crate) ip: IpAddr,
}

/// Returns all internet addresses of all interfaces, in the kernel's order.
///
/// # Errors
/// The kernel could not list them.
pub(crate) fn addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut first = std::ptr::null_mut();
    cvt(|| {
        // SAFETY: `first` is a live pointer for the list's head.
        unsafe { libc::getifaddrs(&raw mut first) }
    })?;
    let mut found = Vec::new();
    let mut next = first.cast_const();
    while !next.is_null() {
        // SAFETY: `next` is an entry of the list, which lives until freeifaddrs below.
        let entry = unsafe { &*next };
        if let Some(address) = internet_address(entry.ifa_addr) {
            // SAFETY: ifa_name is a C string that lives as long as the list.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            // SAFETY: as above; the call only reads the name.
            let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
            let name = name.to_string_lossy().into_owned();
            found.push(InterfaceAddress { name, index, ip: address.ip() });
        }
        next = entry.ifa_next;
    }
    // SAFETY: `first` came from getifaddrs, and nothing of the list is used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// Returns the name of interface `index`; `None`: there is no such interface now.
pub(crate) fn name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: `name` has room for the longest name and its zero (if_indextoname(3)).
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    CStr::from_bytes_until_nul(&name).ok()?.to_str().ok().map(str::to_owned)
}

/// Problem of duplicate address detection: until it succeeds, the address cannot be bound (RFC 4862
/// §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Detection has not finished, or cannot start because the link is down.
    Running,
    /// A duplicate was found.
    Failed,
}

/// Returns the problem of duplicate address detection of `ip`; `None`: there is none, or this host
/// has no such address.
pub(crate) fn detection(ip: Ipv6Addr) -> Option<Detection> {
    detection_in(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default(), ip)
}

/// Searches the kernel's table: each line has an address, the numbers of its interface, prefix and
/// scope, its flags, all in hexadecimal, and the name of its interface.
fn detection_in(lines: &str, ip: Ipv6Addr) -> Option<Detection> {
    /// `IFA_F_OPTIMISTIC`, `IFA_F_DADFAILED` and `IFA_F_TENTATIVE` of linux/if_addr.h.
    const FLAGS: [u32; 3] = [0x04, 0x08, 0x40];
    let written = format!("{:032x}", u128::from(ip));
    let line = lines.lines().find(|line| line.starts_with(&written))?;
    let flags = u32::from_str_radix(line.split_whitespace().nth(4)?, 16).ok()?;
    match FLAGS.map(|flag| flags & flag != 0) {
        [_, true, _] => Some(Detection::Failed),
        [false, false, true] => Some(Detection::Running),
        _ => None,
    }
}

/// Returns the address at `place`, which may be null or of another family.
fn internet_address(place: *const libc::sockaddr) -> Option<SocketAddr> {
    if place.is_null() {
        return None;
    }
    // SAFETY: not null, so it points to a sockaddr of the list; every sockaddr has its family.
    let family = unsafe { (*place).sa_family };
    let len = match libc::c_int::from(family) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let mut raw = RawAddress::empty();
    let target: *mut u8 = (&raw mut raw).cast();
    // SAFETY: the family says that `len` bytes are there, and RawAddress has room for either.
    unsafe { std::ptr::copy_nonoverlapping(place.cast::<u8>(), target, len) };
    raw.decode()
}

#[cfg(test)]
mod tests {
    use super::{Detection, addresses, detection, detection_in, name};
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn addresses_that_cannot_be_bound_yet_are_known_by_their_flags() {
        let lines = "\
20010db8000000000000000000000007 05 40 00 40     eth0
20010db8000000000000000000000008 05 40 00 48     eth0
20010db8000000000000000000000009 05 40 00 44     eth0
fe80000000000000021c42fffe000001 05 40 20 80     eth0
";
        let told = |ip: &str| detection_in(lines, ip.parse().unwrap());
        assert_eq!(told("2001:db8::7"), Some(Detection::Running));
        assert_eq!(told("2001:db8::8"), Some(Detection::Failed));
        let fine = ["2001:db8::9", "fe80::21c:42ff:fe00:1", "2001:db8::6"];
        assert_eq!(fine.map(told), [None; 3]);
        assert_eq!(detection(Ipv6Addr::LOCALHOST), None);
    }

    #[test]
    fn the_loopback_interface_has_its_address() {
        let addresses = addresses().unwrap();
        let loopback = addresses.iter().find(|address| address.ip == Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(loopback.name, "lo");
        assert_ne!(loopback.index, 0);
        assert_eq!(name(loopback.index).as_deref(), Some("lo"));
        assert_eq!(name(u32::MAX), None);
    }
}
