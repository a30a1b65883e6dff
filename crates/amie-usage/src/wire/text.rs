//! Error bodies, JSON or HTML, as one readable line.

use super::lenient::Object;

/// What a body says, as one line: the text under `error` (or another key that services use for it), the title of a web
/// page, else its first words. Not shortened, except to the title; see [`printable`].
///
/// ```
/// use amie_usage::wire::error_text;
/// assert_eq!(error_text(br#"{"error": "bad record"}"#), "bad record");
/// assert_eq!(error_text(b"<html><title>502 Bad\n Gateway</title>..."), "a web page, \"502 Bad Gateway\"");
/// assert_eq!(error_text(b""), "an empty body");
/// ```
#[must_use]
pub fn error_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return "an empty body".to_owned();
    }
    if is_html(None, body) {
        return match page_words(text) {
            words if words.is_empty() => "a web page".to_owned(),
            words => format!("a web page, \"{words}\""),
        };
    }
    let stated = Object::read(text)
        .and_then(|object| object.text(&["error", "message", "detail", "title"]))
        .filter(|stated| !stated.trim().is_empty());
    words_of(stated.as_deref().unwrap_or(text))
}

/// True for a web page, by its `Content-Type` or its first character.
#[must_use]
pub fn is_html(content_type: Option<&str>, body: &[u8]) -> bool {
    let declared = content_type.is_some_and(|kind| {
        let kind = kind.trim_start().to_ascii_lowercase();
        kind.starts_with("text/html") || kind.starts_with("application/xhtml")
    });
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => false,
        Some(b'<') => true,
        // A JSON body that is declared as a page by mistake is still JSON.
        Some(b'{' | b'[') => false,
        Some(_) => declared,
    }
}

/// At most `limit` characters of a text that somebody else wrote, fit for a terminal and a log: control characters and
/// direction overrides are escaped.
///
/// ```
/// assert_eq!(amie_usage::wire::printable("red \u{1b}[31m", 100), "red \\u{1b}[31m");
/// ```
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            out.push_str("...");
            break;
        }
        match character {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(character.escape_unicode());
            }
            control if control.is_control() => out.extend(control.escape_default()),
            other => out.push(other),
        }
    }
    out
}

/// The title of a page, else its first words.
fn page_words(page: &str) -> String {
    // ASCII lower case keeps byte offsets.
    let lower = page.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|tag| {
        let start = tag + lower.get(tag..)?.find('>')? + 1;
        let end = start + lower.get(start..)?.find("</title").or_else(|| lower.get(start..)?.find('<'))?;
        page.get(start..end)
    });
    match title.map(words_of) {
        Some(title) if !title.is_empty() => title,
        _ => {
            let mut words = String::new();
            let mut in_tag = false;
            for character in page.chars() {
                match character {
                    '<' => in_tag = true,
                    '>' if in_tag => {
                        in_tag = false;
                        words.push(' ');
                    }
                    _ if in_tag => {}
                    other => words.push(other),
                }
            }
            words_of(&words).chars().take(120).collect()
        }
    }
}

/// White space of any kind and length becomes one blank.
fn words_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_become_one_line() {
        for (body, expected) in [
            (r#"{"error":"no such\nresource"}"#, "no such resource"),
            (r#"{"message":"slow down","x":1}"#, "slow down"),
            (r#"{"error":{"code":7}}"#, r#"{"error":{"code":7}}"#),
            (r#"{"error":""}"#, r#"{"error":""}"#),
            (r#"{"error":404}"#, "404"),
            ("plain\n\n text", "plain text"),
            ("<!DOCTYPE html><TITLE lang=en>Access Denied</TITLE>", "a web page, \"Access Denied\""),
            ("<html><body><h1>Blocked</h1> by <b>policy</b>", "a web page, \"Blocked by policy\""),
            ("<title>unclosed", "a web page, \"unclosed\""),
            ("<", "a web page"),
            ("\u{feff}{\"error\":\"bom\"}", "bom"),
            (" \n", "an empty body"),
        ] {
            assert_eq!(error_text(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(error_text(b"caf\xe9"), "caf\u{fffd}");
    }

    #[test]
    fn a_page_is_recognised_by_type_or_by_look() {
        assert!(is_html(Some("text/html; charset=utf-8"), b"Forbidden"));
        assert!(is_html(None, b"  <html>"));
        assert!(is_html(Some("application/json"), b"\xef\xbb\xbf<html>"));
        assert!(!is_html(Some("text/html"), b"{\"error\":\"x\"}"));
        assert!(!is_html(Some("text/html"), b""));
        assert!(!is_html(Some("text/plain"), b"Forbidden"));
    }

    #[test]
    fn what_reaches_a_terminal_is_escaped_and_bounded() {
        assert_eq!(printable("a\u{7}b\u{9b}c\u{202e}d", 100), "a\\u{7}b\\u{9b}c\\u{202e}d");
        assert_eq!(printable("ééééé", 3), "ééé...");
        assert_eq!(printable("ééé", 3), "ééé");
    }
}
