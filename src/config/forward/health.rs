//! `health_check DURATION [no_rec] [domain NAME]`
//!
//! If it is written twice, the last one applies, except that `no_rec` stays, as in the reference.
//! An interval that is too short is raised with a warning.

use super::super::context::Context;
use super::super::duration::show_duration;
use super::super::error::DirectiveError;
use super::super::{HealthCheck, Name, PROBE_INTERVAL_MIN};
use super::duration_arg;
use crate::corefile::Cursor;
use std::time::Duration;

/// Reads the arguments into `health`.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
    health: &mut HealthCheck,
) -> Result<(), DirectiveError> {
    let (argument, nanos) = duration_arg(cursor)?;
    let Ok(interval) = u64::try_from(nanos).map(Duration::from_nanos) else {
        let message = format!("health_check can't be negative: {nanos}");
        return Err(DirectiveError::value(argument, message));
    };
    health.interval = interval.max(PROBE_INTERVAL_MIN);
    if interval < PROBE_INTERVAL_MIN {
        let (written, raised) = (show_duration(interval), show_duration(PROBE_INTERVAL_MIN));
        let message = format!("health_check {written} is raised to {raised}");
        context.warn_of_plugin(&argument.place, message);
    }
    health.domain = Name::root();
    while let Some(option) = cursor.arg() {
        match &*option.text {
            "no_rec" => health.recursion_desired = false,
            "domain" => {
                let domain = cursor.expect_arg()?;
                health.domain = Name::parse(&domain.text).map_err(|_| {
                    let message = format!("health_check: invalid domain name {}", domain.text);
                    DirectiveError::value(domain, message)
                })?;
            }
            other => {
                let message = format!("health_check: unknown option {other}");
                return Err(DirectiveError::value(option, message));
            }
        }
    }
    Ok(())
}
