//! Circles among the files of `src`: files that name items of each other, directly or through other
//! files, so that they can only be understood, tested and moved together.
//!
//! A file depends on the file that defines an item that it names. A re-export is followed to the
//! definition; neither it nor a module declaration is a dependency by itself. A file may name its
//! parent modules, because it is a part of them. Not detected: methods called on values, and names
//! in the expansion of another file's macro.

use super::source::{Used, paths, production, tokens, without_uses};
use std::collections::{BTreeMap, BTreeSet};

/// Keywords before the name of an item.
const ITEMS: [&str; 7] = ["const", "enum", "fn", "static", "struct", "trait", "type"];
/// Maximum number of re-exports followed, because two globs can name each other.
const HOPS_MAX: usize = 32;

/// A path from the crate's root.
type Path = Vec<String>;

/// The files of a crate, by module.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<Path, File>);

/// The names in one file.
#[derive(Debug, Default)]
struct File {
    path: String,
    /// Names of items defined here.
    defined: BTreeSet<String>,
    /// Names imported by `use`, each with its path; `*` for all names of a module.
    imported: Vec<(String, Path)>,
    /// Names outside `use` declarations.
    words: BTreeSet<String>,
    /// Paths outside `use` declarations, as written.
    paths: Vec<Path>,
}

impl Files {
    /// Adds the file at `path`, which holds `module`.
    pub(crate) fn add(&mut self, path: &str, module: &[&str], text: &str) {
        let own = |path: &[&str]| path.iter().map(|&name| name.to_owned()).collect::<Path>();
        let code = production(text);
        let (rest, used) = without_uses(&code);
        let words = tokens(&rest);
        let named = |pair: &[&str]| match pair {
            [word, name] if ITEMS.contains(word) => Some((*name).to_owned()),
            _ => None,
        };
        let macros = words.windows(3).filter(|words| words[..2] == ["macro_rules", "!"]);
        let mut defined: BTreeSet<String> = words.windows(2).filter_map(named).collect();
        defined.extend(macros.map(|words| words[2].to_owned()));
        let imported = |Used { name, path }: &Used<'_>| {
            let name = name.or(path.last().copied()).unwrap_or_default();
            (name.to_owned(), own(path))
        };
        let file = File {
            path: path.to_owned(),
            defined,
            imported: used.iter().map(imported).collect(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            paths: paths(&rest).iter().map(|path| own(path)).collect(),
        };
        self.0.insert(own(module), file);
    }

