//! `onward top` on terminals of several sizes, drawn into memory.
//!
//! Tests search for the words that a reader needs, and for control characters, which must never
//! occur.

use super::fixtures::{EVIL, crowd, fresh, hostile, ordinary};
use onward::moment::Moment;
use onward::status::Status;
use onward::top::screen::{View, printed};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::Duration;

/// Sizes of a phone's, a common, and a large terminal.
const SIZES: [(u16, u16); 3] = [(40, 10), (80, 24), (200, 60)];

fn view(status: Status) -> View {
    let mut view = View::new("192.0.2.1:8053", "1 s".into(), Moment::ZERO);
    view.answered(status, Moment::ZERO);
    view
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO.plus(Duration::from_secs(seconds))
}

/// The lines of a screen.
fn drawn(view: &mut View, (width, height): (u16, u16), now: Moment) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame, now)).unwrap();
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(width.into());
    lines.map(|line| line.iter().map(|cell| cell.symbol()).collect()).collect()
}

fn press(view: &mut View, code: KeyCode) -> bool {
    view.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[track_caller]
fn shows(lines: &[String], words: &[&str]) {
    let text = lines.join("\n");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn a_common_screen_shows_the_essentials() {
    let lines = drawn(&mut view(ordinary()), (80, 24), at(0));
    shows(&lines, &["queries 44.3 k/s", "p99 1.10 ms", "1 of 4 upstreams probing"]);
    shows(&lines, &["198.51.100.53:53", "● up", "▲ probing", "│··", "Workers", "82 %", "1,204"]);
    shows(&lines[23..], &["q quit", "lines below"]);
}

#[test]
fn a_wide_screen_shows_all_of_it() {
    let lines = drawn(&mut view(ordinary()), (200, 60), at(0));
    let words =
        ["timed out", "8,123", "Caches", "154 MiB", "SERVFAIL", "Clients", "2001:db8:77::1f"];
    shows(&lines, &words);
    shows(&lines, &["migrations", "212 of 16,384", "1 min 11 s", "broken.example."]);
    assert!(!lines.concat().contains("lines below"));
}

#[test]
fn rows_that_do_not_fit_are_reached_with_keys() {
    let mut view = view(ordinary());
    let small = (40, 10);
    shows(&drawn(&mut view, small, at(0)), &["queries", "Upstreams"]);
    for title in ["Workers", "Caches", "Replies", "Dropped", "Queried names", "Clients"] {
        assert!(!press(&mut view, KeyCode::Tab));
        shows(&drawn(&mut view, small, at(0)), &[title]);
    }
    press(&mut view, KeyCode::End);
    shows(&drawn(&mut view, small, at(0)), &["11,500"]);
    press(&mut view, KeyCode::Tab);
    shows(&drawn(&mut view, small, at(0)), &["Upstreams"]);
    for _ in 0..1_000 {
        press(&mut view, KeyCode::Down);
    }
    shows(&drawn(&mut view, small, at(0)), &["11,500"]);
    for _ in 0..1_000 {
        press(&mut view, KeyCode::PageUp);
    }
    shows(&drawn(&mut view, small, at(0)), &["Upstreams"]);
    press(&mut view, KeyCode::Right);
    press(&mut view, KeyCode::Left);
    shows(&drawn(&mut view, small, at(0)), &["Upstreams"]);
    // A larger window than the one that was scrolled.
    press(&mut view, KeyCode::End);
    drawn(&mut view, small, at(0));
    shows(&drawn(&mut view, (200, 60), at(0)), &["Upstreams", "Workers"]);
}

#[test]
fn quit_keys_end_it() {
    for (code, modifiers, ends) in [
        (KeyCode::Char('q'), KeyModifiers::NONE, true),
        (KeyCode::Esc, KeyModifiers::NONE, true),
        (KeyCode::Char('c'), KeyModifiers::CONTROL, true),
        (KeyCode::Char('c'), KeyModifiers::NONE, false),
        (KeyCode::Enter, KeyModifiers::NONE, false),
    ] {
        assert_eq!(view(ordinary()).key(KeyEvent::new(code, modifiers)), ends, "{code:?}");
    }
}

#[test]
fn a_server_that_goes_away_leaves_its_last_numbers() {
    let mut view = View::new("192.0.2.1:8053", "1 s".into(), at(0));
    shows(&drawn(&mut view, (80, 24), at(0)), &["asking 192.0.2.1:8053"]);
    view.failed("connection refused".into());
    shows(&drawn(&mut view, (80, 24), at(3)), &["no answer for 3 s", "connection refused"]);
    view.answered(ordinary(), at(5));
    view.failed("connection refused".into());
    let lines = drawn(&mut view, (80, 24), at(80));
    shows(&lines, &["44.3 k/s", "no answer for 1 min 15 s: 192.0.2.1:8053 connection refused"]);
    view.answered(fresh(), at(81));
    shows(&drawn(&mut view, (80, 24), at(81)), &["q quit", "none yet"]);
}

#[test]
fn no_screen_obeys_a_name() {
    let evil = EVIL.map(str::to_owned).into_iter();
    let long = EVIL.map(|evil| evil.repeat(200)).into_iter();
    let bytes = (0..=255u8).map(|byte| format!("a{}b", char::from(byte)));
    for text in evil.chain(long).chain(bytes) {
        for size in SIZES {
            let lines = drawn(&mut view(hostile(&text)), size, at(0));
            let shown = lines.concat();
            let bad = shown.chars().find(|c| !is_harmless(*c));
            assert_eq!(bad, None, "{text:.20?} at {size:?}");
            assert!(!shown.contains("NaN"), "{text:.20?} at {size:?}");
        }
        let printed = printed(&hostile(&text));
        assert_eq!(printed.chars().find(|c| !is_harmless(*c) && *c != '\n'), None, "{text:.20?}");
    }
}

/// Printable ASCII, and the few other characters of the drawings.
fn is_harmless(c: char) -> bool {
    (' '..='~').contains(&c) || "µ–…●▲✕│·░▁▂▃▄▅▆▇█↑↓".contains(c)
}

#[test]
fn screens_of_any_size_are_drawn() {
    for status in [ordinary(), fresh(), crowd(), hostile("x"), Status::default()] {
        for width in [1, 2, 7, 20, 41, 119, 189, 190, 400] {
            for height in [1, 2, 3, 9, 100] {
                let mut view = view(status.clone());
                assert_eq!(drawn(&mut view, (width, height), at(1)).len(), usize::from(height));
            }
        }
    }
}

#[test]
fn rows_beyond_the_limit_are_counted_and_missing_data_is_mentioned() {
    let text = printed(&crowd());
    for word in ["and 21 more", "and 44 more", "and 27 more", "and 30 more"] {
        assert!(text.contains(word), "no {word:?}");
    }
    let text = printed(&Status::default());
    let words = ["no upstream", "no forward is configured", "no worker has reported", "none yet"];
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}
