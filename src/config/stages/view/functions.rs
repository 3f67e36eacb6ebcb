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
/// All others, with what they take: in brackets what may be left out, and points behind what may
/// stand several times.
const OTHERS: [(&str, &[&str]); 64] = [
    ("incidr", &["ADDRESS", "CIDR"]),
    ("metadata", &["LABEL"]),
    ("len", &["VALUE"]),
    ("lower", &["TEXT"]),
    ("upper", &["TEXT"]),
    ("trim", &["TEXT", "[CHARACTERS]"]),
    ("trimPrefix", &["TEXT", "PREFIX"]),
    ("trimSuffix", &["TEXT", "SUFFIX"]),
    ("hasPrefix", &["TEXT", "PREFIX"]),
    ("hasSuffix", &["TEXT", "SUFFIX"]),
    ("indexOf", &["TEXT", "PART"]),
    ("lastIndexOf", &["TEXT", "PART"]),
    ("split", &["TEXT", "SEPARATOR", "[N]"]),
    ("splitAfter", &["TEXT", "SEPARATOR", "[N]"]),
    ("join", &["LIST", "[SEPARATOR]"]),
    ("replace", &["TEXT", "PART", "BY"]),
    ("repeat", &["TEXT", "N"]),
    ("any", &["LIST", "TEST"]),
    ("all", &["LIST", "TEST"]),
    ("none", &["LIST", "TEST"]),
    ("one", &["LIST", "TEST"]),
    ("count", &["LIST", "[TEST]"]),
    ("filter", &["LIST", "TEST"]),
    ("map", &["LIST", "VALUE"]),
    ("find", &["LIST", "TEST"]),
    ("findIndex", &["LIST", "TEST"]),
    ("findLast", &["LIST", "TEST"]),
    ("findLastIndex", &["LIST", "TEST"]),
    ("sum", &["LIST", "[NUMBER]"]),
    ("groupBy", &["LIST", "KEY"]),
    ("sortBy", &["LIST", "KEY", "[ORDER]"]),
    ("reduce", &["LIST", "VALUE", "[FIRST]"]),
    ("first", &["LIST"]),
    ("last", &["LIST"]),
    ("take", &["LIST", "N"]),
    ("get", &["VALUE", "KEY"]),
    ("keys", &["MAP"]),
    ("values", &["MAP"]),
    ("toPairs", &["MAP"]),
    ("fromPairs", &["LIST"]),
    ("reverse", &["LIST"]),
    ("concat", &["LIST..."]),
    ("uniq", &["LIST"]),
    ("sort", &["LIST", "[ORDER]"]),
    ("flatten", &["LIST"]),
    ("min", &["NUMBER..."]),
    ("max", &["NUMBER..."]),
    ("mean", &["NUMBER..."]),
    ("median", &["NUMBER..."]),
    ("abs", &["NUMBER"]),
    ("ceil", &["NUMBER"]),
    ("floor", &["NUMBER"]),
    ("round", &["NUMBER"]),
    ("int", &["VALUE"]),
    ("float", &["VALUE"]),
    ("string", &["VALUE"]),
    ("bitand", &["NUMBER", "NUMBER"]),
    ("bitor", &["NUMBER", "NUMBER"]),
    ("bitxor", &["NUMBER", "NUMBER"]),
    ("bitnand", &["NUMBER", "NUMBER"]),
    ("bitnot", &["NUMBER"]),
    ("bitshl", &["NUMBER", "BITS"]),
    ("bitshr", &["NUMBER", "BITS"]),
    ("bitushr", &["NUMBER", "BITS"]),
];
/// Functions of the reference's language that onward has not.
const MISSING: [&str; 8] =
    ["date", "duration", "fromBase64", "fromJSON", "now", "timezone", "toBase64", "toJSON"];

/// Returns true if the second argument of `name()` is computed for each element of the first.
pub(super) fn is_closure(name: &str) -> bool {
    let takes = takes(name).unwrap_or_default();
    matches!(takes, ["LIST", "TEST" | "[TEST]" | "VALUE" | "KEY" | "[NUMBER]", ..])
}

/// Returns true if there is a function of this name.
pub(super) fn is_known(name: &str) -> bool {
    fact(name).is_some() || takes(name).is_some()
}

fn takes(name: &str) -> Option<&'static [&'static str]> {
    OTHERS.iter().find(|(known, _)| *known == name).map(|(_, takes)| *takes)
}

/// Returns the error about a wrong number of arguments of `name()`.
pub(super) fn refused(name: &str, given: usize) -> Option<String> {
    let takes = match takes(name) {
        Some(takes) => takes,
        None if fact(name).is_some() => &[],
        None => return Some(unknown(name, true)),
    };
    let least = takes.iter().filter(|takes| !takes.starts_with('[')).count();
    let has_more = takes.last().is_some_and(|takes| takes.ends_with("..."));
    let is_right = given >= least && (has_more || given <= takes.len());
    (!is_right).then(|| format!("expected {name}({}): {given} given", takes.join(", ")))
}

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
    if !called && is_known(name) {
        return format!("'{name}' is a function: write {name}()");
    }
    let others = || OTHERS.iter().map(|(name, _)| *name);
    let suggestion = did_you_mean(name, FACTS.into_iter().chain(others()));
    if !called {
        let hint =
            "write texts in single quotes, because the Corefile parser removes double quotes";
        return format!("unknown name '{name}'{suggestion}: {hint}");
    }
    if MISSING.contains(&name) {
        return format!("function '{name}' is not supported");
    }
    let facts = FACTS.map(|name| format!("{name}()")).join(", ");
    let others = others().collect::<Vec<_>>().join(", ");
    format!(
        "unknown function '{name}'{suggestion}: expected one of the query's, {facts}, or of \
         {others}"
    )
}
