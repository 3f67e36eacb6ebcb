//! Rules about the source tree, checked by reading the source as text.
//!
//! Allowed dependencies between rooms, lengths of files and lines, module headers, forbidden names.
//! A table or limit changes here first, so each new edge between rooms is a decision in a diff. The
//! tests at the end show that each check fails on a bad sample. Comments, strings and test code may
//! name anything unless a check says otherwise. A path is judged by the room that it starts in.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/log.rs"]
mod log;
#[path = "tidy/public.rs"]
mod public;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/wording.rs"]
mod wording;

use source::{code, dependency_names, mapped, paths, production, production_lines, tokens};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Directories with Rust source.
const TREES: [&str; 6] =
    ["src", "loadgen/benches", "loadgen/src", "loadgen/tests", "tests", "benches"];

/// For each room, the rooms or modules of rooms that it may name.
const ROOMS: [(&str, &[&str]); 28] = [
    (
        "admin",
        &["clock", "config", "control", "engine", "figures", "log", "moment", "status", "sys"],
    ),
    ("blocking", &["clock", "moment"]),
    ("clock", &["moment"]),
    ("config", &["corefile", "dnssec", "moment"]),
    ("control", &["config", "engine", "moment", "quic", "tls"]),
    ("corefile", &[]),
    ("dnssec", &[]),
    ("engine", &["config", "dnssec", "moment", "sys::memory", "sys::words"]),
    ("figures", &[]),
    ("http", &["sys::nghttp2"]),
    (
        "keeper",
        &[
            "clock",
            "config",
            "control",
            "engine::errors",
            "engine::frame",
            "engine::health",
            "engine::key",
            "engine::proxy",
            "http",
            "log",
            "moment",
            "quic",
            "sys",
            "tls",
            "wheel",
        ],
    ),
    (
        "loader",
        &[
            "clock", "config", "control", "dnssec", "engine", "log", "moment", "sys", "tls",
            "zonefile",
        ],
    ),
    ("log", &["clock", "moment"]),
    ("moment", &[]),
    ("quic", &["engine::key", "http", "moment"]),
    ("resolve", &["clock", "config", "moment", "sys"]),
    ("status", &[]),
    ("sys", &[]),
    ("tls", &["config", "engine::errors"]),
    ("top", &["clock", "figures", "moment", "status", "sys::signals"]),
    ("topology", &["sys::cpu"]),
    ("traffic", &["clock", "config", "engine::key", "http", "moment", "quic", "sys", "tls"]),
    ("transfers", &["clock", "config", "control", "engine::message", "log", "moment"]),
    ("warm", &["clock", "engine::cache", "log", "moment"]),
    ("wheel", &["moment"]),
    ("worker", &["clock", "config", "control", "engine", "http", "moment", "quic", "sys", "tls"]),
    (
        "writer",
        &["clock", "config", "control", "engine", "log", "moment", "sys::interfaces", "tls"],
    ),
    ("zonefile", &["config"]),
];
/// The rooms that put the others together, and may name any.
const TOP: [&str; 8] = ["check", "cli", "demo", "doctor", "host", "options", "server", "service"];
/// The dependencies that `sys` may name.
const SYS_CRATES: [&str; 6] =
    ["core_affinity", "libc", "libnghttp2_sys", "mio", "seccompiler", "socket2"];

/// The engine's files that combine its leaves.
const COMBINERS: [&str; 3] = ["chain", "forwarder", "shell"];
/// Allowed references between the engine's leaves; `*` is any leaf. All may use keys and views.
const LEAF_EDGES: [(&str, &str); 45] = [
    ("*", "heap"),
    ("*", "histogram"),
    ("*", "index"),
    ("*", "key"),
    ("*", "list"),
    ("*", "memory"),
    ("*", "message"),
    ("authority", "zones"),
    ("cache", "stats"),
    ("cache", "zones"),
    ("data", "authority"),
    ("data", "hosts"),
    ("dnssec", "zones"),
    ("exchange", "policy"),
    ("journal", "zones"),
    ("pool", "stats"),
    ("routes", "policy"),
    ("routes", "tally"),
    ("routes", "views"),
    ("routes", "zones"),
    ("stages", "data"),
    ("stages", "dnssec"),
    ("stages", "tsig"),
    ("stages", "zones"),
    ("stages::acl", "zones"),
    ("stages::dnssec", "dnssec"),
    ("stages::file", "authority"),
    ("stages::file", "zones"),
    ("stages::hosts", "hosts"),
    ("stages::hosts", "zones"),
    ("stages::special", "zones"),
    ("stages::template", "zones"),
    ("stages::transfer", "authority"),
    ("stages::transfer", "zones"),
    ("stages::tsig", "tsig"),
    ("stats", "dnssec"),
    ("stats", "errors"),
    ("stats", "proxy"),
    ("stats", "ratelimit"),
    ("stats", "stages"),
    ("stats", "stages::template"),
    ("tally", "stats"),
    ("tsig", "zones"),
    ("views", "exchange"),
    ("views", "zones"),
];

