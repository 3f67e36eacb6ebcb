//! The admin: the thread that owns all HTTP: listeners, connections and endpoints.
//!
//! The thread delays no query: it asks workers for their counters ([`gather`]), which they send in
//! their next turn, and waits only a moment for them. It has one poll, non-blocking sockets, and a
//! bounded number of connections with deadlines (`connection`), so no slow or silent client holds
//! up another. If all places are taken, a new connection replaces the one that has been idle
//! longest. Paths are in `endpoints`. The first thread binds and keeps the sockets ([`ToAdmin`]),
//! so that they outlive a reload and pass to the next process. The thread exists only if a
//! configuration has an HTTP address, and sleeps until a client connects.

mod connection;
mod endpoints;
mod exposition;
pub(crate) mod gather;
mod history;
mod metrics;
pub mod page;
mod readiness;
mod request;
mod response;
mod summary;

pub(crate) use gather::Gatherer;

use crate::clock::Clock;
use crate::config::{Endpoint, HTTP_CONNECTIONS_MAX};
use crate::control::{AdminListener, AdminMail, AdminMailbox, ToAdmin};
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use connection::{Connection, Outcome};
use crossbeam_channel::TryRecvError;
use endpoints::{Endpoints, refuse};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use response::Response;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::time::Duration;

/// Capacity of the mailbox; a sender waits for room.
const MAIL_MAX: usize = 4;
/// Events taken from the kernel at once; the rest are taken by the next poll.
const EVENTS_MAX: usize = 128;
/// Connections taken from one listener in a turn.
const ACCEPTED_MAX: usize = 64;
/// Delay of the next attempt when no descriptor is left for a connection.
const RETRY: Duration = Duration::from_secs(1);
/// Time for unanswered requests after the order to stop.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum of response bytes that wait for slow readers, in total; further clients get 503.
const BACKLOG_MAX: usize = 32 << 20;
/// The token of the mailbox. Those of listeners are their numbers.
const MAILBOX: Token = Token(usize::MAX);
/// The token of the first connection.
const CONNECTIONS: usize = usize::MAX / 2;

/// A listener.
struct Listening {
    number: usize,
    pages: Vec<Endpoint>,
    /// `None`: no client is accepted any more.
    acceptor: Option<TcpListener>,
    /// There may be connections to accept.
    ready: bool,
    /// Time of the next attempt after a failed accept.
    again_at: Option<Moment>,
}

/// A connection in its place.
struct Place {
    connection: Connection<TcpStream>,
    admin_listener: usize,
    /// The client is connected to a loopback address.
    is_local: bool,
    /// The connection may continue.
    ready: bool,
}

/// The admin's state.
pub(crate) struct Admin {
    clock: Clock,
    poll: Poll,
    events: Events,
    mail: AdminMail,
    admin_listeners: Vec<Listening>,
    places: Vec<Option<Place>>,
    endpoints: Endpoints,
    log: Log,
    /// The thread answers the open connections, then ends.
    leaving: bool,
}

impl Admin {
    /// Creates an admin that shows the data of `gatherer`, and the mailbox for its messages. `log`
    /// gets messages for the operator.
    ///
    /// # Errors
    /// The kernel refused a poll: descriptors have run out.
    pub(crate) fn new(
        clock: Clock,
        gatherer: Gatherer,
        log: Log,
    ) -> io::Result<(Self, AdminMailbox)> {
        let poll = Poll::new()?;
        let (mailbox, mail) = AdminMailbox::new(MAIL_MAX, Waker::new(poll.registry(), MAILBOX)?);
        let admin = Self {
            clock,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            mail,
            admin_listeners: Vec::new(),
            places: (0..HTTP_CONNECTIONS_MAX).map(|_| None).collect(),
            endpoints: Endpoints::new(gatherer, log),
            log,
            leaving: false,
        };
        Ok((admin, mailbox))
    }

    /// Runs until it has been stopped.
    pub(crate) fn run(mut self) {
        while !self.leaving || self.places.iter().any(Option::is_some) {
            self.turn();
        }
    }

