//! Declarations of the library that other crates can name.
//!
//! Public is what loadgen, benches, examples and tests name. All else is `pub(crate)` or less, so
//! that the compiler reports what has no caller.

use super::source::{production, tokens};
use super::{collect, read};

/// Declarations in `src` that are `pub`, fields and re-exports included. It only falls,
/// unless a fuzz target, a bench or the tests of the engine drive what is new.
const PUBLIC_MAX: usize = 1_518;

#[test]
fn no_more_is_public_than_before() {
    let mut files = Vec::new();
    collect("src", &mut files);
    let public = files.iter().map(|path| declarations(&read(path).expect("source is UTF-8"))).sum();
    assert!(
        (1..=PUBLIC_MAX).contains(&public),
        "{public} declarations are `pub`, at most {PUBLIC_MAX}: what nothing outside of `src` \
         names is `pub(crate)`"
    );
}

/// Counts the declarations that are visible to other crates, tests excluded.
fn declarations(text: &str) -> usize {
    let code = production(text);
    tokens(&code).windows(2).filter(|pair| pair[0] == "pub" && pair[1] != "(").count()
}

#[test]
fn public_declarations_are_counted_and_restricted_ones_are_not() {
    let text = "pub use a::b;\npub(crate) struct C {\n pub d: u8,\n pub(super) e: u8,\n}\n\
                // pub fn f() {}\npub const fn g() {}\n#[cfg(test)]\nmod h { pub fn i() {} }";
    assert_eq!(declarations(text), 3);
}
