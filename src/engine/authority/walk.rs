//! Walk from the apex of a zone down to a name (RFC 1034 §4.3.2 step 3).
//!
//! The walk goes label by label and ends at a zone cut, or at a DNAME above the name; if a node is
//! missing, the one before is the closest encloser, whose wildcard may match (RFC 4592 §3.3).

use super::proof::Labels;
use super::{Node, Zone, flag};
use crate::engine::message::{NAME_LEN_MAX, rtype};

/// Position of a name in a zone.
pub(super) enum Found<'z> {
    Exact(Node<'z>),
    /// Wildcard below the closest encloser; offset of the next closer name.
    Wildcard(Node<'z>, usize),
    /// The name does not exist; closest encloser.
    Missing(Node<'z>),
    /// At or below a zone cut.
    Cut(Node<'z>),
    /// Below a DNAME; end of the labels before its owner.
    Dname(Node<'z>, usize),
}

/// Walks from the apex down to `name`, which is without the apex.
pub(super) fn find<'z>(zone: &'z Zone, name: &[u8], rtype: u16) -> Found<'z> {
    let labels = Labels::of(name);
    let mut node = zone.top();
    let mut left = labels.count();
    loop {
        let is_last = left == 0;
        let is_parents = rtype == rtype::DS && is_last;
        if node.is(flag::CUT) && !is_parents {
            return Found::Cut(node);
        }
        if is_last {
            return Found::Exact(node);
        }
        if node.is(flag::DNAME) {
            return Found::Dname(node, labels.start(left, name));
        }
        let next = labels.start(left - 1, name);
        match zone.find(&name[next..]) {
            Some(below) => (node, left) = (below, left - 1),
            None => {
                let encloser = &name[labels.start(left, name)..];
                let star = node.is(flag::WILDCARD).then(|| wildcard(zone, encloser)).flatten();
                return match star {
                    Some(star) => Found::Wildcard(star, next),
                    None => Found::Missing(node),
                };
            }
        }
    }
}

/// Returns the wildcard node below a name that is without the apex.
fn wildcard<'z>(zone: &'z Zone, encloser: &[u8]) -> Option<Node<'z>> {
    let mut room = [0; NAME_LEN_MAX];
    zone.find(star_below(encloser, &mut room)?)
}

/// Returns the wildcard name below a name that is without the apex.
pub(super) fn star_below<'r>(
    encloser: &[u8],
    room: &'r mut [u8; NAME_LEN_MAX],
) -> Option<&'r [u8]> {
    let name = room.get_mut(..2 + encloser.len())?;
    name[..2].copy_from_slice(b"\x01*");
    name[2..].copy_from_slice(encloser);
    Some(name)
}

/// Returns the full name of a name that is without the apex.
pub(super) fn full_name<'r>(
    zone: &Zone,
    name: &[u8],
    room: &'r mut [u8; NAME_LEN_MAX],
) -> &'r [u8] {
    let apex = zone.apex();
    let len = name.len() + apex.len();
    room[..name.len()].copy_from_slice(name);
    room[name.len()..len].copy_from_slice(apex);
    &room[..len]
}