    /// Waits for events and handles them.
    fn turn(&mut self) {
        self.wait();
        for event in &self.events {
            match event.token() {
                MAILBOX => {}
                Token(token) if token >= CONNECTIONS => {
                    // The event's connection may have been replaced: then the new one is tried in
                    // vain.
                    if let Some(Some(place)) = self.places.get_mut(token - CONNECTIONS) {
                        place.ready = true;
                    }
                }
                Token(token) => {
                    let admin_listener = self
                        .admin_listeners
                        .iter_mut()
                        .find(|admin_listener| admin_listener.number == token);
                    admin_listener
                        .into_iter()
                        .for_each(|admin_listener| admin_listener.ready = true);
                }
            }
        }
        let now = self.clock.now();
        self.read_mail(now);
        for admin_listener in 0..self.admin_listeners.len() {
            self.accept(now, admin_listener);
        }
        for place in 0..self.places.len() {
            self.serve(now, place);
        }
        self.on_time(self.clock.now());
    }

    /// Waits for an event until the next deadline; not at all while a connection can continue.
    fn wait(&mut self) {
        let now = self.clock.now();
        let places = || self.places.iter().flatten();
        let busy = self.admin_listeners.iter().any(|admin_listener| admin_listener.ready)
            || places().any(|place| place.ready);
        let deadlines = places().map(|place| place.connection.deadline());
        let deadlines = deadlines.chain(
            self.admin_listeners.iter().filter_map(|admin_listener| admin_listener.again_at),
        );
        let next = deadlines.chain(self.endpoints.gatherer.next_deadline()).min();
        let until = if busy { Some(now) } else { next };
        match self.poll.poll(&mut self.events, until.map(|until| until.since(now))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => outcome.expect("the poll is ours and stays valid"),
        }
    }

