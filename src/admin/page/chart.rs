//! Drawings in SVG: sparklines, shares over time, ages, bars.
//!
//! Each is a string of markup with an `aria-label` that describes it in words. Coordinates are the
//! drawing's own, and the page stretches it to the available room, so there is no text in it. Any
//! numbers result in finite coordinates inside the drawing.

use crate::figures::sane;
use crate::status::HISTORY_MINUTES;
use std::fmt::Write;

/// Number of colours; further upstreams share them and are distinguished by their numbers.
pub(super) const COLOURS: usize = 8;

/// Steps of a histogram of ages, and the number of those below `max_age`.
const STEPS: usize = 12;
const YOUNG: usize = 10;

/// Draws a line over the last hour, the latest minute at the right, with gaps for missing values.
/// `top` is the upper edge, `mark` a reference line. `label` is markup.
pub(super) fn spark(values: &[Option<f64>], top: f64, mark: Option<f64>, label: &str) -> String {
    const HEIGHT: f64 = 20.0;
    let top = if sane(top) > 0.0 { top } else { 1.0 };
    let y = |value: f64| HEIGHT - 1.0 - (sane(value) / top).min(1.0) * (HEIGHT - 2.0);
    let (mut area, mut line) = (String::new(), String::new());
    for (from, run) in runs(values) {
        let last = from + run.len() - 1;
        let _ = write!(area, "M{from},{HEIGHT}");
        for (x, value) in (from..).zip(&run) {
            let y = y(*value);
            let _ = write!(area, "L{x},{y:.1}");
            let _ = write!(line, "{}{x},{y:.1}", if x == from { 'M' } else { 'L' });
        }
        let _ = write!(area, "L{last},{HEIGHT}Z");
        // A single minute would be a line without length.
        line.push_str(if run.len() == 1 { "h-0.7" } else { "" });
    }
    let mark = mark.map_or(String::new(), |mark| {
        let y = y(mark);
        format!("<path class=\"mark\" d=\"M0,{y:.1}H{HISTORY_MINUTES}\"/>")
    });
    format!(
        "<svg class=\"spark\" role=\"img\" aria-label=\"{label}\" \
         viewBox=\"0 0 {HISTORY_MINUTES} {HEIGHT}\" preserveAspectRatio=\"none\">\
         <path class=\"area\" d=\"{area}\"/>{mark}<path class=\"line\" d=\"{line}\"/></svg>"
    )
}

/// Returns the runs of values without a gap in the last hour, each with its first minute.
fn runs(values: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let values = &values[values.len().saturating_sub(HISTORY_MINUTES)..];
    let mut found: Vec<(usize, Vec<f64>)> = Vec::new();
    // The latest minute ends at the right edge.
    for (x, value) in (HISTORY_MINUTES + 1 - values.len()..).zip(values) {
        match (value, found.last_mut()) {
            (Some(value), Some((from, run))) if *from + run.len() == x => run.push(*value),
            (Some(value), _) => found.push((x, vec![*value])),
            (None, _) => {}
        }
    }
    found
}

/// Draws the shares of all upstreams in each of the last minutes, stacked.
pub(super) fn shares(all: &[&[Option<f64>]], label: &str) -> String {
    let mut below = [0.0; HISTORY_MINUTES];
    let mut layers = String::new();
    for (number, shares) in all.iter().enumerate() {
        let mut path = String::new();
        for (minute, base) in below.iter_mut().enumerate() {
            let Some(share) = at_minute(shares, minute).filter(|share| *share > 0.0) else {
                continue;
            };
            let over = (*base + share).min(1.0);
            let (from, to) = (100.0 - *base * 100.0, 100.0 - over * 100.0);
            let _ = write!(path, "M{minute},{from:.2}V{to:.2}h1V{from:.2}Z");
            *base = over;
        }
        if !path.is_empty() {
            let colour = number % COLOURS;
            let _ = write!(layers, "<path class=\"f{colour}\" d=\"{path}\"/>");
        }
    }
    format!(
        "<svg class=\"shares\" role=\"img\" aria-label=\"{label}\" \
         viewBox=\"0 0 {HISTORY_MINUTES} 100\" preserveAspectRatio=\"none\">{layers}\
         <path class=\"grid\" d=\"M0,25H60M0,50H60M0,75H60\"/></svg>"
    )
}

/// Returns the middles of the layers at the right edge, from the top, 0 to 1, for those that are
/// thick enough to have a number beside them.
pub(super) fn layers_at_the_end(all: &[&[Option<f64>]]) -> Vec<(usize, f64)> {
    const THICK: f64 = 0.07;
    let mut base = 0.0;
    let mut found = Vec::new();
    for (number, shares) in all.iter().enumerate() {
        let share = at_minute(shares, HISTORY_MINUTES - 1).unwrap_or(0.0).min(1.0 - base);
        if share >= THICK {
            found.push((number, 1.0 - base - share / 2.0));
        }
        base += share;
    }
    found
}

