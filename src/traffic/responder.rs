//! An upstream in a thread: sockets that answer what [`super::answer`] says.
//!
//! One thread, one `mio::Poll` and one pair of batches serve any number of services, each on its
//! own address, over UDP and TCP alike, and with its own behaviour. Each is served one batch a
//! turn, so that a busy one cannot starve the others. It counts what it got, per service, and the
//! source ports that datagrams came from, which is how a demonstration shows what a forwarder's
//! pool does. Counts leave the thread when they are asked for. Nothing is allocated per query.

use super::answer::{Behaviour, RESPONSE_LEN_MAX, respond};
use super::peers::Peers;
use crate::sys::mmsg::{RecvBatch, ReplyBatch};
use crate::sys::{cpu, socket};
use crossbeam_channel::{Receiver, Sender};
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Datagrams a call: what a burst of one turn of a forwarder brings at most.
const BATCH: usize = 64;
/// A query longer than this is no query that a forwarder sends.
const QUERY_LEN_MAX: usize = 1232;
/// Events a call of `epoll_wait`; more wait for the next.
const EVENTS: usize = 64;
/// Orders not obeyed yet; who gives another waits.
const ORDERS_MAX: usize = 4;
/// Batches taken from a socket before an order is obeyed: a full buffer holds fewer, and a client
/// that goes on sending shall not hold us up.
const DRAIN_TURNS_MAX: usize = 1024;
/// Maximum of attempts to choose a port that is free for both UDP and TCP.
const PORT_TRIES_MAX: usize = 32;
/// One bit per UDP port.
const PORT_WORDS: usize = 65_536 / u64::BITS as usize;

/// One address to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Address to listen on; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Behaviour for queries.
    pub behaviour: Behaviour,
}

/// Counters of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCounts {
    /// The address it listened on.
    pub address: SocketAddr,
    /// Datagrams received, and messages on streams.
    pub queries: u64,
    /// Responses handed to the kernel.
    pub responses: u64,
    /// Responses that the kernel did not take.
    pub dropped: u64,
    /// Distinct UDP ports that datagrams came from.
    pub source_ports: u32,
    /// Streams accepted.
    pub streams: u64,
}

/// Order to the thread. Before it obeys it answers the queries that have arrived.
enum Order {
    /// Tell the counts.
    Tell(Sender<Vec<ServiceCounts>>),
    /// Leave.
    Stop,
}

/// A running responder. Dropping it stops it.
pub struct Responder {
    addresses: Vec<SocketAddr>,
    orders: Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Responder {
    /// Binds all sockets and starts to serve them, on `core` if given.
    ///
    /// # Errors
    /// An address cannot be bound, `core` is not there, or no descriptor or thread is left.
    pub fn start(services: &[Service], core: Option<usize>) -> io::Result<Self> {
        core.map_or(Ok(()), super::check_core)?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), waker_token(services.len()))?;
        let listeners = services
            .iter()
            .enumerate()
            .map(|(i, service)| Listener::open(service, poll.registry(), i))
            .collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(|listener| listener.counts.address).collect();
        let (sender, orders) = crossbeam_channel::bounded(ORDERS_MAX);
        let thread = thread::Builder::new()
            .name("responder".into())
            .spawn(move || serve(poll, listeners, &orders, core))?;
        Ok(Self { addresses, orders: sender, waker, thread: Some(thread) })
    }

    /// Returns the address of each service, in their order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the counters of each service, in their order.
    ///
    /// # Errors
    /// The thread has ended: it could not be pinned to its core, or polling failed.
    pub fn counts(&self) -> io::Result<Vec<ServiceCounts>> {
        let (sender, counts) = crossbeam_channel::bounded(1);
        self.order(Order::Tell(sender))?;
        counts.recv().map_err(|_| ended())
    }

    /// Stops, and returns what each service has seen, in their order.
    ///
    /// # Errors
    /// As [`Responder::counts`].
    pub fn stop(mut self) -> io::Result<Vec<ServiceCounts>> {
        let counts = self.counts();
        self.finish().and(counts)
    }

    fn order(&self, order: Order) -> io::Result<()> {
        self.orders.send(order).map_err(|_| ended())?;
        self.waker.wake()
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        // A thread that has ended takes no order, but its outcome says why.
        let _ = self.order(Order::Stop);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the responder panicked")))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // Whoever wants the outcome calls `stop`.
        let _ = self.finish();
    }
}

