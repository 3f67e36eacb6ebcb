//! Entries of caches, on their way from one process to the next.
//!
//! An upgrade passes them over the socket that the two processes share ([`handover`]): the new
//! process is warm before it serves. Each process has caches of its own, so that neither can harm
//! the other, whenever it ends and whatever its version. The engine makes the records and decides
//! what of them is kept ([`crate::engine::cache::carry`]); here are the threads, the bytes and the
//! log lines.

pub(crate) mod handover;
mod records;
