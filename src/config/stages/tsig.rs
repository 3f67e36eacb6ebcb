//! `tsig [ZONES...] { secret NAME BASE64 [ALGORITHM]; secrets FILE; require all|none|QTYPE...;
//! require_opcode all|none|OPCODE... }`
//!
//! Keys of signed queries, and queries that have to be signed. `secrets` names a file of `key`
//! statements as named has them; it is read with the configuration, and a change of it is a change
//! of the configuration. A key with an ALGORITHM behind its secret accepts no other algorithm. The
//! algorithm in a file is for messages that onward signs first; clients may use any, as in the
//! reference.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::tls::read_file;
use super::super::word::{self, Word, list};
use super::super::{Name, Pem, RecordType, record};
use super::{file, once};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;

const OPTIONS: [&str; 4] = ["secret", "secrets", "require", "require_opcode"];

/// Keys of a server block, and what has to be signed with one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tsig {
    /// Names at or below these are affected. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// Keys of the stanza.
    pub(crate) secrets: Vec<TsigKey>,
    /// Files of keys.
    pub(crate) files: Vec<Pem>,
    pub(crate) file_keys: Vec<TsigKey>,
    /// Types of queries that have to be signed.
    pub(crate) require: Required<RecordType>,
    /// Opcodes of messages that have to be signed.
    pub(crate) require_opcode: Required<Opcode>,
}

impl Tsig {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &TsigKey> {
        self.secrets.iter().chain(&self.file_keys)
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TsigKey {
    pub(crate) name: Name,
    pub(crate) secret: Box<[u8]>,
    /// The secret as it is written.
    pub(crate) text: String,
    /// The algorithm of our own messages.
    pub(crate) algorithm: TsigAlgorithm,
    /// Messages of others have to have the same.
    pub(crate) pinned: bool,
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.secret.len())
    }
}

/// Algorithms of keys (RFC 8945 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TsigAlgorithm {
    /// For clients that know no other.
    Sha1,
    /// Rarely in use.
    Sha224,
    /// The usual one.
    Sha256,
    /// Longer.
    Sha384,
    /// The longest.
    Sha512,
}

impl TsigAlgorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name on the wire and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "hmac-sha1",
            Self::Sha224 => "hmac-sha224",
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(text))
    }
}

/// Messages that have to be signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Required<T> {
    #[default]
    None,
    All,
    /// Messages of these kinds.
    These(Vec<T>),
}

impl<T: PartialEq> Required<T> {
    /// Returns true if messages of this kind have to be signed.
    pub(crate) fn contains(&self, kind: &T) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(kinds) => kinds.contains(kind),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opcode(pub(crate) u8);

const OPCODES: [(u8, &str); 5] =
    [(0, "QUERY"), (1, "IQUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE")];

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = OPCODES.iter().find(|(opcode, _)| *opcode == self.0);
        f.write_str(known.map_or("", |(_, name)| name))
    }
}