    fn read_mail(&mut self, now: Moment) {
        loop {
            match self.mail.try_next() {
                Ok(ToAdmin::Reload { config, health_states, admin_listeners }) => {
                    self.endpoints.reload(&config, health_states);
                    self.open(admin_listeners);
                }
                Ok(ToAdmin::Stopping) => self.endpoints.stopping = true,
                Ok(ToAdmin::Stop) => self.leave(now),
                Err(TryRecvError::Disconnected) if !self.leaving => return self.leave(now),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Listens at `admin_listeners` and closes all others.
    fn open(&mut self, admin_listeners: Vec<AdminListener>) {
        self.endpoints.gatherer.watch(
            admin_listeners
                .iter()
                .any(|admin_listener| admin_listener.pages.contains(&Endpoint::Status)),
        );
        self.admin_listeners.retain(|known| {
            admin_listeners.iter().any(|admin_listener| admin_listener.number == known.number)
        });
        for AdminListener { number, pages, socket } in admin_listeners {
            if let Some(known) =
                self.admin_listeners.iter_mut().find(|known| known.number == number)
            {
                known.pages = pages;
                continue;
            }
            let Some(socket) = socket else { continue };
            let mut acceptor = TcpListener::from_std(socket);
            let registry = self.poll.registry();
            match registry.register(&mut acceptor, Token(number), Interest::READABLE) {
                // Clients may be waiting in the backlog already.
                Ok(()) => {
                    let acceptor = Some(acceptor);
                    let (ready, again_at) = (true, None);
                    self.admin_listeners.push(Listening {
                        number,
                        pages,
                        acceptor,
                        ready,
                        again_at,
                    });
                }
                Err(error) => {
                    let text =
                        format_args!("cannot wait for connections on an HTTP listener: {error}");
                    self.log.event(&Event::new(Level::Error, "HTTP", &text));
                }
            }
        }
    }

    /// Stops accepting clients, and ends after the last outstanding response.
    fn leave(&mut self, now: Moment) {
        (self.leaving, self.endpoints.stopping) = (true, true);
        for admin_listener in &mut self.admin_listeners {
            (admin_listener.acceptor, admin_listener.ready, admin_listener.again_at) =
                (None, false, None);
        }
        for place in &mut self.places {
            place.take_if(|place| place.connection.rests());
        }
        let places = self.places.iter_mut().flatten();
        places.for_each(|place| place.connection.hurry(now.plus(STOP_TIMEOUT)));
    }

    /// Accepts waiting clients of a listener.
    fn accept(&mut self, now: Moment, admin_listener: usize) {
        for _ in 0..ACCEPTED_MAX {
            let Listening { number, acceptor, ready, again_at, .. } =
                &mut self.admin_listeners[admin_listener];
            let Some(acceptor) = acceptor.as_mut().filter(|_| *ready) else { return };
            match acceptor.accept() {
                Ok((stream, _)) => {
                    let number = *number;
                    self.admit(now, number, stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => *ready = false,
                Err(error)
                    if [ErrorKind::Interrupted, ErrorKind::ConnectionAborted]
                        .contains(&error.kind()) => {}
                Err(_) => (*ready, *again_at) = (false, Some(now.plus(RETRY))),
            }
        }
    }

    /// Gives a new connection a place, if need be that of another.
    fn admit(&mut self, now: Moment, admin_listener: usize, mut stream: TcpStream) {
        let local = stream.local_addr();
        let is_local = local.is_ok_and(|local| local.ip().to_canonical().is_loopback());
        // A response is written whole, so Nagle's algorithm would only delay its end.
        let _ = stream.set_nodelay(true);
        let vacant = self.places.iter().position(Option::is_none);
        let place = vacant.unwrap_or_else(|| self.least_missed());
        self.places[place] = None;
        let token = Token(CONNECTIONS + place);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, token, interest).is_ok() {
            let connection = Connection::new(now, stream);
            self.places[place] = Some(Place { connection, admin_listener, is_local, ready: true });
        }
    }

    /// Returns the place of the connection that has been idle longest or, if all have requests in
    /// progress, of the one with the earliest deadline.
    fn least_missed(&self) -> usize {
        let rank = |place: &usize| {
            let connection = self.places[*place].as_ref().map(|place| &place.connection);
            let connection = connection.map(|known| (known.idle_since(), known.deadline()));
            connection.map(|(idle, deadline)| (idle.is_none(), idle.unwrap_or(deadline)))
        };
        (0..self.places.len()).min_by_key(rank).unwrap_or_default()
    }

    /// Lets a connection continue if it can.
    fn serve(&mut self, now: Moment, number: usize) {
        let Some(mut place) = self.places[number].take_if(|place| place.ready) else { return };
        let backlog = self.places.iter().flatten().map(|place| place.connection.backlog());
        let is_behind = backlog.sum::<usize>() > BACKLOG_MAX;
        let Self { admin_listeners, endpoints, leaving, .. } = self;
        let pages = admin_listeners
            .iter()
            .find(|admin_listener| admin_listener.number == place.admin_listener);
        let pages = pages.map_or(&[][..], |admin_listener| &admin_listener.pages);
        let outcome = place.connection.on_ready(now, &mut |request| {
            let response = match request {
                Ok(_) if is_behind => Response::text(503, "too many slow readers\n"),
                Ok(request) => endpoints.answer(pages, place.is_local, request),
                Err(refusal) => refuse(refusal),
            };
            (response, !*leaving)
        });
        place.ready = match outcome {
            Outcome::Waiting => false,
            Outcome::Ready => true,
            Outcome::Said => {
                // A client that has disconnected meanwhile is noticed by the next read.
                let _ = place.connection.stream().shutdown(Shutdown::Write);
                true
            }
            Outcome::Over => return,
        };
        self.places[number] = Some(place);
    }

    /// Drops connections after their deadlines, and handles other timers.
    fn on_time(&mut self, now: Moment) {
        for place in &mut self.places {
            place.take_if(|place| place.connection.deadline() <= now);
        }
        for admin_listener in &mut self.admin_listeners {
            let is_due = admin_listener.again_at.take_if(|again_at| *again_at <= now).is_some();
            admin_listener.ready |= is_due;
        }
        self.endpoints.gatherer.on_time(now);
    }
}
