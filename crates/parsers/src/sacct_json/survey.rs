//! The first look at a document: where its jobs are, whether it is whole, and what it says against itself.

use super::elements::{Elements, Event};
use super::nesting::Nesting;
use memchr::memchr_iter;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Most of `errors` or `warnings` that is kept, bytes.
const KEPT: usize = 64 << 10;
/// Longest key that is looked at; the known ones are shorter.
const LONGEST_KEY: usize = 64;

/// What was found out about a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where the elements of `jobs` are: from the first one's first byte to behind the last one (or to the end of a text that is
    /// cut off). Empty where there is none.
    pub elements: Range<u64>,
    /// Newlines before them.
    pub line: u64,
    /// How many there are; a torn one counts.
    pub count: u64,
    /// False where the text ends before the document does.
    pub complete: bool,
    /// What the document warns of, each warning once, with how often it is repeated.
    pub warnings: Vec<String>,
    /// Length of the document, bytes.
    pub len: u64,
}

impl Document {
    /// The elements in the text that was surveyed.
    #[must_use]
    pub fn slice<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        text.get(place(self.elements.start)..place(self.elements.end)).unwrap_or_default()
    }
}

/// Why nothing of a document is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It reports errors: what it lists may be a part of the truth, and is not charged.
    #[error(
        "reports errors, so that its jobs may not be all there are, and none of them is read: {what}. Write the document again"
    )]
    Errors {
        /// What it says.
        what: String,
    },
    /// It does not begin like a JSON object.
    #[error("is not a document of sacct --json: it begins with \"{begin}\", not with {{")]
    NotAnObject {
        /// How it begins.
        begin: String,
    },
    /// It is malformed outside of its jobs.
    #[error("is not a JSON document: expected {expected} at byte {at}")]
    Malformed {
        /// What is expected.
        expected: &'static str,
        /// Where.
        at: u64,
    },
    /// It holds no list of jobs.
    #[error("holds no list \"jobs\": it is not from sacct --json or slurmrestd's /slurmdb/*/jobs")]
    NoJobs,
    /// It ends before its list of jobs begins.
    #[error("ends before its list of jobs begins: it is cut off, or was not written to its end")]
    CutOff,
    /// It holds two lists of jobs.
    #[error("holds two lists \"jobs\"")]
    JobsTwice,
    /// Something follows the document.
    #[error("holds something behind the document, at byte {at}; give each document a file of its own")]
    Trailing {
        /// Where.
        at: u64,
    },
}

/// The value that a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Jobs,
    Errors,
    Warnings,
    Other,
}

/// Where in the outermost object the survey is.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Before the object.
    Front,
    /// Before a key.
    Key,
    /// In a key.
    Name { escaped: bool },
    /// Between a key and its value.
    Colon(Key),
    /// Before a value.
    Value(Key),
    /// In a value with brackets or quotes.
    Nested(Key, Nesting),
    /// In a value without.
    Bare(Key),
    /// In the list of jobs.
    Jobs(Elements),
    /// Behind a value.
    Behind,
    /// Behind the object.
    Back,
}

/// What `errors` or `warnings` hold.
#[derive(Debug, Default)]
struct Said {
    text: Vec<u8>,
    /// More than is kept.
    more: bool,
}

/// Looks through a document that is given to it in pieces of any size, in constant memory.
#[derive(Debug)]
pub struct Survey {
    at: At,
    name: Vec<u8>,
    errors: Said,
    warnings: Said,
    /// Bytes and newlines before the piece in hand.
    offset: u64,
    lines: u64,
    /// First byte of the first element, and newlines before it.
    first: Option<(u64, u64)>,
    /// Behind the last element's last byte.
    end: u64,
    /// The bracket of the list of jobs.
    list: Option<u64>,
    count: u64,
    problem: Option<DocumentError>,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            at: At::Front,
            name: Vec::new(),
            errors: Said::default(),
            warnings: Said::default(),
            offset: 0,
            lines: 0,
            first: None,
            end: 0,
            list: None,
            count: 0,
            problem: None,
        }
    }
}