fn ended() -> io::Error {
    io::Error::other("the responder has ended")
}

/// The token of the waker, behind those of the listeners: two for each service. Streams follow.
fn waker_token(services: usize) -> Token {
    Token(2 * services)
}

/// One address in service.
pub(super) struct Listener {
    socket: UdpSocket,
    acceptor: TcpListener,
    pub(super) behaviour: Behaviour,
    ready: bool,
    pub(super) counts: ServiceCounts,
    seen: Box<[u64; PORT_WORDS]>,
}

impl Listener {
    fn open(service: &Service, registry: &mio::Registry, number: usize) -> io::Result<Self> {
        let (socket, mut acceptor) = bind(service.address)?;
        let address = socket.local_addr()?;
        let (datagrams, streams) = (Token(2 * number), Token(2 * number + 1));
        registry.register(&mut SourceFd(&socket.as_raw_fd()), datagrams, Interest::READABLE)?;
        registry.register(&mut acceptor, streams, Interest::READABLE)?;
        let counts = ServiceCounts {
            address,
            queries: 0,
            responses: 0,
            dropped: 0,
            source_ports: 0,
            streams: 0,
        };
        Ok(Self {
            socket,
            acceptor,
            behaviour: service.behaviour,
            ready: false,
            counts,
            seen: Box::new([0; PORT_WORDS]),
        })
    }

    /// Receives one batch and answers it.
    fn turn(&mut self, batch: &mut RecvBatch, replies: &mut ReplyBatch) {
        // An error here is an earlier response that was refused: the next call goes on behind it.
        let received = match batch.recv(self.socket.as_fd()) {
            Ok(received) => received,
            Err(error) => {
                self.ready = error.kind() != io::ErrorKind::WouldBlock;
                return;
            }
        };
        self.ready = received == batch.capacity();
        self.counts.queries += received as u64;
        for i in 0..received {
            let datagram = batch.datagram(i);
            let Some(peer) = datagram.peer else { continue };
            self.note_source(peer.port());
            if let Some(length) = respond(datagram.bytes, self.behaviour, replies.buffer()) {
                replies.commit(length, 0, &peer, datagram.local);
            }
        }
        let outcome = replies.flush(|_| self.socket.as_fd());
        self.counts.responses += outcome.sent as u64;
        self.counts.dropped += outcome.dropped as u64;
    }

    /// Answers what had arrived when an order was given, so that counts do not depend on luck.
    fn drain(&mut self, batch: &mut RecvBatch, replies: &mut ReplyBatch) {
        self.ready = true;
        for _ in 0..DRAIN_TURNS_MAX {
            if self.ready {
                self.turn(batch, replies);
            }
        }
    }

    fn note_source(&mut self, port: u16) {
        let word = &mut self.seen[usize::from(port) / u64::BITS as usize];
        let bit = 1 << (u32::from(port) % u64::BITS);
        self.counts.source_ports += u32::from(*word & bit == 0);
        *word |= bit;
    }
}