/// Rooms without I/O, time, threads and printing.
const PURE: [&str; 5] = ["dnssec", "engine", "http", "wheel", "zonefile"];
/// Names that are forbidden in a pure room.
const IMPURE: [&str; 10] = [
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "eprint",
    "eprintln",
    "print",
    "println",
];

/// The only test with `unsafe` code: a counting allocator.
const COUNTING_ALLOCATOR: &str = "tests/allocations.rs";

/// The page that lists log texts.
const LOG_PAGE: &str = "tuning/LOG.md";
/// Lines of a file, test items excluded.
const LINES_MAX: usize = 520;
/// Pages whose wording counts besides comments.
const PAGES: [&str; 7] = [
    "README.md",
    "benches/RESULTS.md",
    "tuning/COREFILE.md",
    "tuning/LOG.md",
    "tuning/RACK.md",
    "tuning/README.md",
    "tuning/SCALING.md",
];
/// Percentage of doc comments that open with an interrogative or a bare pronoun. It only falls;
/// the target is 5.
const VAGUE_OPENINGS_MAX: f64 = 0.3;
/// Vague phrases in 1,000 words of comments and pages. It only falls; the target is 0.3.
const RIDDLES_MAX: f64 = 0.1;
/// Characters per line.
const WIDTH_MAX: usize = 100;
/// Lines of a module header.
const HEADER_MIN: usize = 3;
/// Reminders of unfinished work, and macros for it. Split so that this file does not contain them.
const LEFTOVERS: [&str; 6] = [
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("X", "XX"),
    concat!("dbg", "!"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];
/// Paths that exist only on an author's machine.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/tmp", "/h-")];

#[test]
fn rooms_name_only_the_rooms_that_they_may() {
    check_rust(room_violations);
}

#[test]
fn leaves_of_the_engine_do_not_name_each_other() {
    check_rust(leaf_violations);
}

#[test]
fn files_do_not_depend_on_each_other_in_circles() {
    let (mut paths, mut files) = (Vec::new(), circles::Files::default());
    collect("src", &mut paths);
    for path in paths.iter().filter(|path| *path != "src/main.rs" && !path.contains("/tests/")) {
        let Some(module) = module_of(path) else { continue };
        files.add(path, &module, &read(path).expect("source is UTF-8"));
    }
    refuse(files.circles().iter().map(|circle| circle.join(" and ")).collect());
}

#[test]
fn sys_names_only_the_crates_of_the_kernel() {
    let known = dependency_names(&read("Cargo.toml").expect("the manifest is text"));
    assert!(known.len() > SYS_CRATES.len(), "dependencies not found in Cargo.toml: {known:?}");
    check_rust(|path, text| crate_violations(path, text, &known));
}

#[test]
fn pure_rooms_are_pure() {
    check_rust(purity_violations);
}

#[test]
fn unsafe_code_is_in_sys_only() {
    check_rust(unsafe_violations);
}

#[test]
fn files_and_lines_are_short_enough_to_read() {
    check_rust(length_violations);
}

#[test]
fn each_file_says_what_it_is_for() {
    check_rust(header_violations);
}

#[test]
fn no_leftovers_of_unfinished_work() {
    check_rust(leftover_violations);
}

#[test]
fn no_file_has_an_authors_path() {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let paths: Vec<&str> = paths.split_terminator('\0').collect();
    assert!(paths.contains(&"Cargo.toml"), "git lists another directory: {paths:?}");
    let texts = paths.iter().filter_map(|path| Some((path, read(path)?)));
    refuse(texts.flat_map(|(path, text)| machine_violations(path, &text)).collect());
}

#[test]
fn each_log_text_is_listed_for_operators_and_no_other() {
    let read = |path: &str| read(path).unwrap_or_else(|| panic!("{path} is not text"));
    let mut files = Vec::new();
    collect("src", &mut files);
    let printed = files.iter().flat_map(|path| log::printed(path, &read(path), &read));
    let printed = BTreeSet::from_iter(printed);
    let listed = BTreeSet::from_iter(log::listed(&read(LOG_PAGE)));
    let shown = |what: &str, (level, text): &(String, String)| format!("{what}: {level}: {text}");
    let missing = printed.difference(&listed).map(|row| shown("not in tuning/LOG.md", row));
    let stale = listed.difference(&printed).map(|row| shown("not in the source", row));
    refuse(missing.chain(stale).collect());
}

#[test]
fn comments_are_worded_no_worse_than_before() {
    let mut files = Vec::new();
    TREES.iter().for_each(|tree| collect(tree, &mut files));
    let mut wording = wording::Wording::default();
    for path in &files {
        wording.read(&read(path).expect("source is UTF-8"));
    }
    for page in PAGES {
        wording.count(&read(page).expect("pages are UTF-8"));
    }
    assert!(wording.openings > 1_000, "comments are not found: {wording:?}");
    let (share, rate) = (wording.vague_share(), wording.riddle_rate());
    assert!(
        share <= VAGUE_OPENINGS_MAX,
        "{share:.1} % of doc comments open with an interrogative or a bare pronoun, at most \
         {VAGUE_OPENINGS_MAX} %: begin with a noun phrase or a verb in the third person"
    );
    assert!(
        rate <= RIDDLES_MAX,
        "{rate:.2} of 1,000 words of comments and pages are one of {:?}, at most {RIDDLES_MAX}: \
         name the subject",
        wording::RIDDLES
    );
}

#[test]
fn each_test_file_is_on_the_map() {
    let map = mapped(&read("tests/README.md").expect("the map is UTF-8"));
    let mut files = Vec::new();
    collect("tests", &mut files);
    let there = BTreeSet::from_iter(files.iter().filter_map(|path| path.strip_prefix("tests/")));
    let map: BTreeSet<&str> = map.iter().map(String::as_str).collect();
    let missing = there.difference(&map).map(|path| format!("not in tests/README.md: {path}"));
    let gone = map.difference(&there).filter(|path| path.ends_with(".rs"));
    let gone = gone.map(|path| format!("in tests/README.md, but not there: {path}"));
    refuse(missing.chain(gone).collect());
}

/// Returns the rooms that a room's code names without permission.
fn room_violations(path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    let Some(&room) = module.first() else { return Vec::new() };
    if TOP.contains(&room) {
        return Vec::new();
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{path}: the room `{room}` is not in the table of rooms")];
    };
    let may = |named: &[String]| {
        named.first().is_some_and(|first| first == room)
            || allowed.iter().any(|allowed| {
                let mut named = named.iter();
                allowed.split("::").all(|segment| named.next().is_some_and(|name| name == segment))
            })
    };
    let named = named_modules(&module, text).into_iter().filter(|named| !may(named));
    named.map(|named| format!("{path}: `{room}` may not name `{}`", named.join("::"))).collect()
}

/// Returns the other leaves that a leaf of the engine names without permission.
fn leaf_violations(path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    let ["engine", inside @ ..] = &module[..] else { return Vec::new() };
    if inside.is_empty() || COMBINERS.contains(&inside[0]) {
        return Vec::new();
    }
    let own = leaf_of(inside);
    let contains = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let may = |other: &str| {
        let listed = |(from, to): &(&str, &str)| (*from == "*" || *from == own) && *to == other;
        contains(&own, other) || contains(other, &own) || LEAF_EDGES.iter().any(listed)
    };
    let named = named_modules(&module, text).into_iter().filter_map(|named| {
        let [engine, inside @ ..] = &named[..] else { return None };
        let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
        Some(leaf_of(&inside)).filter(|other| engine == "engine" && !may(other))
    });
    let named = BTreeSet::from_iter(named).into_iter();
    named.map(|other| format!("{path}: the leaf `{own}` may not name `{other}`")).collect()
}

/// The leaf that a path below `engine` starts in: each stage and each other module is a leaf.
fn leaf_of(inside: &[&str]) -> String {
    let is_module = |name: &str| name.starts_with(|first: char| first.is_ascii_lowercase());
    match inside {
        ["stages", stage, ..] if is_module(stage) => format!("stages::{stage}"),
        [leaf, ..] if is_module(leaf) => (*leaf).to_owned(),
        _ => "mod".to_owned(),
    }
}

/// Returns the dependencies that `sys` names besides the kernel's; `known`: those of the manifest.
fn crate_violations(path: &str, text: &str, known: &[String]) -> Vec<String> {
    if module_of(path).is_none_or(|module| module.first() != Some(&"sys")) {
        return Vec::new();
    }
    let code = production(text);
    let named = paths(&code).into_iter().filter_map(|named| named.first().copied());
    let refused = named.filter(|name| !SYS_CRATES.contains(name));
    let refused = refused.filter(|name| known.iter().any(|known| known == name));
    refused.map(|name| format!("{path}: `sys` may not name the crate `{name}`")).collect()
}

/// Returns the impure names in a pure room.
fn purity_violations(path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    if module.first().is_none_or(|room| !PURE.contains(room)) {
        return Vec::new();
    }
    let code = production(text);
    let mut found: Vec<&str> = tokens(&code);
    found.retain(|token| IMPURE.contains(token));
    let threads = paths(&code).into_iter().any(|named| named.starts_with(&["std", "thread"]));
    found.extend((threads && !module.contains(&"tests")).then_some("std::thread"));
    found.iter().map(|name| format!("{path}: a pure room names `{name}`")).collect()
}

/// Code marked `unsafe`, test code included, outside `sys`.
fn unsafe_violations(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("src/sys/") || path == COUNTING_ALLOCATOR {
        return Vec::new();
    }
    let code = code(text);
    let lines = code.lines().zip(1..).filter(|(line, _)| tokens(line).contains(&"unsafe"));
    lines.map(|(_, number)| format!("{path}:{number}: unsafe outside src/sys")).collect()
}

/// A file with too many lines outside its tests, and lines that are too wide.
fn length_violations(path: &str, text: &str) -> Vec<String> {
    let lines = production_lines(text);
    let mut found = Vec::new();
    if lines > LINES_MAX {
        found.push(format!("{path}: {lines} lines of production code, at most {LINES_MAX}"));
    }
    let wide = text.lines().zip(1..).filter(|(line, _)| line.chars().count() > WIDTH_MAX);
    found.extend(wide.map(|(_, number)| format!("{path}:{number}: wider than {WIDTH_MAX}")));
    found
}

/// Returns a violation if the file has no header that says what it owns.
fn header_violations(path: &str, text: &str) -> Vec<String> {
    let header = text.lines().take_while(|line| line.starts_with("//!")).count();
    let short = format!("{path}: a header of {header} lines, at least {HEADER_MIN}");
    Vec::from_iter((header < HEADER_MIN).then_some(short))
}

/// Returns reminders of unfinished work, in comments, strings and tests too.
fn leftover_violations(path: &str, text: &str) -> Vec<String> {
    occurrences(path, text, &LEFTOVERS)
}

/// Paths of the author's machine in any text file.
fn machine_violations(path: &str, text: &str) -> Vec<String> {
    occurrences(path, text, &MACHINE_PATHS)
}

fn occurrences(path: &str, text: &str, words: &[&str]) -> Vec<String> {
    let found = |(line, number): (&str, usize)| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(format!("{path}:{number}: `{word}`"))
    };
    text.lines().zip(1..).filter_map(found).collect()
}

