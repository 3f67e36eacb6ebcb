//! Tables and numbers, as text.
//!
//! Pure: tables with the first column aligned left and numbers right. The demonstration and the
//! load generator print the same.

/// Returns the first row of a table.
pub fn header<'a>(titles: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    titles.into_iter().map(String::from).collect()
}

/// Returns another row: its name, and its cells.
pub fn line(name: impl ToString, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_string()).chain(cells).collect()
}

/// Formats rows of equal length as lines, the first column aligned left and all others right.
pub fn aligned(rows: &[Vec<String>]) -> String {
    const INDENT: &str = "  ";
    const GAP: usize = 3;
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        text.push_str(INDENT);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(&match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}", width = width + GAP),
            });
        }
        text.push('\n');
    }
    text
}

/// Formats a number with a comma at every thousand.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats nanoseconds in a suitable unit.
pub fn short(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{} µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{aligned, grouped, header, line, short};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [header(["a", "b"]), line("long", ["µ".to_string()])];
        assert_eq!(aligned(&rows), "  a      b\n  long   µ\n");
        assert_eq!(aligned(&[]), "");
    }

    #[test]
    fn numbers_are_grouped_and_latencies_have_units() {
        assert_eq!([0, 999, 1_000, 1_000_000].map(grouped), ["0", "999", "1,000", "1,000,000"]);
        let latencies = [999_999, 1_234_567, 2_500_000_000].map(short);
        assert_eq!(latencies, ["999 µs", "1.23 ms", "2.50 s"]);
    }
}
