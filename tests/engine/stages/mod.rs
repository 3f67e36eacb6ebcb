//! Effects of a server block's directives on queries and replies, a file for each directive.
//!
//! [`small`] has the directives that need few rows. Meanings, warnings and errors of the
//! directives' texts are in `tests/corefile/stages/`.

pub(crate) mod cache;
mod dns64;
mod erratic;
mod errors;
mod file;
mod hosts;
mod rewrite;
mod rewrite_cname;
mod rewrite_edns0;
mod rewrite_rows;
pub(crate) mod rewrite_zone;
mod small;
pub(crate) mod template;
mod template_replies;
mod transfer;
mod tsig;
mod view;
