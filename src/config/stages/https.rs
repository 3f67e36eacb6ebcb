//! `https { max_connections N; max_per_client N; path PATH...; forwarded CIDR... }`
//!
//! `https`: settings of `https://` listeners (RFC 8484). The limits are those of `tcp`, of the
//! reference's only `max_connections`; `path` names the paths of DNS queries. Proxies in
//! `forwarded` name their clients in `X-Forwarded-For` or `Forwarded`.

use super::super::ListenerLimits;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::net::Net;
use super::once;
use super::tcp::{read_block, write_limits};
use crate::corefile::{Cursor, Token};
use std::fmt;

/// Path of queries without the option `path`, as in the reference.
pub(crate) const DEFAULT_PATH: &str = "/dns-query";
/// Maximum length of a path.
const PATH_LEN_MAX: usize = 256;
/// Maximum number of paths.
const PATHS_MAX: usize = 16;

/// Settings of `https://` listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Https {
    /// Limits of connections.
    pub(crate) limits: ListenerLimits,
    /// Paths of queries, without a query part. Empty: not written.
    pub(crate) paths: Vec<String>,
    /// Proxies that pass on the addresses of their clients. Empty: not written.
    pub(crate) forwarded: Vec<Net>,
}

/// Reads the `https` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Https>, DirectiveError> {
    let Some(stanza) = context.stanza("https", cursor) else { return Ok(None) };
    let mut https = Https::default();
    let Https { limits, paths, forwarded } = &mut https;
    read_block(cursor, limits, &["path", "forwarded"], |property, cursor| {
        for word in cursor.expect_rest()? {
            match &*property.text {
                "path" => paths.push(path(word)?),
                _ => forwarded.push(net(word)?),
            }
        }
        Ok(())
    })?;
    if https.paths.len() > PATHS_MAX {
        return Err(DirectiveError::value(stanza, format!("more than {PATHS_MAX} paths")));
    }
    once(cursor)?;
    Ok(Some(https))
}

/// Reads the addresses of proxies.
fn net(word: &Token) -> Result<Net, DirectiveError> {
    Net::parse(&word.text).ok_or_else(|| {
        let message = format!("forwarded '{}': expected an address or a CIDR", word.text);
        DirectiveError::value(word, message)
    })
}

/// Reads a path: absolute, of visible ASCII characters, without a query part.
fn path(written: &Token) -> Result<String, DirectiveError> {
    let text = &written.text;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if text.starts_with('/') && text.len() <= PATH_LEN_MAX && text.bytes().all(is_plain) {
        return Ok(text.to_string());
    }
    let message = format!(
        "path '{text}': expected a path that begins with '/', of at most {PATH_LEN_MAX} visible \
         ASCII characters without '?' and '#'"
    );
    Err(DirectiveError::value(written, message))
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<Https>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Https { limits, paths, forwarded }) = settings else { return Ok(()) };
    writeln!(f, "    https {{")?;
    write_limits(limits, f)?;
    if !paths.is_empty() {
        writeln!(f, "        path {}", paths.join(" "))?;
    }
    if !forwarded.is_empty() {
        let nets: Vec<_> = forwarded.iter().map(ToString::to_string).collect();
        writeln!(f, "        forwarded {}", nets.join(" "))?;
    }
    writeln!(f, "    }}")
}
