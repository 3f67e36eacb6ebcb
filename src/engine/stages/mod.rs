//! The small stages of a server block's chain, one file each. PURE.
//!
//! A stage is a function or a small struct that looks at a question, a client's address or a
//! finished reply, and knows nothing of the chain, of other stages or of upstreams. Nothing is
//! allocated, formatted or counted in it per query.
//!
//! # Adding a plugin
//!
//! A directive of the Corefile is a small thing with four ends. Take `any`, which answers queries
//! for every type with one record:
//!
//! 1. **What was written.** A reader in `config/stages/` turns the directive's tokens into plain
//!    data, a field of [`crate::config::Stages`] at its place in the order of the chain. `any` is
//!    there or not, so it shares `switches.rs` with others of its kind and its field is a `bool`; a
//!    directive with arguments has a file of its own, as `nsid.rs`. The reader objects to what is
//!    wrong at the word that is wrong, and `Display` writes every default, so that what is written
//!    reads as the same again. The table `BUILT` in `config/load.rs` says which reader sees which
//!    directive; until it is there, the directive is refused as not supported. If it makes a block
//!    answer queries, [`crate::config::Stages::can_answer`] says so.
//! 2. **What it does.** A file here. `any.rs` has two functions: [`any::wants`] looks at the
//!    question, [`any::answer`] writes the reply with a
//!    [`Composer`](crate::engine::message::compose::Composer), which knows about sizes and EDNS.
//!    What a stage has to look up is built from the configuration at the start, as the sorted
//!    networks of [`acl`].
//! 3. **Where it stands.** [`Chain::on_query`](crate::engine::chain::Chain::on_query) is the order:
//!    one `if` at the right place, a counter of
//!    [`StageStats`](crate::engine::stats::StageStats), and a
//!    [`Step`](crate::engine::chain::Step) that says how the query goes on. What a stage changes in
//!    replies belongs into [`Finish`](crate::engine::message::reply::Finish), or, if it moves
//!    records, beside [`loadbalance`] in `Chain::rearrange`. What it changes in the query that
//!    goes upstream must be in its text before that is compared with those under way.
//! 4. **What is said about it.** A section in `tuning/COREFILE.md`, with what differs from the
//!    reference and why.
//!
//! And tests: golden cases in `tests/corefile/stages.txt` for what is read, refused and written, a
//! line in the property of `tests/corefile.rs`, unit tests in its own file, and one in
//! `tests/engine/stages.rs` that shows it at work.

pub mod acl;
pub mod any;
pub mod chaos;
pub mod header;
pub mod loadbalance;
pub mod local;
pub mod loops;
pub mod whoami;
