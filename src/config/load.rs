//! From text to [`Config`], phase by phase.
//!
//! First all keys of all blocks, then each directive in the order of the language's list for each
//! block, then what concerns all blocks together: listeners and sizes. The first mistake of the
//! earliest phase is the one reported, and with it all that the file asks for and onward has
//! not. Which directives are built is decided by the table of [`stages`], and here for the few that
//! are no stages.

use super::budget::Budget;
use super::error::DirectiveError;
use super::forward::{self, Stanza};
use super::stages::{self, Stages};
use super::{
    BindAddress, Config, ConfigError, HOSTS_SOURCES_MAX, Host, Name, OwnZones, Protocol, Reload,
    Served, ServerBlock, ZonesSource, bind, http, keys, lints, listeners, reload,
};
use crate::corefile::{
    self, Block, Corefile, Cursor, DIRECTIVES, Directive, Place, Token, WARNINGS_MAX, Warning,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Reads all stanzas of one directive of one server block.
pub(super) type Reader =
    fn(&mut Cursor<'_>, &mut Context<'_>, &mut Draft) -> Result<(), DirectiveError>;

/// The directives that onward has besides those of [`stages`].
const OTHERS: [(&str, Reader); 3] =
    [("reload", reload::read), ("bind", bind::read), (forward::NAME, forward::read)];

/// Zones of all keys and exceptions. One word can stand for 128 of them: see [`Context`].
const ZONES_MAX: usize = 1_000_000;

/// State that the readers of directives share.
pub(super) struct Context<'a> {
    pub(super) host: &'a Host,
    pub(super) warnings: Vec<Warning>,
    pub(super) reload: Option<Reload>,
    zones: usize,
    /// Mistakes that do not keep the rest from being read: what there is not, or not yet.
    missing: Vec<ConfigError>,
}

impl Context<'_> {
    /// Notes a warning about `place`.
    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        if self.warnings.len() <= WARNINGS_MAX {
            self.warnings.push(Warning { place: place.clone(), message: message.into() });
        }
    }

    /// Notes that `what` is asked for at `token` and not built, so that the configuration is
    /// refused when all of it was read.
    pub(super) fn lacks(&mut self, token: &Token, what: impl Into<String>) {
        let place = token.place.clone();
        self.miss(ConfigError::NotBuilt { place, what: what.into() });
    }

    /// The value, or notes why there is none: missing ones with the rest of those, any other
    /// mistake in `first` if that is empty.
    fn put_off<T>(
        &mut self,
        read: Result<T, ConfigError>,
        first: &mut Option<ConfigError>,
    ) -> Option<T> {
        let error = match read {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if matches!(error, ConfigError::NotBuilt { .. }) {
            self.miss(error);
        } else {
            first.get_or_insert(error);
        }
        None
    }

    fn miss(&mut self, error: ConfigError) {
        if self.missing.len() < WARNINGS_MAX {
            self.missing.push(error);
        }
    }

    /// Counts further zones.
    ///
    /// # Errors
    /// The message for the operator: short words can stand for very many.
    pub(super) fn count_zones(&mut self, more: usize) -> Result<(), String> {
        self.zones += more;
        if self.zones > ZONES_MAX {
            return Err(format!("more than {ZONES_MAX} zones, counting the zones of networks"));
        }
        Ok(())
    }

    /// The word that the next stanza of `directive` begins with; one that is no name is noted.
    pub(super) fn stanza<'a>(
        &mut self,
        directive: &str,
        cursor: &mut Cursor<'a>,
    ) -> Option<&'a Token> {
        let stanza = cursor.stanza()?;
        self.warn_of_stanza(directive, stanza);
        Some(stanza)
    }

    /// Notes, where there is an earlier one, that the stanza at `place` holds instead of it.
    pub(super) fn warn_of_earlier(&mut self, directive: &str, is_second: bool, place: &Place) {
        if is_second {
            let message = format!("plugin/{directive}: written twice: the last one applies");
            self.warn(place, message);
        }
    }

    /// Notes that a stanza of `directive` begins with another word: what one stanza leaves unread
    /// is read as the next.
    fn warn_of_stanza(&mut self, directive: &str, name: &Token) {
        let word = &*name.text;
        // A name that a variable holds is kept as it was written.
        if word != directive && !word.contains("{$") && !word.contains("{%") {
            let message = format!("'{word}' is read as the start of another '{directive}'");
            self.warn(&name.place, message);
        }
    }
}

