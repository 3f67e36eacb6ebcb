//! Corefiles and their meaning, case by case, and properties that hold for all of them.
//!
//! The cases are text files in `tests/corefile/`, those of directives in `tests/corefile/stages/`.
//! [`directives`] tests their names, [`tree`] parsed files, [`robustness`] hostile ones. A case
//! begins with `=== TITLE`, then comes the Corefile, then sections that begin with `--- `:
//!
//! * `--- env NAME=VALUE` and `--- file PATH` (contents below): the Corefile's environment;
//! * `--- open files N`: the process's limit of descriptors;
//! * `--- host NAME ADDRESS...`: the addresses of a host name;
//! * `--- error`: the whole error message about the text,
//! * `--- error of the host`: the whole error message about the host, or
//! * `--- not built WORD...`: one of these is refused as known but not built, or
//! * `--- zones`: each listener with its zones, and optionally
//! * `--- prints`: lines of the effective configuration, in order, and `--- warnings`: all of them.
//!
//! Invisible characters are written `␍` (carriage return), `⏎` (newline in a value), `‹U+00A0›` (a
//! character by number) and `‹end›` (the input ends here, without newline).

mod directives;
mod robustness;
mod tree;
mod words;

use crate::words::word;
use onward::config::{Cause, Config, Host, Protocol, Resolved};
use onward::corefile::Sources;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Case {
    title: String,
    input: String,
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    open_files: Option<usize>,
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Expected sections, by name.
    expected: Vec<(String, String)>,
}

impl Case {
    fn parse(text: &str) -> Self {
        let (title, rest) = text.split_once('\n').expect("a title");
        let mut case = Self { title: title.to_owned(), ..Self::default() };
        let mut parts = rest.trim_end_matches('\n').split("\n--- ");
        case.input = unescape(parts.next().expect("an input"));
        for part in parts {
            let (head, body) = part.split_once('\n').unwrap_or((part, ""));
            match head.split_once(' ') {
                Some(("env", binding)) => {
                    let (name, value) = binding.split_once('=').expect("NAME=VALUE");
                    case.variables.insert(name.into(), value.replace('⏎', "\n"));
                }
                Some(("file", path)) => {
                    case.files.insert(Path::new("/dir").join(path), unescape(body).into_bytes());
                }
                Some(("host", host)) => {
                    let mut words = host.split(' ');
                    let name = words.next().expect("a name").to_owned();
                    let addresses = words.map(|address| address.parse().expect("an address"));
                    case.names.insert(name, addresses.collect());
                }
                Some(("open", count)) => {
                    let count = count.strip_prefix("files ").and_then(|count| count.parse().ok());
                    case.open_files = Some(count.expect("open files N"));
                }
                _ => case.expected.push((head.to_owned(), body.trim_end().to_owned())),
            }
        }
        assert!(!case.expected.is_empty(), "{}: nothing is expected", case.title);
        case
    }

    /// Returns the host that the case describes.
    fn host(&self) -> Host {
        let plain = Host::plain();
        let sources = Sources::fixed(self.files.clone(), self.variables.clone());
        let open_files = self.open_files.unwrap_or(plain.open_files);
        let names = self.names.clone();
        let lookup = move |name: &str, resolvers: &[SocketAddr]| match names.get(name) {
            Some(addresses) => {
                Ok(Resolved { addresses: addresses.clone(), ttl: None, incomplete: None })
            }
            None => Err(format!("{resolvers:?} know no such name")),
        };
        Host { sources, open_files, lookup: Box::new(lookup), ..plain }
    }

