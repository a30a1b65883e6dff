//! What is wrong in a configuration or one of its tables: file, line, column, key, and what to do.

use miette::{Diagnostic, NamedSource, SourceSpan};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// One or more faults of a configuration.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct ConfigError {
    /// What is wrong, beginning with `file:line:column:` where there is one.
    pub message: String,
    #[source_code]
    source_code: Option<NamedSource<Arc<String>>>,
    #[label("here")]
    span: Option<SourceSpan>,
    /// What to do.
    #[help]
    pub help: Option<String>,
    /// Further faults found in the same reading.
    #[related]
    pub others: Vec<ConfigError>,
}

impl ConfigError {
    /// A fault that has no place in a file.
    #[must_use]
    pub fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), source_code: None, span: None, help: None, others: Vec::new() }
    }

    /// The same, with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The first fault, carrying the others; `None` where there is none.
    #[must_use]
    pub fn all(mut errors: Vec<Self>) -> Option<Self> {
        if errors.is_empty() {
            return None;
        }
        let mut first = errors.remove(0);
        first.others.extend(errors);
        Some(first)
    }
}

/// A file's text, for errors that point into it.
#[derive(Debug, Clone)]
pub(super) struct Text {
    name: String,
    text: Arc<String>,
    /// The same with secrets masked, byte for byte as long.
    shown: Arc<String>,
}

impl Text {
    pub(super) fn new(path: &Path, text: String) -> Self {
        let shown = Arc::new(masked(&text));
        Self { name: path.display().to_string(), text: Arc::new(text), shown }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// A fault at a byte range of this text.
    pub(super) fn error(&self, span: Range<usize>, message: impl std::fmt::Display) -> ConfigError {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let len = span.end.saturating_sub(start).min(self.text.len() - start);
        // A whole table as the span would underline half of the file: point at its first line.
        let len = self.text.get(start..start + len).and_then(|text| text.find('\n')).unwrap_or(len);
        ConfigError {
            message: format!("{}:{line}:{column}: {message}", self.name),
            source_code: Some(NamedSource::new(&self.name, Arc::clone(&self.shown)).with_language("toml")),
            span: Some((start, len).into()),
            help: None,
            others: Vec::new(),
        }
    }
}

/// The text with asterisks for what may be a secret: people put keys and passwords into a configuration that has other places
/// for them, and an error shows the lines around it.
fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, secret) = match line.split_once('=') {
            Some((name, value)) if is_secret(name) => {
                let start = value.find(['"', '\'']).map_or(0, |quote| quote + 1);
                let end = value.rfind(['"', '\'']).unwrap_or(start).max(start);
                (line, Some(name.len() + 1 + start..name.len() + 1 + end))
            }
            // user:password@ in an address
            _ => (line, password(line)),
        };
        match secret {
            Some(secret) => {
                shown.push_str(line.get(..secret.start).unwrap_or_default());
                shown.extend(std::iter::repeat_n('*', secret.len()));
                shown.push_str(line.get(secret.end..).unwrap_or_default());
            }
            None => shown.push_str(line),
        }
    }
    shown
}

fn is_secret(name: &str) -> bool {
    let name = name.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
    let place = ["key_file", "key_env", "key_credential", "key_header"].contains(&name.as_str());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let words = ["key", "secret", "token", "password", "passwd"];
    !place && plain && words.iter().any(|word| name.contains(word))
}

fn password(line: &str) -> Option<Range<usize>> {
    let user = line.find("://")? + 3;
    let end = user + line.get(user..)?.find(['/', '"', '\'', '?', '#']).unwrap_or(line.len() - user);
    let at = user + line.get(user..end)?.rfind('@')?;
    let start = user + line.get(user..at)?.find(':')? + 1;
    Some(start..at)
}

/// The candidate nearest to a misspelt word, if one is near.
pub(crate) fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_masked_and_places_are_not() {
        let text = "key_file = \"api-key\"\n  \"api.key\" = 'abc' # x\npassword=\"a=b\"\nurl = \"postgres://u:pw@h/d\"\ntoken = 5\n";
        let shown = "key_file = \"api-key\"\n  \"api.key\" = '***' # x\npassword=\"***\"\nurl = \"postgres://u:**@h/d\"\ntoken = 5\n";
        assert_eq!(masked(text), shown);
    }

    proptest! {
        #[test]
        fn whatever_is_masked_stays_in_its_place(text in r#"([a-z_]{0,3}(key|secret)? ?= ?["']?[^\n]{0,12}["']?|[a-z:/@"é]{0,20}|\PC{0,20}|\r?\n){0,8}"#) {
            let shown = masked(&text);
            prop_assert_eq!(shown.len(), text.len());
            prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        }
    }
}
