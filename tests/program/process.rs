//! Child processes of a test: the forwarder itself and third-party servers.
//!
//! Each is killed at the end of its test. Nothing here sleeps: a program is ready when it prints so
//! or responds.

use crossbeam_channel::Receiver;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Deadline for a program to become ready or to respond.
pub(super) use super::until::TIMEOUT;

/// A program that runs until it is dropped.
pub(super) struct Program {
    child: Child,
    /// Lines of its output, once read.
    lines: Option<Receiver<String>>,
}

impl Program {
    /// Starts `command` and reads its output until `find` returns a value for a line.
    pub(super) fn start<T>(
        command: &mut Command,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> (Self, T) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = crossbeam_channel::unbounded();
        // Reads until the end of the output, with or without a receiver, because a full pipe would
        // stop the program.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let mut program = Self { child, lines: Some(lines) };
        let found =
            program.find(&mut find).unwrap_or_else(|| panic!("{command:?} ended too early"));
        (program, found)
    }

    /// Starts `command`, whose output is ignored.
    pub(super) fn start_silent(command: &mut Command) -> Self {
        Self::of(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Wraps a process that was started elsewhere, without its output.
    pub(super) fn of(child: Child) -> Self {
        Self { child, lines: None }
    }

    /// Waits until the program prints a line that contains `words`.
    #[track_caller]
    pub(super) fn wait_for(&mut self, words: &str) -> String {
        let line = self.find(|line| line.contains(words).then(|| line.to_owned()));
        line.unwrap_or_else(|| panic!("it never said {words:?}"))
    }

    /// Returns true if the program has printed such a line since it was asked last.
    pub(super) fn has_said(&mut self, words: &str) -> bool {
        let lines = self.lines.iter().flat_map(Receiver::try_iter);
        lines.filter(|line| line.contains(words)).count() > 0
    }

    fn find<T>(&mut self, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let lines = self.lines.as_ref()?;
        std::iter::from_fn(|| lines.recv_timeout(TIMEOUT).ok()).find_map(|line| find(&line))
    }

    /// The process ID.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`, a name as for `kill`.
    pub(super) fn signal(&self, signal: &str) {
        send(signal, self.child.id());
    }

    /// Waits for the exit code.
    pub(super) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends `signal` and waits for the exit code.
    pub(super) fn end(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.wait()
    }
}

/// A process started by another program, killed on drop.
pub(super) struct Stranger(u32);

impl Stranger {
    pub(super) fn new(number: u32) -> Self {
        Self(number)
    }

    pub(super) fn id(&self) -> u32 {
        self.0
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        send("TERM", self.0);
    }
}

/// Sends `signal`, a name as for `kill`, to a process.
pub(super) fn send(signal: &str, process: u32) {
    let status = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(status.unwrap().success(), "no process {process}");
}

impl Drop for Program {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the forwarder with these arguments; returns its address as printed.
pub(super) fn onward(arguments: &[&str]) -> (Program, SocketAddr) {
    onward_with(Path::new("."), arguments, &[])
}

/// The same, started in `directory`.
pub(super) fn onward_in(directory: &Path, arguments: &[&str]) -> (Program, SocketAddr) {
    onward_with(directory, arguments, &[])
}

/// The same, with additional environment variables.
pub(super) fn onward_with(
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Program, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(arguments).current_dir(directory).envs(environment.iter().copied());
    Program::start(&mut command, |line| {
        let rest = line.strip_prefix("onward listens on ")?;
        rest.split(',').next()?.parse().ok()
    })
}

/// Runs the forwarder with a command line on which it exits; returns its output.
pub(super) fn onward_output(arguments: &[&str], directory: &PathBuf) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(arguments).current_dir(directory).output().unwrap()
}

/// An empty directory for the files of the test called `test`.
pub(super) fn directory(test: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Sockets of both kinds on one port of loopback. The port that the kernel gives for UDP may be in
/// use for TCP.
pub(super) fn bound_pair() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// A port on loopback that is free for UDP and TCP, for programs that cannot choose one.
pub(super) fn free_port() -> u16 {
    bound_pair().0.local_addr().unwrap().port()
}
