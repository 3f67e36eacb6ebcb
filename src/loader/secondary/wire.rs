//! A blocking connection with a primary, over TCP or TLS (RFC 9103).
//!
//! Only threads of checks wait here. Each call has a time limit, and the connection has a deadline,
//! so that a primary that sends a byte now and then does not hold a thread for ever.

use crate::clock::Clock;
use crate::engine::frame::Inbox;
use crate::moment::Moment;
use crate::tls::{self, Received, Session};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Maximum time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Maximum time of a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Maximum time between two bytes.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Minimum pace of a transfer: 4 KiB a second. Checks have few places, which a primary must not
/// hold with a byte now and then.
const PACE: Pace = Pace { time: Duration::from_secs(10), bytes: 40 << 10 };
/// Maximum length of a message.
pub(super) const MESSAGE_LEN_MAX: usize = u16::MAX as usize;
/// Error of a primary that is too slow.
const TIMED_OUT: &str = "timed out";

/// Bytes that have to come in each span of a time.
struct Pace {
    time: Duration,
    bytes: u64,
}

/// A connection.
pub(super) struct Wire {
    socket: TcpStream,
    session: Option<Session>,
    inbox: Inbox,
    clock: Clock,
    until: Moment,
    received: u64,
    pace: Pace,
    /// Begin of the current span, and the bytes received before it.
    span: (Moment, u64),
}

impl Wire {
    /// Connects to `address`, over TLS if there is a `client`. Everything has to be over at
    /// `until`.
    ///
    /// # Errors
    /// The connection, or its TLS session, cannot be established.
    pub(super) fn connect(
        address: SocketAddr,
        client: Option<&tls::Client>,
        clock: Clock,
        until: Moment,
    ) -> Result<Self, String> {
        let left = until.since(clock.now()).clamp(Duration::from_millis(1), CONNECT_MAX);
        let socket = TcpStream::connect_timeout(&address, left).map_err(|error| text(&error))?;
        let _ = socket.set_nodelay(true);
        let session = client.map(tls::Client::session);
        let (inbox, received, span) = (Inbox::default(), 0, (clock.now(), 0));
        let mut wire = Self { socket, session, inbox, clock, until, received, pace: PACE, span };
        wire.until = until.min(clock.now().plus(HANDSHAKE_MAX));
        wire.shake_hands()?;
        wire.until = until;
        Ok(wire)
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is broken, or the time is over.
    pub(super) fn send(&mut self, message: &[u8]) -> Result<(), String> {
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        self.limit()?;
        let Some(session) = &mut self.session else {
            return self.socket.write_all(&framed).map_err(|error| text(&error));
        };
        let mut rest = &framed[..];
        while !rest.is_empty() {
            rest = &rest[session.seal(rest)..];
            while session.wants_write() {
                session.write(&mut self.socket).map_err(|error| text(&error))?;
            }
        }
        Ok(())
    }

    /// Receives the next message into `out`.
    ///
    /// # Errors
    /// The connection ends or is broken, or the time is over.
    pub(super) fn receive(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let mut last = self.clock.now();
        loop {
            // No length in two bytes is larger than the buffer.
            if let Ok(Some(message)) = self.inbox.next(MESSAGE_LEN_MAX) {
                out.clear();
                out.extend_from_slice(message);
                return Ok(());
            }
            self.limit()?;
            let count = match &mut self.session {
                None => match self.socket.read(self.inbox.room()) {
                    Ok(0) => return Err("the connection ended early".into()),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                    Err(error) => return Err(text(&error)),
                },
                Some(session) => match session.receive(&mut self.socket, self.inbox.room()) {
                    // A blocking socket has nothing when its time is over; a record without data
                    // has `more`.
                    Ok(Received::Bytes { count, .. }) => count,
                    Ok(Received::End) => return Err("the connection ended early".into()),
                    Err(failure) => return Err(tls_text(failure, session)),
                },
            };
            let now = self.clock.now();
            if count > 0 {
                last = now;
            } else if now.since(last) >= STALL_MAX {
                return Err(TIMED_OUT.into());
            }
            if self.received == 0 {
                self.span = (now, 0);
            }
            self.inbox.filled(count);
            self.received += count as u64;
            self.check_pace(now)?;
        }
    }

    /// Ends a transfer that is too slow.
    fn check_pace(&mut self, now: Moment) -> Result<(), String> {
        let (begin, before) = self.span;
        if now.since(begin) < self.pace.time {
            return Ok(());
        }
        if self.received - before < self.pace.bytes {
            return Err("the primary sends too slowly".into());
        }
        self.span = (now, self.received);
        Ok(())
    }

    fn shake_hands(&mut self) -> Result<(), String> {
        loop {
            self.limit()?;
            let Some(session) = &mut self.session else { return Ok(()) };
            while session.wants_write() {
                session.write(&mut self.socket).map_err(|error| text(&error))?;
            }
            if session.is_open() {
                return Ok(());
            }
            match session.receive(&mut self.socket, &mut [0]) {
                Ok(Received::Bytes { .. }) => {}
                Ok(Received::End) => return Err("the connection ended in the TLS handshake".into()),
                Err(failure) => return Err(tls_text(failure, session)),
            }
        }
    }

    /// Sets the time-outs of the next calls.
    fn limit(&self) -> Result<(), String> {
        let left = self.until.since(self.clock.now());
        if left.is_zero() {
            return Err(TIMED_OUT.into());
        }
        let limit = Some(left.min(STALL_MAX));
        let set = self.socket.set_read_timeout(limit);
        set.and_then(|()| self.socket.set_write_timeout(limit)).map_err(|error| text(&error))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(session) = &mut self.session {
            session.end(&mut self.socket);
        }
    }
}

fn text(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => TIMED_OUT.into(),
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::UnexpectedEof => "the connection ended early".into(),
        _ => error.to_string(),
    }
}

