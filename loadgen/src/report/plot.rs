//! Plots as inline SVG.
//!
//! A [`Plot`] has two axes, each linear or logarithmic, and curves or bars in it; [`Plot::svg`]
//! draws it in units of its own, to be scaled by the page. Colours, widths and fonts come from the
//! style sheet, by class; tooltips are `<title>` elements, which browsers show without a script.
//! Pure.

use std::fmt::Write;

/// The size of a plot in its own units, and the margins for the labels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 288.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Creates an axis from zero to at least `high`, with about five ticks named by `label`.
    pub(crate) fn linear(high: f64, label: impl Fn(f64) -> String) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let power = 10f64.powf((high / 4.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = *steps.iter().find(|step| high / **step <= 5.0).unwrap_or(&steps[3]);
        let count = (high / step - 1e-9).ceil();
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step);
        let ticks: Vec<_> = ticks.map(|value| (value, label(value))).collect();
        Self { low: 0.0, high: count * step, logarithmic: false, ticks }
    }

    /// Creates an axis that ends at `high` exactly: for time.
    pub(crate) fn time(high: f64, label: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::linear(high, label);
        axis.high = if high > 0.0 { high } else { 1.0 };
        axis.ticks.retain(|(value, _)| *value <= axis.high * 1.000_001);
        axis
    }

    /// Creates a logarithmic axis, from at most `low` to at least `high`, both above zero.
    pub(crate) fn logarithmic(low: f64, high: f64, label: impl Fn(f64) -> String) -> Self {
        let low = 10f64.powf(low.log10().floor());
        let decades = (high.log10() - 1e-9).ceil().max(low.log10() + 1.0) - low.log10();
        let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 3.0] };
        let tick = |decade: u32| factors.iter().map(move |f| low * f * 10f64.powi(decade as i32));
        let last = low * 10f64.powf(decades);
        let ticks = (0..decades.round() as u32).flat_map(tick).chain([last]);
        let ticks = ticks.map(|value| (value, label(value))).collect();
        Self { low, high: last, logarithmic: true, ticks }
    }

    /// Creates an axis with exactly these ticks.
    pub(crate) fn of_ticks(high: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { low: 0.0, high, logarithmic: false, ticks }
    }

    /// Returns the position of `value` between the ends of the axis, as a share.
    fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }
}

/// A curve, interrupted at missing values.
pub(crate) struct Curve {
    /// Class in the style sheet.
    pub(crate) class: &'static str,
    /// Points of the curve.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

/// A plot.
pub(crate) struct Plot {
    /// Title, also for screen readers.
    pub(crate) title: String,
    /// The horizontal axis.
    pub(crate) x: Axis,
    /// The vertical axis.
    pub(crate) y: Axis,
    /// Label of the horizontal axis.
    pub(crate) x_label: &'static str,
    /// Curves, the last on top.
    pub(crate) curves: Vec<Curve>,
    /// Bars from zero: begin, end and height of each.
    pub(crate) bars: Vec<(f64, f64, f64)>,
    /// Text for each interval of the horizontal axis.
    pub(crate) hints: Vec<(f64, f64, String)>,
}

impl Plot {
    /// Draws the plot.
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(&self.title)
        );
        self.draw_axes(&mut svg);
        for &(from, to, height) in self.bars.iter().filter(|(.., height)| *height > 0.0) {
            let (left, right) = (self.place_x(from), self.place_x(to));
            let top = self.place_y(height);
            let width = (right - left - 0.5).max(1.5);
            let foot = HEIGHT - BOTTOM - top;
            let _ = writeln!(
                svg,
                "<rect class=\"bar\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{foot:.1}\"/>"
            );
        }
        for curve in &self.curves {
            self.draw_curve(&mut svg, curve);
        }
        for (from, to, hint) in &self.hints {
            let (left, right) = (self.place_x(*from), self.place_x(*to));
            let (width, height) = (right - left, HEIGHT - TOP - BOTTOM);
            let _ = writeln!(
                svg,
                "<rect class=\"hint\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
                 height=\"{height}\"><title>{}</title></rect>",
                escaped(hint)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String) {
        let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &self.y.ticks {
            let y = self.place_y(*value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                LEFT - 8.0,
                escaped(label)
            );
        }
        for (value, label) in &self.x.ticks {
            let x = self.place_x(*value);
            let _ = writeln!(
                svg,
                "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{foot}\" y2=\"{:.1}\"/>\
                 <text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                foot + 5.0,
                foot + 9.0,
                escaped(label)
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{foot}\" y2=\"{foot}\"/>"
        );
    }

    fn draw_curve(&self, svg: &mut String, curve: &Curve) {
        let mut path = String::new();
        let mut drawing = false;
        let values = curve.points.iter().map(|(_, value)| value);
        let alone = |i: usize| {
            let value = |i: usize| curve.points.get(i).and_then(|(_, value)| *value);
            value(i).is_some()
                && value(i + 1).is_none()
                && i.checked_sub(1).and_then(value).is_none()
        };
        for (i, _) in values.enumerate() {
            let (x, value) = curve.points[i];
            let Some(value) = value else {
                drawing = false;
                continue;
            };
            let (x, y) = (self.place_x(x), self.place_y(value));
            let step = if drawing { 'L' } else { 'M' };
            let _ = write!(path, "{step}{x:.1} {y:.1}");
            if alone(i) {
                // A point between two gaps would be invisible.
                path.push_str("h0.1");
            }
            drawing = true;
        }
        let class = curve.class;
        let _ = writeln!(svg, "<path class=\"curve {class}\" d=\"{path}\"/>");
    }

    fn place_x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn place_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Escapes text for an element or an attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{Axis, Curve, Plot, escaped};

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let linear = |high| Axis::linear(high, |value| value.to_string());
        assert_eq!(labels(&linear(10.0)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&linear(1_234.0)), ["0", "500", "1000", "1500"]);
        assert_eq!(labels(&linear(0.0)), ["0", "0.2", "0.4", "0.6000000000000001", "0.8", "1"]);
        let time = Axis::time(7.0, |value| value.to_string());
        assert_eq!((labels(&time), time.high), (vec!["0", "2", "4", "6"], 7.0));
        let log = |low, high| Axis::logarithmic(low, high, |value| format!("{value:.0}"));
        assert_eq!(labels(&log(120.0, 900.0)), ["100", "300", "1000"]);
        assert_eq!(labels(&log(5.0, 5.0)), ["1", "3", "10"]);
        assert_eq!(labels(&log(1.0, 20_000.0)), ["1", "10", "100", "1000", "10000", "100000"]);
    }

    #[test]
    fn a_curve_is_broken_where_it_has_no_value() {
        let points = vec![(0.0, Some(0.0)), (1.0, Some(10.0)), (2.0, None), (3.0, Some(5.0))];
        let plot = Plot {
            title: "a < b".into(),
            x: Axis::time(3.0, |value| value.to_string()),
            y: Axis::linear(10.0, |value| value.to_string()),
            x_label: "time",
            curves: vec![Curve { class: "one", points }],
            bars: vec![(0.0, 1.0, 5.0), (1.0, 2.0, 0.0)],
            hints: vec![(0.0, 1.0, "\"here\"".into())],
        };
        let svg = plot.svg();
        assert!(svg.contains("d=\"M92.0 254.0L309.3 14.0M744.0 134.0h0.1\""), "{svg}");
        assert_eq!(svg.matches("class=\"bar\"").count(), 1, "{svg}");
        assert!(svg.contains("aria-label=\"a &lt; b\""), "{svg}");
        assert!(svg.contains("<title>&quot;here&quot;</title>"), "{svg}");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
