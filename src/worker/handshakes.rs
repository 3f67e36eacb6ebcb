//! TLS handshakes with upstreams: reporting to the engine.
//!
//! The module `tcp` reads and writes the bytes, and `tls` verifies certificates; this one reports
//! an established connection to the engine and flushes its queries.

use super::fault_of;
use super::turn::EventLoop;
use super::upstream::Socket;
use crate::engine::ConnectionId;
use crate::moment::Moment;

impl EventLoop<'_> {
    /// Continues a TLS connection after a read: reports a completed handshake, and writes handshake
    /// records and queued queries.
    pub(super) fn go_on_in_tls(&mut self, now: Moment, id: ConnectionId, was_open: bool) {
        let Some(Socket::Tcp(connection)) = self.sockets.get(id) else { return };
        if !was_open && connection.is_open() {
            self.engine.on_secured(now, id, connection.is_resumed());
        }
        if let Err(error) = connection.flush() {
            connection.break_down(fault_of(&error));
            self.queue_connection(id);
        }
    }
}
