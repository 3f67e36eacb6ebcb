//! Directives of a server block, a file for each; [`small`] has those that need few rows.
//!
//! These tests show what they do to queries and answers. Meanings, warnings and errors of their
//! texts are in `tests/corefile/stages/`.

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
mod tsig;
mod view;
