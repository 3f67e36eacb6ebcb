//! HTTP/3 on a connection (RFC 9114 §6.2): the streams in one direction, of both sides.
//!
//! This side has a control stream, with its settings and in the end the last request that was read.
//! Of a client's streams the bytes belong to the room `http`; here they are read and refused.

use super::doq::{Gathered, gather};
use super::outbox::{Full, Outbox};
use crate::http::Limits;
use crate::http::http3::{self, PeerStreams, Violation, code};
use bytes::BytesMut;
use quinn_proto::{Connection, Dir, StreamId, VarInt};

/// HTTP/3 on one connection.
#[derive(Debug, Default)]
pub(super) struct Http3 {
    peer: PeerStreams,
    /// This side's control stream.
    control: Option<StreamId>,
    /// Number of requests that the client has begun.
    begun: u64,
}

impl Http3 {
    /// Opens the control stream. Returns false if the client does not allow it.
    pub(super) fn open(&mut self, connection: &mut Connection, outbox: &mut Outbox) -> bool {
        self.control = connection.streams().open(Dir::Uni);
        let Some(control) = self.control else { return false };
        outbox.send(connection, control, http3::opening(&Limits::DNS).into(), false).is_ok()
    }

    /// Returns the control stream of this side, once it is open.
    pub(super) fn control(&self) -> Option<StreamId> {
        self.control
    }

    /// Notes that the client has begun a request on stream `id`.
    pub(super) fn begins(&mut self, id: StreamId) {
        self.begun = self.begun.max(id.index() + 1);
    }

    /// Reads a stream in one direction. Returns points for bytes without use.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub(super) fn read(&mut self, connection: &mut Connection, id: StreamId) -> Result<u32, u32> {
        let heard = match gather(connection, id, &mut BytesMut::new()) {
            Gathered::Nothing => return Ok(0),
            Gathered::Reset(_) => self.peer.reset(id.index()).map(|()| http3::Heard::RESET),
            Gathered::Bytes { whole, is_ended } => self.peer.receive(id.index(), &whole, is_ended),
        };
        let heard = heard.map_err(|violation| match violation {
            Violation::Stream(code) | Violation::Connection(code) => code,
        })?;
        if heard.is_refused {
            let code = VarInt::from_u32(code::STREAM_CREATION_ERROR);
            // A stream that has ended already says so.
            let _ = connection.recv_stream(id).stop(code);
        }
        Ok(heard.points)
    }

    /// Returns the code to close the connection with, if the client must not stop this side's
    /// stream `id`.
    pub(super) fn stopped(&self, id: StreamId) -> Option<u32> {
        (self.control == Some(id)).then_some(code::CLOSED_CRITICAL_STREAM)
    }

    /// Tells the client which of its requests will not be read: all that it has not begun.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn leave(
        &mut self,
        connection: &mut Connection,
        outbox: &mut Outbox,
    ) -> Result<(), Full> {
        let Some(control) = self.control else { return Ok(()) };
        // Each request has a number of streams that is a multiple of four (RFC 9000 §2.1).
        outbox.send(connection, control, http3::goaway(4 * self.begun).into(), false)
    }
}
