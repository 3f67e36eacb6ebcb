//! Programs that a test starts: the forwarder itself and servers of other makers.
//!
//! Each is ended when the test is done with it, however that ends. Nothing here waits for time
//! to pass: a program is ready when it says so or answers.

use crossbeam_channel::Receiver;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// How long a program may take to be ready or to answer.
pub(super) use super::until::TIMEOUT;

/// A program that runs until it is dropped.
pub(super) struct Program {
    child: Child,
    /// What it prints, once somebody reads it.
    lines: Option<Receiver<String>>,
}

impl Program {
    /// Starts `command` and reads its output until `find` finds something in a line.
    pub(super) fn start<T>(
        command: &mut Command,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> (Self, T) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = crossbeam_channel::unbounded();
        // Ends with the program's output, whether anybody still listens or not: a full pipe would
        // stop the program.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let mut program = Self { child, lines: Some(lines) };
        let found =
            program.find(&mut find).unwrap_or_else(|| panic!("{command:?} ended too early"));
        (program, found)
    }

    /// Starts `command`, which says nothing of use.
    pub(super) fn start_silent(command: &mut Command) -> Self {
        Self::of(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// One that was started elsewhere, and whose output is somebody else's.
    pub(super) fn of(child: Child) -> Self {
        Self { child, lines: None }
    }

    /// Waits until it prints a line with `words` in it.
    #[track_caller]
    pub(super) fn wait_for(&mut self, words: &str) -> String {
        let line = self.find(|line| line.contains(words).then(|| line.to_owned()));
        line.unwrap_or_else(|| panic!("it never said {words:?}"))
    }

    fn find<T>(&mut self, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let lines = self.lines.as_ref()?;
        std::iter::from_fn(|| lines.recv_timeout(TIMEOUT).ok()).find_map(|line| find(&line))
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal`, a name as `kill` takes it.
    pub(super) fn signal(&self, signal: &str) {
        send(signal, self.child.id());
    }

    /// Waits for its exit code.
    pub(super) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends it `signal` and waits for its exit code.
    pub(super) fn end(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.wait()
    }
}

/// A process that somebody else started for us, ended when this is dropped.
pub(super) struct Stranger(u32);

impl Stranger {
    /// The process with this number.
    pub(super) fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.0
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        send("TERM", self.0);
    }
}

/// Sends `signal`, a name as `kill` takes it, to a process.
pub(super) fn send(signal: &str, process: u32) {
    let status = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(status.unwrap().success(), "no process {process}");
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The forwarder with these arguments, and the address that it says it listens on.
pub(super) fn onward(arguments: &[&str]) -> (Program, SocketAddr) {
    onward_with(Path::new("."), arguments, &[])
}

/// The same, started in `directory`.
pub(super) fn onward_in(directory: &Path, arguments: &[&str]) -> (Program, SocketAddr) {
    onward_with(directory, arguments, &[])
}

/// The same, with more in its environment.
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

/// The forwarder's whole output, for command lines on which it ends by itself.
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

/// A port on loopback that is free for UDP and TCP, for programs that cannot choose one.
pub(super) fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
