//! State of a query in the forwarder: its client, the question of its reply, and the next action.
//!
//! Plain data that the files of the forwarder pass to each other.

use crate::engine::errors::Reason;
use crate::engine::exchange::Client;
use crate::engine::key::Key;
use crate::engine::message::name::{WireName, WireQuestion};
use crate::engine::message::query::Query;
use crate::engine::message::reply::ExtendedError;
use crate::engine::message::{Question, Rcode};
use crate::engine::rewrite::{Reversal, Rules, Texts, Way};
use crate::engine::routes::ZoneMatch;
use crate::engine::tsig::Signer;
use std::sync::Arc;
use std::time::Duration;

/// Server block and client of a query.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) client: &'a Client,
    /// Number of the server block.
    pub(super) block: usize,
    /// Server block and label of metrics.
    pub(super) zone_match: ZoneMatch,
    /// Question of the reply, if rules of `rewrite` changed it, if the reply is for a parked query,
    /// or if it must be signed.
    pub(super) original: Option<&'a Original>,
    /// The query has passed the stages before the cache.
    pub(super) is_inside: bool,
}

/// Next action for a valid query.
#[derive(Clone, Copy)]
pub(super) enum Course {
    /// The client waits for an exchange.
    Waits,
    /// A reply of this length is written.
    Replied(usize),
    /// A reply of this length is written, and sent after this time.
    Later(usize, Duration),
    /// The reply is an error; of this server block, if a block refused the query.
    Refused(Rcode, Option<ExtendedError>, Option<usize>),
    /// The reply is the error that the query failed in this server block.
    Failed(Rcode, Reason, usize),
    /// The client gets a zone.
    Transfer,
    /// There is no reply.
    Dropped,
}

/// A reply to a client as it was written.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) bytes: &'a [u8],
    /// The response code, of 12 bits.
    pub(super) rcode: u16,
}

/// Question that a reply must repeat, and the data to restore it.
#[derive(Clone)]
pub(super) struct Original {
    /// Number of the server block.
    pub(super) block: usize,
    pub(super) asking: WireQuestion,
    /// The rules that changed the question, if any did.
    pub(super) rules: Option<Arc<Rules>>,
    /// Number of rules that the query has passed.
    pub(super) met: u32,
    /// The parked query that gets the reply; `None`: the client does.
    pub(super) asker: Option<Asker>,
    /// Signs the reply to the client, whose query was signed.
    pub(super) signer: Option<Box<Signer>>,
}

impl Original {
    /// Creates the value for a parked query that continues after the stage that parked it.
    pub(super) fn of_own(query: &Query<'_>, block: usize, key: ParkedKey) -> Self {
        let Question { rtype, class, .. } = query.question;
        let asking = WireQuestion { name: WireName::new(query.name()), rtype, class };
        Self {
            block,
            asking,
            rules: None,
            met: 0,
            asker: Some(Asker { key, is_own: true }),
            signer: None,
        }
    }

    /// Applies the rules to the question again, for a reply with response code `rcode`. `None`:
    /// there are no rules. They did not end the query the first time.
    pub(super) fn reversal<'a>(
        &'a self,
        way: &'a mut Way,
        texts: &'a mut Texts,
        rcode: u16,
    ) -> Option<Reversal<'a>> {
        let rules = self.rules.as_ref()?;
        rules.retrace(self.asking, way, self.met).ok()?;
        Some(Reversal::new(rules, way, texts, rcode))
    }
}

/// A parked query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParkedKey(pub(super) Key);

/// Parked query that waits for another query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) key: ParkedKey,
    /// The other query is the parked query itself, after the stage that parked it.
    pub(super) is_own: bool,
}
