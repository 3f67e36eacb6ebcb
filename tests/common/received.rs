//! Bytes that a client over QUIC receives on a stream.
//!
//! Shared by the client on a socket and by the tests in memory.

use quinn_proto::{Connection, ReadError, StreamId};

/// Bytes and end of a stream, as the client sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_finished: bool,
    /// Code of the reset.
    pub(crate) reset: Option<u64>,
    /// Code by which the server stops reading.
    pub(crate) stopped: Option<u64>,
}

impl Received {
    /// Reads all that has arrived on stream `id`.
    pub(crate) fn read(&mut self, connection: &mut Connection, id: StreamId) {
        let mut stream = connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => self.bytes.extend_from_slice(&chunk.bytes),
                Ok(None) => {
                    self.is_finished = true;
                    break;
                }
                Err(ReadError::Reset(code)) => {
                    self.reset = Some(code.into_inner());
                    break;
                }
                Err(ReadError::Blocked) => break,
            }
        }
        let _ = chunks.finalize();
    }
}
