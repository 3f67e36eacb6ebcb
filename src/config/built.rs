//! The directives that are built, by name.
//!
//! Most directives are rows of the table of [`stages`](super::stages); four are not, because they
//! concern listeners, upstreams or the whole process. The name of a directive is compared here and
//! nowhere else: reading and printing a configuration take what this file has found.

use super::stages::Row;
use super::{bind, forward, reload};

/// A directive that is built.
pub(super) enum Built {
    /// `bind`: the addresses of a server block.
    Bind,
    /// `reload`: settings of the process.
    Reload,
    /// `forward`: a stanza of upstreams.
    Forward,
    /// `grpc`: a stanza of upstreams over gRPC.
    Grpc,
    /// A row of the table.
    Stage(&'static Row),
}

impl Built {
    /// Returns the directive with this name; `None`: it is not built.
    pub(super) fn of(directive: &str) -> Option<Self> {
        match directive {
            bind::NAME => Some(Self::Bind),
            reload::NAME => Some(Self::Reload),
            forward::NAME => Some(Self::Forward),
            forward::grpc::NAME => Some(Self::Grpc),
            other => Row::of(other).map(Self::Stage),
        }
    }
}
