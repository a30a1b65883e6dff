//! Each shortcut beside the grammar that it stands for, so that fuzzing can hold one against the other. No part of the interface.

use crate::split::{Ends, FinderLines, Lines, MaskLines};
use crate::{duration, memory, sacct, time, tres};
use memchr::memmem::Finder;

/// What a shortcut (with the grammar behind it, as rows are read) and the grammar alone say of the same text.
pub type Readings = [String; 2];

/// A value that has a shortcut: its name, and both ways to read it.
pub type Value = (&'static str, fn(&[u8]) -> Readings);

/// Every value that has a shortcut.
pub const VALUES: [Value; 6] = [
    ("time", |text| said(time::stamp(text), time::by_grammar(text))),
    ("duration", |text| said(duration::seconds(text), duration::by_grammar(text))),
    ("count", |text| said(memory::count(text), memory::count_by_grammar(text))),
    ("memory", |text| said(memory::bytes(text), memory::bytes_by_grammar(text))),
    ("tres", |text| said(tres::parse(text), tres::by_grammar(text))),
    ("job id", sacct::job_id_readings),
];

/// The lines of a text and where their delimiters stand, found by bit masks and found one after another.
#[must_use]
pub fn lines(text: &[u8], delimiter: u8) -> Readings {
    fn all(mut lines: impl Lines) -> String {
        let mut ends = Ends::new();
        let mut found = String::new();
        while let Some(line) = lines.next_line(&mut ends) {
            found += &format!("{line:?} {} {:?}\n", ends.seen(), ends.as_slice());
        }
        found
    }
    let finder = Finder::new(&[delimiter]).into_owned();
    [all(MaskLines::new(text, delimiter)), all(FinderLines::new(text, &finder))]
}

pub(crate) fn said<T: std::fmt::Debug>(shortcut: T, grammar: T) -> Readings {
    [format!("{shortcut:?}"), format!("{grammar:?}")]
}
