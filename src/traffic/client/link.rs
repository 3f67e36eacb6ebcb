//! A socket of the client, over UDP, TCP or QUIC, and its outstanding queries.
//!
//! A UDP socket is open from start to end. A connection is opened when a query needs it, ends after
//! its maximum number of queries or on any error, and is opened anew for the next query; queries
//! outstanding at that time are counted as lost.

use crate::moment::Moment;
use crate::quic::Dialer;
use crate::sys::mmsg::{QueryBatch, RecvBatch};
use crate::sys::socket;
use crate::tls::Client;
use crate::traffic::doh::{Calls, Http};
use crate::traffic::doq::QuicConnection;
use crate::traffic::ledger::Ledger;
use crate::traffic::tally::Tally;
use crate::traffic::tcp::MessageConnection;
use crate::traffic::verify::Verify;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

/// Delay before a failed connection is opened again, because otherwise a server that refuses would
/// be tried without end.
const REST: Duration = Duration::from_millis(10);

/// Transport of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Datagrams,
    /// TCP.
    Connections {
        /// Queries per connection before it is closed; `None`: no limit.
        queries: Option<u64>,
        /// Outstanding queries per connection.
        pipeline: usize,
    },
    /// QUIC.
    Quic {
        /// Queries per connection before it is closed; `None`: no limit.
        queries: Option<u64>,
        /// Outstanding queries per connection.
        pipeline: usize,
    },
}

enum Socket {
    Datagrams(UdpSocket),
    Tcp(MessageConnection),
    Quic(Box<QuicConnection>),
    /// A connection that is not open.
    Closed,
}

/// One socket, or the place of one.
pub(super) struct Link {
    target: SocketAddr,
    source: Option<IpAddr>,
    token: Token,
    tls: Option<Client>,
    /// Server name in requests of HTTP, and their maximum at once; `None`: no HTTP.
    http: Option<(Arc<str>, usize)>,
    /// Parameters of QUIC; `None`: connections are those of TCP.
    quic: Option<Arc<Dialer>>,
    /// Maximum number of queries per connection.
    quota: u64,
    /// Number of queries on this connection.
    carried: u64,
    /// Number of connections opened here.
    opened: u64,
    /// Time before which no connection is opened.
    rests_until: Moment,
    socket: Socket,
    pub(super) ledger: Ledger,
    /// The socket may have input.
    pub(super) ready: bool,
    /// Time of the next call of [`Link::on_time`].
    pub(super) deadline: Option<Moment>,
}

impl Link {
    /// Creates a link to `target` from `source`, its connections over `tls` if given; its events
    /// have `token`. [`Link::over_http`] and [`Link::over_quic`] change the protocol of its
    /// connections.
    ///
    /// # Errors
    /// There is no route to `target`, or no descriptor or port is left.
    pub(super) fn new(
        target: SocketAddr,
        source: Option<IpAddr>,
        token: Token,
        transport: Transport,
        tls: Option<Client>,
        ledger: Ledger,
        registry: &Registry,
    ) -> io::Result<Self> {
        let (quota, socket) = match transport {
            Transport::Datagrams => {
                let socket = socket::udp_connected(target, source)?;
                // Responses that this program drops would count against the server.
                socket::widen_receive_buffer(&socket)?;
                let fd = socket.as_raw_fd();
                registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
                (u64::MAX, Socket::Datagrams(socket))
            }
            Transport::Connections { queries, .. } | Transport::Quic { queries, .. } => {
                (queries.unwrap_or(u64::MAX), Socket::Closed)
            }
        };
        Ok(Self {
            target,
            source,
            token,
            tls,
            http: None,
            quic: None,
            quota,
            carried: 0,
            opened: 0,
            rests_until: Moment::ZERO,
            socket,
            ledger,
            ready: false,
            deadline: None,
        })
    }

    /// Queries become requests of HTTP to the server `authority`, as far as `transport` has
    /// connections.
    pub(super) fn over_http(mut self, authority: Arc<str>, transport: Transport) -> Self {
        if let Transport::Connections { pipeline, .. } = transport {
            self.http = Some((authority, pipeline));
        }
        self
    }

