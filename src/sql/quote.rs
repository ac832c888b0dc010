//! Literals, for the few statements that take no bound values.

/// A string literal in single quotes, for the default SQL mode (backslash escapes). Works for any text (W21).
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\x1a' => quoted.push_str("\\Z"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::literal;
    use proptest::prelude::*;

    /// What MySQL makes of a quoted literal; `None` when the literal does not end where it should.
    fn read(quoted: &str) -> Option<String> {
        let inner = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
        let mut text = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '\'' => return None,
                '\\' => text.push(match chars.next()? {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    'Z' => '\x1a',
                    other => other,
                }),
                c => text.push(c),
            }
        }
        Some(text)
    }

    proptest! {
        #[test]
        fn w21_any_text_stays_one_literal(text in "\\PC*|[\\\\'\"\0\n\r\x1a;-]{0,20}") {
            prop_assert_eq!(read(&literal(&text)), Some(text));
        }
    }
}