    /// Returns the circles, each as the lines `FILE -> FILE: NAMES` that make it up.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let edges: BTreeMap<&Path, BTreeMap<&Path, BTreeSet<String>>> =
            self.0.keys().map(|module| (module, self.dependencies(module))).collect();
        let reached: BTreeMap<&Path, BTreeSet<&Path>> = edges
            .keys()
            .map(|&module| {
                let mut seen = BTreeSet::new();
                let mut ahead = vec![module];
                while let Some(next) = ahead.pop() {
                    ahead.extend(edges[next].keys().copied().filter(|next| seen.insert(*next)));
                }
                (module, seen)
            })
            .collect();
        let mut circles = Vec::new();
        let mut placed = BTreeSet::new();
        for module in edges.keys().filter(|module| reached[**module].contains(**module)) {
            if placed.contains(module) {
                continue;
            }
            let mutual = |other: &&&Path| reached[**other].contains(*module);
            let circle: BTreeSet<&Path> = reached[*module].iter().filter(mutual).copied().collect();
            let mut lines = Vec::new();
            for from in &circle {
                for (to, names) in edges[from].iter().filter(|(to, _)| circle.contains(**to)) {
                    let names = Vec::from_iter(names.iter().map(String::as_str)).join(", ");
                    lines.push(format!("{} -> {}: {names}", self.0[*from].path, self.0[*to].path));
                }
            }
            placed.extend(circle);
            circles.push(lines);
        }
        circles
    }

    /// Returns the modules that `module` depends on, each with the names used.
    fn dependencies(&self, module: &Path) -> BTreeMap<&Path, BTreeSet<String>> {
        let file = &self.0[module];
        let used = file.imported.iter().filter(|(name, _)| file.words.contains(name));
        let used = used.filter_map(|(_, path)| self.absolute(module, path));
        let named = file.paths.iter().filter_map(|path| {
            let imported = || {
                let (_, base) = file.imported.iter().find(|(name, _)| *name == path[0])?;
                Some([&self.absolute(module, base)?, &path[1..]].concat())
            };
            self.absolute(module, path).or_else(imported)
        });
        let mut found: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
        for path in used.chain(named) {
            if let Some((to, name)) = self.definition(&path, HOPS_MAX)
                && !module.starts_with(to)
            {
                found.entry(to).or_default().insert(name);
            }
        }
        found
    }

    /// The path relative to the crate's root, if it leads into this crate.
    fn absolute(&self, module: &Path, path: &[String]) -> Option<Path> {
        let (first, mut rest) = path.split_first()?;
        let mut base = module.clone();
        match &**first {
            "crate" | "onward" => base.clear(),
            "self" => {}
            "super" => {
                base.pop()?;
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                base.push(child.to_owned());
                self.0.get(&base)?;
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Returns the module that defines the item at `path`, and its name. `None` for a module.
    fn definition(&self, path: &[String], hops: usize) -> Option<(&Path, String)> {
        let (mut module, mut file) = self.0.get_key_value(&Vec::new())?;
        for (at, name) in path.iter().enumerate() {
            let child = [&module[..], std::slice::from_ref(name)].concat();
            if let Some(found) = self.0.get_key_value(&child) {
                (module, file) = found;
                continue;
            }
            let hops = hops.checked_sub(1)?;
            let behind = |base: &Path, rest: &[String]| {
                self.definition(&[&self.absolute(module, base)?, rest].concat(), hops)
            };
            if file.defined.contains(name) {
                return Some((module, name.clone()));
            }
            if let Some((_, base)) = file.imported.iter().find(|(known, _)| known == name) {
                return behind(base, &path[at + 1..]);
            }
            let globs = file.imported.iter().filter(|(name, _)| name == "*");
            let found =
                globs.filter_map(|(_, base)| behind(&base[..base.len() - 1].to_vec(), &path[at..]));
            return found.into_iter().next().or(Some((module, name.clone())));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Files;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let mut all = Files::default();
        all.add("lib", &[], "mod a; mod b; mod c; pub use b::B;");
        for (name, text) in files {
            all.add(name, &name.split('/').collect::<Vec<_>>(), text);
        }
        all.circles()
    }

    #[test]
    fn a_circle_is_found_through_re_exports_modules_and_other_files() {
        let found = circles(&[
            ("a", "use crate::B; struct A(B);"),
            ("b", "use super::c; pub struct B; fn f() { c::g() }"),
            ("c", "pub fn g() { crate::a::A::new() }"),
        ]);
        assert_eq!(found, [["a -> b: B", "b -> c: g", "c -> a: A"]]);
    }

    #[test]
    fn parents_re_exports_tests_and_unused_words_are_no_circle() {
        let found = circles(&[
            ("a", "mod x; pub use x::X; pub struct A; fn f() { x::g() }"),
            ("a/x", "use super::A; pub struct X(A); pub fn g() {}"),
            ("b", "pub use crate::c::C; pub struct B; #[cfg(test)] mod t { use crate::c::C; }"),
            ("c", "use crate::B; /* b::B */ pub struct C(B);"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn two_circles_are_told_apart() {
        let found = circles(&[
            ("a", "use crate::b::B; pub struct A(B);"),
            ("b", "use crate::a::A; pub struct B(A);"),
            ("c", "use crate::d::D; pub struct C(D, crate::a::A);"),
            ("d", "use crate::c::C as Other; pub struct D(Other);"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], ["c -> d: D", "d -> c: C"]);
    }
}
