//! The screen of `onward top`: the last status, its age, and the scroll position.
//!
//! Pure except for the frame it draws on: keys and statuses come in, [`View::draw`] draws the part
//! that fits. Head and foot stay, the rest scrolls; on a wide terminal the sections are in two
//! columns.

use super::lines::{BAD, FAINT, TITLE};
use super::sections;
use crate::figures::{seconds, visible};
use crate::moment::Moment;
use crate::status::Status;
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Width from which two columns are easier to read than one.
const TWO_COLUMNS: usize = 190;
/// Width of the right part.
const RIGHT: usize = 62;
/// Width of printed output, enough for every column.
const PRINTED: usize = 180;

/// State of the screen.
pub struct View {
    address: String,
    every: String,
    status: Option<Status>,
    /// Time of the latest status, or of the first request.
    last: Moment,
    error: Option<String>,
    scroll: usize,
    /// First lines of sections, and the maximum scroll position, as drawn last.
    begins: Vec<usize>,
    scroll_max: usize,
    page: usize,
}

impl View {
    /// Creates an empty screen. The status of `address` is fetched at the interval `every`.
    pub fn new(address: &str, every: String, now: Moment) -> Self {
        Self {
            address: visible(address, 60),
            every,
            status: None,
            last: now,
            error: None,
            scroll: 0,
            begins: Vec::new(),
            scroll_max: 0,
            page: 1,
        }
    }

    /// Takes a new status.
    pub fn answered(&mut self, status: Status, now: Moment) {
        (self.status, self.last, self.error) = (Some(status), now, None);
    }

    /// Takes the reason why a fetch failed.
    pub fn failed(&mut self, why: String) {
        self.error = Some(why);
    }

    /// Handles a key; returns true to quit.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let next = |at: usize, begins: &[usize]| begins.iter().copied().find(|begin| *begin > at);
        let before = |at: usize, begins: &[usize]| begins.iter().copied().rfind(|b| *b < at);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll += self.page,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = self.scroll_max,
            KeyCode::Tab | KeyCode::Right => {
                let end = self.scroll == self.scroll_max;
                self.scroll = next(self.scroll, &self.begins).filter(|_| !end).unwrap_or(0);
            }
            KeyCode::BackTab | KeyCode::Left => {
                self.scroll = before(self.scroll, &self.begins).unwrap_or(0);
            }
            _ => {}
        }
        self.scroll = self.scroll.min(self.scroll_max);
        false
    }

    /// Draws the screen, as far as it fits.
    pub fn draw(&mut self, frame: &mut Frame<'_>, now: Moment) {
        let area = frame.area();
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let Some(status) = &self.status else {
            let waiting = [Line::from(Span::styled("onward top", TITLE)), self.foot(now, width)];
            frame.render_widget(Paragraph::new(Vec::from(waiting)), area);
            return;
        };
        let mut lines = sections::head(status, width);
        // A head longer than half of the screen is cut, to leave room for the sections.
        lines.truncate((height / 2).max(1));
        let room = height.saturating_sub(lines.len() + 2);
        let (body, begins) = columns(status, width);
        self.scroll_max = body.len().saturating_sub(room);
        self.scroll = self.scroll.min(self.scroll_max);
        (self.begins, self.page) = (begins, room.max(1));
        lines.push(Line::default());
        lines.extend(body.into_iter().skip(self.scroll).take(room));
        frame.render_widget(Paragraph::new(lines), area);
        if height > 1 {
            let last = Rect { y: area.bottom() - 1, height: 1, ..area };
            frame.render_widget(Paragraph::new(self.foot(now, width)), last);
        }
    }

    /// Returns the last line: the keys, or an error.
    fn foot(&self, now: Moment, width: usize) -> Line<'static> {
        let old = seconds(now.since(self.last).as_secs_f64().floor());
        let (text, style) = match &self.error {
            Some(why) => (format!("no answer for {old}: {} {why}", self.address), BAD),
            None if self.status.is_none() => (format!("asking {} …", self.address), FAINT),
            None => {
                let keys = "q quit   ↑↓ scroll   Tab next section";
                let below = self.scroll_max - self.scroll.min(self.scroll_max);
                let more =
                    if below > 0 { format!("   {below} lines below") } else { String::new() };
                (format!("{keys}{more}   {} every {}", self.address, self.every), FAINT)
            }
        };
        Line::from(Span::styled(text.chars().take(width).collect::<String>(), style))
    }
}

/// Returns the lines between the head and the foot, and the first lines of sections.
fn columns(status: &Status, width: usize) -> (Vec<Line<'static>>, Vec<usize>) {
    const GAP: usize = 3;
    if width < TWO_COLUMNS {
        let mut all = sections::work(status, width);
        all.extend(sections::outcome(status, width));
        return joined(all);
    }
    let left = width - RIGHT - GAP;
    let (mut lines, mut begins) = joined(sections::work(status, left));
    let (right, right_begins) = joined(sections::outcome(status, RIGHT));
    begins.extend(right_begins);
    begins.sort_unstable();
    begins.dedup();
    lines.resize(lines.len().max(right.len()), Line::default());
    for (line, beside) in lines.iter_mut().zip(right) {
        line.push_span(" ".repeat(width - RIGHT - line.width()));
        line.extend(beside);
    }
    (lines, begins)
}

/// Joins sections, with an empty line between them; returns the first line of each.
fn joined(sections: Vec<Vec<Line<'static>>>) -> (Vec<Line<'static>>, Vec<usize>) {
    let (mut lines, mut begins) = (Vec::new(), Vec::new());
    for section in sections {
        begins.push(lines.len());
        lines.extend(section);
        lines.push(Line::default());
    }
    lines.pop();
    (lines, begins)
}

/// Returns the whole status as plain text.
pub fn printed(status: &Status) -> String {
    let mut lines = sections::head(status, PRINTED);
    lines.push(Line::default());
    let mut all = sections::work(status, PRINTED);
    all.extend(sections::outcome(status, PRINTED));
    lines.extend(joined(all).0);
    lines.iter().map(|line| line.to_string().trim_end().to_owned() + "\n").collect()
}