fn tls_text(failure: tls::Failure, session: &Session) -> String {
    match failure {
        tls::Failure::Socket(error) => text(&error),
        tls::Failure::Tls(fault) => {
            session.evidence(fault).unwrap_or_else(|| fault.text().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, Wire};
    use crate::clock::Clock;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    #[test]
    fn a_primary_that_stalls_or_sends_byte_by_byte_is_given_up_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, clock) = (listener.local_addr().unwrap(), Clock::start());
        for is_silent in [true, false] {
            let until = clock.now().plus(Duration::from_millis(300));
            let mut wire = Wire::connect(address, None, clock, until).unwrap();
            let (mut primary, _) = listener.accept().unwrap();
            let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
            let sending = std::thread::spawn(move || {
                primary.write_all(&[0, 200]).unwrap();
                while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
                    // The other side may have closed.
                    let _ = if is_silent { Ok(0) } else { primary.write(&[0]) };
                }
            });
            wire.send(b"query").unwrap();
            let error = wire.receive(&mut Vec::new()).unwrap_err();
            assert!(error == "timed out" && clock.now() >= until, "{is_silent}: {error}");
            stop.send(()).unwrap();
            sending.join().unwrap();
        }
    }

    #[test]
    fn a_primary_that_sends_byte_by_byte_is_given_up_and_a_fast_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, clock) = (listener.local_addr().unwrap(), Clock::start());
        for (len, is_slow) in [(1, true), (1_000, false)] {
            let until = clock.now().plus(Duration::from_secs(20));
            let mut wire = Wire::connect(address, None, clock, until).unwrap();
            wire.pace = Pace { time: Duration::from_millis(50), bytes: 1_000 };
            let (mut primary, _) = listener.accept().unwrap();
            let sending = std::thread::spawn(move || {
                // Messages of 998 bytes: several spans, until the other side closes.
                let message = [&998_u16.to_be_bytes()[..], &[0; 998]].concat();
                let (_pause, paused) = crossbeam_channel::bounded::<()>(0);
                for piece in message.repeat(60).chunks(len) {
                    if primary.write_all(piece).is_err() {
                        return;
                    }
                    let _ = paused.recv_timeout(Duration::from_millis(5));
                }
            });
            let mut message = Vec::new();
            let ended = (0..60).find_map(|_| wire.receive(&mut message).err());
            let expected = is_slow.then(|| "the primary sends too slowly".to_owned());
            assert_eq!(ended, expected, "pieces of {len}");
            drop(wire);
            sending.join().unwrap();
        }
    }

    #[test]
    fn messages_arrive_whole_and_an_early_end_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, clock) = (listener.local_addr().unwrap(), Clock::start());
        let until = clock.now().plus(Duration::from_secs(20));
        let mut wire = Wire::connect(address, None, clock, until).unwrap();
        let (mut primary, _) = listener.accept().unwrap();
        primary.write_all(b"\0\x03one\0\x03two\0\x05thr").unwrap();
        drop(primary);
        let mut message = Vec::new();
        for expected in [&b"one"[..], b"two"] {
            wire.receive(&mut message).unwrap();
            assert_eq!(message, expected);
        }
        assert_eq!(wire.receive(&mut message).unwrap_err(), "the connection ended early");
        assert_eq!(wire.received(), 15);
    }
}