    /// Returns the differences from the expected sections.
    fn problems(&self) -> String {
        let host = self.host();
        let loaded = Config::load(self.input.as_bytes(), "Corefile", &host);
        let mut problems = String::new();
        for (section, expected) in &self.expected {
            let found = match (&loaded, section.as_str()) {
                (Err(error), section) if names_unbuilt(&error.to_string(), section) => continue,
                (Err(error), _) if error.cause() == Cause::Host => {
                    format!("error of the host: {error}")
                }
                (Err(error), _) => format!("error: {error}"),
                (Ok((config, _)), "zones") => zones(config),
                (Ok((_, warnings)), "warnings") => lines(warnings),
                (Ok((config, _)), "prints") if holds(&config.to_string(), expected) => continue,
                (Ok((config, _)), _) => config.to_string().trim_end().to_owned(),
            };
            let expected = match section.as_str() {
                "error" | "error of the host" => format!("{section}: {expected}"),
                _ => expected.clone(),
            };
            if found != expected {
                let _ =
                    writeln!(problems, "=== {}\nexpected {expected}\nfound {found}", self.title);
            }
        }
        problems
    }
}

fn unescape(text: &str) -> String {
    // The newline before the next section ends the last line of this one.
    let (text, end) = text.split_once("‹end›").map_or((text, "\n"), |(text, _)| (text, ""));
    let mut plain = String::new();
    for (index, part) in text.replace('␍', "\r").split("‹U+").enumerate() {
        let (number, rest) = if index == 0 { ("", part) } else { part.split_once('›').unwrap() };
        plain.extend(u32::from_str_radix(number, 16).ok().and_then(char::from_u32));
        plain.push_str(rest);
    }
    plain + end
}

fn zones(config: &Config) -> String {
    let mut text = String::new();
    for listener in &config.listeners {
        let implied = if listener.implied { " (implied)" } else { "" };
        let scheme = if listener.protocol == Protocol::Tls { "tls://" } else { "" };
        let _ = write!(text, "{scheme}{}{implied}", listener.address);
        listener.zones.iter().for_each(|(zone, _)| text += &format!(" {zone}"));
        text += "\n";
    }
    text.trim_end().to_owned()
}

fn lines(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Returns true if `error` says that one of the words in `section` (`not built WORD...`) is not
/// built.
fn names_unbuilt(error: &str, section: &str) -> bool {
    let Some(words) = section.strip_prefix("not built ") else { return false };
    let Some(what) = error.strip_suffix(" is not supported by onward yet") else { return false };
    words.split(' ').any(|word| what.split(['\'', ':']).any(|part| part.starts_with(word)))
}

/// Returns true if the lines of `expected` occur in `text` in this order.
fn holds(text: &str, expected: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    expected.lines().all(|wanted| lines.any(|line| line == wanted.trim()))
}

/// Returns the paths of the files with cases, sorted.
fn case_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefile");
    let entries = [directory.clone(), directory.join("stages")].map(std::fs::read_dir);
    let entries = entries.into_iter().flat_map(|entries| entries.expect("cases are there"));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("it is listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
}

/// Returns all cases; a title begins with the name of its file.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for path in case_files() {
        let file = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("it is readable");
        for mut case in text.split("\n=== ").skip(1).map(Case::parse) {
            case.title = format!("{file}: {}", case.title);
            all.push(case);
        }
    }
    all
}

