//! The host's network interfaces and their addresses.
//!
//! A configuration may name an interface instead of an address, and a link-local address means
//! nothing without its interface; the kernel lists both at once.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::address::RawAddress;
use super::cvt;

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
}

/// All internet addresses of all interfaces, in the kernel's order.
///
/// # Errors
/// The kernel would not list them.
pub fn addresses() -> io::Result<Vec<InterfaceAddress>> {
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

/// The name of interface `index`; `None`: there is no such interface now.
pub fn name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: `name` has room for the longest name and its zero (if_indextoname(3)).
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    CStr::from_bytes_until_nul(&name).ok()?.to_str().ok().map(str::to_owned)
}

/// The address at `place`, which may be null or of another family.
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
    use super::{addresses, name};
    use std::net::Ipv4Addr;

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
