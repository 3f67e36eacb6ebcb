//! References to environment variables: `{%NAME%}` and `{$NAME}`.
//!
//! One word stays one word: a value is never split or unquoted. Values are searched for references
//! again, first for all of one form, then for all of the other. A value that refers to itself would
//! never end, so [`REPLACEMENTS_MAX`] ends it with an error.

/// Maximum number of distinct references replaced in one word. Far above any sane file, and low
/// enough that a ten-megabyte word full of references is still read in about a second.
const REPLACEMENTS_MAX: usize = 100;
/// Maximum length of a word in bytes, after replacement.
const WORD_BYTES_MAX: usize = 1 << 20;

/// Returns the text with all references replaced; `None` when there are none.
///
/// # Errors
/// Message for the operator, if replacing does not end.
pub(super) fn substitute(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    if !text.contains("{%") && !text.contains("{$") {
        return Ok(None);
    }
    let mut text = text.to_owned();
    for (opener, closer) in [("{%", "%}"), ("{$", "}")] {
        replace_all(&mut text, opener, closer, variable)?;
    }
    Ok(Some(text))
}

fn replace_all(
    text: &mut String,
    opener: &str,
    closer: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let bytes_max = WORD_BYTES_MAX.max(text.len());
    for replacements in 0.. {
        let Some(start) = text.find(opener) else { return Ok(()) };
        // The search for the closer begins at the opener, so that `{%}` is a reference without a
        // name, which ends the whole pass.
        let Some(length) = text[start..].find(closer) else { return Ok(()) };
        if length <= opener.len() {
            return Ok(());
        }
        let reference = text[start..start + length + closer.len()].to_owned();
        let name = &reference[opener.len()..length];
        let value = variable(name).unwrap_or_default();
        let count = text.matches(&reference).count();
        if replacements == REPLACEMENTS_MAX
            || text.len().saturating_add(value.len().saturating_mul(count)) > bytes_max
        {
            let name: String = name.chars().take(64).collect();
            return Err(format!(
                "environment variable '{name}' refers to itself \
                 (or this word holds more than {REPLACEMENTS_MAX} references or \
                 {WORD_BYTES_MAX} bytes)"
            ));
        }
        *text = text.replace(&reference, &value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::substitute;

    fn replaced(text: &str) -> String {
        let variable = |name: &str| {
            let value = match name {
                "E" => "7",
                "E F" => "8",
                "P" => "{$E}",
                "D" => "{%E%}",
                "SELF" => "x{$SELF}",
                "PING" => "{$PONG}",
                "PONG" => "{$PING}",
                "GROW" => "{$GROW}{$GROW}",
                _ => return None,
            };
            Some(value.to_owned())
        };
        substitute(text, &variable).map_or_else(|error| error, |new| new.unwrap_or(text.into()))
    }

    #[test]
    fn both_forms_are_replaced_and_unset_is_empty() {
        assert_eq!(replaced("u{$E}v{%E%}w{$NONE}x{$NONE:dflt}y{$E F}"), "u7v7wxy8");
    }

    #[test]
    fn a_reference_without_name_ends_its_pass() {
        assert_eq!(replaced("{$}{$E}"), "{$}{$E}");
        assert_eq!(replaced("{%%}{%E%}{$E}"), "{%%}{%E%}7");
        assert_eq!(replaced("{%}{%E%}"), "{%}{%E%}");
        assert_eq!(replaced("{$E"), "{$E");
    }

    #[test]
    fn values_are_searched_again_but_the_first_form_only_in_the_first_pass() {
        assert_eq!(replaced("{%P%}"), "7");
        assert_eq!(replaced("{$D}"), "{%E%}");
    }

    #[test]
    fn a_variable_that_refers_to_itself_is_refused() {
        assert!(replaced("{$SELF}").starts_with("environment variable 'SELF' refers to itself"));
        assert!(replaced("{$PING}").contains("refers to itself"));
        assert!(replaced("{$GROW}").contains("refers to itself"));
    }

    #[test]
    fn the_same_reference_many_times_is_no_loop() {
        assert_eq!(replaced(&"{$E}".repeat(1000)), "7".repeat(1000));
    }
}