#[test]
fn every_case_holds() {
    let cases = cases();
    assert!(cases.len() >= 200, "only {} cases were found", cases.len());
    let problems: String = cases.iter().map(Case::problems).collect();
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn the_effective_configuration_of_every_case_means_the_same_on_another_host() {
    let mut loaded_cases = 0;
    for case in cases() {
        let Ok((config, _)) = Config::load(case.input.as_bytes(), "Corefile", &case.host()) else {
            continue;
        };
        let is_long = config.forwards().any(|forward| forward.upstreams.len() > 15);
        if is_long {
            // More upstreams than the language allows to be written out.
            continue;
        }
        // Certificates and keys are files there as well, and the contents of other files are
        // written out.
        let sources = Sources::fixed(case.files.clone(), BTreeMap::new());
        let other = Host { workers: 64, default_port: 5300, interfaces: vec![], ..Host::plain() };
        let other = Host { sources, ..other };
        let again = Config::load(config.to_string().as_bytes(), "effective", &other);
        let (again, _) = again.unwrap_or_else(|error| panic!("{}: {error}", case.title));
        // Never printed, because it depends on the host only.
        let mut config = Config { client_connections_max: again.client_connections_max, ..config };
        // Host names are printed as addresses, which are not resolved again.
        for forward in config.blocks.iter_mut().flat_map(|block| &mut block.forwards) {
            forward.host_names.clear();
        }
        assert_eq!(again, config, "{}", case.title);
        loaded_cases += 1;
    }
    assert!(loaded_cases > 40, "only {loaded_cases} cases load");
}

/// Words of Corefiles, and some that are invalid.
/// A valid server block, except for conflicts with other blocks.
fn block() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("m"),
        Just("n:5"),
        Just("n:6"),
        Just("10.0.0.0/22"),
        Just("o\\.p"),
        Just("q:r"),
        Just("_x.y"),
    ];
    let bind = prop_oneof![
        Just(""),
        Just("bind lo"),
        Just("bind 127.0.0.1"),
        Just("bind ::1 10.0.0.1"),
        Just("bind fe80::1%7"),
        Just("bind lo {\nexcept lo\n}"),
    ];
    let option = prop_oneof![
        Just("except a b.c"),
        Just("expire 1500ms"),
        Just("max_age 1h1.5s"),
        Just("policy sequential"),
        Just("spread 7"),
        Just("max_conns 300"),
        Just("max_inflight 1"),
        Just("max_inflight 100 9"),
        Just("distrust off"),
        Just("rebalance auto"),
        Just("max_idle_conns 3"),
        Just("read_timeout 7us"),
        Just("max_connect_attempts 0"),
        Just("max_fails 0"),
        Just("health_check 1.5s no_rec domain a\\.b.C"),
        Just("health_check 0"),
        Just("failfast_all_unhealthy_upstreams"),
        Just("force_tcp"),
        Just("prefer_udp"),
        Just("failover ServFail REFUSED"),
        Just("next nxdomain noerror NOTIMPL badcookie"),
        Just("next_on_nodata"),
        Just("max_concurrent 7"),
        Just("source_address 127.0.0.5"),
        Just("proxy_protocol v2"),
        Just("source_address ::1"),
    ];
    let options = proptest::collection::vec(option, 0..6);
    let targets = prop_oneof![Just("::1"), Just("10.0.0.1 10.0.0.2:5"), Just("fe80::1%3 f")];
    let forward = (targets, options).prop_map(|(targets, options)| {
        format!("forward . {targets} {{\n{}\n}}", options.join("\n"))
    });
    let stages = proptest::collection::vec(stage(), 0..4);
    let forwards = proptest::collection::vec(forward, 0..3);
    (proptest::collection::vec(key, 1..4), bind, stages, forwards).prop_map(
        |(keys, bind, stages, forwards)| {
            let (keys, stages, forwards) = (keys.join(" "), stages.join("\n"), forwards.join("\n"));
            format!("{keys} {{\n{stages}\n{bind}\n{forwards}\n}}\n")
        },
    )
}

/// A valid small directive, except for repetition.
fn stage() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => cache(),
        9 => small_stage().prop_map(str::to_owned),
    ]
}