/// The sockets of both transports on `asked`, with one port.
fn bind(asked: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if asked.port() == 0 { PORT_TRIES_MAX } else { 1 };
    loop {
        tries -= 1;
        let datagrams = socket::udp_listener(asked, false)?;
        match socket::tcp_listener(datagrams.local_addr()?, false) {
            Ok(streams) => return Ok((datagrams, TcpListener::from_std(streams))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

/// The thread: serves until told to stop.
fn serve(
    mut poll: Poll,
    mut listeners: Vec<Listener>,
    orders: &Receiver<Order>,
    core: Option<usize>,
) -> io::Result<()> {
    core.map_or(Ok(()), cpu::pin)?;
    let mut batch = RecvBatch::new(BATCH, QUERY_LEN_MAX, true);
    let mut replies = ReplyBatch::new(BATCH, RESPONSE_LEN_MAX, false);
    let mut events = Events::with_capacity(EVENTS);
    let mut peers = Peers::new(waker_token(listeners.len()).0 + 1);
    loop {
        // Readiness is told once: what is still ready must not wait for more to arrive.
        let busy = peers.is_busy() || listeners.iter().any(|listener| listener.ready);
        if let Err(error) = poll.poll(&mut events, busy.then_some(Duration::ZERO))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            let Token(token) = event.token();
            match listeners.get_mut(token / 2) {
                Some(listener) if token % 2 == 0 => listener.ready = true,
                Some(Listener { acceptor, counts, .. }) => {
                    peers.accept(token / 2, acceptor, poll.registry(), counts);
                }
                None => peers.note(event.token()),
            }
        }
        for listener in listeners.iter_mut().filter(|listener| listener.ready) {
            listener.turn(&mut batch, &mut replies);
        }
        peers.turn(&mut listeners);
        for order in orders.try_iter() {
            for listener in &mut listeners {
                listener.drain(&mut batch, &mut replies);
            }
            match order {
                // Whoever asked may have gone meanwhile.
                Order::Tell(reply) => {
                    let _ = reply.send(listeners.iter().map(|listener| listener.counts).collect());
                }
                Order::Stop => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Responder, Service};
    use crate::traffic::answer::{Behaviour, is_right};
    use crate::traffic::query::{QUERY_LEN_MAX, QueryMaker};
    use std::net::UdpSocket;
    use std::time::Duration;

    fn service(behaviour: Behaviour) -> Service {
        Service { address: "127.0.0.1:0".parse().unwrap(), behaviour }
    }

    fn client() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn query(maker: &mut QueryMaker) -> Vec<u8> {
        let mut buffer = [0; QUERY_LEN_MAX];
        let length = maker.write(0, 0, &mut buffer);
        buffer[..length].to_vec()
    }

    #[test]
    fn each_socket_answers_and_counts_for_itself() {
        let services = [service(Behaviour::Answer), service(Behaviour::Silent)];
        let responder = Responder::start(&services, None).unwrap();
        let addresses = responder.addresses().to_vec();
        let mut maker = QueryMaker::new(1);
        for client in [client(), client()] {
            for _ in 0..3 {
                let query = query(&mut maker);
                client.send_to(&query, addresses[1]).unwrap();
                client.send_to(b"garbage", addresses[0]).unwrap();
                client.send_to(&query, addresses[0]).unwrap();
                let mut response = [0; 512];
                let (length, from) = client.recv_from(&mut response).unwrap();
                assert_eq!(from, addresses[0]);
                assert!(is_right(&query, &response[..length]));
            }
        }
        let counts = responder.counts().unwrap();
        assert_eq!(responder.stop().unwrap(), counts);
        assert_eq!((counts[0].queries, counts[0].responses, counts[0].source_ports), (12, 6, 2));
        assert_eq!((counts[0].address, counts[0].dropped), (addresses[0], 0));
        assert_eq!(counts[1].responses, 0);
    }

    #[test]
    fn a_taken_address_is_an_error_and_not_shared() {
        let first = Responder::start(&[service(Behaviour::Answer)], None).unwrap();
        let second = Service { address: first.addresses()[0], behaviour: Behaviour::Answer };
        assert!(Responder::start(&[second], None).is_err());
    }

    #[test]
    fn a_core_that_the_host_lacks_is_an_error() {
        assert!(Responder::start(&[service(Behaviour::Answer)], Some(100_000)).is_err());
    }
}
