//! A status as lines of text for a width: tables that drop the least important columns.
//!
//! Pure, and the one source of both the terminal's and `--once`'s text. Only cells of width one
//! leave this module: strings of a status go through [`visible`], everything else is numbers and
//! blocks. Styles only repeat the words and signs.

use crate::figures::{sane, visible};
use crate::status::HISTORY_MINUTES;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Less important.
pub(super) const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
/// Names of sections and columns.
pub(super) const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
/// As it should be.
pub(super) const GOOD: Style = Style::new().fg(Color::Green);
/// To be watched.
pub(super) const WARN: Style = Style::new().fg(Color::Yellow);
/// Wrong.
pub(super) const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// Drawings.
pub(super) const DRAWN: Style = Style::new().fg(Color::Cyan);

/// Eighths of a cell, from below.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Cells between columns.
const GAP: usize = 2;
/// Width to which the first column, mostly addresses, shrinks before any other is left out.
const NAME_MIN: usize = 22;

/// A column of a table.
pub(super) struct Column {
    title: &'static str,
    /// Columns of the highest rank are dropped first when there is not enough room; rank 0 stays.
    rank: u8,
    right: bool,
}

pub(super) const fn text(title: &'static str, rank: u8) -> Column {
    Column { title, rank, right: false }
}

pub(super) const fn number(title: &'static str, rank: u8) -> Column {
    Column { title, rank, right: true }
}

/// A cell: its text, of characters of width one, and its style.
#[derive(Clone, Default)]
pub(super) struct Cell(pub(super) String, pub(super) Style);

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self(text, Style::new())
    }
}

/// A number that should be zero.
pub(super) fn trouble(count: u64) -> Cell {
    Cell(crate::figures::count(count), if count == 0 { FAINT } else { BAD })
}

/// A string of a status.
pub(super) fn name(text: &str) -> Cell {
    const LONGEST: usize = 64;
    visible(text, LONGEST).into()
}

/// Formats a table no wider than `width`, with its titles. First the first column shrinks, then
/// columns are dropped by rank.
pub(super) fn table(columns: &[Column], rows: &[Vec<Cell>], width: usize) -> Vec<Line<'static>> {
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| length(&cell.0));
            cells.max().unwrap_or(0).max(length(columns[at].title))
        })
        .collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let others = |shown: &[usize]| shown[1..].iter().map(|at| widths[*at] + GAP).sum::<usize>();
    while others(&shown) + widths[0].min(NAME_MIN) > width {
        let by_rank = shown[1..].iter().copied().max_by_key(|at| (columns[*at].rank, *at));
        match by_rank.filter(|at| columns[*at].rank > 0) {
            Some(least) => shown.retain(|at| *at != least),
            None => break,
        }
    }
    let first = widths[0].min(width.saturating_sub(others(&shown)));
    let width_of = |at: usize| if at == 0 { first } else { widths[at] };
    let line = |cell: &dyn Fn(usize) -> Cell| {
        let spans = shown.iter().map(|at| {
            let Cell(text, style) = cell(*at);
            let gap = if *at == 0 { 0 } else { GAP };
            Span::styled(" ".repeat(gap) + &fitted(&text, width_of(*at), columns[*at].right), style)
        });
        Line::from_iter(spans)
    };
    let mut lines = vec![line(&|at| Cell(columns[at].title.to_owned(), FAINT))];
    lines.extend(rows.iter().map(|row| line(&|at| row.get(at).cloned().unwrap_or_default())));
    lines
}

/// Fits `text` into exactly `width` characters; a longer text loses its middle.
fn fitted(text: &str, width: usize, right: bool) -> String {
    let length = text.chars().count();
    if length > width {
        let (head, tail) = (width.saturating_sub(1) / 2, width.saturating_sub(1).div_ceil(2));
        let gap = if width == 0 { "" } else { "…" };
        let front: String = text.chars().take(head).collect();
        let back: String = text.chars().skip(length - tail).collect();
        return front + gap + &back;
    }
    let room = " ".repeat(width - length);
    if right { room + text } else { text.to_owned() + &room }
}

/// Joins facts, in as many lines as they need.
pub(super) fn flow(facts: Vec<Cell>, width: usize) -> Vec<Line<'static>> {
    const BETWEEN: usize = 3;
    let mut lines: Vec<Line<'static>> = Vec::new();
    let mut used = 0;
    for Cell(text, style) in facts {
        let text = fitted(&text, text.chars().count().min(width), false);
        let length = text.chars().count();
        match lines.last_mut() {
            Some(line) if used + BETWEEN + length <= width => {
                line.push_span(" ".repeat(BETWEEN));
                line.push_span(Span::styled(text, style));
                used += BETWEEN + length;
            }
            _ => {
                lines.push(Line::from(Span::styled(text, style)));
                used = length;
            }
        }
    }
    lines
}

