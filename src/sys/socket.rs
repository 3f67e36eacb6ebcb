//! Sockets as onward opens them.
//!
//! Listeners share their address with those of the other workers (SO_REUSEPORT), never fragment
//! and, on a wildcard, receive the destination address of each datagram. Upstream sockets are
//! connected, so that the kernel drops packets from any other address or port (RFC 5452 §9.1) and
//! reports refusals. Everything is non-blocking.

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::cvt;

/// Requested receive buffer of each listener, limited by `net.core.rmem_max`: room for a burst that
/// arrives while the worker is busy with the last one.
const LISTENER_BUFFER_LEN: usize = 4 << 20;
/// Listen backlog; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG_MAX: i32 = 4096;

/// Number of values of a socket's memory, and the index of its drops (`SK_MEMINFO_DROPS` in
/// linux/sock_diag.h).
const MEMINFO_VALUES: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// Opens a UDP socket that listens on `address`, in a group that shares it when `shared`.
///
/// # Errors
/// As `bind(2)`: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`; `Unsupported` or
/// `Uncategorized` when the host lacks the address family (see [`is_missing_family`]).
pub fn udp_listener(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = udp(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.ip().is_unspecified() {
        ask_for_local_address(&socket, address)?;
    }
    socket.set_recv_buffer_size(LISTENER_BUFFER_LEN)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// Opens a TCP listener on `address`, in a group that shares it when `shared`.
///
/// # Errors
/// As [`udp_listener`].
pub(crate) fn tcp_listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = tcp(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

/// Opens a TCP listener on `address` that is not shared. On the unspecified address of IPv6 it
/// listens on both families, or on IPv4 alone if the host has no IPv6.
///
/// `ours` have the same port on other addresses, and are about to be closed: they share the port
/// while this socket is bound. (From then on the kernel would let another program of the same user
/// share it, too, if it asked to: that is why `ours` is empty wherever it can be.)
///
/// # Errors
/// As [`udp_listener`].
pub(crate) fn tcp_listener_alone(
    address: SocketAddr,
    ours: &[&TcpListener],
) -> io::Result<TcpListener> {
    let share = |shared| ours.iter().try_for_each(|own| SockRef::from(own).set_reuse_port(shared));
    share(true)?;
    let outcome = listen_on_both(address, !ours.is_empty());
    share(false)?;
    outcome
}

/// Opens a TCP listener on `address`, on both families if it is the unspecified one of IPv6.
fn listen_on_both(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    if !address.is_ipv6() || !address.ip().is_unspecified() {
        return not_shared(tcp_listener(address, shared)?);
    }
    let listen = || -> io::Result<TcpListener> {
        let socket = tcp(address)?;
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG_MAX)?;
        Ok(socket.into())
    };
    let outcome = match listen() {
        Err(error) if is_missing_family(&error) => {
            tcp_listener((Ipv4Addr::UNSPECIFIED, address.port()).into(), shared)
        }
        outcome => outcome,
    };
    not_shared(outcome?)
}

fn not_shared(listener: TcpListener) -> io::Result<TcpListener> {
    SockRef::from(&listener).set_reuse_port(false)?;
    Ok(listener)
}

/// Opens a TCP socket that is connecting to `upstream`, from `source` if there is one; an event
/// reports success or failure.
///
/// # Errors
/// No descriptor or no port is left, there is no route to `upstream`, or the host has lost
/// `source`.
pub(crate) fn tcp_connecting(
    upstream: SocketAddr,
    source: Option<IpAddr>,
) -> io::Result<TcpStream> {
    let socket = tcp(upstream)?;
    if let Some(source) = source {
        // The port is chosen at connect: only then can it be shared with a connection to another
        // upstream. IPv6 sockets accept this option at this level as well.
        set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        bind_source(&socket, upstream, source)?;
    }
    // Queries are written whole, so Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SockAddr::from(upstream)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Opens a UDP socket on a port of the kernel's choice, connected to `upstream`, from `source` if
/// there is one.
///
/// # Errors
/// No descriptor or no port is left, there is no route to `upstream`, or the host has lost
/// `source`.
pub fn udp_connected(upstream: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    let socket = udp(upstream)?;
    if let Some(source) = source {
        bind_source(&socket, upstream, source)?;
    }
    socket.connect(&SockAddr::from(upstream))?;
    Ok(socket.into())
}

/// Returns true if a datagram that could not be sent or received with this error says nothing about
/// the peer: there is none to be received, or no room for the one to be sent.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    let is_full = error.raw_os_error() == Some(libc::ENOBUFS);
    is_full || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Number of the error of a connection that its peer has reset.
pub(crate) const RESET: i32 = libc::ECONNRESET;

/// Makes the kernel discard unacknowledged bytes when `stream` is closed, instead of retransmitting
/// them for minutes to a peer that is silent now and may be back then. Returns whether there are
/// any.
pub(crate) fn forget_unsent(stream: &(impl AsRawFd + AsFd)) -> bool {
    let mut unsent: libc::c_int = 0;
    let place = &raw mut unsent;
    let told = cvt(|| {
        // SAFETY: `place` points to an int that outlives the call, and TIOCOUTQ writes an int.
        unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, place) }
    });
    let some = told.is_ok() && unsent > 0;
    if some {
        // If that fails the kernel goes on retransmitting, which is merely useless.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    some
}

/// Returns true if the kernel can segment one send into datagrams of equal length (`UDP_SEGMENT`,
/// since Linux 4.18). An older kernel would send a single long datagram.
pub fn can_segment() -> bool {
    knows_of(libc::UDP_SEGMENT, 0)
}

/// Returns true if the kernel can coalesce datagrams of equal length on receipt (`UDP_GRO`, since
/// Linux 5.0).
pub(crate) fn can_coalesce() -> bool {
    knows_of(libc::UDP_GRO, 1)
}

/// Returns true if a UDP socket accepts an option.
fn knows_of(option: libc::c_int, value: libc::c_int) -> bool {
    let socket = udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    socket.and_then(|socket| set_option(&socket, libc::SOL_UDP, option, value)).is_ok()
}

/// Requests a receive buffer as large as a listener's, for a socket that must lose nothing while
/// its thread is off its core.
///
/// # Errors
/// The kernel knows no such socket any longer.
pub fn widen_receive_buffer(socket: &UdpSocket) -> io::Result<()> {
    SockRef::from(socket).set_recv_buffer_size(LISTENER_BUFFER_LEN)
}

/// Checks whether `upstream` can be reached from `source`, without sending a packet.
///
/// # Errors
/// `AddrNotAvailable`: the host does not have the address. `InvalidInput`: it is of the other
/// family, or link-local and `upstream` is not.
pub(crate) fn check_source(upstream: SocketAddr, source: IpAddr) -> io::Result<()> {
    bind_source(&udp(upstream)?, upstream, source)
}

/// Returns true if a program, perhaps this one in another process, listens on `address` now. The
/// socket used for the test never listens itself.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    let Ok(socket) = tcp(address) else { return false };
    let bound = || -> io::Result<()> {
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections in TIME_WAIT are no listeners.
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))
    };
    bound().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Binds to `source` and any port. A link-local source gets the interface of `upstream`.
