//! `onward top`: the numbers of the status page, live on a terminal or once as text.
//!
//! One thread fetches ([`mod@fetch`]), this one draws ([`screen`]) and reads keys, so that a server
//! that does not respond does not delay `q`. The terminal is restored, however this ends. The lines
//! and their contents are in `sections` and `lines`. Only the status of a server is needed: it may
//! be on another host, and of another version.

pub mod fetch;
mod lines;
pub mod screen;
mod sections;

use crate::clock::Clock;
use crate::figures::seconds;
use crate::status::Status;
use crate::sys::signals::Signals;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fetch::{FetchError, TIMEOUT, fetch};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use screen::{View, printed};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Interval at which keys and statuses are polled.
const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopOptions {
    /// Address of `status`.
    pub(crate) address: String,
    /// Refresh interval.
    pub(crate) interval: Duration,
    /// Print the status once, as text.
    pub(crate) once: bool,
}

/// Reason why `top` failed.
#[derive(Debug)]
pub(crate) enum TopError {
    /// The fetch from this address failed.
    Fetch(String, FetchError),
    /// Standard output is no terminal.
    NoTerminal,
    /// The terminal failed.
    Io(io::Error),
}

impl fmt::Display for TopError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(address, error) => {
                write!(out, "no status from {}: {error}", crate::figures::visible(address, 100))
            }
            Self::NoTerminal => {
                out.write_str("standard output is not a terminal; use `onward top --once`")
            }
            Self::Io(error) => write!(out, "terminal: {error}"),
        }
    }
}

impl std::error::Error for TopError {}

/// Shows the status until the user quits.
///
/// # Errors
/// See [`TopError`]. Once a status is shown, a server that does not respond is no error.
pub(crate) fn run(options: &TopOptions) -> Result<(), TopError> {
    let clock = Clock::start();
    if options.once {
        let status = fetch(&options.address, &clock, TIMEOUT);
        let status = status.map_err(|error| TopError::Fetch(options.address.clone(), error))?;
        // The reader may have closed the pipe.
        let _ = io::stdout().write_all(printed(&status).as_bytes());
        return Ok(());
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    // Blocked before the terminal is changed, because a killed program could not restore it.
    let signals = Signals::block().map_err(TopError::Io)?;
    let shown = ratatui::try_init().and_then(|terminal| show(terminal, options, clock, &signals));
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(TopError::Io)
}

fn show(
    mut terminal: DefaultTerminal,
    options: &TopOptions,
    clock: Clock,
    signals: &Signals,
) -> io::Result<()> {
    let mut view =
        View::new(&options.address, seconds(options.interval.as_secs_f64()), clock.now());
    let (answers, answered) = bounded(1);
    // Dropped at the end, which stops the other thread.
    let (_end, ended) = bounded(0);
    let asked = options.clone();
    std::thread::Builder::new()
        .name("onward-top".into())
        .spawn(move || ask(&asked, &clock, &answers, &ended))?;
    loop {
        match answered.try_recv() {
            Ok(Ok(status)) => view.answered(status, clock.now()),
            Ok(Err(error)) => view.failed(error.to_string()),
            Err(_) => {}
        }
        if signals.wait(Some(Duration::ZERO))?.is_some() {
            return Ok(());
        }
        terminal.draw(|frame| view.draw(frame, clock.now()))?;
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
            && view.key(key)
        {
            return Ok(());
        }
    }
}

/// Fetches the status repeatedly until the receiver is dropped.
fn ask(
    options: &TopOptions,
    clock: &Clock,
    answers: &Sender<Result<Status, FetchError>>,
    ended: &Receiver<()>,
) {
    loop {
        if answers.send(fetch(&options.address, clock, TIMEOUT)).is_err() {
            return;
        }
        match ended.recv_timeout(options.interval) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}
