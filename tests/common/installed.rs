//! Other people's programs: whether a test can talk to one.
//!
//! A test that needs a program which is not there is skipped, and that is said aloud. Installing
//! what is missing is not done here.

use std::process::Command;

/// Returns true if `program` is installed; says aloud that its test is skipped if not.
pub(crate) fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}