fn bind_source(socket: &Socket, upstream: SocketAddr, source: IpAddr) -> io::Result<()> {
    let address = match (source, upstream) {
        (IpAddr::V6(ip), SocketAddr::V6(upstream)) => {
            SocketAddrV6::new(ip, 0, 0, upstream.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, 0),
    };
    socket.bind(&SockAddr::from(address))
}

/// Returns true if an error of [`udp_listener`] means that the host lacks the address family.
pub(crate) fn is_missing_family(error: &io::Error) -> bool {
    let missing = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL, libc::EPROTONOSUPPORT];
    error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

fn tcp(family_of: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(family_of);
    Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}

pub(super) fn udp(family_of: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(family_of);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    ignore_path_mtu(&socket, family_of)?;
    Ok(socket)
}

/// Disables fragmentation of our datagrams and path MTU discovery by ICMP, which anybody can forge
/// (RFC 9715 §3.1, R1 and R2).
fn ignore_path_mtu(socket: &Socket, family_of: SocketAddr) -> io::Result<()> {
    discover_mtu(socket, family_of, libc::IP_PMTUDISC_OMIT, libc::IPV6_PMTUDISC_OMIT)
}

/// Sets the DF bit of the datagrams of `socket`, which has the family of `family_of`; datagrams
/// that are longer than the MTU are lost (RFC 9000 §14).
///
/// # Errors
/// The socket is of the other family.
pub(crate) fn dont_fragment(socket: &impl AsRawFd, family_of: SocketAddr) -> io::Result<()> {
    discover_mtu(socket, family_of, libc::IP_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_PROBE)
}

/// Sets the mode of path MTU discovery, by the family of `family_of`.
fn discover_mtu(
    socket: &impl AsRawFd,
    family_of: SocketAddr,
    v4: libc::c_int,
    v6: libc::c_int,
) -> io::Result<()> {
    match family_of.ip() {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6),
    }
}

