//! Bytes for streams that QUIC does not accept yet, because the client reads slowly.
//!
//! A reply is normally accepted whole. If the client's credit or the window for unacknowledged
//! bytes is too small, the rest waits here until the stream is writable again. A connection for
//! which too much waits is closed.

use bytes::Bytes;
use quinn_proto::{Connection, StreamId, WriteError};

/// Maximum number of bytes that wait on a connection: four replies of maximum length.
pub(super) const WAITING_MAX: usize = 4 * 65_537;

/// More than [`WAITING_MAX`] bytes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Bytes that wait, by stream.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Vec<Waiting>,
    len: usize,
}

/// Bytes that wait for a stream.
#[derive(Debug)]
struct Waiting {
    stream: StreamId,
    bytes: Bytes,
    /// The stream ends behind them.
    is_last: bool,
}

impl Outbox {
    /// Writes bytes of a stream; the others wait. `is_last`: the stream ends behind
    /// them.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn send(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        bytes: Bytes,
        is_last: bool,
    ) -> Result<(), Full> {
        let before = self.take(stream).map_or(Bytes::new(), |waiting| waiting.bytes);
        let bytes = if before.is_empty() { bytes } else { [before, bytes].concat().into() };
        self.put(connection, Waiting { stream, bytes, is_last });
        if self.len > WAITING_MAX { Err(Full) } else { Ok(()) }
    }

    /// Writes more of what waits for `stream`. Returns true if something was accepted.
    pub(super) fn resume(&mut self, connection: &mut Connection, stream: StreamId) -> bool {
        let Some(waiting) = self.take(stream) else { return false };
        self.put(connection, waiting)
    }

    /// Writes bytes. Returns true if some were accepted; the rest waits.
    fn put(&mut self, connection: &mut Connection, mut waiting: Waiting) -> bool {
        let before = waiting.bytes.len();
        let Waiting { stream, is_last, .. } = waiting;
        waiting.bytes = write(connection, stream, waiting.bytes, is_last);
        let rest = waiting.bytes.len();
        if rest > 0 {
            self.len += rest;
            self.waiting.push(waiting);
        }
        rest < before
    }

    /// Takes out what waits for `stream`.
    fn take(&mut self, stream: StreamId) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.stream == stream)?;
        let waiting = self.waiting.swap_remove(place);
        self.len -= waiting.bytes.len();
        Some(waiting)
    }

    /// Forgets what waits for `stream`. Returns true if something did.
    pub(super) fn forget(&mut self, stream: StreamId) -> bool {
        self.take(stream).is_some()
    }

    /// Returns true if nothing waits, except for the stream `other`.
    pub(super) fn is_empty_but_for(&self, other: Option<StreamId>) -> bool {
        self.waiting.iter().all(|waiting| Some(waiting.stream) == other)
    }
}

/// Writes `bytes` and, if all of them were accepted and are the last, ends the stream. Returns the
/// rest; nothing is left for a stream that the client has stopped.
fn write(connection: &mut Connection, stream: StreamId, bytes: Bytes, is_last: bool) -> Bytes {
    let mut send = connection.send_stream(stream);
    let mut chunks = [bytes];
    let [rest] = loop {
        match send.write_chunks(&mut chunks) {
            Ok(written) if written.chunks == 1 => {
                if is_last {
                    // It fails only for a stream that the client has stopped.
                    let _ = send.finish();
                }
                return Bytes::new();
            }
            Ok(_) => {}
            Err(WriteError::Blocked) => break chunks,
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Bytes::new(),
        }
    };
    rest
}
