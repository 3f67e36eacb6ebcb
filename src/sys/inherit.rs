//! Listening sockets that pass from one process to the next.
//!
//! Either systemd opened them before it started us (`LISTEN_FDS`, sd_listen_fds(3)), or the
//! previous process passes its own during an upgrade ([`Passed`]). Taken once, at the start, before
//! any thread exists and any other descriptor is opened.

use super::cvt;
use socket2::{Socket, Type};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that systemd passes, with or without names.
const LISTEN_FDS_START: RawFd = 3;
/// More than any configuration has: a larger number is not meant for us.
const DESCRIPTORS_MAX: RawFd = 65_536;
/// Environment variable of a process that takes over: its inherited sockets.
pub(crate) const PASSED: &str = "ONWARD_SOCKETS";
/// Environment variable of a process that takes over: the descriptor for its readiness message.
pub(crate) const READY: &str = "ONWARD_READY";

/// Length of the secret that a process passes with its sockets: the root of keys by which clients
/// know both processes as one.
pub(crate) const SECRET_LEN: usize = 32;

/// Inherited descriptors have been taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Sockets that were open before this process began.
#[derive(Default)]
pub struct Inherited {
    /// UDP sockets, by bound address.
    pub(crate) datagrams: Vec<(SocketAddr, UdpSocket)>,
    /// TCP listeners, by bound address.
    pub(crate) acceptors: Vec<(SocketAddr, TcpListener)>,
    /// Descriptions of other descriptors.
    others: Vec<String>,
    /// Socket on which the previous process waits for the readiness message.
    waiting: Option<UnixStream>,
    /// Secret of the previous process.
    pub(crate) secret: Option<[u8; SECRET_LEN]>,
    /// The same socket, for what the previous process sends after the secret.
    pub(crate) heritage: Option<UnixStream>,
}

impl fmt::Debug for Inherited {
    /// Leaves out the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("datagrams", &self.datagrams)
            .field("acceptors", &self.acceptors)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

impl Inherited {
    /// Takes the sockets named in the environment; the second time there are none. Descriptors that
    /// are no listening internet sockets are closed. Call this before any other descriptor is
    /// opened, because a wrong number in the environment could name that one.
    ///
    /// # Errors
    /// The environment names descriptors that are not open.
    pub(crate) fn take() -> io::Result<Self> {
        let mut inherited = Self::default();
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(inherited);
        }
        let variable = |name: &str| std::env::var(name).ok();
        for descriptor in named(std::process::id(), variable) {
            inherited.sort_in(Socket::from(own(descriptor)?))?;
        }
        if let Some(descriptor) = variable(READY).and_then(|number| number.parse().ok()) {
            let mut waiting = UnixStream::from(own(descriptor)?);
            inherited.secret = read_secret(&mut waiting)?;
            inherited.heritage = inherited.secret.and_then(|_| waiting.try_clone().ok());
            inherited.waiting = Some(waiting);
        }
        Ok(inherited)
    }

    /// Returns descriptions of the sockets that are left: each address once.
    pub(crate) fn unused(self) -> Vec<String> {
        let datagrams = self.datagrams.iter().map(|(address, _)| format!("udp {address}"));
        let acceptors = self.acceptors.iter().map(|(address, _)| format!("tcp {address}"));
        let mut all: Vec<_> = datagrams.chain(acceptors).chain(self.others).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Takes the socket for the readiness message.
    pub(crate) fn take_ready(&mut self) -> Ready {
        Ready(self.waiting.take())
    }

    fn sort_in(&mut self, socket: Socket) -> io::Result<()> {
        let Some(address) = socket.local_addr().ok().and_then(|address| address.as_socket()) else {
            self.others.push("not an internet socket".into());
            return Ok(());
        };
        socket.set_nonblocking(true)?;
        match socket.r#type()? {
            Type::DGRAM => self.datagrams.push((address, socket.into())),
            Type::STREAM if socket.is_listener()? => {
                self.acceptors.push((address, socket.into()));
            }
            _ => self.others.push(format!("a connected socket at {address}")),
        }
        Ok(())
    }
}

/// Socket for the readiness message to the previous process, if there is one.
#[derive(Debug)]
pub(crate) struct Ready(Option<UnixStream>);

impl Ready {
    /// Sends the readiness message.
    pub(crate) fn tell(self) {
        // The previous process may have given up waiting.
        let _ = self.0.map(|mut waiting| waiting.write_all(b"1"));
    }
}

