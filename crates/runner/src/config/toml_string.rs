//! Where a byte of a TOML string's value stands in the text of the file: quotes, escapes and line ends lie between.

/// The byte of `written`, a TOML string with its quotes, at which byte `offset` of its value was written; its end where
/// the value is shorter.
pub(super) fn written_at(written: &str, offset: usize) -> usize {
    let multi_line = written.starts_with("\"\"\"") || written.starts_with("'''");
    let quotes = if multi_line { 3 } else { 1 };
    let mut at = quotes;
    // A line end directly behind the opening quotes is no part of the value.
    let rest = written.get(at..).unwrap_or_default();
    if multi_line {
        at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let escapes = written.starts_with('"');
    let mut read = 0;
    while read < offset {
        let Some(next) = written.get(at..).and_then(|rest| rest.chars().next()) else { return written.len() };
        if next == '\\' && escapes {
            let (length, value) = escape(written.get(at..).unwrap_or_default());
            at += length;
            read += value;
        } else {
            at += next.len_utf8();
            read += next.len_utf8();
        }
    }
    // What an escaped line end swallows stands before the next byte of the value.
    while escapes && written.get(at..).is_some_and(|rest| rest.starts_with('\\') && escape(rest).1 == 0) {
        at += escape(written.get(at..).unwrap_or_default()).0.max(1);
    }
    at.min(written.len())
}

/// Bytes of the escape that `rest` begins with, and of the character that it stands for.
fn escape(rest: &str) -> (usize, usize) {
    let code = |digits: usize| {
        let character = rest.get(2..2 + digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        (2 + digits, character.and_then(char::from_u32).map_or(1, char::len_utf8))
    };
    match rest.as_bytes().get(1) {
        Some(b'x') => code(2),
        Some(b'u') => code(4),
        Some(b'U') => code(8),
        Some(byte) if byte.is_ascii_whitespace() => {
            let behind = rest.get(1..).unwrap_or_default();
            (1 + behind.len() - behind.trim_ascii_start().len(), 0)
        }
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::written_at;

    /// The word `WORD` of each value is found where it was written.
    #[test]
    fn the_byte_of_the_file() {
        for written in [
            r#""a + WORD""#,
            "'a + WORD'",
            r#""a\t+ \"x\" \u00e9 \U0001F600 WORD""#,
            "\"\"\"\n  a +\n  WORD\"\"\"",
            "'''\r\na + WORD'''",
            "'''a + WORD'''",
            "\"\"\"a + \\\n     WORD\"\"\"",
            "\"\"\"é + WORD\"\"\"",
        ] {
            #[derive(serde::Deserialize)]
            struct One {
                charge: toml::Spanned<String>,
            }
            let text = format!("charge = {written}\n");
            let one: One = toml::from_str(&text).unwrap();
            let span = one.charge.span();
            let value = one.charge.into_inner();
            let start = span.start;
            let at = start + written_at(&text[span], value.find("WORD").unwrap());
            assert_eq!(&text[at..at + 4], "WORD", "{written}");
        }
        assert_eq!(written_at("\"ab\"", 99), 4);
        assert_eq!(written_at("", 3), 0);
        assert_eq!(written_at("\"\\", 3), 2);
    }
}
