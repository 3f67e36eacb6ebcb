//! Dependencies of the workspace, and entries of its top directory.
//!
//! No async runtime in the resolved graph, read from `cargo metadata`; a reason beside each
//! dependency that is not one of the fixed ones; and a top directory with the listed entries only.
//! Each check is a function over text or JSON, and the tests at the end show that each fails on a
//! bad sample.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Async runtimes, and crates that only a runtime needs.
const RUNTIMES: [&str; 5] = ["async-io", "async-std", "futures-executor", "smol", "tokio"];
/// Dependencies fixed by the design; any other needs a reason beside it.
const FIXED: [&str; 8] = [
    "clap",
    "core_affinity",
    "crossbeam-channel",
    "domain",
    "hdrhistogram",
    "libc",
    "mio",
    "socket2",
];
/// Entries of the top directory, except for dot files.
const TOP: [&str; 10] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "loadgen",
    "src",
    "tests",
    "tuning",
];

#[test]
fn no_async_runtime_is_in_the_tree() {
    let packages = resolved(&metadata());
    assert!(packages.contains("mio") && packages.contains("loadgen"), "{packages:?}");
    assert_eq!(runtimes(&packages), Vec::<&str>::new());
}

#[test]
fn each_dependency_has_a_reason() {
    for path in ["Cargo.toml", "loadgen/Cargo.toml"] {
        let manifest = std::fs::read_to_string(root().join(path)).expect("it is text");
        assert_eq!(unexplained(&manifest), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn nothing_unlisted_stands_at_the_top_level() {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    assert_eq!(misplaced(paths.split_terminator('\0')), Vec::<String>::new());
}

/// Returns cargo's metadata of the workspace, all targets and features in use included.
fn metadata() -> Value {
    let run = |offline: &[&str]| {
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(offline)
            .current_dir(root())
            .output()
            .expect("cargo runs")
    };
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        // Packages of other platforms may be missing from the local registry.
        output = run(&[]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// The names of the packages in the resolved graph.
fn resolved(metadata: &Value) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a resolved graph");
    let used: BTreeSet<String> = nodes.iter().map(|node| text(&node["id"])).collect();
    let packages = metadata["packages"].as_array().expect("packages");
    let used = packages.iter().filter(|package| used.contains(&text(&package["id"])));
    used.map(|package| text(&package["name"])).collect()
}

/// The runtimes among `packages`.
fn runtimes(packages: &BTreeSet<String>) -> Vec<&'static str> {
    RUNTIMES.into_iter().filter(|runtime| packages.contains(*runtime)).collect()
}

/// The dependencies of a manifest that are neither fixed nor preceded by a comment.
fn unexplained(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut above = "";
    for line in manifest.lines().map(str::trim) {
        let mut named = None;
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            // A table for a single dependency.
            named = table.rsplit_once("dependencies.").map(|(_, name)| name);
        } else if inside && line.contains('=') && !line.starts_with('#') {
            named = line.split(['.', '=', ' ']).next();
        }
        let named = named.map(|name| name.trim_matches('"'));
        let reason = above.strip_prefix('#').is_some_and(|reason| !reason.trim().is_empty());
        found.extend(named.filter(|name| !FIXED.contains(name) && !reason).map(str::to_owned));
        above = line;
    }
    found
}

/// Returns the unlisted entries of the top directory, and the listed ones that are missing.
fn misplaced<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names = paths.filter_map(|path| path.split('/').next());
    let present: BTreeSet<&str> = names.filter(|name| !name.starts_with('.')).collect();
    let listed = BTreeSet::from(TOP);
    let unlisted = present.difference(&listed).map(|name| format!("{name} is not listed"));
    unlisted.chain(listed.difference(&present).map(|name| format!("{name} is missing"))).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[cfg(test)]
mod tests {
    use super::{RUNTIMES, TOP, misplaced, resolved, runtimes, unexplained};
    use serde_json::json;

    #[test]
    fn a_runtime_is_found_in_the_resolved_graph_only() {
        for runtime in RUNTIMES {
            let metadata = json!({
                "packages": [
                    {"id": "a", "name": "onward"},
                    {"id": "b", "name": runtime},
                    {"id": "c", "name": "optional-and-off"},
                ],
                "resolve": {"nodes": [{"id": "a"}, {"id": "b"}]},
            });
            let packages = resolved(&metadata);
            assert_eq!(packages.len(), 2, "{packages:?}");
            assert_eq!(runtimes(&packages), [runtime]);
        }
        assert!(runtimes(&["mio".to_owned(), "tokio-like".to_owned()].into()).is_empty());
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "\
            [package]\nname = \"a\"\n\
            [dependencies]\nlibc = \"1\"\nclap.workspace = true\nbare = \"1\"\n\
            # Why.\ngood = \"1\"\nafter = \"1\"\n#\nempty.workspace = true\n\
            # Why, but not beside it.\n\nfar = { version = \"1\" }\n\
            [dev-dependencies]\n\"quoted\" = \"1\"\n\
            [target.'cfg(unix)'.dependencies]\nunix = \"1\"\n\
            [workspace.dependencies]\nshared = \"1\"\n\
            [build-dependencies.table]\nversion = \"1\"\n\
            # Why.\n[dependencies.explained]\nversion = \"1\"\n\
            [lints]\nworkspace = true\n";
        let found = ["bare", "after", "empty", "far", "quoted", "unix", "shared", "table"];
        assert_eq!(unexplained(manifest), found);
    }

    #[test]
    fn unlisted_and_missing_entries_of_the_top_level_are_found() {
        let paths = TOP.map(|name| format!("{name}/a"));
        let paths = || paths.iter().map(String::as_str).chain([".ci/run", ".gitignore"]);
        assert!(misplaced(paths()).is_empty());
        let stranger = misplaced(paths().chain(["notes.txt", "docs/a"]));
        assert_eq!(stranger, ["docs is not listed", "notes.txt is not listed"]);
        let gap = misplaced(paths().filter(|path| !path.starts_with("LICENSE")));
        assert_eq!(gap, ["LICENSE is missing"]);
    }
}
