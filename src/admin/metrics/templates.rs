//! The series about templates.
//!
//! Matches are counted by zone and type; failures by the text that failed, with the class and type
//! of its template. Zones beyond those that are counted separately are counted under the last one.

use super::queries::{first_listener, view_of};
use super::{Exposition, Snapshot, server_at};
use crate::config::{Name, RecordType, ServerBlock, Template, TemplateRecord, class_mnemonic};
use crate::engine::stages::template::{COUNTED_RTYPES, TemplateStats};

/// Maximum number of characters of a text in a label.
const TEXT_MAX: usize = 200;

/// Adds the counters of templates, once for all listeners of a block: the first gives the label.
pub(super) fn of_templates(all: &mut Exposition, snapshot: &Snapshot) {
    let blocks = snapshot.config.blocks.iter().enumerate();
    let templates = blocks.flat_map(|(number, block)| {
        block.stages.template.iter().map(move |template| (number, block, template))
    });
    for ((number, block, template), stats) in templates.zip(&snapshot.stats.templates) {
        let server = first_listener(&snapshot.config, number).map_or_else(String::new, server_at);
        of_template(all, &server, block, template, stats);
    }
}

fn of_template(
    all: &mut Exposition,
    server: &str,
    block: &ServerBlock,
    template: &Template,
    stats: &TemplateStats,
) {
    let class = template.class.and_then(class_mnemonic).unwrap_or("IN");
    let served: Vec<_> = block.zones().cloned().collect();
    let zones = template.zones.as_deref().unwrap_or(&served);
    let (view, view_name) = view_of(Some(block));
    let labels = |zone: &str, rtype: &str| {
        [
            ("server", server.to_owned()),
            ("zone", zone.to_owned()),
            (view, view_name.to_owned()),
            ("class", class.to_owned()),
            ("type", rtype.to_owned()),
        ]
    };
    for (zone, by_rtype) in zones.iter().zip(&stats.matches) {
        let zone = zone.to_string();
        for (place, count) in by_rtype.iter().enumerate() {
            let rtype = COUNTED_RTYPES.get(place).and_then(|rtype| RecordType(*rtype).mnemonic());
            let labels = labels(&zone, rtype.unwrap_or("other"));
            let labels = labels.each_ref().map(|(name, value)| (*name, &**value));
            let help = "Queries that matched a template stanza.";
            all.counter_if_any("coredns_template_matches_total", help, &labels, *count);
        }
    }
    let rtype = template.rtype.map_or_else(|| "ANY".to_owned(), |rtype| rtype.to_string());
    let zone = zones.first().map(Name::to_string).unwrap_or_default();
    let sections = [
        ("answer", &template.answers),
        ("authority", &template.authorities),
        ("additional", &template.additionals),
    ];
    let records = sections.into_iter().flat_map(|(section, records)| {
        records.iter().map(move |TemplateRecord { text, .. }| (section, &text.source))
    });
    for ((section, text), [rendering, reading]) in records.zip(&stats.failures) {
        let text: String = text.chars().take(TEXT_MAX).collect();
        let labels = labels(&zone, &rtype);
        let [server, zone, view, class, rtype] =
            labels.each_ref().map(|(name, value)| (*name, &**value));
        let labels = [server, zone, view, class, rtype, ("section", section), ("template", &*text)];
        let help = "Queries that failed because a template text could not be rendered.";
        let name = "coredns_template_template_failures_total";
        all.counter_if_any(name, help, &labels, *rendering);
        let help = "Queries that failed because a rendered template text is not a valid record.";
        all.counter_if_any("coredns_template_rr_failures_total", help, &labels, *reading);
    }
}
