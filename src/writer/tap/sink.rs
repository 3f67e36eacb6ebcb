//! A receiver of dnstap: its thread, its connection and its queue.
//!
//! The thread blocks on the connection and on slow receivers. Messages that find the queue full,
//! which is bounded by bytes, are dropped and counted, and so are messages without a connection. A
//! failed connect is retried after [`RETRY`], a broken connection at once. Several server blocks,
//! and generations of the configuration, share the sink of one target.

use super::frames;
use crate::clock::Clock;
use crate::config::TapTarget;
use crate::log::{Event, Level, Log, Value};
use crate::moment::Moment;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Delay of the next attempt after a failed connect.
const RETRY: Duration = Duration::from_secs(10);
/// Time-out of a receiver's handshake and reads.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Time-out of the closing handshake, when the process is stopping.
const LEAVE: Duration = Duration::from_millis(300);
/// Maximum number of waiting chunks; their bytes are bounded as well.
const CHUNKS_MAX: usize = 4_096;
/// Maximum of waiting bytes, for each ten thousand messages in the configured queue size.
const BYTES_MAX: usize = 4 << 20;

/// Frames that are sent together.
struct Chunk {
    bytes: Vec<u8>,
    messages: u64,
}

/// State that both sides of the queue share.
#[derive(Default)]
struct Shared {
    /// Bytes in the queue.
    queued: AtomicUsize,
    /// Dropped messages that are not yet logged.
    dropped: AtomicU64,
}

/// Queue of frames for one target. Its thread ends when this is dropped and all is sent.
pub(in super::super) struct Sink {
    target: TapTarget,
    chunks: Sender<Chunk>,
    bytes_max: usize,
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Sink {
    /// Starts the thread of a receiver at `target`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        clock: Clock,
        target: TapTarget,
        queue_x10000: u32,
        log: Log,
    ) -> io::Result<Self> {
        let (sender, chunks) = bounded(CHUNKS_MAX);
        let (ending, ended) = bounded(0);
        let shared = Arc::<Shared>::default();
        let thread = Thread {
            clock,
            log,
            target: target.clone(),
            chunks,
            shared: Arc::clone(&shared),
            connection: None,
            retry_at: Moment::ZERO,
            is_told: false,
        };
        Builder::new().name("dnstap".into()).spawn(move || {
            let _ending: Sender<()> = ending;
            thread.run();
        })?;
        let bytes_max = BYTES_MAX.saturating_mul(queue_x10000 as usize);
        Ok(Self { target, chunks: sender, bytes_max, shared, ended })
    }

    pub(super) fn target(&self) -> &TapTarget {
        &self.target
    }

    /// Puts frames into the queue, or drops them if there is no room. Never waits.
    pub(super) fn send(&self, bytes: Vec<u8>, messages: u64) {
        let len = bytes.len();
        let waits = self.shared.queued.load(Ordering::Relaxed);
        let has_room = waits + len <= self.bytes_max;
        if has_room {
            self.shared.queued.fetch_add(len, Ordering::Relaxed);
        }
        if !has_room || self.chunks.try_send(Chunk { bytes, messages }).is_err() {
            if has_room {
                self.shared.queued.fetch_sub(len, Ordering::Relaxed);
            }
            self.shared.dropped.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Takes the number of messages dropped since the last call.
    pub(in super::super) fn take_dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Ordering::Relaxed)
    }

    /// Closes the queue.
    pub(in super::super) fn close(self) -> Closed {
        Closed { ended: self.ended, shared: self.shared }
    }
}

/// A sink with a closed queue.
pub(in super::super) struct Closed {
    ended: Receiver<()>,
    shared: Arc<Shared>,
}

impl Closed {
    /// Waits until the thread has sent all and closed the connection, at most until `until`.
    /// Returns the number of dropped messages that are not yet logged.
    pub(in super::super) fn wait(self, until: Option<Instant>) -> u64 {
        if let Some(until) = until {
            let _ = self.ended.recv_deadline(until);
        }
        self.shared.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The thread's state.
struct Thread {
    clock: Clock,
    log: Log,
    target: TapTarget,
    chunks: Receiver<Chunk>,
    shared: Arc<Shared>,
    connection: Option<Socket>,
    /// Time of the next attempt to connect.
    retry_at: Moment,
    /// The failure of the connection has been logged.
    is_told: bool,
}

impl Thread {
    fn run(mut self) {
        self.connect();
        loop {
            let chunk = match (&self.connection, self.clock.instant(self.retry_at)) {
                (None, Some(retry)) => self.chunks.recv_deadline(retry),
                _ => self.chunks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match chunk {
                Ok(chunk) => self.write(&chunk),
                Err(RecvTimeoutError::Timeout) => self.connect(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(mut connection) = self.connection {
            // An error does not matter any more: the connection is closed anyway.
            let _ = connection.set_read_timeout(Some(LEAVE));
            let _ = frames::end(&mut connection);
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        self.shared.queued.fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
        let sent = match &mut self.connection {
            Some(connection) => connection.write_all(&chunk.bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if sent.is_err() {
            self.shared.dropped.fetch_add(chunk.messages, Ordering::Relaxed);
            if self.connection.take().is_some() {
                self.connect();
            }
        }
    }

    fn connect(&mut self) {
        let (target, field) = (self.target.clone(), self.target.to_string());
        let fields = [("target", Value::Text(&field))];
        match connect(&target) {
            Ok(connection) => {
                self.connection = Some(connection);
                if std::mem::take(&mut self.is_told) {
                    let event =
                        Event::new(Level::Info, "plugin/dnstap", &"connected to the receiver");
                    self.log.event(&event.with(&fields));
                }
            }
            Err(error) => {
                self.retry_at = self.clock.now().plus(RETRY);
                if !std::mem::replace(&mut self.is_told, true) {
                    let text = format_args!("cannot connect to the receiver: {error}");
                    let event = Event::new(Level::Error, "plugin/dnstap", &text);
                    self.log.event(&event.with(&fields));
                }
            }
        }
    }
}

/// Opens a connection that frames can be written to.
fn connect(target: &TapTarget) -> io::Result<Socket> {
    let connect = |domain: Domain, address: &SockAddr| {
        let mut socket = Socket::new(domain, Type::STREAM, None)?;
        // Time-out of writes, and of the connect itself.
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect(address)?;
        frames::begin(&mut socket)?;
        Ok(socket)
    };
    match target {
        TapTarget::Unix(path) => connect(Domain::UNIX, &SockAddr::unix(path)?),
        TapTarget::Tcp(address) => {
            let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
            for address in address.to_socket_addrs()? {
                outcome = connect(Domain::for_address(address), &address.into());
                if outcome.is_ok() {
                    break;
                }
            }
            outcome
        }
    }
}
