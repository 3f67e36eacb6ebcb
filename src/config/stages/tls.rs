//! `tls CERT KEY [CA] { client_auth MODE }`
//!
//! `tls`: certificate and key of the block's `tls://` listeners. Of several stanzas the last
//! applies. Paths begin at `root`. The files are read here and understood in the room `tls`.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::tls::{self, ClientAuth, ServerTls};
use super::super::word::Word;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;
use std::sync::Arc;

/// Reads all `tls` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Arc<ServerTls>>, DirectiveError> {
    let mut last = None;
    while let Some(stanza) = context.stanza("tls", cursor) {
        context.warn_of_earlier("tls", last.is_some(), &stanza.place);
        let paths = cursor.rest();
        if paths.is_empty() {
            return Err(DirectiveError::not_built(stanza, "a certificate by ACME"));
        }
        if !(2..=3).contains(&paths.len()) {
            return Err(cursor.argument_error().into());
        }
        let file = |path| tls::read_file(path, context.root, context);
        let (certificate, key) = (file(paths[0])?, file(paths[1])?);
        let authorities = paths.get(2).map(|path| file(path)).transpose()?;
        let mut client_auth = ClientAuth::default();
        while let Some(property) = cursor.block() {
            match &*property.text {
                "client_auth" => {
                    let mode = cursor.expect_arg()?;
                    let known = ClientAuth::NAMES.iter().find(|(name, _)| *name == &*mode.text);
                    client_auth = known.map(|(_, mode)| *mode).ok_or_else(|| {
                        let names = ClientAuth::NAMES.map(|(name, _)| name);
                        let suggestion = did_you_mean(&mode.text, names);
                        let message =
                            format!("unknown authentication type '{}'{suggestion}", mode.text);
                        ParseError::at(mode, message)
                    })?;
                }
                "keylog" => {
                    context.lacks(property, "option 'keylog' of tls");
                    cursor.rest();
                }
                other => {
                    let suggestion = did_you_mean(other, ["client_auth", "keylog"]);
                    let message = format!("unknown option '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        last = Some(Arc::new(ServerTls { certificate, key, authorities, client_auth }));
    }
    Ok(last)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Arc<ServerTls>>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(settings) = settings else { return Ok(()) };
    write!(f, "    tls {} {}", Word(&settings.certificate.path), Word(&settings.key.path))?;
    settings.authorities.iter().try_for_each(|file| write!(f, " {}", Word(&file.path)))?;
    writeln!(f, " {{\n        client_auth {}\n    }}", settings.client_auth.name())
}