/// Reads the secret that the previous process has written before it started this one. `None`: it
/// has written none.
fn read_secret(waiting: &mut UnixStream) -> io::Result<Option<[u8; SECRET_LEN]>> {
    let mut secret = [0; SECRET_LEN];
    waiting.set_nonblocking(true)?;
    let read = waiting.read_exact(&mut secret);
    waiting.set_nonblocking(false)?;
    Ok(read.is_ok().then_some(secret))
}

/// Takes ownership of the descriptor with this number and sets close-on-exec.
///
/// # Errors
/// The descriptor is not open.
fn own(descriptor: RawFd) -> io::Result<OwnedFd> {
    cvt(|| {
        // SAFETY: the call sets a flag on a number, and fails if that is not open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) }
    })?;
    // SAFETY: it is open, it was passed to this process for this use, and only the first call of
    // `take` gets here, so there is no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Returns the descriptors that the environment assigns to the process `pid`.
fn named(pid: u32, variable: impl Fn(&str) -> Option<String>) -> Vec<RawFd> {
    if let Some(list) = variable(PASSED) {
        return list.split(',').filter_map(|number| number.parse().ok()).collect();
    }
    let number = |name| variable(name).and_then(|text| text.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(to), Some(count)) if to == pid => {
            let count = RawFd::try_from(count).map_or(0, |count| count.min(DESCRIPTORS_MAX));
            (LISTEN_FDS_START..LISTEN_FDS_START + count).collect()
        }
        _ => Vec::new(),
    }
}

/// Copies of sockets that stay open across exec until they are dropped.
#[derive(Debug, Default)]
pub struct Passed(Vec<OwnedFd>);

impl Passed {
    /// Adds a copy of `socket`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn add(&mut self, socket: &impl AsRawFd) -> io::Result<RawFd> {
        let copy = cvt(|| {
            // SAFETY: dup takes a number; the copy is not closed when a program is started.
            unsafe { libc::dup(socket.as_raw_fd()) }
        })?;
        let copy = RawFd::try_from(copy).unwrap_or(RawFd::MAX);
        // SAFETY: the descriptor was opened just now and has no other owner.
        self.0.push(unsafe { OwnedFd::from_raw_fd(copy) });
        Ok(copy)
    }

    /// Returns the value of [`PASSED`].
    pub(crate) fn list(&self) -> String {
        let numbers: Vec<_> = self.0.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        numbers.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::{Inherited, Passed, SECRET_LEN, named, read_secret};
    use socket2::Socket;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn from(pid: u32, environment: &[(&str, &str)]) -> Vec<i32> {
        named(pid, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_secret_is_not_printed() {
        let inherited = Inherited { secret: Some([213; SECRET_LEN]), ..Inherited::default() };
        let printed = format!("{inherited:?}");
        assert!(printed.contains("datagrams") && !printed.contains("213"), "{printed}");
    }

    #[test]
    fn descriptors_for_another_process_are_ignored() {
        let systemd = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2")];
        assert_eq!(from(7, &systemd), [3, 4]);
        assert!(from(8, &systemd).is_empty());
        assert!(from(7, &[("LISTEN_FDS", "2")]).is_empty());
        assert!(from(7, &[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")]).is_empty());
        assert_eq!(from(7, &[("ONWARD_SOCKETS", "12,9")]), [12, 9]);
    }

    #[test]
    fn sockets_are_sorted_by_transport() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let acceptor = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
        let (udp, tcp) = (datagrams.local_addr().unwrap(), acceptor.local_addr().unwrap());
        let mut inherited = Inherited::default();
        for socket in [Socket::from(datagrams), acceptor.into(), stream.into()] {
            inherited.sort_in(socket).unwrap();
        }
        assert_eq!(inherited.datagrams.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [udp]);
        assert_eq!(inherited.acceptors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [tcp]);
        inherited.sort_in(UnixDatagram::unbound().unwrap().into()).unwrap();
        let unused = inherited.unused();
        assert_eq!(
            unused[1..],
            ["not an internet socket".to_owned(), format!("tcp {tcp}"), format!("udp {udp}")]
        );
        assert!(unused[0].starts_with("a connected socket at 127.0.0.1:"), "{unused:?}");
    }

    #[test]
    fn a_secret_is_read_if_there_is_one() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(read_secret(&mut theirs).unwrap(), None);
        ours.write_all(&[7; SECRET_LEN]).unwrap();
        assert_eq!(read_secret(&mut theirs).unwrap(), Some([7; SECRET_LEN]));
    }

    #[test]
    fn copies_are_listed_and_closed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut passed = Passed::default();
        let (first, second) = (passed.add(&socket).unwrap(), passed.add(&socket).unwrap());
        assert_eq!(passed.list(), format!("{first},{second}"));
    }
}