/// A valid cache, except for options that contradict one another.
fn cache() -> impl Strategy<Value = String> {
    let arguments =
        prop_oneof![Just(""), Just("30"), Just("m"), Just("86400 o\\.p 10.0.0.0/9"), Just("1d")];
    let option = prop_oneof![
        Just("success 100"),
        Just("success 0 900"),
        Just("denial 9984 5 0"),
        Just("denial 70 7 9"),
        Just("capacity_bytes success 3M"),
        Just("capacity_bytes denial 99999"),
        Just("prefetch 3"),
        Just("prefetch 1 1.5s 90%"),
        Just("prefetch 0"),
        Just("serve_stale"),
        Just("serve_stale 0"),
        Just("serve_stale 1h immediate 30s 5m"),
        Just("serve_stale 1ns VERIFY"),
        Just("serve_stale 1h verify 0 30"),
        Just("serve_stale 1h verify 1us 4294967295 1ms"),
        Just("serve_stale_policy prefer_positive"),
        Just("servfail 0"),
        Just("servfail 5m"),
        Just("disable success"),
        Just("disable denial m a\\.b.C 10.0.0.0/9"),
        Just("keepttl"),
        Just("lru"),
        Just("lru 1 99999s"),
    ];
    (arguments, proptest::collection::vec(option, 0..5)).prop_map(|(arguments, options)| {
        format!("cache {arguments} {{\n{}\n}}", options.join("\n"))
    })
}

/// A valid small directive other than `cache`.
fn small_stage() -> impl Strategy<Value = &'static str> {
    prop_oneof![15 => stage_with_names(), 54 => plain_stage()]
}

/// A directive that answers from own names, or is about them.
fn stage_with_names() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("transfer m 10.0.0.0/9 {\nto 10.0.0.1:99 ::1 10.0.0.0/9\nsource ::1\n}"),
        Just("transfer {\nto *\n}"),
        Just("secondary m 10.0.0.0/9 {\ntransfer from 10.0.0.1:99 tls://::1\ndirectory d\n}"),
        Just("secondary n {\ntransfer from ::1\ncatalog m 10.0.0.0/9\ndirectory e\n}"),
        Just("tsig m {\nsecret k c2VjcmV0 hmac-sha1\nrequire A TYPE9999\nrequire_opcode all\n}"),
        Just("tsig {\nsecret \"a b\" c2VjcmV0\nsecret c /+==\n}"),
        Just("file \"x y\" m 10.0.0.0/9 {\nreload 0\nfallthrough\n}\nfile d {\nfallthrough m a\n}"),
        Just("hosts"),
        Just("hosts \"x y\" m 10.0.0.0/9 {\n::1 *.A b\\.c\nttl 9\nreload 0\nno_reverse\n}"),
        Just("hosts f m..n {\nfallthrough m..n\nfallthrough_unsupported\n}"),
        Just("hosts f {\n10.0.0.1 a\nfallthrough a b\nreload 1.5s\n}"),
        Just("auto a {\nreload 5s\n}"),
        Just("auto m {\ndirectory \"d e\"\nfallthrough a\n}"),
        Just("auto {\ndirectory d \"(a b) (.*)\" ${2}.{1}.\nreload 0\n}"),
        Just("dnssec"),
    ]
}

