//! From text to [`Config`], phase by phase.
//!
//! First the keys of all blocks, then each directive in the order of the language's list, block by
//! block, then what depends on all blocks together: listeners and sizes. The first error of the
//! earliest phase is reported, with all features that the file asks for and onward lacks. Settings
//! go into the [`Draft`] of their server block here and nowhere else; [`Built`] knows the
//! directives.

use super::budget::Budget;
use super::built::Built;
use super::context::{Context, Notes};
use super::draft::Draft;
use super::error::DirectiveError;
use super::forward::Stanza;
use super::served::{self, Key};
use super::stages::Places;
use super::{
    Config, ConfigError, HOSTS_SOURCES_MAX, Host, Name, OwnZones, Plugin, Reload, Served,
    ServerBlock, Stages, ZonesSource, bind, endpoints, forward, lints, listeners, reload, signed,
};
use crate::corefile::{self, Block, Corefile, Cursor, DIRECTIVES, Directive, Place, Warning};
use std::collections::HashMap;
use std::sync::Arc;

impl Config {
    /// Reads the configuration `text`, which the operator calls `display_name`, for `host`. Returns
    /// it with warnings about it.
    ///
    /// # Errors
    /// The first error, and all features that are missing.
    pub fn load(
        text: &[u8],
        display_name: &str,
        host: &Host,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let corefile = corefile::parse(text, display_name, &host.sources);
        Self::of(corefile.map_err(ConfigError::Parse)?, display_name, host)
    }

    /// Reads the configuration from a parsed `corefile`; see [`Config::load`].
    ///
    /// # Errors
    /// The errors of [`Config::load`], except the parser's.
    pub(crate) fn of(
        corefile: Corefile,
        display_name: &str,
        host: &Host,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let missing: Vec<_> = corefile.missing.into_iter().map(ConfigError::Parse).collect();
        if corefile.blocks.is_empty() && missing.is_empty() {
            // The reference answers from its default block, with directives that onward lacks.
            let place = Place { file: display_name.into(), line: 1 };
            let what = "a Corefile without a server block".into();
            return Err(ConfigError::NotBuilt { place, what });
        }
        let notes = Notes::new(corefile.warnings, missing);
        let mut reading = Reading { notes, ..Reading::default() };
        reading.read(&corefile.blocks, host);
        let Reading { mut drafts, reload, mut notes, first } = reading;
        let errors = std::mem::take(&mut notes.missing).into_iter().chain(first).collect();
        if let Some(error) = ConfigError::of_all(errors, display_name) {
            return Err(error.explained(&corefile.hints));
        }
        number_sources(&mut drafts)?;
        let mut listeners = listeners::group(&drafts)?;
        listeners::show_certificates(&mut listeners, &drafts, &mut notes)?;
        lints::blocks::warn(&drafts, &listeners, host, &mut notes);
        let stanzas: Vec<_> = drafts.iter().flat_map(|draft| &draft.forwards).collect();
        let upstreams = stanzas.iter().map(|stanza| stanza.forward.upstreams.len()).sum();
        let pages = endpoints::of_blocks(drafts.iter().map(|draft| &draft.stages)).len();
        let budget = Budget::new(host, listeners.len(), pages, stanzas);
        let share = budget.share(forward::share(host, upstreams));
        budget.check(share, &drafts[0].keys[0].place)?;
        let client_connections_max = budget.client_connections_max;
        #[expect(clippy::mutable_key_type, reason = "a pattern is compared and hashed as text")]
        let mut zone_slots = HashMap::new();
        let states: Vec<_> = drafts.iter().map(|draft| draft.places.secondary.clone()).collect();
        let signs: Vec<_> = drafts.iter().filter_map(|draft| draft.places.sign.clone()).collect();
        let blocks = drafts.into_iter().map(|draft| finish(draft, share, &mut zone_slots));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        let late = blocks.iter().rev().find_map(|block: &ServerBlock| block.stages.late);
        let late = late.unwrap_or_default();
        let config = Self { listeners, blocks, client_connections_max, reload, late };
        check_states(&config, &states)?;
        signed::check(&config.signed_zones(), signs.first())?;
        Ok((config, lints::bounded(notes.warnings)))
    }
}

/// Settings of one configuration while it is read.
#[derive(Default)]
struct Reading {
    drafts: Vec<Draft>,
    reload: Option<Reload>,
    notes: Notes,
    /// The first error, save those of missing features, which are in `notes`.
    first: Option<ConfigError>,
}

