//! `case_randomize on|off|auto`
//!
//! Queries over UDP have letters in random case, which a forger must guess in addition to port and
//! ID (draft-vixie-dnsext-dns0x20). The reference has no such option.

use super::super::error::DirectiveError;
use crate::corefile::Cursor;

/// Random case of the letters in the names of queries to upstreams over UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LetterCase {
    /// Letters as the client spelt them.
    #[default]
    Off,
    /// Random case in each query.
    On,
    /// Random case, except to upstreams that do not repeat it.
    Auto,
}

impl LetterCase {
    /// Reads the argument of the option.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DirectiveError> {
        let argument = cursor.expect_arg()?;
        cursor.expect_no_arg()?;
        match &*argument.text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "auto" => Ok(Self::Auto),
            other => {
                let message = format!("case_randomize must be 'on', 'off' or 'auto': '{other}'");
                Err(DirectiveError::value(argument, message))
            }
        }
    }

    /// The argument of the option.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Auto => "auto",
        }
    }
}
