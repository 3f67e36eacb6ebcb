//! `cookies [on|off] { secrets FILE }`
//!
//! Server cookies for clients that send a cookie. The directive concerns the process, whichever
//! block it stands in; the last of several blocks wins. The file has a secret of 32 hexadecimal
//! digits on each line, as the files of other servers; it is read with the configuration, and a
//! change of it is a change of the configuration.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::tls::read_file;
use super::super::word::Word;
use super::super::{Config, Pem};
use super::once;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

/// Length of a secret in octets (RFC 9018 §4.4).
pub(crate) const COOKIE_SECRET_LEN: usize = 16;
/// Maximum number of secrets in a file: each one that is accepted is tried for a forged cookie.
pub(crate) const COOKIE_SECRETS_MAX: usize = 4;

/// Settings of server cookies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerCookies {
    /// Clients get server cookies.
    pub(crate) is_on: bool,
    /// The file of the secrets, which is valid. `None`: each process has its own.
    pub(crate) file: Option<Pem>,
}

impl ServerCookies {
    /// Returns the secrets in the file: the first makes cookies, and all are accepted.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = [u8; COOKIE_SECRET_LEN]> {
        let lines = self.file.iter().flat_map(|file| lines(&file.bytes));
        lines.filter_map(|(_, line)| secret(line))
    }
}

impl Config {
    /// Returns the settings of server cookies, if any server block has them.
    pub(crate) fn cookies(&self) -> Option<&ServerCookies> {
        self.blocks.iter().rev().find_map(|block| block.stages.cookies.as_ref())
    }
}

/// Reads the `cookies` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<ServerCookies>, DirectiveError> {
    if context.stanza("cookies", cursor).is_none() {
        return Ok(None);
    }
    let is_on = match *cursor.rest() {
        [] => true,
        [word] if matches!(&*word.text, "on" | "off") => &*word.text == "on",
        [word] => {
            let message = format!("'{}': expected on or off", word.text);
            return Err(DirectiveError::value(word, message));
        }
        _ => return Err(cursor.argument_error().into()),
    };
    let mut cookies = ServerCookies { is_on, file: None };
    while let Some(property) = cursor.block() {
        if &*property.text != "secrets" {
            let suggestion = did_you_mean(&property.text, ["secrets"]);
            let message = format!("unknown property '{}'{suggestion}", property.text);
            return Err(ParseError::at(property, message).into());
        }
        let path = cursor.expect_arg()?;
        cursor.expect_no_arg()?;
        let file = read_file(path, context.root, context)?;
        check(&file.bytes).map_err(|error| {
            let message = format!("{}: {error}", path.text);
            DirectiveError::value(path, message)
        })?;
        cookies.file = Some(file);
    }
    once(cursor)?;
    Ok(Some(cookies))
}

/// Checks the text of a file.
fn check(text: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for (number, line) in lines(text) {
        if secret(line).is_none() {
            // The line may be a secret with a typing error, which must not reach a log.
            return Err(format!("line {number}: expected a secret of 32 hexadecimal digits"));
        }
        count += 1;
    }
    match count {
        0 => Err("no secret: write one of 32 hexadecimal digits on a line".to_owned()),
        1..=COOKIE_SECRETS_MAX => Ok(()),
        _ => Err(format!("{count} secrets, at most {COOKIE_SECRETS_MAX} are possible")),
    }
}

/// Returns the lines of a file that are neither empty nor comments, with their numbers.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.enumerate().map(|(place, line)| (place + 1, line));
    lines.filter(|(_, line)| !line.is_empty() && line[0] != b'#')
}

/// Returns the secret of 32 hexadecimal digits.
fn secret(digits: &[u8]) -> Option<[u8; COOKIE_SECRET_LEN]> {
    let mut secret = [0; COOKIE_SECRET_LEN];
    if digits.len() != 2 * secret.len() {
        return None;
    }
    for (octet, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *octet = (high? << 4 | low?) as u8;
    }
    Some(secret)
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<ServerCookies>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(cookies) = settings else { return Ok(()) };
    write!(f, "    cookies {}", if cookies.is_on { "on" } else { "off" })?;
    match &cookies.file {
        None => writeln!(f),
        Some(file) => writeln!(f, " {{\n        secrets {}\n    }}", Word(&file.path)),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, lines, secret};

    #[test]
    fn a_file_has_one_to_four_secrets() {
        let digits = "000102030405060708090a0b0c0d0E0F";
        assert_eq!(secret(digits.as_bytes()).unwrap(), std::array::from_fn(|octet| octet as u8));
        assert_eq!(check(format!("# old\n\n {digits}\t\r\n{digits}").as_bytes()), Ok(()));
        let [long, short] = [format!("{digits}0"), digits[1..].to_owned()];
        for wrong in
            [&*long, &*short, "0x0102030405060708090a0b0c0d0e0f", "+0102030405060708090a0b0c0d0e0f"]
        {
            let error = check(format!("{digits}\n{wrong}").as_bytes()).unwrap_err();
            assert_eq!(error, "line 2: expected a secret of 32 hexadecimal digits", "{wrong}");
        }
        assert!(check(b"# none\n").unwrap_err().starts_with("no secret"));
        let five = format!("{digits}\n").repeat(5);
        assert_eq!(check(five.as_bytes()).unwrap_err(), "5 secrets, at most 4 are possible");
        assert_eq!(lines(five.as_bytes()).count(), 5);
    }
}
