//! `sacct` text: what is shared by its tests.

mod hostile;
mod properties;
mod table;
mod times;
mod torn;
mod traps;

use parsers::sacct::{Layout, Options, guess_delimiter};
use parsers::{Frame, Kind, NoteKind, Quarantined, Reason, Run};
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

pub(crate) const VERSIONS: [&str; 2] = ["22.05", "24.05"];

/// The text of a fixture, unpacked where it is packed.
pub(crate) fn fixture(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut text).unwrap();
        return text;
    }
    bytes
}

pub(crate) fn header(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n').next().unwrap()
}

/// Options with the delimiter that the header shows.
pub(crate) fn options_for(text: &[u8]) -> Options {
    Options { delimiter: guess_delimiter(header(text)).unwrap_or(b"|".to_vec()), ..Options::default() }
}

pub(crate) fn strict(text: &[u8]) -> Layout {
    Layout::from_header(header(text), &options_for(text)).unwrap()
}

pub(crate) fn lenient(text: &[u8]) -> Layout {
    Layout::lenient(header(text), &options_for(text)).unwrap()
}

/// All frames of a whole text, header included.
pub(crate) fn read<'a>(layout: &Layout, text: &'a [u8]) -> Vec<Frame<'a>> {
    let mut frames = Vec::new();
    layout.read(text, 0..text.len(), true, |frame| frames.push(frame));
    frames
}

/// The frames of a text, sorted by what they are.
#[derive(Debug, Default)]
pub(crate) struct Sorted<'a> {
    pub(crate) runs: Vec<Run<'a>>,
    pub(crate) steps: Vec<Run<'a>>,
    pub(crate) parents: Vec<Run<'a>>,
    pub(crate) notes: HashMap<NoteKind, usize>,
    pub(crate) quarantined: Vec<Quarantined<'a>>,
}

impl Sorted<'_> {
    pub(crate) fn quarantined_lines(&self) -> Vec<(usize, &'static str)> {
        self.quarantined.iter().map(|bad| (bad.place.line + 1, bad.reason.code())).collect()
    }

    pub(crate) fn job_ids(&self) -> Vec<String> {
        self.runs.iter().map(|run| run.job_id.to_string()).collect()
    }
}

pub(crate) fn sort<'a>(frames: impl IntoIterator<Item = Frame<'a>>) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for frame in frames {
        match frame {
            Frame::Run(run) if run.kind == Kind::Step => sorted.steps.push(run),
            Frame::Run(run) if run.kind == Kind::Parent => sorted.parents.push(run),
            Frame::Run(run) => sorted.runs.push(run),
            Frame::Note(note) => *sorted.notes.entry(note.kind).or_default() += 1,
            Frame::Quarantined(bad) => sorted.quarantined.push(bad),
        }
    }
    sorted
}

pub(crate) fn understand<'a>(layout: &Layout, text: &'a [u8]) -> Sorted<'a> {
    sort(read(layout, text))
}

pub(crate) fn lines(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count() - usize::from(text.ends_with(b"\n") || text.is_empty())
}

pub(crate) fn place(frame: &Frame<'_>) -> parsers::Place {
    match frame {
        Frame::Run(run) => run.place,
        Frame::Note(note) => note.place,
        Frame::Quarantined(bad) => bad.place,
    }
}

/// The rows of a tab-separated expectation, by column name.
pub(crate) fn tsv(path: &str) -> Vec<HashMap<String, String>> {
    let text = String::from_utf8(fixture(path)).unwrap();
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap().split('\t').map(str::to_owned).collect();
    let unescape = |cell: &str| {
        let mut text = String::new();
        let mut chars = cell.chars();
        while let Some(char) = chars.next() {
            text.push(match (char, char == '\\') {
                (_, true) => match chars.next().unwrap() {
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                },
                (char, false) => char,
            });
        }
        text
    };
    lines.map(|line| names.iter().cloned().zip(line.split('\t').map(unescape)).collect()).collect()
}

pub(crate) fn is_value_of(reason: &Reason, column: &str) -> bool {
    matches!(reason, Reason::Value { field, .. } if field == column)
}
