//! `chaos`: information about the server itself, in class CH.
//!
//! Queries of class CH are about the server that receives them (RFC 4892), so a block with this
//! stage answers or refuses all of them; none is forwarded.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{self, ServerBlock};
use crate::engine::message::QNAME;
use crate::engine::message::compose::{Composer, NewRecord, Section};
use crate::engine::message::{Question, Rcode, class, rtype};
use ahash::RandomState;
use rand_chacha::rand_core::Rng;

/// Names for the version.
const VERSION: [&[u8]; 2] = [b"\x07version\x04bind\0", b"\x07version\x06server\0"];
/// Name for the authors.
const AUTHORS: &[u8] = b"\x07authors\x04bind\0";
/// Names for the host name.
const HOST: [&[u8]; 2] = [b"\x08hostname\x04bind\0", b"\x02id\x06server\0"];

/// Texts about the server.
pub(crate) struct Chaos(config::Chaos);

impl Stage for Chaos {
    fn new(block: &ServerBlock, _: &RandomState, _: &mut Settings) -> Option<Self> {
        block.stages.chaos.clone().map(Self)
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let (question, name) = (context.query.question, context.name.as_bytes());
        if !wants(&question) {
            return None;
        }
        if !knows(&self.0, name, &question) {
            return Some(Step::Refused(Rcode::Refused, None));
        }
        let random = context.random.next_u32();
        Some(Step::Replied(answer(&self.0, name, random, context.reply())))
    }
}

/// Returns true if the stage answers or refuses the question.
fn wants(question: &Question) -> bool {
    question.class == class::CH
}

/// Returns true if the stage has an answer; `name` is lower-cased.
fn knows(chaos: &config::Chaos, name: &[u8], question: &Question) -> bool {
    let known = VERSION.contains(&name) || HOST.contains(&name);
    question.rtype == rtype::TXT && (known || (name == AUTHORS && !chaos.authors.is_empty()))
}

/// Writes the answer to a name that it [`knows`] and returns its length. `random` selects the first
/// of the authors.
fn answer(chaos: &config::Chaos, name: &[u8], random: u32, mut reply: Composer<'_>) -> usize {
    let mut text = |text: &str| {
        let data: &[&[u8]] = &[&[text.len() as u8], text.as_bytes()];
        let (rtype, class) = (rtype::TXT, class::CH);
        let record = NewRecord { owner: &QNAME, rtype, class, ttl: 0, data };
        reply.record(Section::Answer, &record);
    };
    if name == AUTHORS {
        let first = random as usize % chaos.authors.len();
        let (behind, ahead) = chaos.authors.split_at(first);
        ahead.iter().chain(behind).for_each(|author| text(author));
    } else {
        text(if HOST.contains(&name) { &chaos.host } else { &chaos.version });
    }
    reply.end(0, Rcode::NoError)
}

#[cfg(test)]
mod tests {
    use super::{answer, knows, wants};
    use crate::config::Chaos;
    use crate::engine::message::Question;
    use crate::engine::message::UDP_PAYLOAD_MAX;
    use crate::engine::message::compose::Composer;
    use crate::engine::message::query::Asked;
    use crate::engine::message::reply::Finish;

    fn chaos() -> Chaos {
        let authors = vec!["Ann".into(), "Bob".into(), "Cid".into()];
        Chaos { version: "v".into(), authors, host: "h".into() }
    }

    fn question(rtype: u16, class: u16) -> Question {
        Question { name_len: 14, rtype, class }
    }

    #[test]
    fn all_queries_of_class_ch_are_answered_or_refused() {
        let (chaos, authors) = (chaos(), b"\x07authors\x04bind\0");
        assert!(wants(&question(16, 3)) && !wants(&question(16, 1)));
        assert!(knows(&chaos, b"\x07version\x04bind\0", &question(16, 3)));
        assert!(!knows(&chaos, b"\x07version\x04bind\0", &question(1, 3)));
        assert!(!knows(&chaos, b"\x07version\0", &question(16, 3)));
        assert!(knows(&chaos, authors, &question(16, 3)));
        let nobody = Chaos { authors: Vec::new(), ..chaos };
        assert!(!knows(&nobody, authors, &question(16, 3)));
    }

    #[test]
    fn every_author_is_listed_and_any_may_be_the_first() {
        let (chaos, asked) = (chaos(), Asked { id: 1, flags: 0, edns: None });
        for (random, order) in [(0, "AnnBobCid"), (4, "BobCidAnn"), (u32::MAX, "AnnBobCid")] {
            let mut out = [0; UDP_PAYLOAD_MAX];
            let name = b"\x07authors\x04bind\0";
            let question = [&name[..], &[0, 16, 0, 3]].concat();
            let reply = Composer::new(&mut out, 512, &asked, &question, Finish::PLAIN, None);
            let len = answer(&chaos, name, random, reply);
            let named = out[..len].windows(3).filter(|text| {
                [b"Ann", b"Bob", b"Cid"].iter().any(|author| *text == author.as_slice())
            });
            let named: Vec<u8> = named.flatten().copied().collect();
            assert_eq!(named, order.as_bytes());
        }
    }
}
