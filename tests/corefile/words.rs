//! Words for random Corefiles.
//!
//! Mostly words that mean something to the lexer, to the parser or to a directive, so that random
//! texts come far before they are refused.

use proptest::prelude::{Strategy, any, prop_oneof};

/// Words of which texts are made.
const WORDS: &[&str] = &[
    "{",
    "}",
    "\n",
    "\n",
    "\"",
    "\\",
    "#",
    ",",
    "import",
    "(s)",
    "s",
    "f",
    "{$E}",
    "{%E%}",
    "bind",
    "forward",
    "lo",
    "except",
    "127.0.0.1",
    "::1",
    ".",
    "m",
    "M.:5",
    "10.0.0.0/9",
    "expire",
    "5s",
    "max_age",
    "max_fails",
    "policy",
    "random",
    "spread",
    "9",
    "tls://::1",
    "acl",
    "block",
    "net",
    "header",
    "view",
    "expr",
    "name()",
    "incidr(client_ip(),'::/3')",
    "any(['a',name()],#==split(name(),'.')[-1])",
    "==",
    "'\\\\'",
    "log",
    "nsid",
    "cache",
    "success",
    "disable",
    "prefetch",
    "serve_stale",
    "lru",
    "30",
    "30%",
    "https",
    "tcp",
    "timeouts",
    "errors",
    "consolidate",
    "health",
    "lameduck",
    "prometheus",
    ":9153",
    "\r",
    "\u{a0}",
    "\0",
];

/// Returns a word.
pub(crate) fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..WORDS.len()).prop_map(|index| WORDS[index].to_owned()),
        1 => any::<String>(),
    ]
}
