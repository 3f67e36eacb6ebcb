//! Text in HTML: the one place where untrusted strings become markup.
//!
//! Every string of a status goes through [`text`] or [`name`] on its way to the page. Their result
//! is printable ASCII, bounded, and safe between tags and inside quoted attributes. The markup
//! itself is well-formed XML, so that a test can prove that nothing breaks out of it.

use crate::figures::visible;

/// Maximum of characters of a name that are shown; a longer one loses its middle.
pub(super) const SHOWN: usize = 56;
/// Maximum of characters in a name's tooltip: a whole domain name, each byte of it spelt out.
const WHOLE: usize = 1_280;

/// Escapes and bounds `text` for an element or an attribute.
pub(super) fn text(text: &str) -> String {
    escaped(&visible(text, SHOWN))
}

/// Returns a name in an element of its own, isolated from the direction of the text around it, with
/// a tooltip if it is too long to be shown.
pub(super) fn name(text: &str) -> String {
    let (shown, whole) = (visible(text, SHOWN), visible(text, WHOLE));
    match shown == whole {
        true if shown.is_empty() => "<bdi class=\"faint\">(empty)</bdi>".to_owned(),
        true => format!("<bdi class=\"name\">{}</bdi>", escaped(&shown)),
        false => {
            let (shown, whole) = (escaped(&shown), escaped(&whole));
            format!("<bdi class=\"name\" title=\"{whole}\">{shown}</bdi>")
        }
    }
}

/// Joins the cells of a row.
pub(super) fn row(cells: &[Cell]) -> String {
    let cells: String = cells.iter().map(Cell::markup).collect();
    format!("<tr role=\"row\">{cells}</tr>\n")
}

/// One cell. It repeats its column's heading for windows too narrow for columns.
pub(super) struct Cell {
    /// Heading of the column.
    heading: &'static str,
    /// `num`, `row` (the row's own heading), or nothing.
    class: &'static str,
    markup: String,
}

impl Cell {
    /// Creates a cell with any markup.
    pub(super) fn new(heading: &'static str, markup: String) -> Self {
        Self { heading, class: "", markup }
    }

    /// Creates a cell with a number, aligned right.
    pub(super) fn number(heading: &'static str, markup: String) -> Self {
        Self { heading, class: "num", markup }
    }

    /// Creates a cell with a number that should be zero.
    pub(super) fn trouble(heading: &'static str, count: u64) -> Self {
        let shown = crate::figures::count(count);
        let class = if count == 0 { "faint" } else { "bad" };
        Self::number(heading, format!("<span class=\"{class}\">{shown}</span>"))
    }

    /// Returns the heading of the row.
    pub(super) fn heading(heading: &'static str, markup: String) -> Self {
        Self { heading, class: "row", markup }
    }

    fn markup(&self) -> String {
        let Self { heading, class, markup } = self;
        match *class {
            "row" => format!("<th scope=\"row\" role=\"rowheader\">{markup}</th>"),
            _ => format!(
                "<td role=\"cell\" class=\"{class}\" data-label=\"{heading}\"><span \
                 class=\"v\">{markup}</span></td>"
            ),
        }
    }
}

/// Returns a table of rows below a caption; headings that begin with `#` are of numbers.
pub(super) fn table(class: &str, caption: &str, headings: &[&str], rows: &str) -> String {
    let headings: String = headings.iter().map(|heading| column(heading)).collect();
    format!(
        "<table role=\"table\" class=\"{class}\"><caption>{caption}</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\">{headings}</tr></thead>\n\
         <tbody role=\"rowgroup\">\n{rows}</tbody></table>\n"
    )
}

fn column(heading: &str) -> String {
    let (class, heading) =
        heading.strip_prefix('#').map_or(("", heading), |heading| ("num", heading));
    format!("<th scope=\"col\" role=\"columnheader\" class=\"{class}\">{heading}</th>")
}

/// Returns the line below a list that counts the missing rows.
pub(super) fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!("<p class=\"faint\">and {count} more</p>\n") }
}

/// Replaces the characters that have a meaning in HTML.
fn escaped(visible: &str) -> String {
    let mut out = String::with_capacity(visible.len());
    for c in visible.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '`' => out.push_str("&#96;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{SHOWN, name, text};

    #[test]
    fn no_character_with_a_meaning_in_html_is_left() {
        for byte in 0..=255u8 {
            let shown = text(&char::from(byte).to_string());
            assert!(!shown.contains(['<', '>', '"', '\'', '`']), "{byte}: {shown}");
            assert!(shown.chars().all(|c| (' '..='~').contains(&c)), "{byte}: {shown}");
            let bare = shown.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            let bare = bare.replace("&quot;", "").replace("&#39;", "").replace("&#96;", "");
            assert!(!bare.contains('&'), "{byte}: {shown}");
        }
    }

    #[test]
    fn a_long_name_is_whole_in_its_tooltip() {
        let long = format!("{}.example.", "x".repeat(2 * SHOWN));
        let shown = name(&long);
        assert!(shown.contains(&format!("title=\"{long}\"")), "{shown}");
        assert!(shown.contains("…") && shown.ends_with("x.example.</bdi>"), "{shown}");
        let endless = name(&"\u{202e}<".repeat(1 << 16));
        assert!(endless.len() < 16_384, "{} bytes", endless.len());
        assert_eq!(name("a"), "<bdi class=\"name\">a</bdi>");
    }
}
