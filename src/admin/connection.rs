//! One HTTP connection of a client: reads a request, sends the response, and repeats.
//!
//! Nothing blocks: each call does what the socket allows and returns the state. Storage is bounded
//! by a head of [`HEAD_BYTES_MAX`] and one response. So is time: a request must be complete
//! [`TIMEOUT`] after its first byte, a response must be taken within as much, and so must the next
//! request begin. A connection that ends is read from for a moment longer, because unread bytes
//! would make the kernel reset it and discard the response.

use super::request::{self, HEAD_BYTES_MAX, Refusal, Request};
use super::response::Response;
use crate::moment::Moment;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// Time limit of each step of an exchange.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a client to close its side after the last response.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum of bytes discarded from a client after the last response.
const DISCARDED_BYTES_MAX: usize = 64 << 10;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 2 << 10;

/// Handler of requests and refusals; returns the response, and whether another request may follow.
pub(super) type Answer<'a> = dyn FnMut(Result<&Request<'_>, Refusal>) -> (Response, bool) + 'a;

/// State of a connection after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Waiting for the socket.
    Waiting,
    /// Ready to continue; another connection may be served first.
    Ready,
    /// The last response is sent: shut down our side, then discard the rest of the input.
    Said,
    /// Finished: drop the connection.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Writing { keep: bool },
    Closing { left: usize },
}

/// A connection over `stream`, which is non-blocking.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    state: State,
    /// Head of a request, as far as it has arrived.
    input: Vec<u8>,
    /// Response that is being sent.
    output: Vec<u8>,
    sent: usize,
    /// Time since which no request has been in progress.
    idle_since: Moment,
    /// A request has been answered.
    used: bool,
    deadline: Moment,
    /// Deadline of the whole connection.
    limit: Moment,
}

impl<S: Read + Write> Connection<S> {
    /// Creates a connection that was opened just now.
    pub(super) fn new(now: Moment, stream: S) -> Self {
        let deadline = now.plus(TIMEOUT);
        let (input, output) = (Vec::new(), Vec::new());
        Self {
            stream,
            state: State::Reading,
            input,
            output,
            sent: 0,
            idle_since: now,
            used: false,
            deadline,
            limit: Moment::FOREVER,
        }
    }

    /// The socket.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the time at which the connection is dropped at the latest.
    pub(super) fn deadline(&self) -> Moment {
        self.deadline.min(self.limit)
    }

    /// Limits the connection's life: it is dropped at `at` at the latest.
    pub(super) fn hurry(&mut self, at: Moment) {
        self.limit = at;
    }

