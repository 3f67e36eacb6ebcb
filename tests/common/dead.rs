//! Upstreams that are dead, each in a way of its own.
//!
//! They hold their ports for as long as they are kept, so that nobody else answers there.

use socket2::{Domain, SockRef, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// How an upstream is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It takes datagrams and says nothing.
    Silent,
    /// Its host says that nobody listens there.
    Refusing,
    /// Nothing answers to who wants to connect.
    BlackHole,
    /// It accepts connections and resets them.
    Resetting,
}

impl Death {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Silent, Self::Refusing, Self::BlackHole, Self::Resetting];

    /// Options of `forward` that have it met over its transport.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Self::Silent | Self::Refusing => "",
            Self::BlackHole | Self::Resetting => "force_tcp",
        }
    }
}

/// What keeps a port.
pub(crate) enum Dead {
    /// A socket for datagrams that nobody reads.
    Datagrams(#[expect(dead_code, reason = "held for its port")] UdpSocket),
    /// A listener whose queue is full, and what fills it.
    Full(
        #[expect(dead_code, reason = "held for its port")] Socket,
        #[expect(dead_code, reason = "held for its place")] Vec<Socket>,
    ),
    /// A listener in a thread.
    Thread,
}

/// A dead upstream, and where it was.
pub(crate) fn dead(death: Death) -> (SocketAddr, Dead) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    match death {
        Death::Silent | Death::Refusing => {
            let socket = UdpSocket::bind(any).unwrap();
            let address = socket.local_addr().unwrap();
            if death == Death::Refusing {
                // Connected to itself it takes nothing from others.
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
    // Closed with no time to linger, it is reset.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// A listener that accepts nothing and whose queue is full: the kernel ignores who knocks.
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