    /// Connections are those of QUIC, with the parameters of `dialer`.
    pub(super) fn over_quic(mut self, dialer: Arc<Dialer>) -> Self {
        self.quic = Some(dialer);
        self
    }

    /// Returns the number of queries that it can take now; opens a connection for them if needed.
    pub(super) fn vacancies(
        &mut self,
        now: Moment,
        registry: &Registry,
        tally: &mut Tally,
    ) -> usize {
        let room = self.ledger.vacancies();
        match &self.socket {
            Socket::Datagrams(_) => room,
            Socket::Tcp(stream) if stream.is_backed_up() => 0,
            Socket::Quic(connection) if connection.is_backed_up() => 0,
            Socket::Tcp(_) | Socket::Quic(_) => room.min((self.quota - self.carried) as usize),
            Socket::Closed if now < self.rests_until || room == 0 => 0,
            Socket::Closed => match self.open(now, registry, tally) {
                Ok(()) => room.min(self.quota as usize),
                Err(_) => {
                    self.fail(now, tally);
                    0
                }
            },
        }
    }

    fn open(&mut self, now: Moment, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        self.socket = match &self.quic {
            Some(dialer) => Socket::Quic(Box::new(self.dial(now, dialer, registry)?)),
            None => Socket::Tcp(self.connect(registry)?),
        };
        tally.counts.connects += 1;
        tally.counts.reconnects += u64::from(self.opened > 0);
        self.opened += 1;
        self.carried = 0;
        Ok(())
    }

