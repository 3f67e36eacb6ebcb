//! Catalog zones (RFC 9432, version 2): a zone whose records name further zones. PURE.
//!
//! A member is the data of a PTR record at `<id>.zones.<catalog>`. A member whose id has changed is
//! reset. One that another catalog of the block lists too stays where it is, until its own catalog
//! gives it away: `coo.<id>.zones.<catalog>` names the other one. A catalog that breaks a rule is
//! not applied, and the members stay as they were. Other properties have no meaning here.

use crate::config::{CatalogSource, Name};
use crate::engine::authority::Zone;
use std::collections::{BTreeMap, HashMap};

/// Types PTR and TXT.
const PTR: u16 = 12;
const TXT: u16 = 16;
/// Maximum number of members of a catalog.
const MEMBERS_MAX: usize = 16_384;

/// A member of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The label before `zones`.
    id: Box<[u8]>,
    /// The catalog that the member is given to.
    successor: Option<Name>,
}

/// The members of a catalog. The keys are names in wire format.
pub(super) type Members = BTreeMap<Box<[u8]>, Member>;

/// The catalog that a zone is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    catalog: Name,
    id: Box<[u8]>,
}

/// Returns the members of a catalog.
///
/// # Errors
/// The zone is no valid catalog.
pub(super) fn members(zone: &Zone) -> Result<Members, String> {
    let mut versions = Vec::new();
    let mut pointers: BTreeMap<Box<[u8]>, Vec<Box<[u8]>>> = BTreeMap::new();
    let mut successors: HashMap<Box<[u8]>, Vec<Name>> = HashMap::new();
    zone.each_record(|owner, rtype, _, data| {
        let labels = labels_below(owner, zone.apex());
        match (rtype, &labels[..]) {
            (TXT, [version]) if *version == b"version" => versions.push(Box::<[u8]>::from(data)),
            (PTR, [id, zones]) if *zones == b"zones" => {
                pointers.entry((*id).into()).or_default().push(data.to_ascii_lowercase().into());
            }
            (PTR, [coo, id, zones]) if *coo == b"coo" && *zones == b"zones" => {
                let catalog = Name::of_wire(&data.to_ascii_lowercase());
                successors.entry((*id).into()).or_default().push(catalog);
            }
            _ => {}
        }
        true
    });
    if versions != [Box::<[u8]>::from(&b"\x012"[..])] {
        return Err("its property 'version' is not 2".into());
    }
    if pointers.len() > MEMBERS_MAX {
        return Err(format!("it has more than {MEMBERS_MAX} members"));
    }
    let mut members = Members::new();
    for (id, zones) in pointers {
        let shown = String::from_utf8_lossy(&id).into_owned();
        let Ok([zone]) = <[Box<[u8]>; 1]>::try_from(zones) else {
            return Err(format!("its member '{shown}' has two names"));
        };
        let successor = match successors.remove(&id).unwrap_or_default().as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            _ => return Err(format!("its member '{shown}' is given to two catalogs")),
        };
        let name = Name::of_wire(&zone);
        if members.insert(zone, Member { id, successor }).is_some() {
            return Err(format!("it has the member {name} twice"));
        }
    }
    Ok(members)
}

/// The labels of a name in front of the apex.
fn labels_below<'n>(owner: &'n [u8], apex: &[u8]) -> Vec<&'n [u8]> {
    let mut rest = &owner[..owner.len().saturating_sub(apex.len())];
    let mut labels = Vec::new();
    while let Some((len, behind)) = rest.split_first() {
        let (label, behind) = behind.split_at(usize::from(*len).min(behind.len()));
        labels.push(label);
        rest = behind;
    }
    labels
}

/// A catalog that was transferred.
pub(super) struct Catalog<'c> {
    pub(super) name: &'c Name,
    pub(super) source: &'c CatalogSource,
    pub(super) members: &'c Members,
}

impl Catalog<'_> {
    fn owner(&self, member: &Member) -> Owner {
        Owner { catalog: self.name.clone(), id: member.id.clone() }
    }
}

/// A change of the zones.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A new member.
    Add(Name, Owner),
    /// A member that begins anew, because its id has changed.
    Reset(Name, Owner),
    /// A member that another catalog takes over as it is.
    Move(Name, Owner),
    /// No catalog lists it any more.
    Remove(Name),
}

