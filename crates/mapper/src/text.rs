//! Names from outside, made fit for messages and for the wire.

use bstr::{BStr, ByteSlice};

/// Most characters of a field on the wire.
pub(crate) const MAX_FIELD: usize = 255;

/// For people: escaped, and cut where it is long.
pub(crate) fn shown(name: &[u8]) -> String {
    const MOST: usize = 128;
    let escaped: String = name
        .escape_bytes()
        .flat_map(|c| if c.is_control() { c.escape_unicode().collect() } else { vec![c] })
        .collect();
    match escaped.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}...", escaped.get(..cut).unwrap_or("")),
        None => escaped,
    }
}

/// As [`shown`], or a dash.
pub(crate) fn shown_or_dash(name: Option<&BStr>) -> String {
    name.map_or_else(|| "-".to_owned(), |name| shown(name))
}

/// A cell of a CSV table.
pub(crate) fn cell(name: &[u8]) -> String {
    // As the table needs it, so without escapes where it is text that can stand in a line.
    let text = match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => shown(name),
    };
    let plain = !text.contains([',', '"']) && text.trim() == text;
    if plain { text } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// Why `name` cannot be a field of a record: as a half-sentence.
pub(crate) fn unfit(name: &str) -> Option<&'static str> {
    // Nearly every name is short and printable ASCII.
    if name.len() <= MAX_FIELD && !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return None;
    }
    if name.is_empty() {
        return Some("is empty");
    }
    if name.chars().any(char::is_control) {
        return Some("has a control character");
    }
    (name.chars().count() > MAX_FIELD).then_some("is longer than 255 characters")
}

/// `name` as text that fits a field, or why it does not.
pub(crate) fn field(name: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(name).map_err(|_| "is not UTF-8")?;
    unfit(text).map_or(Ok(text), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_be_forged_by_names() {
        assert_eq!(shown(b"a\nb\x1b[31m\xff|"), "a\\nb\\x1B[31m\\xFF|");
        assert_eq!(shown("a\u{9b}b".as_bytes()), "a\\u{9b}b");
        assert_eq!(shown(&[b'x'; 500]).len(), 131);
        assert_eq!(cell(b"a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell(b"AD\\jane"), "AD\\jane");
        assert_eq!(cell(b"a\nb"), "a\\nb");
        assert_eq!(cell(b"tg-abc123456"), "tg-abc123456");
    }

    #[test]
    fn fields() {
        assert_eq!(field(b"TG-ABC123456"), Ok("TG-ABC123456"));
        assert_eq!(field("josé".as_bytes()), Ok("josé"));
        assert_eq!(field(b""), Err("is empty"));
        assert_eq!(field(b"a\tb"), Err("has a control character"));
        assert_eq!(field("a\u{85}b".as_bytes()), Err("has a control character"));
        assert_eq!(field(b"a\xff"), Err("is not UTF-8"));
        assert_eq!(field("é".repeat(255).as_bytes()), Ok("é".repeat(255).as_str()));
        assert_eq!(field("é".repeat(256).as_bytes()), Err("is longer than 255 characters"));
    }
}
