//! What is true of any input at all: one function for each fuzz target, shared with the replay of kept inputs (`regressions.rs`).

pub(crate) mod folded;
pub(crate) mod pbs;
pub(crate) mod quota;
pub(crate) mod sacct;
pub(crate) mod sacct_json;
pub(crate) mod values;

use parsers::{Frame, Place};

/// The text of a frame and where it stands.
pub(crate) fn text_of<'a>(frame: &Frame<'a>) -> (&'a [u8], Place) {
    match frame {
        Frame::Run(it) => (it.text, it.place),
        Frame::Note(it) => (it.text, it.place),
        Frame::Quarantined(it) => (it.text, it.place),
    }
}

/// The same frame, its place counted from elsewhere.
pub(crate) fn moved(mut frame: Frame<'_>, offset: usize, line: usize) -> Frame<'_> {
    let place = match &mut frame {
        Frame::Run(it) => &mut it.place,
        Frame::Note(it) => &mut it.place,
        Frame::Quarantined(it) => &mut it.place,
    };
    place.offset += offset;
    place.line += line;
    frame
}

pub(crate) fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Every byte of `text` is in exactly one frame, in order, save one newline behind each; lines are counted truly.
pub(crate) fn conserved<'a>(frames: impl IntoIterator<Item = (&'a [u8], Place)>, text: &[u8]) {
    let (mut next, mut line) = (0, 0);
    for (own, place) in frames {
        assert_eq!((place.offset, place.line, place.len), (next, line, own.len()), "{}", own.escape_ascii());
        let end = next + own.len();
        assert!(own == &text[next..end]);
        next = end + usize::from(text.get(end) == Some(&b'\n'));
        line += newlines(&text[place.offset..next]);
    }
    assert_eq!(next, text.len(), "nothing is left over");
}

/// The frames of blocks are those of the whole; shows the first that is not.
pub(crate) fn same(blocks: &[Frame<'_>], whole: &[Frame<'_>]) {
    if let Some((block, whole)) = blocks.iter().zip(whole).find(|(block, whole)| block != whole) {
        panic!("in blocks: {block:#?}\nin one: {whole:#?}");
    }
    assert_eq!(blocks.len(), whole.len());
}