/// Returns the value of one of the last minutes, 0 being the earliest.
fn at_minute(values: &[Option<f64>], minute: usize) -> Option<f64> {
    let at = (values.len() + minute).checked_sub(HISTORY_MINUTES)?;
    values.get(at).copied().flatten().map(sane)
}

/// Draws connections by age; those beyond `max_age`, if there is one, are marked.
pub(super) fn ages(ages: &[u64], limited: bool, label: &str) -> String {
    let ages = &ages[..ages.len().min(STEPS)];
    let most = ages.iter().copied().max().unwrap_or(0).max(1) as f64;
    let mut bars = String::new();
    for (step, count) in ages.iter().enumerate() {
        let height = match *count {
            0 => 0.6,
            // One connection among thousands must be visible, too.
            count => (count as f64 / most * 26.0).max(2.0),
        };
        let class = match *count {
            0 => "none",
            _ if limited && step >= YOUNG => "old",
            _ => "young",
        };
        let (x, y) = (step * 10 + 1, 28.0 - height);
        let _ = write!(
            bars,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" width=\"8\" height=\"{height:.1}\"/>"
        );
    }
    let limit = if limited { "<path class=\"limit\" d=\"M100,0V30\"/>" } else { "" };
    format!(
        "<svg class=\"ages\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 120 30\" \
         preserveAspectRatio=\"none\">{bars}{limit}</svg>"
    )
}

/// Returns a meter of a value from 0 to 1. The number is beside it, so screen readers skip the
/// meter.
pub(super) fn meter(part: f64, class: &str) -> String {
    let part = sane(part).min(1.0) * 100.0;
    format!(
        "<svg class=\"meter {class}\" aria-hidden=\"true\" viewBox=\"0 0 100 8\" \
         preserveAspectRatio=\"none\"><rect class=\"room\" width=\"100\" height=\"8\"/>\
         <rect class=\"part\" width=\"{part:.1}\" height=\"8\"/></svg>"
    )
}

/// Draws many values from 0 to 1 beside each other.
pub(super) fn strip(parts: &[f64], label: &str) -> String {
    let mut bars = String::new();
    for (x, part) in parts.iter().enumerate() {
        let height = (sane(*part).min(1.0) * 100.0).max(1.0);
        let class = if height >= 90.0 { "part full" } else { "part" };
        let y = 100.0 - height;
        let _ = write!(
            bars,
            "<rect class=\"{class}\" x=\"{x}1\" y=\"{y:.1}\" width=\"8\" height=\"{height:.1}\"/>"
        );
    }
    let width = parts.len().max(1) * 10;
    format!(
        "<svg class=\"strip\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} 100\" \
         preserveAspectRatio=\"none\"><path class=\"grid\" \
         d=\"M0,0.5H{width}M0,50H{width}M0,99.5H{width}\"/>{bars}</svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::{ages, layers_at_the_end, meter, runs, shares, spark, strip};

    #[test]
    fn runs_end_at_the_right_edge_and_break_at_gaps() {
        let values = [Some(1.0), None, Some(2.0), Some(3.0)];
        assert_eq!(runs(&values), [(57, vec![1.0]), (59, vec![2.0, 3.0])]);
        let long = vec![Some(1.0); 200];
        assert_eq!(runs(&long), [(1, vec![1.0; 60])]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn layers_are_stacked_and_end_at_the_top() {
        let (half, quarter) = ([Some(0.5)], [Some(0.25)]);
        let all: [&[Option<f64>]; 3] = [&half, &quarter, &quarter];
        assert_eq!(layers_at_the_end(&all), [(0, 0.75), (1, 0.375), (2, 0.125)]);
        let drawn = shares(&all, "a");
        assert!(drawn.contains("M59,100.00V50.00h1V100.00Z"), "{drawn}");
        assert!(drawn.contains("M59,25.00V0.00h1V25.00Z"), "{drawn}");
        let thin: [&[Option<f64>]; 1] = [&[Some(0.01)]];
        assert!(layers_at_the_end(&thin).is_empty());
    }

    #[test]
    fn connections_beyond_max_age_are_marked() {
        let mut counts = [0; 12];
        (counts[3], counts[11]) = (4, 1);
        let drawn = ages(&counts, true, "a");
        assert_eq!((drawn.matches("\"young\"").count(), drawn.matches("\"old\"").count()), (1, 1));
        assert!(drawn.contains("\"limit\""));
        let free = ages(&counts, false, "a");
        assert!(!free.contains("\"limit\"") && !free.contains("\"old\""), "{free}");
    }

    #[test]
    fn no_number_leaves_the_drawing() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, f64::MIN_POSITIVE] {
            let values = [Some(value), Some(1.0)];
            let drawn = [
                spark(&values, value, Some(value), "a"),
                spark(&values, 1.0, None, "a"),
                shares(&[&values, &values], "a"),
                ages(&[u64::MAX; 40], true, "a"),
                meter(value, ""),
                strip(&[value], "a"),
            ]
            .concat();
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{value}: {drawn}");
            let too_far = drawn.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4);
            assert!(!too_far, "{value}: {drawn}");
        }
    }
}