impl Reading {
    /// Reads all keys and directives. An error ends that, but missing features are noted with it.
    fn read(&mut self, blocks: &[Block], host: &Host) {
        for block in blocks {
            let keys = served::read(block, &mut Context::new(host, &mut self.notes));
            let keys = self.put_off(keys).unwrap_or_default();
            self.drafts.push(Draft { keys, ..Draft::default() });
        }
        for directive in DIRECTIVES {
            for (number, block) in blocks.iter().enumerate() {
                let stanzas = block.directives.iter().find(|found| found.name == directive);
                let Some(stanzas) = stanzas else { continue };
                let Some(built) = Built::of(directive) else {
                    let place = stanzas.tokens[0].place.clone();
                    let what = format!("directive '{directive}'");
                    self.notes.miss(ConfigError::NotBuilt { place, what });
                    continue;
                };
                if self.first.is_none() {
                    let done = self.read_directive(&built, number, stanzas, host);
                    self.put_off(done.map_err(|error| error.about(directive)));
                }
            }
        }
    }

    /// Reads all stanzas of one directive of the server block `number`.
    fn read_directive(
        &mut self,
        built: &Built,
        number: usize,
        stanzas: &Directive,
        host: &Host,
    ) -> Result<(), DirectiveError> {
        let Self { notes, drafts, .. } = self;
        let draft = &mut drafts[number];
        let mut cursor = Cursor::new(&stanzas.tokens);
        let mut context = draft.stages.context(host, notes);
        let unread = match built {
            Built::Reload => {
                let read = reload::read(&mut cursor)?;
                let differs = self.reload.is_some_and(|earlier| earlier != read);
                if differs {
                    let message = "plugin/reload: it applies to the whole process: the other \
                                   settings of earlier server blocks have no effect";
                    context.warn(&stanzas.tokens[0].place, message);
                }
                self.reload = Some(read);
                cursor.stanza().map(|stanza| stanza.place.clone())
            }
            Built::Bind => {
                draft.bind = Some(bind::read(&mut cursor, &mut context)?);
                None
            }
            Built::Forward => {
                let stanzas = forward::read(&mut cursor, &mut context)?;
                draft.forwards.splice(0..0, stanzas);
                None
            }
            Built::Grpc => {
                draft.forwards.extend(forward::grpc::read(&mut cursor, &mut context)?);
                None
            }
            Built::Stage(row) => {
                row.read(stanzas, &mut draft.stages, &mut draft.places, host, notes)?
            }
        };
        draft.reads_labels |= std::mem::take(&mut notes.reads_labels);
        if let Some(place) = unread {
            let message = format!(
                "plugin/{}: only the first one of a server block applies, this one is ignored",
                stanzas.name
            );
            notes.warn(&place, message);
        }
        Ok(())
    }

    /// Returns the value, or keeps the error: one of a missing feature with others of that kind,
    /// any other one if it is the first.
    fn put_off<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        match read {
            Ok(value) => return Some(value),
            Err(error @ ConfigError::NotBuilt { .. }) => self.notes.miss(error),
            Err(error) => drop(self.first.get_or_insert(error)),
        }
        None
    }
}

/// Refuses a `grpc` whose queries would fall through to a plugin: those behind it get only queries
/// that are not forwarded.
fn refuse_fallthrough(stages: &Stages, forwards: &[Stanza]) -> Result<(), ConfigError> {
    let behind = [("erratic", stages.erratic.is_some()), ("whoami", stages.whoami)];
    let Some((plugin, _)) = behind.into_iter().find(|(_, is_written)| *is_written) else {
        return Ok(());
    };
    let falls = |stanza: &&Stanza| {
        stanza.forward.grpc.as_ref().is_some_and(|grpc| grpc.fallthrough.is_some())
    };
    match forwards.iter().find(falls) {
        None => Ok(()),
        Some(stanza) => Err(ConfigError::NotBuilt {
            place: stanza.place.clone(),
            what: format!("fallthrough of grpc to '{plugin}'"),
        }),
    }
}

/// Numbers the different sources of `hosts`; blocks with the same share one.
fn number_sources(drafts: &mut [Draft]) -> Result<(), ConfigError> {
    let mut slots = HashMap::new();
    for draft in drafts {
        let Some(hosts) = &mut draft.stages.hosts else { continue };
        let next = slots.len();
        hosts.slot = *slots.entry(Arc::clone(&hosts.source)).or_insert(next);
        if let (HOSTS_SOURCES_MAX.., Some(place)) = (hosts.slot, &draft.places.hosts) {
            let message = format!(
                "more than {HOSTS_SOURCES_MAX} different hosts tables: only blocks with the same \
                 file, entries, no_reverse and reload share a table"
            );
            let directive = Plugin::hosts.name();
            return Err(ConfigError::Value { directive, place: place.clone(), message });
        }
    }
    Ok(())
}

