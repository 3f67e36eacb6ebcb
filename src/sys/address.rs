//! Socket addresses in the kernel's layout.
//!
//! `RawAddress` is the memory that `recvmmsg` fills and `sendmmsg` reads: 28 bytes, enough for both
//! internet families, instead of the 128 of `sockaddr_storage` (which a batch would have to carry
//! through the caches). Conversions check the family and never fail on our own addresses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Odd and without pattern, so that products with it differ in their upper bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Memory for one IPv4 or IPv6 socket address.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    bytes: [u8; 28],
}

impl RawAddress {
    /// Capacity in bytes for an address of either family.
    pub(super) const LEN: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    /// All zero: no family.
    pub(super) const fn empty() -> Self {
        let zeros = [0u8; size_of::<Self>()];
        // SAFETY: every field of every variant is an integer or an array of them; zeros are valid.
        unsafe { std::mem::transmute(zeros) }
    }

    /// Returns all bytes, including those after the address, which are zero.
    pub(super) fn bytes(&self) -> &[u8; 28] {
        // SAFETY: `empty` and `encode` initialise every byte, and the kernel only overwrites them.
        unsafe { &self.bytes }
    }

    /// Returns a hash of the address; its upper bits differ most.
    #[inline]
    pub(super) fn digest(&self) -> u64 {
        let (words, rest) = self.bytes().as_chunks::<8>();
        let rest = rest.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        words.iter().fold(rest, |sum, word| {
            (sum.rotate_left(23) ^ u64::from_ne_bytes(*word)).wrapping_mul(MULTIPLIER)
        })
    }

    /// Returns the kernel's form of `address` and its length in bytes.
    pub(super) fn encode(address: &SocketAddr) -> (Self, libc::socklen_t) {
        let mut name = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                name.v4 = raw;
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                name.v6 = raw;
                (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// Returns the address, or `None` for a family other than IPv4 and IPv6.
    pub(super) fn decode(&self) -> Option<SocketAddr> {
        // SAFETY: all variants begin with the family, and `empty` initialises every byte.
        let family = unsafe { self.family };
        match libc::c_int::from(family) {
            libc::AF_INET => {
                // SAFETY: the family says so, and all bytes are initialised.
                let raw = unsafe { self.v4 };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says so, and all bytes are initialised.
                let raw = unsafe { self.v6 };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RawAddress;
    use std::net::SocketAddr;

    #[test]
    fn addresses_survive_the_kernels_layout() {
        for text in ["192.0.2.7:53", "[2001:db8::7]:5353", "[fe80::1%3]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::encode(&address).0.decode(), Some(address), "{text}");
        }
    }

    #[test]
    fn an_unknown_family_is_no_address() {
        assert_eq!(RawAddress::empty().decode(), None);
    }
}
