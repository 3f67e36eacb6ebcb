//! The Corefile language: text in, tree of server blocks out.
//!
//! [`parse`] lexes the text, expands imports and snippets, replaces environment references and
//! collects the tokens of each directive per server block. The *meaning* of the tokens is the
//! business of `crate::config`; nothing here knows an address or a duration, and only the standard
//! library is used. Files, directories and variables are read through [`Sources`].
//!
//! The one idea: a token remembers the file and line where it was written, through every import, so
//! that every later error can point there. Input is never trusted to be finite: see [`WORDS_MAX`]
//! and [`TEXT_BYTES_MAX`].

mod cursor;
mod environment;
mod error;
mod external;
mod glob;
mod hints;
mod import;
mod lexer;
mod parser;
mod sources;
mod suggest;

pub(crate) use cursor::Cursor;
pub use error::{Cause, Warning};
pub(crate) use error::{ParseError, Problem};
pub(crate) use hints::Hints;
pub use sources::Sources;
pub(crate) use sources::{read_file, read_text};
pub(crate) use suggest::did_you_mean;

use std::fmt;
use std::sync::Arc;

/// Maximum number of words of one configuration, imports and repeated snippets included. A list of
/// a million names still fits; a file that imports itself ends here.
pub(crate) const WORDS_MAX: usize = 1_000_000;
/// Maximum number of bytes of those words together.
pub(crate) const TEXT_BYTES_MAX: usize = 64 << 20;

/// Maximum number of warnings of one configuration, plus one that says so; no one reads more.
pub const WARNINGS_MAX: usize = 200;

/// The names of all directives, in the order in which they are set up. `status`, `tcp`, `cookies`,
/// `ratelimit` and `late` are onward's own; `rrl` is an external plugin of the reference.
pub const DIRECTIVES: [&str; 66] = [
    "root",
    "metadata",
    "geoip",
    "cancel",
    "proxyproto",
    "quic",
    "grpc_server",
    "https",
    "https3",
    "tcp",
    "timeouts",
    "multisocket",
    "reload",
    "nsid",
    "bufsize",
    "bind",
    "debug",
    "trace",
    "ready",
    "health",
    "pprof",
    "shed",
    "prometheus",
    "status",
    "errors",
    "log",
    "dnstap",
    "cookies",
    "ratelimit",
    "rrl",
    "late",
    "local",
    "dns64",
    "any",
    "chaos",
    "loadbalance",
    "tsig",
    "rewrite",
    "autopath",
    "acl",
    "cache",
    "header",
    "dnssec",
    "tls",
    "minimal",
    "template",
    "transfer",
    "hosts",
    "route53",
    "azure",
    "clouddns",
    "k8s_external",
    "kubernetes",
    "file",
    "auto",
    "secondary",
    "etcd",
    "loop",
    "forward",
    "grpc",
    "erratic",
    "whoami",
    "on",
    "sign",
    "view",
    "nomad",
];

/// Place of a word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The name of the main input as the operator typed it, or the absolute path of an import.
    pub file: Arc<str>,
    /// Counts from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One word of a Corefile. Whether it was quoted is not remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text, without quotes.
    pub text: Arc<str>,
    /// Place of the first character.
    pub place: Place,
    /// Line of its last character: quotes and variables may contain newlines.
    line_end: usize,
}

impl Token {
    fn new(text: &str, place: Place) -> Self {
        let newlines = text.bytes().filter(|&byte| byte == b'\n').count();
        Self { text: text.into(), line_end: place.line + newlines, place }
    }

    fn is(&self, text: &str) -> bool {
        *self.text == *text
    }

    /// Returns true if `next` continues the line on which this token ends. Not the opposite of
    /// [`Self::starts_new_line`]: imports can bring in a token from further up.
    fn continues_with(&self, next: &Self) -> bool {
        self.place.file == next.place.file && self.line_end == next.place.line
    }

    /// Returns true if this token is the first on its line; `previous` is the one read before it.
    fn starts_new_line(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| {
            previous.place.file != self.place.file || previous.line_end < self.place.line
        })
    }
}

/// All uses of one directive within one server block, as one list in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// One of [`DIRECTIVES`].
    pub name: &'static str,
    /// The tokens of all uses, each beginning with the directive's name as written. Never empty.
    pub tokens: Vec<Token>,
}

/// One server block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Keys as written. Never empty.
    pub keys: Vec<Token>,
    /// Directives, in the order of their first use.
    pub directives: Vec<Directive>,
}

/// A configuration, parsed but not yet interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corefile {
    /// The server blocks, in the order of the file.
    pub blocks: Vec<Block>,
    pub(crate) warnings: Vec<Warning>,
    /// Mistakes that do not stop the parser, at most [`WARNINGS_MAX`]: directives that are none of
    /// [`DIRECTIVES`], each with advice, and imports that cannot be read. Both are left out of the
    /// blocks.
    pub(crate) missing: Vec<ParseError>,
    /// Causes of errors that later readers find.
    pub(crate) hints: Hints,
}

/// Parses `text`, the content of the file that the operator calls `display_name`.
///
/// # Errors
/// The first mistake found, in the order of the file. An unknown directive alone is not an error.
/// If an import cannot be read, a later mistake is returned beside it, in [`Corefile::missing`],
/// and there is no block.
pub fn parse(text: &[u8], display_name: &str, sources: &Sources) -> Result<Corefile, ParseError> {
    parser::Parser::new(text, display_name, sources)?.parse()
}

#[cfg(test)]
mod tests;
