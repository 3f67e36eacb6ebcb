//! Reading the configuration and all files and names in it, on threads that may block.
//!
//! The first thread receives signals and feeds the watchdog, so it reads no file and looks up no
//! name. [`load`] is one attempt, from the text to a configuration that can take effect at once;
//! [`look`] is the periodic check for changes. Both report each step, so that the log can name a
//! file or a resolver that does not answer; neither changes anything.

use super::watch::Seen;
use crate::blocking::Steps;
use crate::check::Refusal;
use crate::config::{Config, Pem};
use crate::corefile::{self, Cause, Corefile, ParseError, Warning};
use crate::host;
use crate::options::{CliError, Serve, Source};
use crate::server::{Before, Prepared};
use std::sync::Arc;

/// Parameters of a load.
pub(super) struct Request {
    pub(super) options: Serve,
    pub(super) workers: usize,
    /// Parts of the current configuration; `None`: there is none yet.
    pub(super) before: Option<Before>,
}

/// Result of a load.
pub(super) struct Loaded {
    /// The parsed Corefile, if it could be read and parsed.
    pub(super) tree: Option<Arc<Corefile>>,
    pub(super) outcome: Result<Ready, Refusal>,
}

/// A configuration that can take effect at once.
pub(super) struct Ready {
    pub(super) prepared: Prepared,
    pub(super) warnings: Vec<Warning>,
}

/// Reads the configuration once.
pub(super) fn load(request: &Request, steps: &Steps) -> Loaded {
    let source = &request.options.source;
    let read = match request.before {
        None => source.load(steps),
        Some(_) => source.load_again(steps),
    };
    let (name, text) = match read {
        Ok(read) => read,
        Err(error) => return Loaded { tree: None, outcome: Err(Refusal::CommandLine(error)) },
    };
    let tree = tree(&name, &text, steps).ok().map(Arc::new);
    Loaded { tree, outcome: understand(request, &name, &text, steps) }
}

fn understand(request: &Request, name: &str, text: &[u8], steps: &Steps) -> Result<Ready, Refusal> {
    let Request { options, workers, before } = request;
    let host = host::describe(*workers, options.dns_port, steps).map_err(Refusal::Host)?;
    let (config, warnings) = Config::load(text, name, &host).map_err(Refusal::Config)?;
    let prepared = Prepared::new(config, before.as_ref(), steps).map_err(Refusal::Start)?;
    Ok(Ready { prepared, warnings })
}

/// Result of a check for changes.
pub(super) enum Look {
    /// Nothing new.
    Unchanged,
    /// The text differs from the one that was tried last.
    Text,
    /// Certificate or key files have changed, to these contents.
    Certificates(Vec<Pem>),
}

/// Compares the text and the files with `seen`.
///
/// # Errors
/// The text cannot be read or parsed. That counts as no change: it may be half written.
pub(super) fn look(source: &Source, seen: Seen, steps: &Steps) -> Result<Look, String> {
    let tree = read_tree(source, steps)?;
    if seen.differs(&tree) {
        return Ok(Look::Text);
    }
    let sources = host::sources(steps).map_err(|error| error.to_string())?;
    Ok(seen.certificates(&sources).map_or(Look::Unchanged, Look::Certificates))
}

/// Returns the parsed text of the source as it is now.
///
/// # Errors
/// The file cannot be read or parsed.
pub(super) fn read_tree(source: &Source, steps: &Steps) -> Result<Corefile, String> {
    let told = |error: CliError| error.to_string();
    let (name, text) = source.load_again(steps).map_err(told)?;
    tree(&name, &text, steps)
}

/// Returns the parsed `text`.
fn tree(name: &str, text: &[u8], steps: &Steps) -> Result<Corefile, String> {
    let sources = host::sources(steps).map_err(|error| error.to_string())?;
    let failed = |error: &ParseError| format!("Corefile parse failed: {error}");
    let tree = corefile::parse(text, name, &sources).map_err(|error| failed(&error))?;
    // An import that cannot be read is reported beside mistakes of the text.
    match tree.missing.iter().find(|error| error.cause() == Cause::Host) {
        Some(error) => Err(failed(error)),
        None => Ok(tree),
    }
}
