//! Handshakes with upstreams, as far as the turn has to do with them.
//!
//! What a read through TLS has brought is a connection's own business; what follows from it for the
//! engine, that the connection is connected and its queries may leave, is said here. The bytes are
//! `connection`'s, and who is believed is the room `tls`'s.

use super::fault_of;
use super::turn::EventLoop;
use super::upstream::Socket;
use crate::engine::ConnectionId;
use crate::moment::Moment;

impl EventLoop<'_> {
    /// A TLS connection has been read, which may have brought its handshake nearer to its end: what
    /// that takes is written, and what has waited for it.
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
