//! Text in double quotes, as error messages show it.
//!
//! The reference quotes by the rules of its own language; operators search for these messages,
//! so the same rules hold here. Durations have rules of their own, beside their parser.

/// `text` in double quotes, with everything that does not print escaped.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{C}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{B}' => quoted.push_str("\\v"),
            ' '..='~' => quoted.push(character),
            '\0'..='\u{7F}' => quoted += &format!("\\x{:02x}", u32::from(character)),
            // The standard library escapes what does not print.
            _ if character.escape_debug().len() == 1 => quoted.push(character),
            '\u{80}'..='\u{FFFF}' => quoted += &format!("\\u{:04x}", u32::from(character)),
            _ => quoted += &format!("\\U{:08x}", u32::from(character)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn what_does_not_print_is_escaped() {
        assert_eq!(quote("q\"r\\\t\n\r\0\x7f"), r#""q\"r\\\t\n\r\x00\x7f""#);
        assert_eq!(quote("\u{200b}\u{feff}\u{a0}"), r#""\u200b\ufeff\u00a0""#);
        assert_eq!(quote("\u{e9}\u{4e2d}\u{1F600}"), "\"\u{e9}\u{4e2d}\u{1F600}\"");
        assert_eq!(quote("\u{E0001}"), r#""\U000e0001""#);
    }
}
