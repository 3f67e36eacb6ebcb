//! Fuzz target: the Corefile reader.
//!
//! Accepted text can be printed and read again, rejected text gets an error message, and the number
//! of accesses to files and variables is bounded.

use super::fuzz;
use super::mutate::Mutator;
use onward::config::{Config, Host, Resolved};
use onward::corefile::{Sources, WARNINGS_MAX};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Maximum accesses to files and variables for any text. A snippet that imports a file is expanded
/// at most ten thousand times, a file at most a hundred thousand times, and read once.
const QUESTIONS_MAX: usize = 120_000;
/// Maximum number of upstreams of a forward that can be written out.
const TARGETS_MAX: usize = 15;

const MUTATOR: Mutator = Mutator {
    separators: b" \n\t{}\",:/#\\",
    words: &[
        b" { ",
        b" } ",
        b"{",
        b"}",
        b"\n{\n",
        b"\n}\n",
        b"\n",
        b"\"",
        b"\\\"",
        b" # ",
        b"import ",
        b"\nimport file\n",
        b"import s",
        b"(s) {\n",
        b"{$V}",
        b"{$SELF}",
        b"{%V%}",
        b"bind ",
        b"forward . ",
        b"except ",
        b", ",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc2\xa0",
        b" 10.0.0.0/9 ",
        b" ::1 ",
        b":53",
        b"99999999999999999999",
        b"-1",
        b"9223372036854775807ns",
        b"tls://",
        b"nameservers ",
        b"fe80::1%lo",
    ],
};

/// A host with files and variables that counts accesses. No file imports itself: that ends after a
/// hundred thousand imports, which another test covers.
fn host(asked: &Rc<Cell<usize>>) -> Host {
    let files = [
        ("/dir/file", "max_fails 3\n"),
        ("/dir/nameservers", "nameserver 192.0.2.1\nnameserver ::1\n"),
    ];
    let files = files.map(|(path, text)| (path.into(), text.as_bytes().to_vec())).into();
    let variables: BTreeMap<String, String> =
        [("V", "192.0.2.7"), ("SELF", "x{$SELF}"), ("TWO", "a b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    let mut sources = Sources::fixed(files, variables);
    let (read, list, variable) = (sources.read, sources.list, sources.variable);
    let count = |asked: &Rc<Cell<usize>>| {
        let asked = Rc::clone(asked);
        move || asked.set(asked.get() + 1)
    };
    let (one, two, three) = (count(asked), count(asked), count(asked));
    sources.read = Box::new(move |path| {
        one();
        read(path)
    });
    sources.list = Box::new(move |path| {
        two();
        list(path)
    });
    sources.variable = Box::new(move |name| {
        three();
        variable(name)
    });
    let lookup = |name: &str, _: &[_]| match name {
        "dns.example" => Ok(Resolved {
            addresses: vec!["192.0.2.9".parse().unwrap()],
            ttl: None,
            incomplete: None,
        }),
        _ => Err("unknown".into()),
    };
    Host { sources, lookup: Box::new(lookup), ..Host::plain() }
}

/// Returns true if the text is a configuration.
fn try_one(text: &[u8]) -> bool {
    let asked = Rc::new(Cell::new(0));
    let loaded = Config::load(text, "Corefile", &host(&asked));
    assert!(asked.get() <= QUESTIONS_MAX, "{} questions", asked.get());
    let (config, warnings) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let place = error.place();
            assert!(place.line >= 1 && !error.to_string().is_empty());
            let lines = 1 + text.iter().filter(|byte| **byte == b'\n').count();
            assert!(&*place.file != "Corefile" || place.line <= lines, "{error}");
            return false;
        }
    };
    assert!(warnings.len() <= WARNINGS_MAX + 1);
    let is_long = config.forwards().any(|forward| forward.upstreams.len() > TARGETS_MAX);
    if !is_long {
        reads_again(config);
    }
    true
}

/// Checks that the printed configuration has the same meaning on a host without files and
/// variables.
fn reads_again(mut config: Config) {
    let printed = config.to_string();
    let other = Host { interfaces: Vec::new(), ..Host::plain() };
    let (again, _) = Config::load(printed.as_bytes(), "effective", &other)
        .unwrap_or_else(|error| panic!("{error}\n{printed}"));
    // The limit depends on the host, and addresses as printed are not resolved again.
    config.client_connections_max = again.client_connections_max;
    for forward in config.blocks.iter_mut().flat_map(|block| &mut block.forwards) {
        forward.host_names.clear();
    }
    assert_eq!(again, config, "{printed}");
}

#[test]
fn corefile() {
    let accepted = fuzz("corefile", &MUTATOR, try_one);
    assert!(accepted > 100 || std::env::var_os("FUZZ_ONLY").is_some(), "{accepted} are accepted");
}
