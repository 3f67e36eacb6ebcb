//! The destination address of a datagram, in control messages.
//!
//! A socket bound to a wildcard must reply from the address that the query was sent to (RFC 2181
//! §4.1), otherwise the client drops the reply. The kernel delivers that address with each datagram
//! (`IP_PKTINFO`, `IPV6_PKTINFO`) and takes it back with the reply. `decode` and `encode` are the
//! pair around the call.

use super::control::Control;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The local end of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address that the query was sent to.
    pub(crate) ip: IpAddr,
    /// The interface it came in on; needed to reply from an IPv6 link-local address.
    pub(crate) interface: u32,
}

/// Finds the local address among the control messages that came with a datagram.
pub(super) fn decode(message: &libc::msghdr) -> Option<Local> {
    // SAFETY: the kernel filled msg_control up to msg_controllen, which CMSG_FIRSTHDR checks.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return only headers that lie wholly inside.
        let header = unsafe { next.read() };
        // SAFETY: `next` points to a header inside the buffer; the data follows it.
        let data = unsafe { libc::CMSG_DATA(next) };
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel writes a whole in_pktinfo under this type.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                let ip = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                let interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                return Some(Local { ip: ip.into(), interface });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the kernel writes a whole in6_pktinfo under this type.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                return Some(Local { ip: ip.into(), interface: info.ipi6_ifindex });
            }
            // SAFETY: as CMSG_FIRSTHDR above; `next` came from it or from this very call.
            _ => next = unsafe { libc::CMSG_NXTHDR(message, next) },
        }
    }
    None
}

/// Writes `local` as the source address of a reply; returns the length for `msg_controllen`.
///
/// The interface is set only for link-local addresses, which are ambiguous without one; for all
/// others the routing table decides, because the return path may use another interface.
pub(super) fn encode(local: &Local, control: &mut Control) -> usize {
    match local.ip {
        IpAddr::V4(ip) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            control.append(0, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let interface = if ip.is_unicast_link_local() { local.interface } else { 0 };
            let address = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: interface };
            control.append(0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Local, decode, encode};
    use crate::sys::control::Control;

    fn round_trip(local: Local) -> Option<Local> {
        let mut control = Control::empty();
        let length = encode(&local, &mut control);
        // SAFETY: an all-zero msghdr is a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = length;
        decode(&message)
    }

    #[test]
    fn ipv6_goes_both_ways_and_names_the_interface_only_when_link_local() {
        let global = Local { ip: "2001:db8::1".parse().unwrap(), interface: 7 };
        assert_eq!(round_trip(global), Some(Local { interface: 0, ..global }));
        let link = Local { ip: "fe80::1".parse().unwrap(), interface: 7 };
        assert_eq!(round_trip(link), Some(link));
    }

    #[test]
    fn no_control_message_means_no_address() {
        // SAFETY: an all-zero msghdr is a valid value.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        assert_eq!(decode(&message), None);
    }
}
