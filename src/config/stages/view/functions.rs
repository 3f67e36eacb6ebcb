//! The functions of expressions: what they are called and what they take.
//!
//! Functions without arguments describe the query; all others take values. Errors about a
//! name that means nothing list all of them.

use super::program::{Number, Text};
use crate::corefile::did_you_mean;

/// Property of the query that a function without arguments returns.
pub(super) enum Fact {
    Text(Text),
    Number(Number),
    DnssecOk,
}

/// Functions of the query, which take nothing.
const FACTS: [&str; 13] = [
    "bufsize",
    "class",
    "client_ip",
    "do",
    "id",
    "name",
    "opcode",
    "port",
    "proto",
    "server_ip",
    "server_port",
    "size",
    "type",
];
/// All others, with what they take.
pub(super) const OTHERS: [(&str, &[&str]); 16] = [
    ("incidr", &["ADDRESS", "CIDR"]),
    ("metadata", &["LABEL"]),
    ("len", &["TEXT"]),
    ("lower", &["TEXT"]),
    ("upper", &["TEXT"]),
    ("trim", &["TEXT"]),
    ("trimPrefix", &["TEXT", "PREFIX"]),
    ("trimSuffix", &["TEXT", "SUFFIX"]),
    ("hasPrefix", &["TEXT", "PREFIX"]),
    ("hasSuffix", &["TEXT", "SUFFIX"]),
    ("indexOf", &["TEXT", "PART"]),
    ("lastIndexOf", &["TEXT", "PART"]),
    ("split", &["TEXT", "SEPARATOR"]),
    ("any", &["LIST", "TEST"]),
    ("all", &["LIST", "TEST"]),
    ("none", &["LIST", "TEST"]),
];

/// Returns the property that `name()` returns, if it is one of the functions without arguments.
pub(super) fn fact(name: &str) -> Option<Fact> {
    Some(match name {
        "bufsize" => Fact::Number(Number::BufferSize),
        "id" => Fact::Number(Number::Id),
        "opcode" => Fact::Number(Number::Opcode),
        "size" => Fact::Number(Number::Size),
        "do" => Fact::DnssecOk,
        "class" => Fact::Text(Text::Class),
        "client_ip" => Fact::Text(Text::ClientAddress),
        "name" => Fact::Text(Text::Name),
        "port" => Fact::Text(Text::ClientPort),
        "proto" => Fact::Text(Text::Protocol),
        "server_ip" => Fact::Text(Text::ServerAddress),
        "server_port" => Fact::Text(Text::ServerPort),
        "type" => Fact::Text(Text::Type),
        _ => return None,
    })
}

/// Error about an unknown name. `called`: a parenthesis follows it.
pub(super) fn unknown(name: &str, called: bool) -> String {
    if !called && (fact(name).is_some() || OTHERS.iter().any(|(known, _)| *known == name)) {
        return format!("'{name}' is a function: write {name}()");
    }
    let names = || FACTS.into_iter().chain(OTHERS.iter().map(|(name, _)| *name));
    let suggestion = did_you_mean(name, names());
    if !called {
        let hint = "a text stands in single quotes, as the Corefile takes double ones away";
        return format!("unknown name '{name}'{suggestion}: {hint}");
    }
    let facts = FACTS.map(|name| format!("{name}()"));
    let others = OTHERS.map(|(name, takes)| format!("{name}({})", takes.join(", ")));
    let known = [&facts[..], &others[..]].concat().join(", ");
    format!("unknown function '{name}'{suggestion}: expected one of {known}")
}