/// Reads the `tsig` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Tsig>, DirectiveError> {
    let Some(stanza) = context.stanza("tsig", cursor) else { return Ok(None) };
    let words = cursor.rest();
    let zones = file::zones("tsig", &words, context)?;
    let mut tsig = Tsig {
        zones: (!words.is_empty()).then_some(zones),
        secrets: Vec::new(),
        files: Vec::new(),
        file_keys: Vec::new(),
        require: Required::None,
        require_opcode: Required::None,
    };
    while let Some(property) = cursor.block() {
        match &*property.text {
            "secret" => {
                let key = secret(cursor)?;
                add(&mut tsig, key, false, property)?;
            }
            "secrets" => {
                let path = cursor.expect_arg()?;
                cursor.expect_no_arg()?;
                let file = read_file(path, None, context)?;
                let keys = keys_of(&file.bytes).map_err(|error| {
                    let message = format!("{}: {error}", path.text);
                    DirectiveError::value(path, message)
                })?;
                for key in keys {
                    add(&mut tsig, key, true, path)?;
                }
                tsig.files.push(file);
            }
            "require" => {
                let words = cursor.expect_rest()?;
                require(&mut tsig.require, &words, rtype)?;
            }
            "require_opcode" => {
                let words = cursor.expect_rest()?;
                require(&mut tsig.require_opcode, &words, opcode)?;
            }
            other => {
                let suggestion = did_you_mean(other, OPTIONS);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    if tsig.keys().next().is_none() {
        let message = "plugin/tsig: no key: every signed query is answered with BADKEY: add \
                       'secret NAME BASE64'";
        context.warn(&stanza.place, message);
    }
    once(cursor)?;
    Ok(Some(tsig))
}

fn add(tsig: &mut Tsig, key: TsigKey, is_file: bool, at: &Token) -> Result<(), DirectiveError> {
    let same = |other: &TsigKey| other.name.as_wire().eq_ignore_ascii_case(key.name.as_wire());
    if tsig.keys().any(same) {
        let message = format!("key '{}' is written twice", key.name);
        return Err(DirectiveError::value(at, message));
    }
    if is_file { &mut tsig.file_keys } else { &mut tsig.secrets }.push(key);
    Ok(())
}

/// Reads `NAME BASE64 [ALGORITHM]`.
fn secret(cursor: &mut Cursor<'_>) -> Result<TsigKey, DirectiveError> {
    let name = cursor.expect_arg()?;
    let text = cursor.expect_arg()?;
    let algorithm = cursor.arg();
    cursor.expect_no_arg()?;
    let pinned = algorithm.is_some();
    let algorithm = match algorithm {
        None => TsigAlgorithm::Sha256,
        Some(word) => TsigAlgorithm::parse(&word.text)
            .ok_or_else(|| DirectiveError::value(word, unknown_algorithm(&word.text)))?,
    };
    let key = key(&name.text, &text.text, algorithm, pinned);
    key.map_err(|(is_name, message)| {
        DirectiveError::value(if is_name { name } else { text }, message)
    })
}

/// The key of these texts. The error says whether the name is wrong.
fn key(
    name: &str,
    text: &str,
    algorithm: TsigAlgorithm,
    pinned: bool,
) -> Result<TsigKey, (bool, String)> {
    let read = Name::parse(name);
    let name = read.map_err(|error| (true, format!("invalid name of a key '{name}': {error}")))?;
    let secret = record::decode_base64(text).ok_or_else(|| {
        let message = format!("invalid secret of key '{name}': expected base64");
        (false, message)
    })?;
    if secret.is_empty() {
        return Err((false, format!("the secret of key '{name}' is empty")));
    }
    Ok(TsigKey { name, secret: secret.into(), text: text.to_owned(), algorithm, pinned })
}

fn unknown_algorithm(text: &str) -> String {
    let known = TsigAlgorithm::ALL.map(TsigAlgorithm::name);
    let suggestion = did_you_mean(text, known);
    format!("unknown algorithm '{text}'{suggestion}: expected one of {}", known.join(", "))
}

/// Reads a list of what has to be signed. A later one replaces an earlier one, but not `all`.
fn require<T>(
    own: &mut Required<T>,
    words: &[&Token],
    parse: impl Fn(&Token) -> Result<T, DirectiveError>,
) -> Result<(), DirectiveError> {
    let is_all = matches!(own, Required::All);
    let new = match (&*words[0].text, words) {
        ("all", [_]) => Required::All,
        ("none", [_]) => Required::None,
        ("all" | "none", [_, more, ..]) => {
            let message = format!("nothing may follow '{}'", words[0].text);
            return Err(DirectiveError::value(more, message));
        }
        _ => Required::These(words.iter().map(|word| parse(word)).collect::<Result<_, _>>()?),
    };
    *own = if is_all { Required::All } else { new };
    Ok(())
}

fn rtype(word: &Token) -> Result<RecordType, DirectiveError> {
    RecordType::parse(&word.text).ok_or_else(|| {
        let suggestion = did_you_mean(&word.text.to_ascii_uppercase(), RecordType::mnemonics());
        let message = format!("unknown type '{}'{suggestion}", word.text);
        DirectiveError::value(word, message)
    })
}

fn opcode(word: &Token) -> Result<Opcode, DirectiveError> {
    let known = OPCODES.iter().find(|(_, name)| *name == &*word.text);
    known.map(|(opcode, _)| Opcode(*opcode)).ok_or_else(|| {
        let suggestion = did_you_mean(&word.text.to_ascii_uppercase(), OPCODES.map(|row| row.1));
        let message = format!("unknown opcode '{}'{suggestion}", word.text);
        DirectiveError::value(word, message)
    })
}

/// The keys in a file of statements `key "NAME" { algorithm NAME; secret "BASE64"; };`.
fn keys_of(text: &[u8]) -> Result<Vec<TsigKey>, String> {
    let mut words = Statements { text, place: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(word) = words.next()? {
        if word == ";" {
            continue;
        }
        if word != "key" {
            return Err(words.wrong("'key'", &word));
        }
        let name = words.expect("the name of a key")?;
        words.expect_word("{")?;
        let (mut secret, mut algorithm) = (None, TsigAlgorithm::Sha256);
        loop {
            let word = words.expect("'algorithm', 'secret' or '}'")?;
            match &*word {
                "}" => break,
                "algorithm" => {
                    let text = words.expect("an algorithm")?;
                    let known = TsigAlgorithm::parse(&text);
                    algorithm = known.ok_or_else(|| {
                        format!("line {}: {}", words.line, unknown_algorithm(&text))
                    })?;
                    words.expect_word(";")?;
                }
                "secret" => {
                    secret = Some(words.expect("a secret")?);
                    words.expect_word(";")?;
                }
                other => return Err(words.wrong("'algorithm', 'secret' or '}'", other)),
            }
        }
        words.expect_word(";")?;
        let secret =
            secret.ok_or_else(|| format!("line {}: key '{name}' has no secret", words.line))?;
        let key = key(&name, &secret, algorithm, false);
        found.push(key.map_err(|(_, message)| format!("line {}: {message}", words.line))?);
    }
    Ok(found)
}

/// The words of a file as named reads it: quoted or bare, `{`, `}` and `;`, between comments.
struct Statements<'t> {
    text: &'t [u8],
    place: usize,
    line: usize,
}

impl Statements<'_> {
    /// The next word; `None` at the end.
    fn next(&mut self) -> Result<Option<String>, String> {
        loop {
            let rest = &self.text[self.place..];
            match rest {
                [] => return Ok(None),
                [b'#', ..] | [b'/', b'/', ..] => {
                    let end = rest.iter().position(|byte| *byte == b'\n');
                    self.place += end.unwrap_or(rest.len());
                }
                [b'/', b'*', ..] => {
                    let end = rest.windows(2).position(|two| two == b"*/");
                    let end = end.ok_or_else(|| self.unfinished("comment"))?;
                    self.pass(end + 2);
                }
                [byte, ..] if byte.is_ascii_whitespace() => self.pass(1),
                [byte @ (b'{' | b'}' | b';'), ..] => {
                    self.pass(1);
                    return Ok(Some(char::from(*byte).to_string()));
                }
                [b'"', behind @ ..] => {
                    let end = behind.iter().position(|byte| *byte == b'"');
                    let end = end.ok_or_else(|| self.unfinished("quoted text"))?;
                    let word = String::from_utf8_lossy(&behind[..end]).into_owned();
                    self.pass(end + 2);
                    return Ok(Some(word));
                }
                _ => {
                    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"{};\"#".contains(byte);
                    let end = rest.iter().position(ends).unwrap_or(rest.len());
                    let word = String::from_utf8_lossy(&rest[..end]).into_owned();
                    self.pass(end);
                    return Ok(Some(word));
                }
            }
        }
    }

    fn pass(&mut self, len: usize) {
        let passed = &self.text[self.place..self.place + len];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.place += len;
    }

    fn expect(&mut self, what: &str) -> Result<String, String> {
        let word = self.next()?;
        word.ok_or_else(|| format!("line {}: expected {what}, found the end", self.line))
    }

    fn expect_word(&mut self, word: &str) -> Result<(), String> {
        let found = self.expect(&format!("'{word}'"))?;
        if found == word { Ok(()) } else { Err(self.wrong(&format!("'{word}'"), &found)) }
    }

    fn wrong(&self, what: &str, found: &str) -> String {
        format!("line {}: expected {what}, found '{found}'", self.line)
    }

    fn unfinished(&self, what: &str) -> String {
        format!("line {}: the {what} has no end", self.line)
    }
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &Option<Tsig>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|tsig| write!(f, "{tsig}"))
}

