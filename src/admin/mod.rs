//! The admin: the thread that owns all HTTP, its listeners, its connections and what they show.
//!
//! Nothing here is in the way of a query: workers are only asked for their counters ([`gather`]),
//! at their next turn, and not waited for longer than a moment. One poll, non-blocking sockets, a
//! bounded number of connections, each with its deadlines (`connection`), so no client that is slow
//! or silent holds up anybody else; who comes when all places are taken gets that of the connection
//! that has been idle longest. Paths are in `endpoints`; addresses come from the first thread
//! ([`ToAdmin`]): it binds and keeps their sockets, so that they outlive a reload and pass to the
//! next process. The thread is there only if a configuration names an address, and sleeps until
//! somebody comes.

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

/// Messages that wait at most; who sends one waits for room.
const MAIL_MAX: usize = 4;
/// Events taken from the kernel at once; the rest comes with the next poll.
const EVENTS_MAX: usize = 128;
/// Connections taken from one listener in a turn.
const ACCEPTED_MAX: usize = 64;
/// Delay of the next attempt when no descriptor is left for a connection.
const RETRY: Duration = Duration::from_secs(1);
/// Time at the end for connections with an unanswered request.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of answers that wait for slow readers, all together; further clients get 503.
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
    /// None could be accepted: when to try again.
    again_at: Option<Moment>,
}

/// A connection in its place.
struct Place {
    connection: Connection<TcpStream>,
    /// The number of its listener.
    admin_listener: usize,
    /// To a loopback address.
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
    /// An admin who shows what `gatherer` gathers, and where to put its messages. `log` gets a line
    /// for whatever an operator should know.
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

    /// Serves until it has to end.
    pub(crate) fn run(mut self) {
        while !self.leaving || self.places.iter().any(Option::is_some) {
            self.turn();
        }
    }

    /// Waits until something happens and does all that follows.
    fn turn(&mut self) {
        self.wait();
        for event in &self.events {
            match event.token() {
                MAILBOX => {}
                Token(token) if token >= CONNECTIONS => {
                    // The one that it is about may have gone: then another looks in vain.
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

    /// Waits for an event until the next deadline; not at all while somebody can go on.
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

    /// Listens at `admin_listeners` and nowhere else.
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
                // Somebody may be waiting there since before.
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

    /// Accepts no client any more, and ends with the last that is being answered.
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

    /// Takes in who waits at a listener.
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
        // An answer is written whole: waiting for more only delays its end.
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

    /// The place of the connection that has been idle longest or, where all are being answered, of
    /// the one whose time is up first.
    fn least_missed(&self) -> usize {
        let rank = |place: &usize| {
            let connection = self.places[*place].as_ref().map(|place| &place.connection);
            let connection = connection.map(|known| (known.idle_since(), known.deadline()));
            connection.map(|(idle, deadline)| (idle.is_none(), idle.unwrap_or(deadline)))
        };
        (0..self.places.len()).min_by_key(rank).unwrap_or_default()
    }

    /// Lets a connection that may go on do so.
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
                // A client that has gone meanwhile is noticed by the next read.
                let _ = place.connection.stream().shutdown(Shutdown::Write);
                true
            }
            Outcome::Over => return,
        };
        self.places[number] = Some(place);
    }

    /// Drops connections whose time is up, and does what else is due.
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
