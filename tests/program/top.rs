//! `onward top` on a terminal of its own.
//!
//! Its drawing is tested beside the code; here the subject is the state of the terminal afterwards.

use super::process::{Program, TIMEOUT};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};

/// Both ends of a pseudo-terminal of 80 by 24: the controlling side and the program's.
fn terminal() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&theirs, size).unwrap();
    (ours.into(), theirs)
}

/// Returns true if the terminal is in line mode, as a shell expects.
fn has_lines(terminal: &File) -> bool {
    tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON)
}

#[test]
fn a_signal_restores_the_terminal() {
    for signal in ["TERM", "INT", "HUP"] {
        let (ours, theirs) = terminal();
        assert!(has_lines(&theirs));
        let end = || Stdio::from(theirs.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
        // This port is closed.
        command.args(["top", "127.0.0.1:1"]).stdin(end()).stdout(end()).stderr(end());
        let mut program = Program::of(command.spawn().unwrap());
        let (bytes, written) = crossbeam_channel::unbounded();
        std::thread::spawn(move || {
            BufReader::new(ours).bytes().map_while(Result::ok).try_for_each(|byte| bytes.send(byte))
        });
        let mut shown = Vec::new();
        let mut read = |until: &str| {
            while !shown.ends_with(until.as_bytes()) {
                shown.push(written.recv_timeout(TIMEOUT).expect(until));
            }
        };
        // The alternate screen, and its first line.
        read("\x1b[?1049h");
        read("127.0.0.1");
        assert!(!has_lines(&theirs));
        program.signal(signal);
        assert_eq!(program.wait(), Some(0), "{signal}");
        assert!(has_lines(&theirs), "{signal}");
        read("\x1b[?1049l");
    }
}