/// A server block while it is being read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) keys: Vec<Key>,
    /// `None` without `bind`.
    pub(super) bind: Option<Vec<BindAddress>>,
    pub(super) stages: Stages,
    /// Place of `cache`.
    pub(super) cache: Option<Place>,
    /// Place of `hosts`.
    pub(super) hosts: Option<Place>,
    /// Place of `metadata`.
    pub(super) metadata: Option<Place>,
    /// Something reads labels.
    pub(super) reads_labels: bool,
    /// Place of `view`.
    pub(super) view: Option<Place>,
    /// Place of `erratic`.
    pub(super) erratic: Option<Place>,
    pub(super) forwards: Vec<Stanza>,
}

/// One zone that a server block serves.
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: Name,
    /// Any number until [`listeners::port`] has seen it.
    pub(super) port: i64,
    /// Protocol of clients.
    pub(super) protocol: Protocol,
}

impl Config {
    /// Reads the configuration `text`, which the operator calls `display_name`, for `host`.
    /// Besides the configuration, returns warnings about it.
    ///
    /// # Errors
    /// The first mistake, or all that is missing; nothing is to be served then.
    pub fn load(
        text: &[u8],
        display_name: &str,
        host: &Host,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let corefile = corefile::parse(text, display_name, &host.sources);
        Self::of(corefile.map_err(ConfigError::Parse)?, display_name, host)
    }

    /// Reads the configuration from a `corefile` that is parsed already; see [`Config::load`].
    ///
    /// # Errors
    /// Those of [`Config::load`], but for mistakes that the parser finds.
    pub fn of(
        corefile: Corefile,
        display_name: &str,
        host: &Host,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let missing = corefile.missing.into_iter().map(ConfigError::Parse).collect();
        let mut context =
            Context { host, warnings: corefile.warnings, reload: None, zones: 0, missing };
        if corefile.blocks.is_empty() && context.missing.is_empty() {
            // The reference answers from its default block, with directives that onward lacks.
            let place = Place { file: display_name.into(), line: 1 };
            let what = "a Corefile without a server block".into();
            return Err(ConfigError::NotBuilt { place, what });
        }
        let read = read(&corefile.blocks, &mut context, display_name);
        let mut drafts = read.map_err(|error| error.explained(&corefile.hints))?;
        number_sources(&mut drafts)?;
        let mut listeners = listeners::group(&drafts)?;
        listeners::show_certificates(&mut listeners, &drafts, &mut context)?;
        lints::of_blocks(&drafts, &listeners, &mut context);
        let stanzas: Vec<_> = drafts.iter().flat_map(|draft| &draft.forwards).collect();
        let upstreams = stanzas.iter().map(|stanza| stanza.forward.upstreams.len()).sum();
        let pages = http::of_blocks(drafts.iter().map(|draft| &draft.stages)).len();
        let budget = Budget::new(host, listeners.len(), pages, stanzas);
        let share = budget.share(forward::share(host, upstreams));
        budget.check(share, &drafts[0].keys[0].place)?;
        let client_connections_max = budget.client_connections_max;
        let mut zone_slots = HashMap::new();
        let blocks = drafts.into_iter().map(|draft| finish(draft, share, &mut zone_slots));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let config = Self { listeners, blocks, client_connections_max, reload: context.reload };
        Ok((config, lints::bounded(context.warnings)))
    }
}

