//! The small stages of a server block's chain, one file each. PURE.
//!
//! A stage is a function or a small struct that looks at a question, a client's address or a
//! finished reply, and knows nothing of the chain, of other stages or of upstreams.

pub mod acl;
pub mod any;
pub mod chaos;
pub mod header;
pub mod loadbalance;
pub mod local;
pub mod whoami;
