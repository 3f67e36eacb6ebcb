//! Confinement of the process and its threads before the first packet.
//!
//! The process switches to the configured account once everything is bound. Threads that move
//! packets give up their capabilities, files and programs ([`Bounds::Packets`]); threads that also
//! read files give up programs only. The first thread keeps files and programs: it starts the
//! threads that read the configuration again, and the process that takes over. If the kernel cannot
//! confine, a warning is logged and onward serves all the same.

use super::StartError;
use crate::log::{Event, Level, Log};
use crate::sys::account::{Account, forgo_capabilities};
use crate::sys::confine::{Bounds, confine};
use std::io;
use std::thread::{Builder, JoinHandle};

/// Settings of the confinement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The account to switch to.
    pub(crate) user: Option<Account>,
    /// Threads are confined.
    pub(crate) sandbox: bool,
}

impl Confinement {
    /// Returns the account called `name`; the lookup may block.
    ///
    /// # Errors
    /// [`StartError::Account`].
    pub(crate) fn find(name: &str) -> Result<Account, StartError> {
        let failed = |error| StartError::Account(name.to_owned(), error);
        let none = || io::Error::new(io::ErrorKind::NotFound, "this host has no such user");
        Account::find(name).map_err(failed)?.ok_or_else(none).map_err(failed)
    }

    /// Switches to the account.
    ///
    /// # Errors
    /// [`StartError::Account`].
    pub(super) fn become_account(&self) -> Result<(), StartError> {
        let Some(account) = &self.user else { return Ok(()) };
        let failed = |error| StartError::Account(account.name().to_string_lossy().into(), error);
        account.enter().map_err(failed)
    }

    /// Returns the sandbox of threads; failures are logged to `log`.
    pub(super) fn sandbox(&self, log: Log) -> Sandbox {
        Sandbox { on: self.sandbox, log }
    }
}

/// Confinement of threads.
#[derive(Clone, Copy)]
pub(super) struct Sandbox {
    on: bool,
    log: Log,
}

impl Sandbox {
    /// Starts a thread that runs `body` within `bounds`, if threads are confined.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn spawn(
        self,
        name: &str,
        bounds: Bounds,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        Builder::new().name(name.to_owned()).spawn(move || {
            self.enter(bounds);
            body();
        })
    }

    fn enter(self, bounds: Bounds) {
        if !self.on {
            return;
        }
        if let Err(error) = forgo_capabilities().and_then(|()| confine(bounds)) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            let text = format_args!(
                "thread {name} runs without the sandbox: {error}; pass --no-sandbox if the kernel \
                 does not support it"
            );
            self.log.event(&Event::new(Level::Warning, "onward", &text).alone());
        }
    }
}