fn plain_stage() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("template ANY AAAA"),
        Just("template IN A t {\nmatch ^(?P<x>a)\nanswer \"{{ .Name }} 5 A 10.0.0.1\"\n}"),
        Just(
            "template IN ANY {\nmatch (a)\nanswer \"{{ index .Match 1 }} TXT b\"\nrcode REFUSED\n}"
        ),
        Just("template CH TXT a b {\nederror 5 \"x y\"\nfallthrough a\nauthority \"a. NS b.\"\n}"),
        Just("root \"x y\""),
        Just("cancel 1.5s"),
        Just("proxyproto {\nallow ::/0 10.0.0.0/9\ndefault skip\nudp_session_tracking 7s\n}"),
        Just("https {\nmax_connections 3\npath /q /r\n}"),
        Just("grpc_server {\nmax_streams 3\n}"),
        Just("quic {\nmax_streams 3\nmax_connections 9\n}"),
        Just("tcp {\nmax_per_client 3\n}"),
        Just("ratelimit a {\nqps 0.25\nburst 3\nexempt ::/9\n}"),
        Just("cookies off"),
        Just("late {\nrate 7\ndiscard 1.9s\n}"),
        Just("rrl {\nerrors-per-second 7\nwindow 0.5\n}"),
        Just("timeouts {\nread 3 idle 90s\nmaxtcpqueries 3\n}"),
        Just("reload 9s 3s"),
        Just("nsid"),
        Just("nsid a \"b c\" d#e"),
        Just("bufsize 700"),
        Just("debug"),
        Just("errors {\nstacktrace\nconsolidate 5s \"a \\\"b\" info show_first\n}"),
        Just("log"),
        Just("ready"),
        Just("ready [::1]:0 {\nmonitor continuously\n}"),
        Just("health :8080 {\nlameduck 1.5s\n}"),
        Just("prometheus localhost:9253 {\nruntime_metrics\n}"),
        Just("status [fe80::1%3]:8053"),
        Just("log m..n x {\nclass all denial\n}"),
        Just("log m n \"{type} {name}\""),
        Just("local {\nlocalhost_prefix off\nspecial_names on\n}"),
        Just("dns64 2001:db8::/32 {\nprefix 64:ff9b::1/96\nallow_ipv4\n}"),
        Just("any"),
        Just("chaos"),
        Just("chaos \"\" \"x y\" z"),
        Just("loadbalance {\nprefer 10.0.0.0/9 ::/3\n}"),
        Just("acl {\nallow net 10.9.8.7/22 ::1 type MX TYPE9999\nblock\n}"),
        Just("acl 10.0.0.0/22 {\nfilter type A\ndrop net *\n}"),
        Just("acl m..n"),
        Just("header {\nquery clear rd\nresponse set aa ra\n}"),
        Just("rewrite continue name suffix .a \"b c\" answer auto"),
        Just("rewrite stop {\nname regex (.*)x {1}\nanswer value (a) \"{1} {\"\n}"),
        Just("rewrite ttl a 5-"),
        Just("rewrite continue cname regex \"a b\" \"{1} x\""),
        Just("rewrite edns0 local append 0xffee \"a b\" revert"),
        Just("minimal"),
        Just("loop"),
        Just("whoami"),
        Just("view v"),
        Just("view \"v w\" {\nexpr name() == 'm.' and incidr(client_ip(), '::/3')\n}"),
        Just("view x {\nexpr \"size() > 3\"\nexpr name() matches `a\\.b`\n}"),
        Just("erratic"),
        Just("erratic x {\ndrop 0\ndelay 3 1.5s\nlarge\n}"),
        Just("erratic {\ntruncate 4294967295\ndelay 1 99999h\n}"),
        Just("metadata"),
        Just("metadata m..n"),
        Just("metadata m 10.0.0.0/9"),
        Just("multisocket"),
        Just("multisocket 9"),
        Just("pprof :6053 {\nblock 5\n}"),
    ]
}

fn host() -> Host {
    let files = [("/dir/f", "nameserver 10.0.0.9\nimport f"), ("/dir/s", "bind lo")];
    let files = files.map(|(path, text)| (path.into(), text.as_bytes().to_vec())).into();
    let variables = [("E".to_owned(), "{$E} {".to_owned())].into();
    Host { sources: Sources::fixed(files, variables), ..Host::plain() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_loading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Config::load(&bytes, "Corefile", &host());
    }

    #[test]
    fn no_words_make_loading_panic(words in proptest::collection::vec(word(), 0..60)) {
        let _ = Config::load(words.join(" ").as_bytes(), "Corefile", &host());
    }

    #[test]
    fn what_loads_is_written_and_loads_again(blocks in proptest::collection::vec(block(), 1..4)) {
        // Blocks that contradict one another are refused, and nothing else is to check.
        if let Ok((config, _)) = Config::load(blocks.concat().as_bytes(), "Corefile", &host()) {
            let other = Host { workers: 8, ..Host::plain() };
            let again = Config::load(config.to_string().as_bytes(), "effective", &other);
            prop_assert!(again.is_ok(), "{:?}\n{}", again, config);
            prop_assert_eq!(&again.unwrap().0, &config, "{}", config);
        }
    }
}