/// Reads all keys and directives. A mistake ends that, but missing features are listed with it.
fn read(
    blocks: &[Block],
    context: &mut Context<'_>,
    display_name: &str,
) -> Result<Vec<Draft>, ConfigError> {
    let mut drafts = Vec::new();
    let mut first = None;
    for block in blocks {
        let keys = keys::read(block, context);
        let keys = context.put_off(keys, &mut first).unwrap_or_default();
        drafts.push(Draft { keys, ..Draft::default() });
    }
    for directive in DIRECTIVES {
        for (block, draft) in blocks.iter().zip(&mut drafts) {
            let stanzas = block.directives.iter().find(|found| found.name == directive);
            match (stanzas, reader(directive)) {
                (None, _) => {}
                (Some(stanzas), None) => {
                    context.lacks(&stanzas.tokens[0], format!("directive '{directive}'"));
                }
                (Some(stanzas), Some(read)) if first.is_none() => {
                    let done = set_up(directive, read, stanzas, draft, context);
                    context.put_off(done, &mut first);
                }
                (Some(_), Some(_)) => {}
            }
        }
    }
    let mut missing = std::mem::take(&mut context.missing);
    missing.extend(first);
    ConfigError::of_all(missing, display_name).map_or(Ok(drafts), Err)
}

/// The reader of `directive`, if it is built.
fn reader(directive: &str) -> Option<Reader> {
    let other = || OTHERS.iter().find(|(name, _)| *name == directive).map(|(_, read)| *read);
    stages::reader(directive).or_else(other)
}

/// Lets `read` see all stanzas of `directive` in a server block.
fn set_up(
    directive: &'static str,
    read: Reader,
    stanzas: &Directive,
    draft: &mut Draft,
    context: &mut Context<'_>,
) -> Result<(), ConfigError> {
    let mut cursor = Cursor::new(&stanzas.tokens);
    read(&mut cursor, context, draft).map_err(|error| error.about(directive))?;
    if let Some(ignored) = cursor.stanza() {
        let message = format!(
            "plugin/{directive}: only the first one of a server block applies, this one is ignored"
        );
        context.warn(&ignored.place, message);
    }
    Ok(())
}

/// Numbers the different sources of `hosts`; blocks with the same share one.
fn number_sources(drafts: &mut [Draft]) -> Result<(), ConfigError> {
    let mut slots = HashMap::new();
    for draft in drafts {
        let Some(hosts) = &mut draft.stages.hosts else { continue };
        let next = slots.len();
        hosts.slot = *slots.entry(Arc::clone(&hosts.source)).or_insert(next);
        if let (HOSTS_SOURCES_MAX.., Some(place)) = (hosts.slot, &draft.hosts) {
            let message = format!(
                "more than {HOSTS_SOURCES_MAX} different sources of hosts: a source is a file \
                 with the entries in the block, no_reverse and reload"
            );
            return Err(ConfigError::Value { directive: "hosts", place: place.clone(), message });
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

/// The server block that `draft` has become. `zone_slots`: the different sources of zones so far;
/// blocks with the same share one.
fn finish(
    draft: Draft,
    share: usize,
    zone_slots: &mut HashMap<Arc<ZonesSource>, usize>,
) -> Result<ServerBlock, ConfigError> {
    let Draft { keys, bind, stages, forwards, .. } = draft;
    let served = |key: Key| -> Result<Served, ConfigError> {
        let port = listeners::port(&key)?;
        Ok(Served { zone: key.name, port, protocol: key.protocol })
    };
    let keys: Vec<Served> = keys.into_iter().map(served).collect::<Result<_, _>>()?;
    let forwards = forwards.into_iter().map(|stanza| stanza.finish(share)).collect();
    let source = ZonesSource::new(&stages, &served_zones(&keys));
    let own_zones = (!source.is_empty()).then(|| {
        let (source, next) = (Arc::new(source), zone_slots.len());
        let slot = *zone_slots.entry(Arc::clone(&source)).or_insert(next);
        OwnZones { source, slot }
    });
    Ok(ServerBlock { keys, bind, stages, own_zones, forwards })
}
