//! Options of `forward` that the language has and onward does not, yet.
//!
//! Their arguments are read and checked, and then forgotten: a typing error is told as one, and
//! the cursor stands behind the option, where the next one begins. Files are not opened.
//! Building one of these options means to move its arm to the parent's `Options::read`.

use super::super::error::Complaint;
use super::super::quote::quote;
use super::read_count;
use crate::corefile::{Cursor, ParseError, Token};
use std::net::IpAddr;

/// The mnemonics of response codes.
const RCODES: [&str; 21] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "NOTIMPL",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "BADSIG",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];

/// Reads the arguments of one option.
pub(super) fn check(property: &Token, cursor: &mut Cursor<'_>) -> Result<(), Complaint> {
    match &*property.text {
        "max_concurrent" => {
            read_count(property, cursor)?;
        }
        "tls" => {
            if cursor.rest().len() > 3 {
                return Err(cursor.argument_error().into());
            }
        }
        "tls_servername" => {
            cursor.expect_arg()?;
        }
        "doh_method" => {
            let method = cursor.expect_arg()?;
            if !["POST", "GET"].contains(&&*method.text) {
                return Err(Complaint::value(method, "doh_method must be either POST or GET"));
            }
        }
        "next" => {
            rcodes(cursor)?;
        }
        "failover" => {
            if let Some(success) = rcodes(cursor)? {
                return Err(Complaint::value(success, "NoError cannot be used in failover"));
            }
        }
        "resolver" => {
            for address in cursor.expect_rest()? {
                if !is_resolver(&address.text) {
                    let quoted = quote(&address.text);
                    let message = format!("resolver must be an IP address or IP:port: {quoted}");
                    return Err(Complaint::value(address, message));
                }
            }
        }
        "source_address" => {
            let address = cursor.expect_arg()?;
            if address.text.parse::<IpAddr>().is_err() {
                let message = format!("invalid IP address: {}", address.text);
                return Err(ParseError::at(address, message).into());
            }
        }
        // The rest are switches.
        _ => cursor.expect_no_arg()?,
    }
    Ok(())
}

/// Reads response codes; returns the first that means success.
fn rcodes<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a Token>, Complaint> {
    let written = cursor.expect_rest()?;
    let mut success = None;
    for rcode in written {
        if !RCODES.iter().any(|known| known.eq_ignore_ascii_case(&rcode.text)) {
            let message = format!("{} is not a valid rcode", rcode.text);
            return Err(Complaint::value(rcode, message));
        }
        if rcode.text.eq_ignore_ascii_case("NOERROR") {
            success = success.or(Some(rcode));
        }
    }
    Ok(success)
}

fn is_resolver(text: &str) -> bool {
    let host = super::targets::split_host_port(text).map_or(text, |(host, _)| host);
    host.parse::<IpAddr>().is_ok()
}