/// Requests the destination address of each received datagram. `family_of`: any address of the
/// socket's family.
///
/// # Errors
/// The socket is of the other family.
pub(crate) fn ask_for_local_address(
    socket: &impl AsRawFd,
    family_of: SocketAddr,
) -> io::Result<()> {
    match family_of.ip() {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Returns the datagrams that the kernel dropped because `socket`'s buffer was full, since it was
/// opened and modulo 2^32. `None`: unknown.
pub(crate) fn drops(socket: &impl AsRawFd) -> Option<u64> {
    let mut values = [0u32; MEMINFO_VALUES];
    let mut length = size_of_val(&values) as libc::socklen_t;
    let (place, length_place) = (values.as_mut_ptr(), &raw mut length);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
    let told = cvt(|| {
        // SAFETY: `place` points to `length` bytes, `length_place` to that number, for the call.
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place.cast(), length_place) }
    });
    told.ok().filter(|_| length as usize == size_of_val(&values))?;
    Some(values[MEMINFO_DROPS].into())
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let place: *const libc::c_int = &raw const value;
    cvt(|| {
        // SAFETY: `place` points to `length` bytes that outlive the call.
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, place.cast(), length) }
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::{
        check_source, drops, forget_unsent, is_taken, tcp_connecting, tcp_listener_alone,
        udp_connected, udp_listener, widen_receive_buffer,
    };
    use crate::sys::mmsg::{RecvBatch, ReplyBatch};
    use socket2::SockRef;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    #[test]
    fn an_address_is_taken_while_a_socket_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(address));
        drop(listener);
        assert!(!is_taken(address));
        assert!(!is_taken("192.0.2.77:53".parse().unwrap()));
    }

    #[test]
    fn unacknowledged_bytes_are_not_sent_after_the_close() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ends = [0, 1].map(|count| {
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let far = listener.accept().unwrap().0;
            near.set_nonblocking(true).unwrap();
            // More than fits into the buffers of both ends.
            for _ in 0..count {
                while near.write(&[7; 65_536]).is_ok() {}
            }
            assert_eq!(forget_unsent(&near), count > 0);
            drop(near);
            far
        });
        let mut rest = Vec::new();
        assert_eq!(ends[0].read_to_end(&mut rest).unwrap(), 0, "a plain end");
        let error = ends[1].read_to_end(&mut rest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn two_listeners_share_an_address_only_when_both_are_shared() {
        let first = udp_listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = first.local_addr().unwrap();
        udp_listener(address, true).unwrap();
        assert_eq!(udp_listener(address, false).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn an_exclusive_listener_is_on_both_families_and_shares_with_none() {
        let listener = tcp_listener_alone("[::]:0".parse().unwrap(), &[]).unwrap();
        let address = listener.local_addr().unwrap();
        let families: &[&str] =
            if address.is_ipv6() { &["127.0.0.1", "::1"] } else { &["127.0.0.1"] };
        for ip in families {
            TcpStream::connect((*ip, address.port())).unwrap();
        }
        let again = |ours: &[&TcpListener]| tcp_listener_alone(address, ours).unwrap_err().kind();
        assert_eq!(again(&[]), ErrorKind::AddrInUse);
        let part = SocketAddr::new("127.0.0.1".parse().unwrap(), address.port());
        let refused = tcp_listener_alone(part, &[]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        // An address that our own closing listener covers can be bound.
        let part = tcp_listener_alone(part, &[&listener]).unwrap();
        drop(listener);
        assert_eq!(again(&[]), ErrorKind::AddrInUse);
        drop(tcp_listener_alone(address, &[&part]).unwrap());
    }

    #[test]
    fn a_wildcard_answers_from_the_address_that_was_asked() {
        for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let listener = udp_listener(wildcard.parse().unwrap(), false).unwrap();
            let port = listener.local_addr().unwrap().port();
            let any = if asked.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let client = UdpSocket::bind(any).unwrap();
            client.connect((asked, port)).unwrap();
            client.send(b"?").unwrap();
            let mut batch = RecvBatch::new(1, 64, true);
            assert_eq!(batch.recv(listener.as_fd()).unwrap(), 1);
            let datagram = batch.datagram(0);
            assert_eq!(datagram.local.unwrap().ip.to_string(), asked);
            let mut replies = ReplyBatch::new(1, 64, false);
            replies.commit(1, 0, &datagram.peer.unwrap(), datagram.local);
            assert_eq!(replies.flush(|_| listener.as_fd()).sent, 1);
            // The client's socket is connected: a reply from another address would never arrive.
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
        }
    }

    #[test]
    fn a_connected_socket_drops_packets_from_other_addresses() {
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connection = udp_connected(upstream.local_addr().unwrap(), None).unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"forged", connection.local_addr().unwrap()).unwrap();
        upstream.send_to(b"right", connection.local_addr().unwrap()).unwrap();
        let mut batch = RecvBatch::new(4, 64, false);
        assert_eq!(batch.recv(connection.as_fd()).unwrap(), 1);
        assert_eq!(batch.datagram(0).bytes, b"right");
    }

    #[test]
    fn datagrams_without_buffer_space_are_counted_by_the_kernel() {
        let listener = udp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        socket2::SockRef::from(&listener).set_recv_buffer_size(1).unwrap();
        assert_eq!(drops(&listener), Some(0));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(listener.local_addr().unwrap()).unwrap();
        for _ in 0..100 {
            client.send(&[0; 1_000]).unwrap();
        }
        let dropped = drops(&listener).unwrap();
        let mut buffer = [0; 1_000];
        let received = std::iter::repeat_with(|| listener.recv(&mut buffer)).take(100);
        let received = received.filter(Result::is_ok).count() as u64;
        assert!(dropped > 0, "nothing was dropped");
        assert_eq!(received + dropped, 100);
    }

    #[test]
    fn a_receive_buffer_grows_to_what_the_host_allows() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let length = || SockRef::from(&socket).recv_buffer_size().unwrap();
        let before = length();
        widen_receive_buffer(&socket).unwrap();
        assert!(length() >= before, "{} after {before}", length());
        let listener = udp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        assert_eq!(length(), SockRef::from(&listener).recv_buffer_size().unwrap());
    }

    #[test]
    fn upstream_queries_have_the_source_address() {
        for (upstream, source) in [("127.0.0.1:0", "127.0.0.5"), ("[::1]:0", "::1")] {
            let source = source.parse().unwrap();
            let datagrams = UdpSocket::bind(upstream).unwrap();
            let socket = udp_connected(datagrams.local_addr().unwrap(), Some(source)).unwrap();
            assert_eq!(socket.local_addr().unwrap().ip(), source);
            let listener = TcpListener::bind(upstream).unwrap();
            let stream = tcp_connecting(listener.local_addr().unwrap(), Some(source)).unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), source);
            assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        }
    }

    #[test]
    fn a_missing_source_address_is_found_without_sending() {
        let upstream = "192.0.2.1:53".parse().unwrap();
        check_source(upstream, "127.0.0.5".parse().unwrap()).unwrap();
        let error = check_source(upstream, "203.0.113.77".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(check_source(upstream, "::1".parse().unwrap()).is_err());
    }
}