    fn dial(
        &self,
        now: Moment,
        dialer: &Dialer,
        registry: &Registry,
    ) -> io::Result<QuicConnection> {
        let socket = socket::udp_connected(self.target, self.source)?;
        socket::widen_receive_buffer(&socket)?;
        let fd = socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), self.token, Interest::READABLE)?;
        let tls = self.tls.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        QuicConnection::dial(now, (socket, self.target), tls, dialer)
    }

    fn connect(&self, registry: &Registry) -> io::Result<MessageConnection> {
        let socket = TcpStream::from_std(socket::tcp_connecting(self.target, self.source)?);
        let session = self.tls.as_ref().map(Client::session);
        let stream = MessageConnection::through(session, socket, registry, self.token)?;
        Ok(match &self.http {
            Some((authority, most)) => {
                stream.over_http(Http::Calls(Calls::new(Arc::clone(authority), *most)))
            }
            None => stream,
        })
    }

    /// Handles a connection that has failed, or could not be opened.
    fn fail(&mut self, now: Moment, tally: &mut Tally) {
        tally.counts.refused += 1;
        self.close(now, tally);
        self.rests_until = now.plus(REST);
    }

    fn close(&mut self, now: Moment, tally: &mut Tally) {
        if let Socket::Quic(connection) = &mut self.socket {
            connection.end(now);
        }
        self.socket = Socket::Closed;
        self.deadline = None;
        self.ready = false;
        self.ledger.abandon(|intended| tally.note_lost(intended));
    }

    /// Sends the queries in `slots`, which were launched `now`.
    pub(super) fn send(
        &mut self,
        slots: &[u16],
        now: Moment,
        outbox: &mut QueryBatch,
        tally: &mut Tally,
    ) {
        let packets = slots.iter().map(|&slot| self.ledger.packet(slot));
        let mut failed = false;
        let unsent = match &mut self.socket {
            Socket::Datagrams(socket) => match outbox.send(socket.as_fd(), packets, false) {
                Ok(outcome) => outcome.dropped,
                Err(_) => {
                    // An ICMP error of an earlier query. The number of queries sent before it is
                    // not known; those that were not sent will time out.
                    tally.counts.refused += 1;
                    0
                }
            },
            Socket::Tcp(stream) => {
                packets.for_each(|packet| stream.push(0, packet));
                self.carried += slots.len() as u64;
                failed = stream.flush().is_err();
                0
            }
            Socket::Quic(connection) => {
                packets.for_each(|packet| connection.push(packet));
                self.carried += slots.len() as u64;
                failed = connection.flush(now).is_err();
                self.deadline = connection.next_deadline();
                0
            }
            Socket::Closed => slots.len(),
        };
        let (sent, kept) = slots.split_at(slots.len() - unsent);
        // In a closed loop, and behind schedule, many queries have the same scheduled time.
        let ledger = &self.ledger;
        for group in sent.chunk_by(|&a, &b| ledger.intended(a) == ledger.intended(b)) {
            let bytes: usize = group.iter().map(|&slot| ledger.packet(slot).len()).sum();
            tally.note_sent(ledger.intended(group[0]), now, group.len() as u64, bytes as u64);
        }
        tally.counts.unsent += kept.len() as u64;
        kept.iter().for_each(|&slot| self.ledger.recall(slot));
        if failed {
            self.fail(now, tally);
        }
    }

    /// Receives up to one batch or one read; `clock` gives the time of receipt.
    pub(super) fn receive(
        &mut self,
        inbox: &mut RecvBatch,
        clock: impl Fn() -> Moment,
        verify: &Verify,
        tally: &mut Tally,
    ) {
        match &mut self.socket {
            Socket::Datagrams(socket) => match inbox.recv(socket.as_fd()) {
                Ok(received) => {
                    self.ready = received == inbox.capacity();
                    let now = clock();
                    for i in 0..received {
                        let bytes = inbox.datagram(i).bytes;
                        let verdict = self.ledger.settle(bytes, |q, r| verify.accepts(q, r));
                        tally.note_message(verdict, now, bytes.len());
                    }
                }
                Err(error) => {
                    // Any other error is an ICMP error, which this call has consumed.
                    self.ready = error.kind() != io::ErrorKind::WouldBlock;
                    tally.counts.refused += u64::from(self.ready);
                }
            },
            Socket::Tcp(stream) => {
                let received = stream.flush().and_then(|()| stream.receive());
                self.ready = matches!(received, Ok(true));
                let now = clock();
                while let Some((_, message)) = stream.message() {
                    let verdict = self.ledger.settle(message, |q, r| verify.accepts(q, r));
                    tally.note_message(verdict, now, message.len());
                }
                self.review(received.is_err(), now, tally);
            }
            Socket::Quic(connection) => {
                let now = clock();
                let received = connection.receive(now, inbox);
                self.ready = matches!(received, Ok(true));
                while let Some(message) = connection.message(now) {
                    let verdict = self.ledger.settle(message, |q, r| verify.accepts(q, r));
                    tally.note_message(verdict, now, message.len());
                }
                let flushed = connection.flush(now);
                self.deadline = connection.next_deadline();
                self.review(received.is_err() || flushed.is_err(), now, tally);
            }
            Socket::Closed => self.ready = false,
        }
    }

    /// Handles the deadline of QUIC; the link must be read afterwards.
    pub(super) fn on_time(&mut self, now: Moment) {
        self.deadline = None;
        if let Socket::Quic(connection) = &mut self.socket {
            connection.on_time(now);
        }
    }

    /// Closes a connection that has `ended`, or has carried its maximum of queries.
    fn review(&mut self, ended: bool, now: Moment, tally: &mut Tally) {
        let idle = self.ledger.outstanding() == 0;
        if idle && (ended || self.carried >= self.quota) {
            self.close(now, tally);
        } else if ended {
            self.fail(now, tally);
        }
    }

    /// Gives up queries that have timed out. A connection at its maximum of queries is closed after
    /// the last of them, whatever its outcome.
    pub(super) fn expire(&mut self, now: Moment, tally: &mut Tally) {
        self.ledger.expire(now, |intended| tally.note_timed_out(intended));
        if let Socket::Quic(connection) = &mut self.socket {
            connection.cancel(now, self.ledger.timeout());
        }
        if let Socket::Tcp(_) | Socket::Quic(_) = self.socket {
            self.review(false, now, tally);
        }
    }
}
