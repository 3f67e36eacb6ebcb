//! What the operator reads: one line for each event, on standard output.
//!
//! Who reads it may go away, and the disk that keeps it may fill up. Neither is a reason to stop
//! serving, so a line that cannot be written is lost and nobody fails for it, as `println!` would.
//! Lines are for what happens now and then; what is said of queries comes here from the writer's
//! thread alone, which no query waits for.

use std::fmt::Display;
use std::io::Write;

/// Writes `line`, if anybody takes it.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
