//! Names of directives: each is implemented or refused by name, and documented.
//!
//! The documentation is `tuning/COREFILE.md`. A misspelt name gets the nearest known one as a
//! suggestion.

use onward::config::{Config, Host};
use onward::corefile::DIRECTIVES;
use std::path::Path;

/// Returns the message about a directive without arguments.
fn told_of(directive: &str) -> Result<(), String> {
    let text = format!(". {{\n bind 127.0.0.1\n {directive}\n}}\n");
    let loaded = Config::load(text.as_bytes(), "Corefile", &Host::plain());
    loaded.map(drop).map_err(|error| error.to_string())
}

#[test]
fn every_directive_is_implemented_and_documented_or_refused_by_name() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/COREFILE.md");
    let page = std::fs::read_to_string(page).unwrap();
    let not_built = |name| {
        let text = format!("Corefile:3 - directive '{name}' is not supported by onward yet");
        told_of(name) == Err(text)
    };
    let built: Vec<_> = DIRECTIVES.into_iter().filter(|name| !not_built(name)).collect();
    for name in DIRECTIVES {
        if let Err(error) = told_of(name) {
            assert!(!error.contains("Unknown directive"), "{error}");
        }
        let has_section = page.contains(&format!("\n## {name}\n"));
        assert_eq!(has_section, built.contains(&name), "{name} in tuning/COREFILE.md");
    }
    // One paragraph lists the order in which a query passes the directives.
    let order: Vec<String> = built.iter().map(|name| format!("`{name}`")).collect();
    let told = page.split_once("in this order").unwrap().1.split("\n\n").nth(1).unwrap();
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), order);
}

#[test]
fn a_misspelt_directive_gets_the_nearest_name() {
    for name in DIRECTIVES.into_iter().filter(|name| name.len() > 4) {
        let misspelt = format!("{}{}", &name[..2], &name[3..]);
        let error = told_of(&misspelt).unwrap_err();
        assert!(error.contains(&format!("did you mean '{name}'?")), "{misspelt}: {error}");
    }
}
