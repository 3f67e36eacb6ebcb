//! `reload [INTERVAL [JITTER]]`
//!
//! `reload`: the interval at which the file is checked for changes. It concerns the process,
//! whichever block it stands in; the last of several blocks wins, and within a block the first
//! stanza.

use super::duration::{self, show_duration};
use super::error::DirectiveError;
use crate::corefile::Cursor;
use std::fmt;
use std::time::Duration;

/// Shorter intervals would only cost time.
const INTERVAL_MIN: Duration = Duration::from_secs(2);
/// A jitter is nothing or at least this.
const JITTER_MIN: Duration = Duration::from_secs(1);

/// The directive.
pub(super) const NAME: &str = "reload";

/// Settings of `reload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Interval of checks. At least 2 s.
    pub(crate) interval: Duration,
    /// A check is earlier or later by up to half of this. At most half of the interval.
    pub(crate) jitter: Duration,
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", show_duration(self.interval), show_duration(self.jitter))
    }
}

/// Reads the first `reload` stanza of one server block.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Reload, DirectiveError> {
    cursor.stanza();
    let words = cursor.rest();
    if words.len() > 2 {
        return Err(cursor.argument_error().into());
    }
    let mut reload = Reload { interval: Duration::from_secs(30), jitter: Duration::from_secs(15) };
    for (place, word) in words.iter().enumerate() {
        let nanos = duration::parse(&word.text).map_err(|why| DirectiveError::value(word, why))?;
        // A negative value is refused like one that is too short; a jitter of 0 is allowed.
        let value = Duration::from_nanos(u64::try_from(nanos).unwrap_or(1));
        if place == 0 && value < INTERVAL_MIN {
            let message = "interval value must be greater or equal to 2s";
            return Err(DirectiveError::value(word, message));
        }
        if place == 1 && value < JITTER_MIN && !value.is_zero() {
            let message = "jitter value must be 0 or greater or equal to 1s";
            return Err(DirectiveError::value(word, message));
        }
        *[&mut reload.interval, &mut reload.jitter][place] = value;
    }
    reload.jitter = reload.jitter.min(reload.interval / 2);
    Ok(reload)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Host, Reload};
    use std::time::Duration;

    fn reload(text: &str) -> Result<Option<Reload>, String> {
        let text = format!(". {{\n{text}\n}}\n");
        let loaded = Config::load(text.as_bytes(), "f", &Host::plain());
        loaded.map(|(config, _)| config.reload).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_is_looked_at_as_often_as_is_written() {
        let seconds = |interval, jitter| {
            let (interval, jitter) = (Duration::from_secs(interval), Duration::from_secs(jitter));
            Ok(Some(Reload { interval, jitter }))
        };
        assert_eq!(reload(""), Ok(None));
        assert_eq!(reload("reload"), seconds(30, 15));
        assert_eq!(reload("reload 10s"), seconds(10, 5));
        assert_eq!(reload("reload 10s 0"), seconds(10, 0));
        assert_eq!(reload("reload 1m 1s"), seconds(60, 1));
        assert_eq!(reload("reload 4s 10s"), seconds(4, 2));
    }

    #[test]
    fn what_is_too_often_is_refused() {
        for (text, why) in [
            ("reload 1999ms", "interval value must be greater or equal to 2s"),
            ("reload -5s", "interval value must be greater or equal to 2s"),
            ("reload 10s 999ms", "jitter value must be 0 or greater or equal to 1s"),
            ("reload 10s -1s", "jitter value must be 0 or greater or equal to 1s"),
            ("reload 10", "missing unit"),
            ("reload 10s 1s x", "f:2"),
        ] {
            let error = reload(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