/// The different zones that `keys` are for.
fn served_zones(keys: &[Served]) -> Vec<Name> {
    let mut zones: Vec<Name> = Vec::new();
    for key in keys {
        if !zones.contains(&key.zone) {
            zones.push(key.zone.clone());
        }
    }
    zones
}

/// Checks that each key of `transfer` and `secondary` is one of the server block's `tsig`.
fn check_signers(stages: &Stages, places: &Places) -> Result<(), ConfigError> {
    let transfer = stages.transfer.iter().flat_map(|transfer| transfer.keys());
    let secondary = stages.secondary.iter().flat_map(|stanza| stanza.keys());
    let named = transfer.map(|name| (Plugin::transfer, name, &places.transfer));
    let named = named.chain(secondary.map(|name| (Plugin::secondary, name, &places.secondary)));
    for (plugin, name, place) in named {
        if stages.key_of(Some(name)).is_none() {
            let message = format!("no key '{name}': add it to 'tsig' of this server block");
            let Some(place) = place.clone() else { continue };
            let directive = plugin.name();
            return Err(ConfigError::Value { directive, place, message });
        }
    }
    Ok(())
}

/// Checks that no two server blocks keep a zone of different primaries in one file. `places`: of
/// the first `secondary` of each block.
fn check_states(config: &Config, places: &[Option<Place>]) -> Result<(), ConfigError> {
    let mut known = HashMap::new();
    for (block, place) in config.blocks.iter().zip(places) {
        let zones = block.own_zones.iter().flat_map(|own| &own.source.transferred);
        for zone in zones {
            let (Some(directory), Some(place)) = (&zone.directory, place) else { continue };
            let primaries = known.entry((directory, &zone.zone)).or_insert(&zone.primaries);
            if **primaries != zone.primaries {
                let message = format!(
                    "zone {} has other primaries in another stanza with the same 'directory': use \
                     different directories",
                    zone.zone
                );
                let (directive, place) = (Plugin::secondary.name(), place.clone());
                return Err(ConfigError::Value { directive, place, message });
            }
        }
    }
    Ok(())
}

/// Checks that each key of `dnssec` belongs to one of its zones.
fn check_keys(stages: &Stages, served: &[Name], place: Option<&Place>) -> Result<(), ConfigError> {
    let foreign = stages.dnssec.as_ref().and_then(|dnssec| dnssec.foreign_key(served));
    let (Some(key), Some(place)) = (foreign, place) else { return Ok(()) };
    let (owner, tag) = (&key.owner, key.public.tag());
    let message = format!(
        "key {owner} (keyid: {tag}) can not sign any of the zones: expected a key of one of them, \
         or of a name above"
    );
    Err(ConfigError::Value { directive: "dnssec", place: place.clone(), message })
}

/// Checks that the keys of `sign` fit its zones, in a block that serves `served`.
fn check_signed(
    stages: &Stages,
    served: &[Name],
    place: Option<&Place>,
) -> Result<(), ConfigError> {
    let mut wrong = stages.sign.iter().filter_map(|sign| sign.sources(served).err());
    let (Some(message), Some(place)) = (wrong.next(), place) else { return Ok(()) };
    Err(ConfigError::Value { directive: Plugin::sign.name(), place: place.clone(), message })
}

/// The server block that `draft` has become. `zone_slots`: the different sources of zones so far;
/// blocks with the same share one.
#[expect(clippy::mutable_key_type, reason = "a pattern is compared and hashed as text")]
fn finish(
    draft: Draft,
    share: usize,
    zone_slots: &mut HashMap<Arc<ZonesSource>, usize>,
) -> Result<ServerBlock, ConfigError> {
    let Draft { keys, bind, stages, places, forwards, .. } = draft;
    refuse_fallthrough(&stages, &forwards)?;
    check_signers(&stages, &places)?;
    let served = |key: Key| -> Result<Served, ConfigError> {
        let port = listeners::port(&key)?;
        Ok(Served { zone: key.name, port, protocol: key.protocol })
    };
    let keys: Vec<Served> = keys.into_iter().map(served).collect::<Result<_, _>>()?;
    let forwards = forwards.into_iter().map(|stanza| stanza.finish(share)).collect();
    let zones = served_zones(&keys);
    check_keys(&stages, &zones, places.dnssec.as_ref())?;
    check_signed(&stages, &zones, places.sign.as_ref())?;
    let source = ZonesSource::new(&stages, &zones);
    let own_zones = (!source.is_empty()).then(|| {
        let (source, next) = (Arc::new(source), zone_slots.len());
        let slot = *zone_slots.entry(Arc::clone(&source)).or_insert(next);
        OwnZones { source, slot }
    });
    Ok(ServerBlock { keys, bind, stages, own_zones, forwards })
}
