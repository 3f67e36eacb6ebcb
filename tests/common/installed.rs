//! Detection of installed third-party programs.
//!
//! A test whose program is missing is skipped and prints so. Installing programs is left to the
//! environment.

use std::process::Command;

/// Returns true if `program` is installed; otherwise prints that its test is skipped.
pub(crate) fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}
