//! A parsed Corefile that is written out and parsed again gives the same tree.
//!
//! Compared are keys, directives and words, and which words share a line; not line numbers. Imports
//! and variables are written out expanded, so a few trees cannot be written: words that no quoting
//! can express, and words that only an import can place there. Those are skipped, and counted to
//! ensure that not all are.

use onward::corefile::{Block, Corefile, Sources, Token, parse};
use proptest::prelude::{ProptestConfig, Strategy, prop_assert_eq, prop_oneof, proptest};
use std::collections::BTreeMap;

fn sources() -> Sources {
    let files = [("/dir/f", "bind ::1\n"), ("/dir/g", "max_fails 2 \"a b\"\n")];
    let files = files.map(|(path, text)| (path.into(), text.as_bytes().to_vec())).into();
    Sources::fixed(files, BTreeMap::from([("E".to_owned(), "two words".to_owned())]))
}

/// The word as written in a Corefile; `None` if that is impossible.
fn typed(word: &str) -> Option<String> {
    if word.contains("{$") || word.contains("{%") {
        return None;
    }
    let plain = !word.is_empty()
        && !word.starts_with(['"', '\u{FEFF}'])
        && !word.contains(|character: char| character.is_whitespace() || character == '#');
    if plain {
        return Some(word.to_owned());
    }
    // Only a quote is escaped, so a backslash before a quote or at the end would change its
    // meaning.
    let fits = !word.contains("\\\"") && !word.ends_with('\\');
    fits.then(|| format!("\"{}\"", word.replace('"', "\\\"")))
}

fn shares_line(last: &Token, next: &Token) -> bool {
    let newlines = last.text.matches('\n').count();
    last.place.file == next.place.file && last.place.line + newlines == next.place.line
}

/// The text of a block; `None` if it cannot be written.
fn written(block: &Block, is_last: bool) -> Option<String> {
    // An empty word is not a key, and prevents the first key from being taken for an import.
    let mut text = "\"\"".to_owned();
    for (place, key) in block.keys.iter().enumerate() {
        let comma = if place + 1 < block.keys.len() { "," } else { "" };
        if (comma.is_empty() && key.text.ends_with(',')) || &*key.text == "{" {
            return None;
        }
        text += &format!(" {}", typed(&format!("{}{comma}", key.text))?);
    }
    if let [only] = block.keys.as_slice()
        && only.text.starts_with('(')
        && only.text.ends_with(')')
    {
        return (is_last && block.directives.is_empty()).then_some(text);
    }
    text += " {";
    for directive in &block.directives {
        let (mut last, mut depth) = (None::<&Token>, 0_usize);
        for token in &directive.tokens {
            let joined = last.is_some_and(|last| shares_line(last, token));
            let begins = depth == 0 && &*token.text == directive.name;
            let word = typed(&token.text)?;
            if !joined && (&*token.text == "import" || depth == 0 && !begins) {
                return None;
            }
            match &*token.text {
                "{" => depth += 1,
                "}" => depth = depth.checked_sub(1)?,
                _ => {}
            }
            text += if joined { " " } else { "\n" };
            text += &word;
            last = Some(token);
        }
        if depth > 0 {
            return None;
        }
    }
    Some(text + "\n}\n")
}

/// Contents of a tree: each block's keys, and each directive's words with their preceding white
/// space.
type Shape = Vec<(Vec<String>, Vec<(String, String)>)>;

fn shape(corefile: &Corefile) -> Shape {
    let block = |block: &Block| {
        let keys = block.keys.iter().map(|key| key.text.to_string()).collect();
        let directives = block.directives.iter().map(|directive| {
            let mut words = String::new();
            let mut last = None;
            for token in &directive.tokens {
                let joined = last.is_some_and(|last| shares_line(last, token));
                words += if joined { "\u{1}" } else { "\u{2}" };
                words += &token.text;
                last = Some(token);
            }
            (directive.name.to_owned(), words)
        });
        (keys, directives.collect())
    };
    corefile.blocks.iter().map(block).collect()
}

/// The tree of `text` and that of its written form; `None` if there is no tree or it cannot be
/// written.
fn trees(text: &[u8]) -> Option<(Shape, Shape)> {
    let tree = parse(text, "Corefile", &sources()).ok()?;
    let count = tree.blocks.len();
    let texts = tree.blocks.iter().enumerate();
    let again: Option<Vec<String>> =
        texts.map(|(place, block)| written(block, place + 1 == count)).collect();
    let again = again?.concat();
    let parsed = parse(again.as_bytes(), "written", &sources())
        .unwrap_or_else(|error| panic!("{error}\n{again}"));
    Some((shape(&tree), shape(&parsed)))
}

#[test]
fn every_golden_file_is_written_and_read_as_the_same_tree() {
    let mut compared = 0;
    for path in crate::case_files() {
        let text = std::fs::read_to_string(path).unwrap();
        for case in text.split("\n=== ").skip(1) {
            let (title, case) = case.split_once('\n').unwrap();
            let input = case.split("\n--- ").next().unwrap();
            if let Some((tree, again)) = trees(input.as_bytes()) {
                assert_eq!(again, tree, "{title}");
                compared += 1;
            }
        }
    }
    assert!(compared > 150, "only {compared} trees were compared");
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let words = [
        "{",
        "}",
        "\n",
        "\n",
        "\n",
        "\"a b\"",
        "\"\"",
        "\"x\ny\"",
        "\"q\\\"r\"",
        "\\",
        "a\"b",
        "#",
        "x#y",
        ",",
        "m,",
        "import f",
        "import g",
        "import s",
        "(s) {\nlog\n}\n",
        "(s)",
        "m",
        "{$E}",
        "bind",
        "forward",
        "log {\nclass all\n}",
        "log",
        "errors",
        "\r",
        "\u{a0}",
        "\u{feff}",
    ];
    let word = prop_oneof![
        4 => (0..words.len()).prop_map(move |index| words[index].to_owned()),
        1 => "[a-z{}\"#\\\\,]{0,4}",
    ];
    proptest::collection::vec(word, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_tree_is_written_and_read_as_the_same(
        head in words(), body in words(), tail in words(),
    ) {
        let [head, body, tail] = [head, body, tail].map(|words| words.join(" "));
        let text = format!("{head}\nm n {{\nlog {body}\n}}\n{tail}");
        for text in [text, format!("m {{\nlog {body}\n}}\n")] {
            if let Some((tree, again)) = trees(text.as_bytes()) {
                prop_assert_eq!(again, tree, "{}", text);
            }
        }
    }
}
