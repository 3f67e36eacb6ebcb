//! `erratic { drop [N]; truncate [N]; delay [N [DURATION]]; large }`
//!
//! Answers for tests of clients: some are delayed, truncated or missing. Of several stanzas the
//! last value of each option holds. Words behind the name are ignored, as in the reference.

use super::super::context::Context;
use super::super::duration::show_duration;
use super::super::error::DirectiveError;
use super::super::{duration, numbers};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::time::Duration;

const OPTIONS: [&str; 4] = ["drop", "truncate", "delay", "large"];
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum delay: no client waits longer.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Queries that are answered otherwise than at once and whole. N: the first and every Nth after it;
/// 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Erratic {
    /// Every such query gets no reply.
    pub(crate) drop: u32,
    /// The reply to every such query says that it is cut.
    pub(crate) truncate: u32,
    /// The reply to every such query is late.
    pub(crate) delay: u32,
    /// Length of the delay.
    pub(crate) pause: Duration,
    /// Answers have thirty records instead of one.
    pub(crate) large: bool,
}

/// Reads all `erratic` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Erratic>, DirectiveError> {
    let mut erratic = Erratic { drop: 2, truncate: 0, delay: 0, pause: PAUSE, large: false };
    let mut drops = false;
    while context.stanza("erratic", cursor).is_some() {
        cursor.rest();
        while let Some(property) = cursor.block() {
            let words = cursor.rest();
            let takes = match &*property.text {
                "drop" | "truncate" => 1,
                "delay" => 2,
                "large" => 0,
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            };
            if words.len() > takes {
                return Err(cursor.argument_error().into());
            }
            let amount = words.first().map(|word| amount(word)).transpose()?;
            match &*property.text {
                "drop" => {
                    drops |= amount.is_some();
                    erratic.drop = amount.unwrap_or(erratic.drop);
                }
                "truncate" => erratic.truncate = amount.unwrap_or(2),
                "delay" => {
                    erratic.delay = amount.unwrap_or(2);
                    erratic.pause = words.get(1).map_or(Ok(PAUSE), |word| pause(word, context))?;
                }
                _ => erratic.large = true,
            }
        }
    }
    if (erratic.delay > 0 || erratic.truncate > 0) && !drops {
        erratic.drop = 0;
    }
    Ok(Some(erratic))
}

fn amount(word: &Token) -> Result<u32, DirectiveError> {
    let number =
        numbers::signed(&word.text).map_err(|message| DirectiveError::value(word, message))?;
    if number < 0 {
        let message = format!("illegal amount value given \"{}\"", word.text);
        return Err(DirectiveError::value(word, message));
    }
    u32::try_from(number).map_err(|_| {
        let message = format!("amount {number} is too large: at most {} is expected", u32::MAX);
        DirectiveError::value(word, message)
    })
}

fn pause(word: &Token, context: &mut Context<'_>) -> Result<Duration, DirectiveError> {
    let nanos =
        duration::parse(&word.text).map_err(|message| DirectiveError::value(word, message))?;
    let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    if pause > PAUSE_MAX {
        let message = format!("plugin/erratic: a delay of {} is cut to 1h", word.text);
        context.warn(&word.place, message);
    }
    Ok(pause.min(PAUSE_MAX))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Erratic>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Erratic { drop, truncate, delay, pause, large }) = settings else { return Ok(()) };
    writeln!(f, "    erratic {{")?;
    writeln!(f, "        drop {drop}")?;
    writeln!(f, "        truncate {truncate}")?;
    writeln!(f, "        delay {delay} {}", show_duration(*pause))?;
    if *large {
        writeln!(f, "        large")?;
    }
    writeln!(f, "    }}")
}

#[cfg(test)]
mod tests {
    use super::{Erratic, read};
    use crate::config::context::read_alone;
    use std::time::Duration;

    #[test]
    fn options_are_read_alone_and_too_long_a_delay_is_cut_with_a_warning() {
        let (erratic, warnings) = read_alone("erratic {\n delay 3 2h\n large\n}", read);
        let pause = Duration::from_secs(3600);
        let expected = Erratic { drop: 0, truncate: 0, delay: 3, pause, large: true };
        assert_eq!(erratic, Ok(Some(expected)));
        assert_eq!(warnings, ["plugin/erratic: a delay of 2h is cut to 1h"]);
        let (erratic, _) = read_alone("erratic {\n drop -1\n}", read);
        assert_eq!(erratic, Err("f:3 - plugin/erratic: illegal amount value given \"-1\"".into()));
    }
}
