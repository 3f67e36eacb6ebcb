//! The nearest known name for an unknown word.
//!
//! A mistyped directive or option is the commonest mistake in a Corefile. A suggestion is only made
//! when the word is close: one slip for each four letters, a swapped pair being one. Readers of
//! directives use it for their options, too.

/// Maximum length of compared words: the work grows with the product of the lengths.
const WORD_BYTES_MAX: usize = 64;

/// Returns ` (did you mean 'NAME'?)` for the name nearest to `word`; empty if none is near.
pub(crate) fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    if word.len() > WORD_BYTES_MAX {
        return String::new();
    }
    let slips_max = ((word.len() + 1) / 4).max(1);
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(word, name), name))
        .filter(|&(slips, name)| slips <= slips_max && slips < name.len().div_ceil(2))
        .min_by_key(|&(slips, _)| slips)
        .map_or_else(String::new, |(_, name)| format!(" (did you mean '{name}'?)"))
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn a_near_miss_is_named_and_nothing_else() {
        let names = ["forward", "log", "cache"];
        assert_eq!(did_you_mean("forwrd", names), " (did you mean 'forward'?)");
        assert_eq!(did_you_mean("ofrwadr", names), " (did you mean 'forward'?)");
        assert_eq!(did_you_mean("Log", names), " (did you mean 'log'?)");
        assert_eq!(did_you_mean("example.org", names), "");
        assert_eq!(did_you_mean("omada", ["nomad"]), "");
        assert_eq!(did_you_mean("crossdns", ["clouddns"]), "");
        assert_eq!(did_you_mean("", names), "");
        assert_eq!(did_you_mean(&"forward".repeat(1_000_000), names), "");
    }
}