impl fmt::Display for Tsig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    tsig")?;
        self.zones.iter().try_for_each(|zones| word::names(f, zones))?;
        writeln!(f, " {{")?;
        for key in &self.secrets {
            write!(f, "        secret {} {}", key.name.in_corefile(), Word(&key.text))?;
            let algorithm = if key.pinned { key.algorithm.name() } else { "" };
            writeln!(f, "{}{algorithm}", if key.pinned { " " } else { "" })?;
        }
        for file in &self.files {
            writeln!(f, "        secrets {}", Word(&file.path))?;
        }
        write_required(f, "require", &self.require)?;
        write_required(f, "require_opcode", &self.require_opcode)?;
        writeln!(f, "    }}")
    }
}

fn write_required<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    property: &str,
    required: &Required<T>,
) -> fmt::Result {
    match required {
        Required::None => Ok(()),
        Required::All => writeln!(f, "        {property} all"),
        Required::These(kinds) => {
            write!(f, "        {property}")?;
            list(f, kinds)?;
            writeln!(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TsigAlgorithm, keys_of};

    #[test]
    fn a_file_has_keys_as_named_writes_them() {
        let text = b"# made by tsig-keygen\nkey \"a.\" {\n\talgorithm hmac-sha512;\n\t\
                     secret \"c2VjcmV0\";\n};\n// and\nkey b { secret c2VjcmV0; }; /* x\n */\n";
        let keys = keys_of(text).unwrap();
        let found: Vec<_> = keys.iter().map(|key| (key.name.to_string(), key.algorithm)).collect();
        let expected = [("a.", TsigAlgorithm::Sha512), ("b.", TsigAlgorithm::Sha256)];
        assert_eq!(found, expected.map(|(name, algorithm)| (name.to_owned(), algorithm)));
        assert!(keys.iter().all(|key| *key.secret == *b"secret" && !key.pinned));
    }

    #[test]
    fn a_broken_file_is_told_by_its_line() {
        for (text, error) in [
            ("kez a {", "line 1: expected 'key', found 'kez'"),
            ("key a\n{ secrets x; };", "line 2: expected 'algorithm', 'secret' or '}'"),
            ("key a { };", "line 1: key 'a' has no secret"),
            ("key a { secret \"x\"; };", "line 1: invalid secret of key 'a.': expected base64"),
            ("key a { secret \"c2VjcmV0\" };", "line 1: expected ';', found '}'"),
            ("key a { secret \"c2VjcmV0\"; }", "line 1: expected ';', found the end"),
            ("\n\nkey \"a", "line 3: the quoted text has no end"),
            ("/* key", "line 1: the comment has no end"),
            ("key a { algorithm hmac-md5; };", "line 1: unknown algorithm 'hmac-md5'"),
            ("key a..b { secret \"c2VjcmV0\"; };", "line 1: invalid name of a key 'a..b'"),
        ] {
            let found = keys_of(text.as_bytes()).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_read_or_refused() {
        let text = b"key \"a.\" {\n algorithm hmac-sha512;\n secret \"c2VjcmV0\";\n};\n";
        for end in 0..text.len() {
            let _ = keys_of(&text[..end]);
        }
    }
}
