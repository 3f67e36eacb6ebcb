//! Reading Rust source as text: code, tests and named paths.
//!
//! Without a parser: comments, strings and characters are blanked, the rest is split into words,
//! and paths are found around `::` and in `use` declarations. This suffices for the tidy checks and
//! errs on the strict side: everything that is not clearly test code counts as production code.

use std::ops::Range;

/// A name imported by a `use` declaration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Used<'a> {
    /// The name after `as`.
    pub(crate) name: Option<&'a str>,
    pub(crate) path: Vec<&'a str>,
}

/// Splits code into the part outside `use` declarations and the names that those import.
pub(crate) fn without_uses(code: &str) -> (String, Vec<Used<'_>>) {
    let (mut rest, mut used) = (String::with_capacity(code.len()), Vec::new());
    for statement in code.split_inclusive(';') {
        let words = tokens(statement);
        let is_use = |at: usize| {
            let before = at.checked_sub(1).map(|before| words[before]);
            let begins = matches!(before, None | Some("}" | "{" | "]" | ")" | "pub"));
            words[at] == "use" && begins && words.get(at + 1) != Some(&"<")
        };
        let Some(at) = (0..words.len()).rev().find(|at| is_use(*at)) else {
            rest.push_str(statement);
            continue;
        };
        let start = words[at].as_ptr().addr() - statement.as_ptr().addr();
        rest.push_str(&statement[..start]);
        rest.push(';');
        let mut found = Vec::new();
        use_tree(&words, &mut (at + 1), &[], &mut found);
        used.extend(found);
    }
    (rest, used)
}

/// All paths in code: those of `use` declarations, one per name, and those of expressions.
pub(crate) fn paths(code: &str) -> Vec<Vec<&str>> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `use<'a>` bounds what a type captures and declares nothing.
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            at += 1;
            let mut used = Vec::new();
            use_tree(&tokens, &mut at, &[], &mut used);
            found.extend(used.into_iter().map(|used| used.path));
        } else if is_name(tokens[at]) {
            let mut path = vec![tokens[at]];
            while let [_, "::", next, ..] = tokens[at..]
                && is_name(next)
            {
                path.push(next);
                at += 2;
            }
            at += 1;
            found.extend((path.len() > 1).then_some(path));
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one branch of a `use` declaration and stops after it.
fn use_tree<'a>(tokens: &[&'a str], at: &mut usize, prefix: &[&'a str], found: &mut Vec<Used<'a>>) {
    let mut path = prefix.to_vec();
    let mut alias = None;
    while let Some(&token) = tokens.get(*at) {
        match token {
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|&token| token != "}") {
                    use_tree(tokens, at, &path, found);
                    *at += usize::from(tokens.get(*at) == Some(&","));
                }
                *at += 1;
                return;
            }
            "," | "}" | ";" => break,
            "as" => {
                *at += 1;
                alias = tokens.get(*at).copied();
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            name => path.push(name),
        }
        *at += 1;
    }
    found.push(Used { name: alias, path });
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Code as words, `::` and single characters, without white space.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        let length = match rest.find(|char| !is_word(char)).unwrap_or(rest.len()) {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            word => word,
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

/// Code without comments, strings and test items.
pub(crate) fn production(text: &str) -> String {
    let code = code(text);
    let items = test_items(&code);
    items.into_iter().fold(code, |code, item| blank(&code, item))
}

/// Returns the number of lines of a file outside test items.
pub(crate) fn production_lines(text: &str) -> usize {
    let code = code(text);
    let tested = test_items(&code).into_iter().map(|item| code[item].lines().count());
    text.lines().count() - tested.sum::<usize>()
}

/// Returns the places of the items marked `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let mut depth = 0;
        let end = code[start + MARK.len()..].char_indices().find(|&(_, char)| {
            depth += i32::from("([{".contains(char)) - i32::from(")]}".contains(char));
            depth < 0 || (depth == 0 && "};,".contains(char))
        });
        from = end.map_or(code.len(), |(offset, _)| start + MARK.len() + offset + 1);
        items.push(start..from);
    }
    items
}

/// A text without its comments, strings and characters: blanks in their place keep the lines.
pub(crate) fn code(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = kept.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let length = opaque(rest, in_word);
        if length == 0 {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            kept.push_str(&blank(&rest[..length], 0..length));
            rest = &rest[length..];
        }
    }
    kept
}

