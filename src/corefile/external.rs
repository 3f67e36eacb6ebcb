//! External plugins of other servers of this language, and their replacements here.
//!
//! A public Corefile may name a directive that neither the language nor onward has. If its name is
//! known here, the operator gets advice instead of the nearest spelling.

const FAILOVER: &str = "use the options 'failover' and 'next' of forward";
const LISTS: &str = "use 'hosts' with a file of the names, or 'template' with an rcode";
const ZONES: &str = "serve the zone from another server and forward to it";
const RECORDS: &str = "write the records with 'hosts' or 'template'";
const FILES: &str = "write the file with a timer; it is reloaded when it changes";
const RESOLVERS: &str = "run a resolver on this host and forward to it";
const CACHES: &str = "leave it out: 'cache' keeps answers in memory";
const REWRITES: &str = "write the answer with 'template'";
const RULES: &str = "use 'acl'";
const LOGS: &str = "use 'log' or 'dnstap'";
const TARGETS: &str = "use forward with several upstreams and its option 'policy'";
const NOTHING: &str = "leave it out";

/// Names with the advice for each.
const PLUGINS: [(&str, &str); 61] = [
    ("ads", LISTS),
    ("alias", REWRITES),
    ("alternate", FAILOVER),
    ("amazondns", ZONES),
    ("autoipv6ptr", REWRITES),
    ("block", LISTS),
    ("blocker", LISTS),
    ("blocklist", LISTS),
    ("bloom", LISTS),
    ("consul", ZONES),
    ("ddns", ZONES),
    ("demo", NOTHING),
    ("dnsbl", LISTS),
    ("dnsredir", TARGETS),
    ("docker", RECORDS),
    ("dockerdiscovery", RECORDS),
    ("dump", LOGS),
    ("dynamicupdate", ZONES),
    ("ens", ZONES),
    ("example", NOTHING),
    ("fallback", FAILOVER),
    ("fanout", TARGETS),
    ("federation", NOTHING),
    ("filter", LISTS),
    ("filterlist", LISTS),
    ("finalize", REWRITES),
    ("firewall", RULES),
    ("flatten", REWRITES),
    ("git", FILES),
    ("gslb", ZONES),
    ("idetcd", RECORDS),
    ("ipecho", REWRITES),
    ("ipin", REWRITES),
    ("ipset", NOTHING),
    ("k8s_crd", ZONES),
    ("k8s_gateway", ZONES),
    ("kubeapi", NOTHING),
    ("kubenodes", ZONES),
    ("kubernetai", ZONES),
    ("lighthouse", ZONES),
    ("mdns", ZONES),
    ("meship", REWRITES),
    ("multicluster", ZONES),
    ("mysql", ZONES),
    ("netbox", RECORDS),
    ("nftables", NOTHING),
    ("opa", RULES),
    ("pdsql", ZONES),
    ("policy", RULES),
    ("proxy", "use 'forward', its successor"),
    ("querylog", LOGS),
    ("records", RECORDS),
    ("recursor", RESOLVERS),
    ("redis", ZONES),
    ("redisc", CACHES),
    ("split", RULES),
    ("tailscale", ZONES),
    ("themis", RULES),
    ("unbound", RESOLVERS),
    ("warnlist", LISTS),
    ("wgsd", ZONES),
];

/// Returns advice for a directive of an external plugin, to be appended to an error: ` (...)`.
pub(super) fn advice(directive: &str) -> Option<String> {
    let known = PLUGINS.binary_search_by_key(&directive, |(name, _)| *name);
    let (_, instead) = PLUGINS[known.ok()?];
    Some(format!(" (this plugin is not part of onward: {instead})"))
}

#[cfg(test)]
mod tests {
    use super::{PLUGINS, advice};
    use crate::corefile::DIRECTIVES;

    #[test]
    fn external_plugins_are_known_by_name_and_none_is_a_directive() {
        assert!(PLUGINS.is_sorted_by_key(|(name, _)| *name));
        assert!(PLUGINS.iter().all(|(name, _)| !DIRECTIVES.contains(name)));
        assert!(advice("alternate").unwrap().contains("'failover' and 'next'"));
        assert_eq!(advice("logg"), None);
    }
}
