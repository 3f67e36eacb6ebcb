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
    waiting: Vec<(StreamId, Bytes)>,
    len: usize,
}

impl Outbox {
    /// Writes the last bytes of a stream and ends it; what is not accepted waits.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn finish(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        bytes: Bytes,
    ) -> Result<(), Full> {
        let rest = write_last(connection, stream, bytes);
        if !rest.is_empty() {
            self.len += rest.len();
            self.waiting.push((stream, rest));
        }
        if self.len > WAITING_MAX { Err(Full) } else { Ok(()) }
    }

    /// Writes more of what waits for `stream`. Returns true if something was accepted.
    pub(super) fn resume(&mut self, connection: &mut Connection, stream: StreamId) -> bool {
        let Some(place) = self.waiting.iter().position(|(of, _)| *of == stream) else {
            return false;
        };
        let (_, bytes) = self.waiting.swap_remove(place);
        let before = bytes.len();
        let rest = write_last(connection, stream, bytes);
        self.len -= before - rest.len();
        let is_written = rest.len() < before;
        if !rest.is_empty() {
            self.waiting.push((stream, rest));
        }
        is_written
    }

    /// Forgets what waits for `stream`. Returns true if something did.
    pub(super) fn forget(&mut self, stream: StreamId) -> bool {
        let place = self.waiting.iter().position(|(of, _)| *of == stream);
        if let Some(place) = place {
            self.len -= self.waiting.swap_remove(place).1.len();
        }
        place.is_some()
    }

    /// Returns true if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Writes `bytes` and, if all of them were accepted, ends the stream. Returns the rest; nothing is
/// left for a stream that the client has stopped.
fn write_last(connection: &mut Connection, stream: StreamId, bytes: Bytes) -> Bytes {
    let mut send = connection.send_stream(stream);
    let mut chunks = [bytes];
    let [rest] = loop {
        match send.write_chunks(&mut chunks) {
            Ok(written) if written.chunks == 1 => {
                // It fails only for a stream that the client has stopped.
                let _ = send.finish();
                return Bytes::new();
            }
            Ok(_) => {}
            Err(WriteError::Blocked) => break chunks,
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Bytes::new(),
        }
    };
    rest
}