/// The length of the comment, string or character literal at the start of `rest`, or 0.
fn opaque(rest: &str, in_word: bool) -> usize {
    let up_to = |from: usize, end: &str| {
        rest[from..].find(end).map_or(rest.len(), |found| from + found + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        // Skips the opening quote, as if it were escaped.
        let mut escaped = true;
        let end = rest.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        });
        return end.map_or(rest.len(), |end| end + 1);
    }
    if let Some(quoted) = rest.strip_prefix('\'') {
        let mut chars = quoted.chars();
        return match (chars.next(), chars.next()) {
            (Some('\\'), Some(escaped)) => up_to(2 + escaped.len_utf8(), "'"),
            (Some(only), Some('\'')) => only.len_utf8() + 2,
            _ => 0,
        };
    }
    let raw = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - raw.len();
    if let Some(hashed) = raw.strip_prefix('r').filter(|_| !in_word && prefix <= 1) {
        let hashes = hashed.len() - hashed.trim_start_matches('#').len();
        if hashed[hashes..].starts_with('"') {
            return up_to(prefix + 1 + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    0
}

/// The length of a block comment, including nested ones.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The text with a part replaced by blanks, keeping the lines.
fn blank(text: &str, part: Range<usize>) -> String {
    let blanks: String =
        text[part.clone()].chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect();
    [&text[..part.start], &blanks, &text[part.end..]].concat()
}

/// Returns the files that a map names below `tests`, between backquotes; `a/{b,c}.rs` are two.
pub(crate) fn mapped(map: &str) -> Vec<String> {
    let mut files = Vec::new();
    for named in map.split('`').skip(1).step_by(2) {
        let named = named.strip_prefix("tests/").unwrap_or(named);
        let parts = named.split_once('{').and_then(|(head, rest)| {
            let (list, tail) = rest.split_once('}')?;
            Some(list.split(',').map(|item| [head, item, tail].concat()).collect())
        });
        let is_file = |name: &String| {
            !name.contains(['*', ' ']) && !name.starts_with("src/") && !name.starts_with("loadgen/")
        };
        files.extend(parts.unwrap_or_else(|| vec![named.to_owned()]).into_iter().filter(is_file));
    }
    files
}

/// The names of a manifest's dependencies, as spelt in code.
pub(crate) fn dependency_names(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && line.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.push(name.replace('-', "_"));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{code, paths, production, production_lines};

    fn words(text: &str) -> String {
        code(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_strings_and_characters_are_not_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(words(r#"a("b\"c", d)"#), "a( , d)");
        assert_eq!(
            words("a(r#\"b\" // c\"#, br\"d\\\", 'e', '\\'', '\\u{1F}', '\"') f"),
            "a( , , , , , ) f"
        );
        assert_eq!(words("for<'a> fn(&'a str) r#type wider"), "for<'a> fn(&'a str) r#type wider");
        assert_eq!(code("/*\n*/\"\n\"").lines().count(), 3);
        assert_eq!(words("a \"never ends"), "a");
    }

    #[test]
    fn test_items_are_not_production_wherever_they_stand() {
        let text = "a();\n#[cfg(test)]\n#[path = \"x\"]\nmod b {\n fn c() { \"}\"; }\n}\nd();\n\
                    #[cfg(test)]\nuse e::f;\ng();\nstruct H {\n #[cfg(test)]\n i: u8,\n j: u8 }\n";
        let kept = production(text);
        let kept: Vec<_> = kept.split_whitespace().collect();
        assert_eq!(kept.join(" "), "a(); d(); g(); struct H { j: u8 }");
        assert_eq!(production_lines(text), 5);
    }

    #[test]
    fn paths_are_found_in_use_trees_and_expressions() {
        let found = |code| {
            let paths: Vec<_> = paths(code).iter().map(|path| path.join("::")).collect();
            paths.join(" ")
        };
        assert_eq!(found("use a::{b, c::{self, d as e}, f::*,}; g"), "a::b a::c a::c::d a::f::*");
        assert_eq!(found("use self::a; use crate as b; pub(crate) c"), "self::a crate");
        assert_eq!(found("x = ::a::b::<c::D>::e(f.g(), h :: i)"), "a::b c::D h::i");
        assert_eq!(found("fn a() -> impl B + use<'a> { b::c(); d }"), "b::c");
        assert_eq!(found("impl a::B for C { fn d() -> e::F { g::h!() } }"), "a::B e::F g::h");
    }
}
