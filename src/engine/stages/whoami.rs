//! `whoami`: answers any query with the client's address and port.
//!
//! The last stage of a chain, for tests of a configuration. The answer section is empty; the
//! address is an additional record, and the port is that of a service below the QNAME.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use crate::engine::key::Transport;
use crate::engine::message::QNAME;
use crate::engine::message::compose::{Composer, NewRecord, Section};
use crate::engine::message::{Question, Rcode, flags, rtype};
use ahash::RandomState;
use std::net::{IpAddr, SocketAddr};

/// The stage `whoami`, which has no state.
pub(crate) struct Whoami;

impl Stage for Whoami {
    fn new(block: &ServerBlock, _: &RandomState, _: &mut Settings) -> Option<Self> {
        block.stages.whoami.then_some(Self)
    }

    fn at_end(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let (client, transport, question) =
            (*context.peer, context.transport, context.query.question);
        Some(Step::Replied(answer(client, transport, &question, context.reply())))
    }
}

/// Writes the answer and returns its length.
fn answer(
    client: SocketAddr,
    transport: Transport,
    question: &Question,
    mut reply: Composer<'_>,
) -> usize {
    let class = question.class;
    let (v4, v6);
    let (rtype, address): (u16, &[u8]) = match client.ip().to_canonical() {
        IpAddr::V4(ip) => {
            v4 = ip.octets();
            (rtype::A, &v4)
        }
        IpAddr::V6(ip) => {
            v6 = ip.octets();
            (rtype::AAAA, &v6)
        }
    };
    let data: &[&[u8]] = &[address];
    let record = NewRecord { owner: &QNAME, rtype, class, ttl: 0, data };
    reply.record(Section::Additional, &record);
    let owner = match transport {
        Transport::Udp => *b"\x04_udp\xc0\x0c",
        Transport::Tcp => *b"\x04_tcp\xc0\x0c",
    };
    // A name of 255 bytes has no room for another label.
    if question.name_len + 5 <= crate::engine::message::NAME_LEN_MAX {
        // Priority and weight, the port, and the root as the target.
        let data: &[&[u8]] = &[&[0; 4], &client.port().to_be_bytes(), &[0]];
        let record = NewRecord { owner: &owner, rtype: rtype::SRV, class, ttl: 0, data };
        reply.record(Section::Additional, &record);
    }
    reply.end(flags::AA, Rcode::NoError)
}
