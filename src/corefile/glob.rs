//! Import patterns: `*` and `?` within one part of a path.
//!
//! The language allows one `*` and one `?` in a pattern and no working bracket expression, so
//! matching needs only a few lines. A leading dot is nothing special; `\` takes the next character
//! literally. Directories are listed by the caller's function.

use std::path::{Component, Path, PathBuf};

/// The pattern is malformed: an open bracket, or a backslash at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadPattern;

/// Returns true if `path` contains anything but literal characters.
pub(super) fn is_pattern(path: &str) -> bool {
    may_match_nothing(path) || path.contains('\\')
}

/// Returns true if `path` may match no file without an error. A closed bracket expression is
/// literal, and counts nevertheless.
pub(super) fn may_match_nothing(path: &str) -> bool {
    path.contains(['*', '?', '[', ']'])
}

/// Returns the paths that match `pattern`, an absolute path, in the order of their bytes.
pub(super) fn expand(
    pattern: &str,
    list: &dyn Fn(&Path) -> std::io::Result<Vec<String>>,
) -> Result<Vec<PathBuf>, BadPattern> {
    let mut found = vec![PathBuf::from("/")];
    let mut literal = true;
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let pieces = pieces(part)?;
        literal = literal && !is_pattern(part);
        if literal {
            found[0].push(part);
            continue;
        }
        let mut deeper = Vec::new();
        for directory in &found {
            // A directory that cannot be listed has no matches, like one that does not exist.
            let mut names = list(directory).unwrap_or_default();
            names.retain(|name| matches(&pieces, &name.chars().collect::<Vec<_>>()));
            names.sort_unstable();
            deeper.extend(names.into_iter().map(|name| directory.join(name)));
        }
        found = deeper;
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Piece {
    Literal(char),
    AnyOne,
    AnyMany,
}

fn pieces(part: &str) -> Result<Vec<Piece>, BadPattern> {
    let mut pieces = Vec::new();
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        pieces.push(match character {
            '*' => Piece::AnyMany,
            '?' => Piece::AnyOne,
            '[' => return Err(BadPattern),
            '\\' => Piece::Literal(characters.next().ok_or(BadPattern)?),
            other => Piece::Literal(other),
        });
    }
    Ok(pieces)
}

fn matches(pieces: &[Piece], name: &[char]) -> bool {
    match (pieces.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((Piece::AnyMany, rest)), _) => {
            (0..=name.len()).any(|length| matches(rest, &name[length..]))
        }
        (Some((Piece::AnyOne, pieces)), Some((_, name))) => matches(pieces, name),
        (Some((Piece::Literal(wanted), pieces)), Some((found, name))) => {
            wanted == found && matches(pieces, name)
        }
        _ => false,
    }
}

/// Returns `path` without `.` and `..`, by its text alone: symbolic links are not followed.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::{BadPattern, clean, expand};
    use std::path::Path;

    fn found(pattern: &str) -> Result<Vec<String>, BadPattern> {
        let list = |directory: &Path| {
            let names: &[&str] = match directory.to_str() {
                Some("/d") => &["b.conf", "a.conf", ".k", "10", "9", "x*"],
                Some("/e") => &["one", "two"],
                Some("/e/one") => &["f"],
                _ => return Err(std::io::ErrorKind::NotFound.into()),
            };
            Ok(names.iter().map(|name| (*name).to_owned()).collect())
        };
        Ok(expand(pattern, &list)?.iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn matches_come_in_byte_order_and_a_leading_dot_is_ordinary() {
        assert_eq!(
            found("/d/*").unwrap(),
            ["/d/.k", "/d/10", "/d/9", "/d/a.conf", "/d/b.conf", "/d/x*"]
        );
        assert_eq!(found("/d/?.c*").unwrap(), ["/d/a.conf", "/d/b.conf"]);
        assert_eq!(found("/d/x\\*").unwrap(), ["/d/x*"]);
    }

    #[test]
    fn a_star_does_not_cross_a_slash() {
        assert_eq!(found("/e/*/f").unwrap(), ["/e/one/f"]);
        assert_eq!(found("/*f").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_lone_bracket_or_backslash_is_malformed() {
        assert_eq!(found("/d/[x"), Err(BadPattern));
        assert_eq!(found("/none/x\\"), Err(BadPattern));
    }

    #[test]
    fn dots_are_removed_from_a_path_by_text() {
        assert_eq!(clean(Path::new("/a/./b/../c//d")), Path::new("/a/c/d"));
        assert_eq!(clean(Path::new("/../a")), Path::new("/a"));
    }
}
