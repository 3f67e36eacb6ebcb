//! Measures of wording: openings of doc comments, and vague phrases.
//!
//! A doc comment opens with a noun phrase or a third-person verb, so its first word, or the one
//! after `Returns`, is neither an interrogative nor a bare pronoun. The phrases of [`RIDDLES`] have
//! no clear subject or number. Both are measured over all files together, and the limits are in
//! `tests/tidy.rs`.

/// Words that a doc comment should not begin with.
const VAGUE: [&str; 22] = [
    "how", "it", "its", "that", "their", "these", "they", "this", "those", "what", "whatever",
    "when", "where", "whether", "which", "who", "whoever", "whom", "whomever", "whose", "why",
    "so",
];
/// Phrases without a clear subject or number.
pub(crate) const RIDDLES: [&str; 6] =
    ["whoever", "whom", "nobody", "so many", "is told", "what is"];

/// Counts over the comments of many files.
#[derive(Debug, Default)]
pub(crate) struct Wording {
    /// Doc comments.
    pub(crate) openings: usize,
    vague: usize,
    words: usize,
    riddles: usize,
}

impl Wording {
    /// Counts the comments of a Rust file.
    pub(crate) fn read(&mut self, text: &str) {
        let mut before = "";
        let mut prose = String::new();
        for line in text.lines() {
            let line = line.trim();
            let kind = ["///", "//!"].into_iter().find(|mark| line.starts_with(mark));
            let kind = kind.unwrap_or_default();
            if !kind.is_empty() && kind != before {
                self.openings += 1;
                self.vague += usize::from(is_vague(&line[kind.len()..]));
            }
            before = kind;
            if let Some(comment) = line.strip_prefix("//") {
                prose.push_str(comment.trim_start_matches(['/', '!']));
                prose.push(' ');
            }
        }
        self.count(&prose);
    }

    /// Counts the words and phrases of a text.
    pub(crate) fn count(&mut self, prose: &str) {
        let words = prose.split_whitespace().map(bare).filter(|word| !word.is_empty());
        let words: Vec<String> = words.collect();
        let is_riddle = |at: usize, phrase: &&str| {
            phrase.split(' ').zip(at..).all(|(word, at)| words.get(at).is_some_and(|it| it == word))
        };
        self.words += words.len();
        self.riddles +=
            (0..words.len()).filter(|at| RIDDLES.iter().any(|it| is_riddle(*at, it))).count();
    }

    /// Percentage of doc comments that begin with a vague word.
    pub(crate) fn vague_share(&self) -> f64 {
        100.0 * self.vague as f64 / self.openings.max(1) as f64
    }

    /// Number of riddles in 1,000 words.
    pub(crate) fn riddle_rate(&self) -> f64 {
        1_000.0 * self.riddles as f64 / self.words.max(1) as f64
    }
}

/// Returns true if the first word is vague, or the word after `Returns`.
fn is_vague(comment: &str) -> bool {
    let mut words = comment.split_whitespace().map(bare).skip_while(|word| word == "returns");
    words.next().is_some_and(|word| VAGUE.contains(&&*word))
}

/// A word in lower case, without punctuation around it.
fn bare(word: &str) -> String {
    word.trim_matches(|char: char| !char.is_alphanumeric()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::Wording;

    #[test]
    fn openings_are_counted_once_for_each_comment() {
        let mut wording = Wording::default();
        wording.read("//! What it is.\n//! How.\n\n/// Returns a.\nfn a() {}\n/// Its b.\n// it\n");
        assert_eq!((wording.openings, wording.vague), (3, 2));
        assert!((wording.vague_share() - 66.67).abs() < 0.01);
        wording.read("/// Returns what b is.\nfn b() {}\n");
        assert_eq!((wording.openings, wording.vague), (4, 3));
    }

    #[test]
    fn riddles_are_whole_words_over_line_ends() {
        let mut wording = Wording::default();
        wording.read("// As so\n// many as nobody, whoever.\nlet whom = \"nobody\"; // not seen\n");
        assert_eq!((wording.riddles, wording.words), (3, 6));
        assert!(Wording::default().riddle_rate() == 0.0);
    }
}
