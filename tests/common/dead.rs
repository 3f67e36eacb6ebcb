//! Dead upstreams of several kinds.
//!
//! They hold their ports while in use, so that no other program can answer there.

use socket2::{Domain, SockRef, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Failure mode of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Receives datagrams and never responds.
    Silent,
    /// The port is closed: ICMP port unreachable, or a reset.
    Refusing,
    /// SYNs get no reply.
    BlackHole,
    /// Accepts connections and resets them.
    Resetting,
}

impl Death {
    pub(crate) const ALL: [Self; 4] =
        [Self::Silent, Self::Refusing, Self::BlackHole, Self::Resetting];

    /// Options of `forward` that select the transport on which the failure shows.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Self::Silent | Self::Refusing => "",
            Self::BlackHole | Self::Resetting => "force_tcp",
        }
    }
}

/// Holder of a dead upstream's port.
pub(crate) enum Dead {
    /// A UDP socket that is never read.
    Datagrams(#[expect(dead_code, reason = "held for its port")] UdpSocket),
    /// A listener with a full backlog, and the connections that fill it.
    Full(
        #[expect(dead_code, reason = "held for its port")] Socket,
        #[expect(dead_code, reason = "held for its place")] Vec<Socket>,
    ),
    /// A listener that a thread serves.
    Thread,
}

/// Makes a dead upstream; returns its address and the holder of its port.
pub(crate) fn dead(death: Death) -> (SocketAddr, Dead) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    match death {
        Death::Silent | Death::Refusing => {
            let socket = UdpSocket::bind(any).unwrap();
            let address = socket.local_addr().unwrap();
            if death == Death::Refusing {
                // Connected to itself, the socket receives nothing from other addresses.
                socket.connect(address).unwrap();
            }
            (address, Dead::Datagrams(socket))
        }
        Death::BlackHole => black_hole(any),
        Death::Resetting => {
            let listener = TcpListener::bind(any).unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(reset));
            (address, Dead::Thread)
        }
    }
}

fn reset(stream: TcpStream) {
    // With zero linger time, closing sends a reset.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// A listener that never accepts and whose backlog is full: the kernel ignores further SYNs.
fn black_hole(any: SocketAddr) -> (SocketAddr, Dead) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut knocking = Vec::new();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = socket.connect_timeout(&address.into(), Duration::from_millis(200));
        knocking.push(socket);
        if connected.is_err() {
            return (address, Dead::Full(listener, knocking));
        }
        assert!(knocking.len() < 64, "the queue has no end");
    }
}
