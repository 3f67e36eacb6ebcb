//! The grammar as a whole: one test per rule that involves several files of the module.
//!
//! A tree is compared as one line of text, and so is the message if there is no tree.

use super::{Corefile, Sources, WORDS_MAX, parse};
use std::collections::BTreeMap;

fn sources(files: &[(&str, &str)]) -> Sources {
    let files = files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec())).collect();
    let variables = [("E", "7"), ("BRACE", "{"), ("IMPORT", "import"), ("SELF", "{$SELF}")];
    Sources::fixed(files, variables.map(|(name, value)| (name.into(), value.into())).into())
}

fn parsed(text: &str, files: &[(&str, &str)]) -> Result<Corefile, String> {
    let parsed = parse(text.as_bytes(), "Corefile", &sources(files));
    let unknown = |corefile: Corefile| match corefile.missing.first() {
        Some(error) => Err(error.clone()),
        None => Ok(corefile),
    };
    parsed.and_then(unknown).map_err(|error| error.to_string())
}

/// Returns the tree on one line: `keys { tokens ; tokens }`.
fn shown(text: &str, files: &[(&str, &str)]) -> String {
    let corefile = match parsed(text, files) {
        Ok(corefile) => corefile,
        Err(error) => return error,
    };
    let words = |tokens: &[super::Token]| -> Vec<String> {
        tokens.iter().map(|token| token.text.to_string()).collect()
    };
    let blocks = corefile.blocks.iter().map(|block| {
        let directives =
            block.directives.iter().map(|directive| words(&directive.tokens).join(" "));
        format!(
            "{} {{ {} }}",
            words(&block.keys).join(" "),
            directives.collect::<Vec<_>>().join(" ; ")
        )
    });
    blocks.collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_end_at_a_brace_or_with_the_line_unless_a_comma_is_pending() {
    assert_eq!(shown("a b\n{\nlog\n}", &[]), "a b { log }");
    assert_eq!(shown("a,\nb\nlog", &[]), "a b { log }");
    assert_eq!(shown("a,b ,c \"\" {\n}", &[]), "a,b ,c {  }");
    assert_eq!(
        shown("a, {\n}", &[]),
        "Corefile:1 - Error during parsing: Expected another address but had '{' - check for \
         extra comma"
    );
    assert_eq!(shown("a,", &[]), "Corefile:1 - Error during parsing: Unexpected EOF");
}

#[test]
fn a_block_without_keys_is_checked_and_dropped() {
    assert_eq!(shown("{\nlog\n}\nm", &[]), "m {  }");
    assert_eq!(
        shown("{\nnolog\n}", &[]),
        "Corefile:2 - Error during parsing: Unknown directive 'nolog'"
    );
}

#[test]
fn a_body_without_braces_ends_at_a_stray_brace_or_with_the_input() {
    assert_eq!(shown("m\nlog\n}\nn {\n}", &[]), "m { log } n {  }");
    assert_eq!(shown("m\nlog\nlog x", &[]), "m { log log x }");
}

#[test]
fn a_missing_last_brace_is_noticed_unless_a_brace_comes_last() {
    assert_eq!(
        shown("m {\nlog", &[]),
        "Corefile:2 - Syntax error: Unexpected token 'log', expecting '}'"
    );
    assert_eq!(shown("m {\nlog {\nx\n}", &[]), "m { log { x } }");
    assert_eq!(shown("m {\nlog {\nx", &[]), "Corefile:3 - Error during parsing: Unexpected EOF");
}

#[test]
fn stanzas_of_one_directive_are_one_list_and_the_name_keeps_its_spelling() {
    assert_eq!(shown("m {\nlog a\nerrors\nlog b\n}", &[]), "m { log a log b ; errors }");
}

#[test]
fn structure_is_recognised_as_written() {
    assert_eq!(
        shown("m {$BRACE}\nlog", &[]),
        "Corefile:1 - Error during parsing: Unknown directive '{'"
    );
    assert_eq!(shown("m {\nlog {$BRACE} {$E}\n}", &[]), "m { log { 7 }");
}

#[test]
fn a_near_miss_of_a_directive_is_named() {
    assert_eq!(
        shown(". {\n forwrd . 127.0.0.1\n}", &[]),
        "Corefile:2 - Error during parsing: Unknown directive 'forwrd' (did you mean 'forward'?)"
    );
}

#[test]
fn snippets_are_replayed_with_their_own_lines() {
    assert_eq!(shown("(s) { log }\nm {\nimport s\n}", &[]), "m { log }");
    let error = "Corefile:2 - Error during parsing: Unknown directive 'nope'";
    assert_eq!(shown("(s) {\nnope\n}\nm {\nimport s\n}", &[]), error);
    assert_eq!(
        shown("(s) {\n}\n(s) {\n}", &[]),
        "Corefile:3 - Error during parsing: redeclaration of previously declared snippet s"
    );
}

#[test]
fn files_are_found_beside_the_file_that_imports_them() {
    let files = [("/dir/d/f", "import g"), ("/dir/d/g", "\nlog")];
    assert_eq!(shown("m {\nimport d/f\n}", &files), "m { log }");
    let files = [("/dir/d/f", "import g"), ("/dir/d/g", "\ndeep")];
    assert_eq!(
        shown("m {\nimport d/f\n}", &files),
        "/dir/d/g:2 - Error during parsing: Unknown directive 'deep'"
    );
}

#[test]
fn a_pattern_without_match_is_a_warning() {
    let corefile = parsed("m {\nimport d/*.none\n}", &[]).unwrap();
    assert_eq!(
        corefile.warnings[0].to_string(),
        "Corefile:2 - No files matching import glob pattern: d/*.none"
    );
}

#[test]
fn imports_without_end_are_refused() {
    assert_eq!(
        shown("import f", &[("/dir/f", "import f")]),
        "/dir/f:1 - Error during parsing: maximum file import depth (10000) exceeded"
    );
    assert_eq!(
        shown("(a) {\nimport b\n}\n(b) {\nimport a\n}\nm {\nimport a\n}", &[]),
        "Corefile:5 - Error during parsing: maximum snippet import depth (10000) exceeded"
    );
    assert_eq!(
        shown("(s) { import s }", &[]),
        "Corefile:1 - Error during parsing: maximum snippet import depth (10000) exceeded"
    );
}

#[test]
fn imports_that_grow_are_refused() {
    let grows = "log ".repeat(1000) + "\nimport f";
    let error = shown("m {\nimport f\n}", &[("/dir/f", &grows)]);
    assert!(error.ends_with("more than 1000000 words, imports included"), "{error}");
    let long =
        format!("(s) {{\nlog {}\n}}\nm {{\n", "x".repeat(1_000_000)) + &"import s\n".repeat(100);
    let error = shown(&long, &[]);
    assert!(error.ends_with("more than 67108864 bytes, imports included"));
}

#[test]
fn a_self_referring_variable_is_refused_where_it_is_used() {
    assert!(
        shown("m {\n\nlog {$SELF}\n}", &[])
            .starts_with("Corefile:3 - Error during parsing: environment variable 'SELF'")
    );
}

#[test]
fn ten_megabytes_of_anything_end_quickly() {
    let size = 10 << 20;
    for unit in ["{", "a ", "\"", "{%a", "\0", "{$a}", "(a) {\n", "import x\n", "#\n", "\u{FEFF}"] {
        let text = unit.repeat(size / unit.len());
        let _ = parse(text.as_bytes(), "Corefile", &sources(&[]));
    }
    let many = "a ".repeat(WORDS_MAX + 1);
    let error = parse(many.as_bytes(), "Corefile", &sources(&[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "Corefile:1 - Error during parsing: more than 1000000 words, imports included"
    );
}

#[test]
fn different_references_in_a_huge_word_end_quickly() {
    let text: String = (0..1_000_000).map(|number| format!("{{%{number}%}}")).collect();
    let error =
        parse(text.as_bytes(), "Corefile", &Sources::fixed(BTreeMap::new(), BTreeMap::new()));
    assert!(error.unwrap_err().to_string().contains("holds more than 100 references"));
}
