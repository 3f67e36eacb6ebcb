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

/// Returns a Python that has the package `module`; otherwise prints that its test is skipped. That
/// is the one of the variable `PYTHON`, such as one in a virtual environment, else Debian's.
#[allow(dead_code, reason = "each test binary uses its part of this")]
pub(crate) fn python_with(module: &str) -> Option<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {python} has no package {module} (PYTHON names another)");
    }
    found.then_some(python)
}
