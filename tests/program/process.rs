//! Programs that a test starts: the forwarder itself and servers of other makers.
//!
//! Each is ended when the test is done with it, however that ends. Nothing here waits for time
//! to pass: a program is ready when it says so or answers.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// How long a program may take to be ready or to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A program that runs until it is dropped.
pub(super) struct Program(Child);

impl Program {
    /// Starts `command` and reads its output until `find` finds something in a line.
    pub(super) fn start<T>(command: &mut Command, find: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let mut program = Self(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "{command:?} ended too early");
            if let Some(found) = find(&line) {
                // Whatever else it says must not fill the pipe and stop it.
                program.0.stdout = Some(lines.into_inner());
                return (program, found);
            }
        }
    }

    /// Starts `command`, which says nothing of use.
    pub(super) fn start_silent(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it `signal` (a name as `kill` takes it) and waits for its exit code.
    pub(super) fn end(mut self, signal: &str) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The forwarder with these arguments, and the address that it says it listens on.
pub(super) fn onward(arguments: &[&str]) -> (Program, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    Program::start(command.args(arguments), |line| {
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

/// Whether `program` is installed; says aloud that its test is skipped if not.
pub(super) fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}
