//! Queries on their way through the forwarder: who asked, what the reply is to show, and what comes
//! next.
//!
//! Plain data that several files of the forwarder hand to each other.

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
    /// The client.
    pub(super) client: &'a Client,
    /// Number of the server block.
    pub(super) block: usize,
    /// Server block and label of metrics.
    pub(super) zone_match: ZoneMatch,
    /// The question that its reply is to show, if rules of `rewrite` turned it into another one,
    /// the reply is for a parked query or is to be signed.
    pub(super) original: Option<&'a Original>,
}

/// Next action for a valid query.
#[derive(Clone, Copy)]
pub(super) enum Course {
    /// The client waits for an exchange.
    Waits,
    /// A reply of so many bytes is written.
    Replied(usize),
    /// A reply of so many bytes is written, which leaves only after this time.
    Later(usize, Duration),
    /// The client is to be told, by this server block if it is one's.
    Refused(Rcode, Option<ExtendedError>, Option<usize>),
    /// The client is to be told by this server block that its query failed.
    Failed(Rcode, Reason, usize),
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

/// The question that a reply is to show, and what it takes to show it.
#[derive(Clone)]
pub(super) struct Original {
    /// Number of the server block.
    pub(super) block: usize,
    pub(super) asking: WireQuestion,
    /// The rules that changed the question, if any did.
    pub(super) rules: Option<Arc<Rules>>,
    /// Number of them that the query met.
    pub(super) met: u32,
    /// The parked query that gets the reply; `None`: the client does.
    pub(super) asker: Option<Asker>,
    /// Signs the reply to the client, whose query was signed.
    pub(super) signer: Option<Box<Signer>>,
}

impl Original {
    /// The question of a parked query that goes on behind the stage that parked it.
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

    /// Puts the question through its rules again, for a reply whose response code is `rcode`.
    /// `None` if there are none; they let the question pass before.
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

/// The parked query that another one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) key: ParkedKey,
    /// The other one is the parked query itself, on its way behind the stage that parked it.
    pub(super) is_own: bool,
}