/// The module path of a file of the root package's `src`; empty for the crate's roots. `None` for
/// other trees, and for a module's tests in a file of their own.
fn module_of(path: &str) -> Option<Vec<&str>> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    if inside.ends_with("/tests") {
        return None;
    }
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    Some(if ["lib", "main"].contains(&inside) { Vec::new() } else { inside.split('/').collect() })
}

/// The paths into this crate that a module's production code names, relative to the crate's root.
fn named_modules(module: &[&str], text: &str) -> Vec<Vec<String>> {
    let code = production(text);
    let mut named: Vec<Vec<String>> =
        paths(&code).iter().filter_map(|path| absolute(module, path)).collect();
    named.sort();
    named.dedup();
    named
}

/// The path relative to the crate's root, if it leads into this crate.
fn absolute(module: &[&str], path: &[&str]) -> Option<Vec<String>> {
    let (mut base, mut rest) = match path {
        ["crate" | "onward", rest @ ..] => (Vec::new(), rest),
        ["self", rest @ ..] => (module.to_vec(), rest),
        ["super", ..] => (module.to_vec(), path),
        _ => return None,
    };
    while let ["super", after @ ..] = rest {
        base.pop();
        rest = after;
    }
    Some(base.iter().chain(rest).map(|&segment| segment.to_owned()).collect())
}

