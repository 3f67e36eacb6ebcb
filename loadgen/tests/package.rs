//! The package: built from these tests' programs, linted, installed, upgraded and purged once.
//!
//! The programs are those of the tests and not of a release, which changes only their size. Needs
//! root, dpkg-deb and lintian; missing requirements are reported and the test is skipped.

mod kit;

use kit::{directory, installed::is_installed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Tags of lintian that a package outside Debian may have.
const SUPPRESSED: &str = "initial-upload-closes-no-bugs";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/package").join(name)
}

/// Returns the paths of the packaged programs, if all are there.
fn binaries() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_BIN_EXE_loadgen")).parent().unwrap().to_owned();
    let missing = ["onward", "examples/pages"].iter().find(|name| !directory.join(name).is_file());
    if let Some(missing) = missing {
        eprintln!("SKIPPED: there is no {}", directory.join(missing).display());
        return None;
    }
    Some(directory)
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{stderr}");
    said
}

/// Builds the package in a directory of the test's own.
fn build(test: &str) -> Option<PathBuf> {
    let ready = is_installed("dpkg-deb") && is_installed("strip");
    let binaries = binaries().filter(|_| ready)?;
    let mut build = Command::new(script("build"));
    build.arg("--binaries").arg(binaries).arg("--out").arg(directory(test));
    Some(PathBuf::from(succeeds(&build.output().unwrap()).trim()))
}

#[test]
fn the_same_programs_make_the_same_package_and_lintian_finds_no_error() {
    let Some(package) = build("package_once") else { return };
    let again = build("package_again").unwrap();
    assert!(fs::read(&package).unwrap() == fs::read(&again).unwrap(), "other bytes");
    if is_installed("lintian") {
        let mut lint = Command::new("lintian");
        lint.args(["--allow-root", "--fail-on", "error", "--suppress-tags", SUPPRESSED]);
        succeeds(&lint.arg(&package).output().unwrap());
    }
}

/// Asserts that the page of `command` has its examples and all its options, and so on below it.
fn assert_documented(pages: &Path, command: &clap::Command, title: &str, section: &str) {
    let path = pages.join(format!("{title}.{section}"));
    let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
    for option in command.get_arguments().filter_map(clap::Arg::get_long) {
        let option = format!("\\-\\-{}", option.replace('-', "\\-"));
        assert!(page.contains(&option), "{title}: no {option}");
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for (heading, title) in
        [("Examples:", ".SH \"EXAMPLES\""), ("Exit codes:", ".SH \"EXIT STATUS\"")]
    {
        assert!(!help.contains(heading) || page.contains(title), "{heading} is not in {page}");
    }
    for part in command.get_subcommands().filter(|part| part.get_name() != "help") {
        assert_documented(pages, part, &format!("{title}-{}", part.get_name()), section);
    }
}

#[test]
fn each_command_has_a_manual_page_with_all_its_options() {
    let Some(binaries) = binaries() else { return };
    let directory = directory("manual_pages");
    succeeds(&Command::new(binaries.join("examples/pages")).arg(&directory).output().unwrap());
    let pages = directory.join("man");
    assert_documented(&pages, &onward::command(), "onward", "8");
    assert_documented(&pages, &loadgen::cli::command(), "loadgen", "1");
    let onward = fs::read_to_string(pages.join("onward.8")).unwrap();
    for words in [".SH \"SIGNALS\"", "SIGUSR2", ".SH \"FILES\"", "onward\\-check(8)"] {
        assert!(onward.contains(words), "no {words} in: {onward}");
    }
}

#[test]
fn it_is_installed_serves_is_upgraded_without_a_loss_and_purged() {
    let root = Command::new("id").arg("-u").output().unwrap();
    if root.stdout.trim_ascii() != b"0" {
        return eprintln!("SKIPPED: only root makes a throw-away root");
    }
    let Some(package) = build("package_life") else { return };
    let said = succeeds(&Command::new(script("try")).arg(package).output().unwrap());
    for words in ["installed onward", "serves as onward", "no query lost", "nothing left"] {
        assert!(said.contains(words), "no «{words}» in: {said}");
    }
}