impl Survey {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        if self.problem.is_none()
            && let Err(problem) = self.walk(piece)
        {
            self.problem = Some(problem);
        }
        self.offset += piece.len() as u64;
        if self.first.is_none() {
            self.lines += memchr_iter(b'\n', piece).count() as u64;
        }
    }

    fn walk(&mut self, piece: &[u8]) -> Result<(), DocumentError> {
        let mut here = 0;
        while let Some(rest) = piece.get(here..).filter(|rest| !rest.is_empty()) {
            match &mut self.at {
                At::Jobs(elements) => {
                    let mut elements = *elements;
                    match self.walk_jobs(&mut elements, piece, &mut here) {
                        true => self.at = At::Behind,
                        false => {
                            self.at = At::Jobs(elements);
                            return Ok(());
                        }
                    }
                }
                At::Nested(key, nesting) => {
                    let (key, end) = (*key, nesting.skip(rest));
                    self.keep(key, rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
                    if end.is_some() {
                        self.at = At::Behind;
                    }
                    here += end.unwrap_or(rest.len());
                }
                _ => {
                    let byte = rest.first().copied().unwrap_or_default();
                    if self.step(byte, self.offset + here as u64)? {
                        here += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes one byte outside of what is nested; false where it is to be looked at again.
    fn step(&mut self, byte: u8, at: u64) -> Result<bool, DocumentError> {
        let blank = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let malformed = |expected| Err(DocumentError::Malformed { expected, at });
        match (self.at, byte) {
            (At::Front | At::Key | At::Colon(_) | At::Value(_) | At::Behind | At::Back, _) if blank => {}
            // A byte order mark may stand in front.
            (At::Front, 0xef | 0xbb | 0xbf) if at < 3 => {}
            (At::Front, b'{') => self.at = At::Key,
            (At::Front, _) => {
                return Err(DocumentError::NotAnObject { begin: [byte].escape_ascii().to_string() });
            }
            (At::Key, b'"') => {
                self.name.clear();
                self.at = At::Name { escaped: false };
            }
            (At::Key | At::Behind, b'}') => self.at = At::Back,
            (At::Key, _) => return malformed("a key"),
            (At::Name { escaped: false }, b'"') => {
                let key = match self.name.as_slice() {
                    b"jobs" => Key::Jobs,
                    b"errors" => Key::Errors,
                    b"warnings" => Key::Warnings,
                    _ => Key::Other,
                };
                self.at = At::Colon(key);
            }
            (At::Name { escaped }, _) => {
                if self.name.len() <= LONGEST_KEY {
                    self.name.push(byte); // no known key holds an escape
                }
                self.at = At::Name { escaped: byte == b'\\' && !escaped };
            }
            (At::Colon(key), b':') => self.at = At::Value(key),
            (At::Colon(_), _) => return malformed("a colon"),
            (At::Value(Key::Jobs), b'[') => {
                if self.list.replace(at).is_some() {
                    return Err(DocumentError::JobsTwice);
                }
                self.end = at + 1;
                self.at = At::Jobs(Elements::default());
            }
            (At::Value(Key::Jobs), _) => return Err(DocumentError::NoJobs),
            (At::Value(key), b'{' | b'[') => {
                self.keep(key, &[byte]);
                self.at = At::Nested(key, Nesting::opened());
            }
            (At::Value(key), b'"') => {
                self.keep(key, &[byte]);
                self.at = At::Nested(key, Nesting::quoted());
            }
            (At::Value(_), b',' | b'}' | b']' | b':') => return malformed("a value"),
            (At::Value(key), _) => {
                self.at = At::Bare(key);
                return Ok(false);
            }
            (At::Bare(_), b',' | b'}') => {
                self.at = At::Behind;
                return Ok(false);
            }
            (At::Bare(key), _) => self.keep(key, &[byte]),
            (At::Behind, b',') => self.at = At::Key,
            (At::Behind, _) => return malformed("a comma or }"),
            (At::Back, _) => return Err(DocumentError::Trailing { at }),
            (At::Nested(..) | At::Jobs(_), _) => {}
        }
        Ok(true)
    }

    /// Goes through the list of jobs; true where it is closed.
    fn walk_jobs(&mut self, elements: &mut Elements, piece: &[u8], here: &mut usize) -> bool {
        while let Some(event) = elements.next(piece, here) {
            match event {
                Event::Begin(begin) => {
                    self.count += 1;
                    if self.first.is_none() {
                        self.lines +=
                            memchr_iter(b'\n', piece.get(..begin).unwrap_or_default()).count() as u64;
                        self.first = Some((self.offset + begin as u64, self.lines));
                    }
                }
                Event::End(end) => self.end = self.offset + end as u64,
                Event::Close(_) => return true,
            }
        }
        false
    }

    fn keep(&mut self, key: Key, text: &[u8]) {
        let said = match key {
            Key::Errors => &mut self.errors,
            Key::Warnings => &mut self.warnings,
            Key::Jobs | Key::Other => return,
        };
        let room = KEPT.saturating_sub(said.text.len());
        said.text.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
        said.more |= text.len() > room;
    }

    /// What there is to say of the document, after its last piece.
    ///
    /// # Errors
    /// Where nothing of it can be read, or may be: it is no document of jobs, or it reports errors.
    pub fn finish(self) -> Result<Document, DocumentError> {
        if !self.errors.is_empty() {
            return Err(DocumentError::Errors { what: self.errors.in_words().join("; ") });
        }
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let complete = matches!(self.at, At::Back);
        let Some(list) = self.list else {
            return Err(match self.at {
                At::Front => DocumentError::NotAnObject { begin: String::new() },
                At::Back => DocumentError::NoJobs,
                _ => DocumentError::CutOff,
            });
        };
        let within = matches!(&self.at, At::Jobs(elements) if elements.is_within());
        let (start, line) = self.first.unwrap_or((list + 1, 0));
        let end = if within { self.offset } else { self.end.max(start) };
        Ok(Document {
            elements: start..end,
            line,
            count: self.count,
            complete,
            warnings: self.warnings.in_words(),
            len: self.offset,
        })
    }
}

impl Said {
    /// `[]`, `{}`, `null`, or not there at all.
    fn is_empty(&self) -> bool {
        let nothing = |byte: &u8| byte.is_ascii_whitespace() || b"[]{}".contains(byte);
        !self.more && (self.text.iter().all(nothing) || self.text.trim_ascii() == b"null")
    }

    /// Each thing that is said, once, with how often it is said.
    fn in_words(&self) -> Vec<String> {
        /// One entry of `errors` or `warnings`. 22.05 calls the texts `error` and `description`.
        #[derive(Deserialize)]
        struct Entry {
            description: Option<String>,
            error: Option<String>,
        }
        if self.is_empty() {
            return Vec::new();
        }
        let Ok(entries) = serde_json::from_slice::<Vec<Entry>>(&self.text) else {
            let text = String::from_utf8_lossy(self.text.get(..400).unwrap_or(&self.text));
            return vec![text.split_whitespace().collect::<Vec<_>>().join(" ")];
        };
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for Entry { description, error } in entries {
            let said = |text: Option<String>| text.filter(|text| !text.is_empty());
            let text = match (said(description), said(error)) {
                (Some(description), Some(error)) => format!("{description} ({error})"),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => "an entry without words".to_owned(),
            };
            *times.entry(text).or_default() += 1;
        }
        let word = |(text, count)| if count == 1 { text } else { format!("{text} ({count} times)") };
        times.into_iter().map(word).collect()
    }
}

/// Surveys a document that is in memory.
///
/// # Errors
/// As [`Survey::finish`].
pub fn survey(text: &[u8]) -> Result<Document, DocumentError> {
    let mut survey = Survey::default();
    survey.push(text);
    survey.finish()
}