/// Runs a check over all Rust files.
fn check_rust(check: impl Fn(&str, &str) -> Vec<String>) {
    let mut files = Vec::new();
    TREES.iter().for_each(|tree| collect(tree, &mut files));
    assert!(files.iter().any(|path| path == "src/lib.rs"), "no source found: {files:?}");
    let read = |path: &String| read(path).expect("source is UTF-8");
    refuse(files.iter().flat_map(|path| check(path, &read(path))).collect());
}

/// Adds the Rust files below a directory, except those in build directories.
fn collect(directory: &str, files: &mut Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    for entry in path.read_dir().unwrap_or_else(|error| panic!("{directory}: {error}")) {
        let entry = entry.expect("directories can be read");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = format!("{directory}/{name}");
        if entry.path().is_dir() && name != "target" {
            collect(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

/// A file's text; `None` if it is not text or does not exist.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

fn refuse(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::{
        LEFTOVERS, LINES_MAX, MACHINE_PATHS, ROOMS, WIDTH_MAX, absolute, crate_violations,
        dependency_names, header_violations, leaf_violations, leftover_violations,
        length_violations, machine_violations, mapped, purity_violations, room_violations,
        unsafe_violations,
    };

    type Check = fn(&str, &str) -> Vec<String>;

    fn refuses(check: Check, path: &str, text: &str, named: &str) {
        let violations = check(path, text);
        assert_eq!(violations.len(), 1, "{path}, {}: {violations:?}", start(text));
        assert!(violations[0].contains(named), "{violations:?} does not say {named}");
    }

    fn accepts(check: Check, path: &str, text: &str) {
        assert_eq!(check(path, text), Vec::<String>::new(), "{path}, {}", start(text));
    }

    /// The beginning of a sample, short enough for a message.
    fn start(text: &str) -> &str {
        text.get(..80).unwrap_or(text)
    }

    #[test]
    fn a_forbidden_room_is_refused_however_it_is_named() {
        let check = room_violations;
        refuses(check, "src/wheel.rs", "use crate::clock::Clock;", "clock::Clock");
        refuses(check, "src/wheel.rs", "use super::clock;", "`clock`");
        refuses(check, "src/wheel.rs", "let now = crate::clock::read();", "clock::read");
        refuses(check, "src/engine/pool.rs", "use crate::{config, sys::mmsg};", "sys::mmsg");
        refuses(check, "src/engine/stages/acl.rs", "super::super::super::sys::f()", "sys::f");
        refuses(check, "src/config/mod.rs", "use crate::*;", "`*`");
        refuses(check, "src/config/mod.rs", "use crate as all;", "``");
        refuses(check, "src/sys/mmsg.rs", "use crate::moment::Moment;", "moment::Moment");
        refuses(check, "src/corefile/lexer.rs", "use onward::config;", "config");
        refuses(check, "src/worker/turn.rs", "use crate::keeper::Keeper;", "keeper::Keeper");
    }

    #[test]
    fn a_permission_for_a_module_does_not_cover_its_room() {
        let check = room_violations;
        accepts(check, "src/traffic/client.rs", "use crate::engine::key::Key;");
        refuses(check, "src/traffic/client.rs", "use crate::engine::pool::Pool;", "engine::pool");
        refuses(check, "src/traffic/client.rs", "use crate::engine;", "`engine`");
        accepts(check, "src/keeper/mod.rs", "use crate::{engine::health, wheel::Wheel};");
        refuses(check, "src/keeper/mod.rs", "use crate::engine::cache::Cache;", "engine::cache");
    }

    #[test]
    fn an_unknown_room_is_refused_and_the_top_is_free() {
        refuses(room_violations, "src/cellar/mod.rs", "", "`cellar` is not in the table");
        for top in ["src/lib.rs", "src/main.rs", "src/cli.rs", "src/server/mod.rs", "src/demo.rs"] {
            accepts(room_violations, top, "use crate::{sys::a, engine::b}; use onward::wheel;");
        }
        assert!(ROOMS.is_sorted());
    }

    #[test]
    fn comments_strings_tests_and_the_own_room_are_exempt() {
        let text = "//! [`crate::sys`]\nconst A: &str = \"crate::sys::b\";\nuse crate::wheel::C;\n\
                    #[cfg(test)]\nmod tests {\n use crate::clock::Clock;\n}\n";
        accepts(room_violations, "src/wheel.rs", text);
        accepts(room_violations, "tests/loopback.rs", "use onward::sys::mmsg;");
        accepts(room_violations, "src/engine/tests.rs", "use crate::sys::mmsg;");
    }

    #[test]
    fn super_leads_one_module_up() {
        let from = |path: &[&str]| absolute(&["engine", "pool"], path).map(|path| path.join("::"));
        assert_eq!(from(&["super", "cache"]).unwrap(), "engine::cache");
        assert_eq!(from(&["super", "super", "sys"]).unwrap(), "sys");
        assert_eq!(from(&["self", "Slot"]).unwrap(), "engine::pool::Slot");
        assert_eq!(from(&["std", "fmt"]), None);
    }

    #[test]
    fn a_leaf_that_names_another_is_refused() {
        let check = leaf_violations;
        refuses(check, "src/engine/pool.rs", "use super::cache::{A, B};", "`cache`");
        refuses(check, "src/engine/zones.rs", "use super::policy::Tour;", "`policy`");
        refuses(check, "src/engine/pool.rs", "use crate::engine::forwarder::F;", "`forwarder`");
        refuses(check, "src/engine/pool.rs", "use super::DropReason;", "`mod`");
        refuses(check, "src/engine/stages/acl.rs", "use super::any::Any;", "`stages::any`");
        refuses(check, "src/engine/stages/acl.rs", "use crate::engine::pool;", "`pool`");
        refuses(check, "src/engine/cache/key.rs", "use crate::engine::pool::Pool;", "`pool`");
    }

    #[test]
    fn combiners_and_listed_edges_are_free() {
        let check = leaf_violations;
        accepts(check, "src/engine/mod.rs", "use crate::engine::pool::Pool;");
        accepts(check, "src/engine/forwarder.rs", "use super::{cache::Cache, pool::Pool};");
        accepts(check, "src/engine/cache.rs", "use super::{list::List, message::Header};");
        accepts(check, "src/engine/exchange.rs", "use super::{key::Key, policy::Tour};");
        accepts(check, "src/engine/cache/key.rs", "use super::entry::Entry; use self::a::B;");
        accepts(check, "src/engine/stages/mod.rs", "use self::acl::Acl;");
        accepts(check, "src/engine/stages/acl.rs", "use super::Verdict;");
        accepts(check, "src/worker/turn.rs", "use crate::engine::pool::Pool;");
    }

    #[test]
    fn a_crate_that_is_not_the_kernels_is_refused_in_sys() {
        let manifest = "[package]\nname = \"onward\"\n[dependencies]\nlibc = \"0.2\"\n\
                        clap.workspace = true\n# why\nrand-core = { version = \"1\" }\n\
                        [lints]\nworkspace = true\n[dev-dependencies]\nserde_json = \"1\"\n";
        let known = dependency_names(manifest);
        assert_eq!(known, ["libc", "clap", "rand_core", "serde_json"]);
        let check = |path, text| crate_violations(path, text, &known);
        assert_eq!(check("src/sys/mmsg.rs", "use rand_core::Rng;").len(), 1);
        assert_eq!(check("src/sys/mod.rs", "fn a() { clap::b() }").len(), 1);
        assert_eq!(check("src/sys/mmsg.rs", "use libc::c_int; use std::io;").len(), 0);
        assert_eq!(check("src/cli.rs", "use clap::Parser;").len(), 0);
    }

    #[test]
    fn impure_names_are_refused_in_pure_rooms() {
        let check = purity_violations;
        refuses(check, "src/engine/pool.rs", "use std::net::UdpSocket;", "UdpSocket");
        refuses(check, "src/engine/pool.rs", "std::net::TcpStream::connect(a)", "TcpStream");
        refuses(check, "src/engine/pool.rs", "use std::{fmt, thread::spawn};", "std::thread");
        refuses(check, "src/engine/pool.rs", "fn a(now: std::time::Instant) {}", "Instant");
        refuses(check, "src/engine/pool.rs", "use std::time::SystemTime;", "SystemTime");
        refuses(check, "src/engine/stages/any.rs", "println!(\"{a}\");", "println");
        refuses(check, "src/wheel.rs", "eprintln!();", "eprintln");
        accepts(check, "src/engine/pool.rs", "// Instant\n#[cfg(test)]\nuse std::time::Instant;");
        accepts(check, "src/clock.rs", "use std::time::Instant;");
    }

    #[test]
    fn unsafe_code_outside_sys_is_refused_even_in_tests() {
        let check = unsafe_violations;
        refuses(check, "src/worker/tls.rs", "fn a() {\n unsafe { b() }\n}", ":2:");
        refuses(check, "src/wheel.rs", "#[cfg(test)]\nmod tests { unsafe fn a() {} }", ":2:");
        refuses(check, "tests/netns.rs", "unsafe { a() }", ":1:");
        accepts(check, "src/sys/mmsg.rs", "unsafe { a() }");
        accepts(check, "src/sys/tests.rs", "unsafe { a() }");
        accepts(check, "src/wheel.rs", "// unsafe\n#![deny(unsafe_code)]");
    }

    #[test]
    fn long_files_and_wide_lines_are_refused() {
        let check = length_violations;
        let full = "a();\n".repeat(LINES_MAX);
        accepts(check, "src/a.rs", &full);
        refuses(check, "src/a.rs", &format!("{full}b();\n"), "521 lines");
        refuses(check, "src/a.rs", &format!("#[cfg(test)]\nmod b {{}}\n{full}c();\n"), "lines");
        accepts(check, "src/a.rs", &format!("{full}#[cfg(test)]\nmod tests {{\n{full}}}\n"));
        accepts(check, "src/a.rs", &"…".repeat(WIDTH_MAX));
        refuses(check, "src/a.rs", &format!("\n{}", "a".repeat(WIDTH_MAX + 1)), ":2:");
    }

    #[test]
    fn a_file_without_a_header_is_refused() {
        accepts(header_violations, "src/a.rs", "//! A.\n//!\n//! B.\nfn c() {}\n");
        refuses(header_violations, "src/a.rs", "//! A.\n//! B.\n\n//! C.\n", "2 lines");
        refuses(header_violations, "src/a.rs", "use a::b;\n//! A.\n//! B.\n//! C.\n", "0 lines");
    }

    #[test]
    fn a_map_names_files_alone_and_in_lists() {
        let map = "| a | `tests/tidy.rs`, `sim/{a,b}.rs` | `src/c.rs` `cargo test` `d/*.txt` |";
        assert_eq!(mapped(map), ["tidy.rs", "sim/a.rs", "sim/b.rs"]);
    }

    #[test]
    fn leftovers_and_machine_paths_are_refused() {
        for word in LEFTOVERS {
            refuses(leftover_violations, "tests/a.rs", &format!("b();\n// {word}(c)\n"), ":2:");
        }
        for path in MACHINE_PATHS {
            refuses(machine_violations, "README.md", &format!("cd {path}b"), path);
        }
        accepts(machine_violations, "README.md", "a network/work path below /tmp");
    }
}