    /// Returns the time since which it has been waiting for a request; `None`: one is in progress.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        let is_answered = matches!(self.state, State::Writing { .. });
        (!is_answered).then_some(self.idle_since)
    }

    /// Returns true if all its requests, at least one, have been answered.
    pub(super) fn rests(&self) -> bool {
        self.used && self.state == State::Reading && self.input.is_empty()
    }

    /// Bytes that wait to be sent.
    pub(super) fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Does what the socket allows, and answers one request at most.
    pub(super) fn on_ready(&mut self, now: Moment, answer: &mut Answer<'_>) -> Outcome {
        if self.state == State::Reading {
            match self.read(now, answer) {
                Ok(true) => {}
                Ok(false) => return Outcome::Waiting,
                Err(_) => return Outcome::Over,
            }
        }
        match self.state {
            State::Writing { keep } => self.write(now, keep),
            State::Closing { left } => self.discard(left),
            State::Reading => Outcome::Waiting,
        }
    }

    /// Reads until a request is complete and answered; false: more is needed.
    ///
    /// # Errors
    /// Nothing more will come.
    fn read(&mut self, now: Moment, answer: &mut Answer<'_>) -> io::Result<bool> {
        let mut piece = [0; PIECE_BYTES];
        loop {
            let seen = self.input.len();
            let room = (HEAD_BYTES_MAX - seen).min(PIECE_BYTES);
            let len = match self.stream.read(&mut piece[..room]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if seen == 0 {
                self.deadline = now.plus(TIMEOUT);
            }
            self.input.extend_from_slice(&piece[..len]);
            let is_full = self.input.len() == HEAD_BYTES_MAX;
            if !is_full && !request::has_end(&self.input, seen) {
                continue;
            }
            let (response, head_only, keep) = match request::parse(&self.input) {
                Ok(None) => continue,
                Ok(Some(request)) => {
                    let (response, keep) = answer(Ok(&request));
                    (response, request.head_only, keep && request.keep)
                }
                Err(refusal) => (answer(Err(refusal)).0, false, false),
            };
            self.output = response.encode(head_only, keep);
            self.sent = 0;
            self.input = Vec::new();
            self.state = State::Writing { keep };
            self.deadline = now.plus(TIMEOUT);
            return Ok(true);
        }
    }

    fn write(&mut self, now: Moment, keep: bool) -> Outcome {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Outcome::Over,
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Waiting,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Outcome::Over,
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
        (self.idle_since, self.used) = (now, true);
        if keep {
            self.state = State::Reading;
            self.deadline = now.plus(TIMEOUT);
            return Outcome::Ready;
        }
        self.state = State::Closing { left: DISCARDED_BYTES_MAX };
        self.deadline = now.plus(CLOSING_TIMEOUT);
        Outcome::Said
    }

    fn discard(&mut self, mut left: usize) -> Outcome {
        let mut piece = [0; PIECE_BYTES];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Outcome::Over,
                Ok(len) if len >= left => return Outcome::Over,
                Ok(len) => left -= len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Outcome::Over,
            }
        }
        self.state = State::Closing { left };
        Outcome::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{HEAD_BYTES_MAX, Refusal};
    use super::super::response::Response;
    use super::{Connection, DISCARDED_BYTES_MAX, Outcome, TIMEOUT};
    use crate::moment::Moment;
    use std::collections::VecDeque;
    use std::io::{self, ErrorKind, Read, Write};
    use std::time::Duration;

    /// A client that sends these pieces, each after the socket was empty, and accepts this number
    /// of bytes.
    #[derive(Default)]
    struct Client {
        pieces: VecDeque<Vec<u8>>,
        closed: bool,
        room: usize,
        got: Vec<u8>,
    }

    impl Read for Client {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.pieces.front_mut() else {
                return if self.closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
            };
            if piece.is_empty() {
                self.pieces.pop_front();
                return Err(ErrorKind::WouldBlock.into());
            }
            let len = piece.len().min(buffer.len());
            buffer[..len].copy_from_slice(&piece[..len]);
            piece.drain(..len);
            Ok(len)
        }
    }

    impl Write for Client {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room);
            if len == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= len;
            self.got.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: m\r\n\r\n";
    const START: Moment = Moment::ZERO;

    fn connection(pieces: &[&[u8]]) -> Connection<Client> {
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        Connection::new(START, Client { pieces, room: usize::MAX, ..Client::default() })
    }

    /// Continues at `now`; the response to `/x` is `yes`, to a refused request the reason.
    fn go_on(connection: &mut Connection<Client>, now: Moment) -> Outcome {
        connection.on_ready(now, &mut |request| match request {
            Ok(request) => {
                assert_eq!(request.path, "/x");
                (Response::text(200, "yes"), true)
            }
            Err(refusal) => (Response::text(400, format!("{refusal:?}")), true),
        })
    }

    fn got(connection: &mut Connection<Client>) -> String {
        String::from_utf8(std::mem::take(&mut connection.stream.got)).unwrap()
    }

    #[test]
    fn a_request_is_answered_wherever_it_is_cut_and_another_may_follow() {
        for cut in 0..GET.len() {
            let mut connection = connection(&[&GET[..cut], &GET[cut..], GET]);
            assert_eq!(go_on(&mut connection, START), Outcome::Waiting, "{cut}");
            for _ in 0..2 {
                while go_on(&mut connection, START) == Outcome::Waiting {}
                let answer = got(&mut connection);
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nyes"));
            }
            connection.stream.closed = true;
            while connection.stream.pieces.pop_front().is_some() {}
            assert_eq!(go_on(&mut connection, START), Outcome::Over);
        }
    }

    #[test]
    fn a_head_has_five_seconds_from_its_first_byte() {
        let second = |count| START.plus(Duration::from_secs(count));
        let pieces: Vec<&[u8]> = GET.chunks(1).collect();
        let mut connection = connection(&pieces);
        for _ in 0..4 {
            assert_eq!(go_on(&mut connection, second(2)), Outcome::Waiting);
        }
        assert_eq!(connection.deadline(), second(7));
        assert_eq!(go_on(&mut connection, second(6)), Outcome::Waiting);
        assert_eq!((connection.deadline(), connection.idle_since()), (second(7), Some(START)));
    }

    #[test]
    fn a_slow_reader_has_five_seconds_and_is_not_idle() {
        let mut connection = connection(&[GET]);
        connection.stream.room = 3;
        assert!(!connection.rests(), "it may have asked already");
        let later = START.plus(Duration::from_secs(3));
        assert_eq!(go_on(&mut connection, later), Outcome::Waiting);
        assert_eq!((connection.deadline(), connection.idle_since()), (later.plus(TIMEOUT), None));
        assert!(connection.backlog() > 100);
        let last = later.plus(Duration::from_secs(4));
        connection.stream.room = usize::MAX;
        assert_eq!(go_on(&mut connection, last), Outcome::Ready);
        assert_eq!((connection.backlog(), connection.idle_since()), (0, Some(last)));
        assert!(connection.rests());
        assert_eq!(connection.deadline(), last.plus(TIMEOUT), "for the next request");
        assert!(got(&mut connection).ends_with("yes"));
        connection.hurry(last.plus(Duration::from_secs(1)));
        connection.stream.pieces.push_back(GET.to_vec());
        connection.stream.room = 0;
        assert_eq!(go_on(&mut connection, last), Outcome::Waiting);
        assert_eq!(connection.deadline(), last.plus(Duration::from_secs(1)));
    }

    #[test]
    fn a_head_that_is_too_large_is_refused_and_later_bytes_are_discarded() {
        let flood = vec![b'a'; HEAD_BYTES_MAX + DISCARDED_BYTES_MAX];
        let mut connection = connection(&[b"GET /", &flood]);
        assert_eq!(go_on(&mut connection, START), Outcome::Waiting);
        assert_eq!(go_on(&mut connection, START), Outcome::Said);
        assert!(got(&mut connection).ends_with(&format!("{:?}", Refusal::TooLarge)));
        assert_eq!(go_on(&mut connection, START), Outcome::Over);
        assert_eq!(connection.stream.got, b"");
    }

    #[test]
    fn a_body_is_not_taken_for_a_request() {
        let post = [b"POST /x HTTP/1.1\r\nHost: m\r\nContent-Length: 29\r\n\r\n", GET].concat();
        let mut connection = connection(&[&post]);
        assert_eq!(go_on(&mut connection, START), Outcome::Said);
        assert!(got(&mut connection).ends_with(&format!("{:?}", Refusal::Method)));
        assert_eq!(go_on(&mut connection, START), Outcome::Waiting);
        connection.stream.closed = true;
        assert_eq!(go_on(&mut connection, START), Outcome::Over);
        assert_eq!(connection.stream.got, b"");
    }
}
