//! `prometheus [ADDR] { runtime_metrics; tls FILE }`
//!
//! `prometheus`: the HTTP address of the metrics. onward has no Go runtime, so `runtime_metrics` is
//! accepted with a warning; HTTPS is not supported, so `tls` is refused.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::http;
use super::once;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// The port, on loopback, where none is written.
const PORT: u16 = 9153;

/// Settings of `prometheus`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prometheus {
    /// At `/metrics` there.
    pub address: SocketAddr,
    /// Metrics of the runtime. Without effect.
    pub runtime_metrics: bool,
}

/// Reads the `prometheus` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Prometheus>, DirectiveError> {
    cursor.stanza();
    let address = http::read_address(cursor, context, (Ipv4Addr::LOCALHOST, PORT).into())?;
    let mut runtime_metrics = false;
    while let Some(property) = cursor.block() {
        match &*property.text {
            "runtime_metrics" => {
                cursor.expect_no_arg()?;
                let message =
                    "plugin/prometheus: runtime_metrics has no effect: onward has no Go runtime";
                context.warn(&property.place, message);
                runtime_metrics = true;
            }
            "tls" => {
                context.lacks(property, "option 'tls' of prometheus");
                cursor.rest();
            }
            other => {
                let suggestion = did_you_mean(other, ["runtime_metrics", "tls"]);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    once(cursor)?;
    Ok(Some(Prometheus { address, runtime_metrics }))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Prometheus>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Prometheus { address, runtime_metrics }) = settings else { return Ok(()) };
    let address = http::show(*address);
    if *runtime_metrics {
        writeln!(f, "    prometheus {address} {{\n        runtime_metrics\n    }}")
    } else {
        writeln!(f, "    prometheus {address}")
    }
}