/// Draws the last hour in `width` blocks, each the average of its minutes, with gaps for missing
/// values.
pub(super) fn spark(values: &[Option<f64>], top: f64, width: usize) -> String {
    let values = &values[values.len().saturating_sub(HISTORY_MINUTES)..];
    let early = HISTORY_MINUTES - values.len();
    let at = |minute: usize| minute.checked_sub(early).and_then(|at| values[at]).map(sane);
    let block = |column: usize| {
        let minutes = column * HISTORY_MINUTES / width..(column + 1) * HISTORY_MINUTES / width;
        let there: Vec<f64> = minutes.filter_map(at).collect();
        if there.is_empty() {
            return ' ';
        }
        let average = there.iter().sum::<f64>() / there.len() as f64;
        // The lowest block and not a gap: there was a value.
        BLOCKS[eighths(average / if top > 0.0 { top } else { 1.0 }).max(1)]
    };
    (0..width).map(block).collect()
}

/// Draws connections by age: a block a step, with a mark at `max_age`.
pub(super) fn ages(ages: &[u64], limited: bool) -> String {
    const STEPS: usize = 12;
    const YOUNG: usize = 10;
    let most = ages.iter().take(STEPS).copied().max().unwrap_or(0).max(1) as f64;
    let mut drawn = String::new();
    for step in 0..STEPS {
        if limited && step == YOUNG {
            drawn.push('│');
        }
        drawn.push(match ages.get(step) {
            None | Some(0) => '·',
            Some(count) => BLOCKS[eighths(*count as f64 / most).max(1)],
        });
    }
    drawn
}

/// Draws a gauge of `width` cells.
pub(super) fn gauge(part: f64, width: usize) -> String {
    let filled = (sane(part).min(1.0) * width as f64).round() as usize;
    "█".repeat(filled) + &"░".repeat(width - filled)
}

/// Returns a part of a whole in eighths.
fn eighths(part: f64) -> usize {
    (sane(part).min(1.0) * 8.0).round() as usize
}

#[cfg(test)]
mod tests {
    use super::{Cell, ages, fitted, flow, gauge, number, spark, table, text};
    use ratatui::style::Style;

    fn rows(cells: &[&[&str]]) -> Vec<Vec<Cell>> {
        let cell = |text: &&str| Cell((*text).to_owned(), Style::new());
        cells.iter().map(|row| row.iter().map(cell).collect()).collect()
    }

    #[test]
    fn the_least_important_columns_are_dropped_first() {
        let columns = [text("name", 0), number("a", 2), number("b", 0), number("c", 1)];
        let rows = rows(&[&["www.example.com", "1", "22", "333"]]);
        let at = |width: usize| -> Vec<String> {
            table(&columns, &rows, width).iter().map(ToString::to_string).collect()
        };
        assert_eq!(at(30)[1], "www.example.com  1  22  333");
        assert_eq!(at(30)[0], "name             a   b    c");
        assert_eq!(at(26)[1], "www.example.com  22  333");
        assert_eq!(at(24)[1], "www.example.com  22  333");
        assert_eq!(at(19)[1], "www.example.com  22");
        assert_eq!(at(5)[1], "…  22");
        assert_eq!(at(0)[1], "  22");
    }

    #[test]
    fn facts_flow_into_lines() {
        let facts = || rows(&[&["aaaa", "bbbb", "cccc"]]).remove(0);
        let at = |width: usize| -> Vec<String> {
            flow(facts(), width).iter().map(ToString::to_string).collect()
        };
        assert_eq!(at(18), ["aaaa   bbbb   cccc"]);
        assert_eq!(at(17), ["aaaa   bbbb", "cccc"]);
        assert_eq!(at(3), ["a…a", "b…b", "c…c"]);
        assert_eq!(fitted("abc", 0, true), "");
    }

    #[test]
    fn drawings_keep_their_width_for_any_values() {
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.5, 1e300] {
            assert_eq!(spark(&[Some(value); 90], value, 12).chars().count(), 12);
            assert_eq!(gauge(value, 8).chars().count(), 8);
        }
        assert_eq!(spark(&[Some(1.0), None, Some(0.5)], 1.0, 60).trim_start(), "█ ▄");
        assert_eq!(ages(&[4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1], true), "█·▄·······│·▂");
        assert_eq!(ages(&[u64::MAX; 40], false), "█".repeat(12));
        assert_eq!(gauge(0.5, 4), "██░░");
    }
}