/// A member that is not taken, and the reason.
pub(super) type Ignored = (Name, Name, String);

impl Owner {
    /// The catalog.
    pub(super) fn catalog(&self) -> &Name {
        &self.catalog
    }
}

/// Compares the catalogs with the zones at hand: each with its owner, or `None` if the
/// configuration names it.
pub(super) fn changes(
    catalogs: &[Catalog<'_>],
    zones: impl Iterator<Item = (Name, Option<Owner>)>,
) -> (Vec<Change>, Vec<Ignored>) {
    let find = |name: &Name| catalogs.iter().find(|catalog| catalog.name == name);
    let mut changes = Vec::new();
    let mut owners: HashMap<Name, Option<Owner>> = HashMap::new();
    for (zone, owner) in zones {
        let Some(owner) = owner else {
            owners.insert(zone, None);
            continue;
        };
        // The catalog has not been transferred since the start.
        let Some(catalog) = find(&owner.catalog) else {
            owners.insert(zone, Some(owner));
            continue;
        };
        let Some(member) = catalog.members.get(zone.as_wire()) else {
            changes.push(Change::Remove(zone));
            continue;
        };
        let successor = member.successor.as_ref().and_then(find);
        let taken = successor.and_then(|other| {
            let is_allowed = other.source.refusal(&zone).is_none();
            Some((other, other.members.get(zone.as_wire()).filter(|_| is_allowed)?))
        });
        let new = taken.map_or_else(|| catalog.owner(member), |(other, own)| other.owner(own));
        if new.id != owner.id {
            changes.push(Change::Reset(zone.clone(), new.clone()));
        } else if new.catalog != owner.catalog {
            changes.push(Change::Move(zone.clone(), new.clone()));
        }
        owners.insert(zone, Some(new));
    }
    let mut ignored = Vec::new();
    for catalog in catalogs {
        for (wire, member) in catalog.members {
            let zone = Name::of_wire(wire);
            let reason = match owners.get(&zone) {
                Some(Some(owner)) if owner.catalog == *catalog.name => continue,
                Some(Some(owner)) => Some(format!("it is a member of catalog {}", owner.catalog)),
                Some(None) => Some("it is configured".to_owned()),
                None => catalog.source.refusal(&zone).map(str::to_owned),
            };
            if let Some(reason) = reason {
                ignored.push((catalog.name.clone(), zone, reason));
                continue;
            }
            let owner = catalog.owner(member);
            owners.insert(zone.clone(), Some(owner.clone()));
            changes.push(Change::Add(zone, owner));
        }
    }
    (changes, ignored)
}

#[cfg(test)]
mod tests {
    use super::{Catalog, Change, Ignored, Members, Owner, changes, members};
    use crate::config::{CatalogSource, Name};
    use crate::engine::authority::{Builder, Zone};
    use ahash::RandomState;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// The catalog `c` with these records: an owner below it, and text or the name that a PTR
    /// record has.
    fn zone(records: &[(&str, &str)]) -> Zone {
        let mut builder = Builder::new(b"\x01c\0", 0, RandomState::with_seeds(1, 2, 3, 4));
        builder.add(b"\x01c\0", 6, 1, &[0; 22], (0, 0)).unwrap();
        for (owner, data) in records {
            let owner = name(&format!("{owner}.c"));
            let (rtype, data) = match data.strip_prefix('"') {
                Some(text) => (16, [&[text.len() as u8], text.as_bytes()].concat()),
                None => (12, name(data).as_wire().to_vec()),
            };
            builder.add(owner.as_wire(), rtype, 1, &data, (0, 0)).unwrap();
        }
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
    }

    fn members_of(records: &[(&str, &str)]) -> Result<Members, String> {
        members(&zone(&[&[("version", "\"2")], records].concat()))
    }

    #[test]
    fn a_broken_catalog_has_no_members() {
        let found = members_of(&[
            ("1.zones", "A.test"),
            ("2.zones", "b.test"),
            ("coo.2.zones", "D"),
            ("group.1.zones", "\"g"),
            ("zones", "ignored.test"),
            ("x.y.zones", "ignored.test"),
        ]);
        let found = found.unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[name("b.test").as_wire()].successor, Some(name("d")));
        for (records, error) in [
            (&[("1.zones", "a"), ("1.zones", "b")][..], "its member '1' has two names"),
            (&[("1.zones", "a"), ("2.zones", "A")], "it has the member a. twice"),
            (
                &[("1.zones", "a"), ("coo.1.zones", "d"), ("coo.1.zones", "e")],
                "its member '1' is given to two catalogs",
            ),
            (&[("version", "\"1")], "its property 'version' is not 2"),
        ] {
            assert_eq!(members_of(records).unwrap_err(), error);
        }
        for records in [&[][..], &[("version", "\"1")], &[("version", "two.test")]] {
            assert_eq!(members(&zone(records)).unwrap_err(), "its property 'version' is not 2");
        }
    }

    /// What two catalogs, `c` and `d`, change in zones with these owners.
    fn changed(
        lists: [&[(&str, &str)]; 2],
        zones: &[(&str, Option<(&str, &str)>)],
    ) -> (Vec<Change>, Vec<Ignored>) {
        let source = CatalogSource { limits: vec![name("test")], served: [name("test")].into() };
        let parsed = lists.map(|records| members_of(records).unwrap());
        let names = [name("c"), name("d")];
        let catalogs: Vec<_> = names
            .iter()
            .zip(&parsed)
            .map(|(name, members)| Catalog { name, source: &source, members })
            .collect();
        let zones = zones
            .iter()
            .map(|(zone, owner)| (name(zone), owner.map(|(catalog, id)| self::owner(catalog, id))));
        changes(&catalogs, zones)
    }

    fn owner(catalog: &str, id: &str) -> Owner {
        Owner { catalog: name(catalog), id: id.as_bytes().into() }
    }

    #[test]
    fn members_are_added_removed_and_reset() {
        let list = &[("1.zones", "a.test"), ("2.zones", "b.test"), ("3.zones", "n.test")];
        let zones = [
            ("a.test", Some(("c", "1"))),
            ("b.test", Some(("c", "9"))),
            ("gone.test", Some(("c", "7"))),
            ("other.test", Some(("unknown", "7"))),
            ("c", None),
        ];
        let (found, ignored) = changed([list, &[]], &zones);
        let expected = [
            Change::Reset(name("b.test"), owner("c", "2")),
            Change::Remove(name("gone.test")),
            Change::Add(name("n.test"), owner("c", "3")),
        ];
        assert_eq!((found.as_slice(), ignored.len()), (&expected[..], 0));
    }

    #[test]
    fn members_that_are_not_free_or_not_allowed_are_ignored() {
        let zones = [("a.test", None), ("b.test", Some(("d", "1")))];
        let list = &[("1.zones", "a.test"), ("2.zones", "b.test"), ("3.zones", "far.example")];
        let (found, ignored) = changed([list, &[("1.zones", "b.test")]], &zones);
        assert_eq!(found, []);
        let reasons: Vec<_> =
            ignored.iter().map(|(_, zone, why)| format!("{zone} {why}")).collect();
        let limits = "far.example. it is not below the names behind 'catalog'";
        let expected = ["a.test. it is configured", "b.test. it is a member of catalog d.", limits];
        let mut reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, expected);
    }

    #[test]
    fn a_member_moves_only_if_its_own_catalog_gives_it_away() {
        let zones = [("a.test", Some(("c", "1")))];
        let (gives, lists) =
            ([("1.zones", "a.test"), ("coo.1.zones", "d")], [("1.zones", "a.test")]);
        let (found, ignored) = changed([&lists, &lists], &zones);
        assert_eq!((found.len(), ignored.len()), (0, 1), "it stays");
        let (found, ignored) = changed([&gives, &lists], &zones);
        assert_eq!(found, [Change::Move(name("a.test"), owner("d", "1"))]);
        assert_eq!(ignored.len(), 1, "the old catalog lists it still");
        let other = [("2.zones", "a.test")];
        let (found, _) = changed([&gives, &other], &zones);
        assert_eq!(found, [Change::Reset(name("a.test"), owner("d", "2"))]);
        let (found, _) = changed([&gives, &[]], &zones);
        assert_eq!(found, [], "nobody takes it");
    }
}
