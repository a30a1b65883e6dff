//! Any bytes as a document of `sacct --json`, and as the list of jobs in one.

use super::newlines;
use parsers::sacct_json::{Survey, cut, read, survey};
use parsers::{Frame, Place};

/// The first byte says whether the rest is a whole document or a list of jobs, the second in what pieces it comes.
pub(crate) fn check(input: &[u8]) {
    let [how, size, rest @ ..] = input else { return };
    let size = usize::from(*size) + 1;
    if how & 1 == 0 {
        document(rest, size);
    } else {
        elements(rest, size);
    }
}

fn document(text: &[u8], size: usize) {
    let whole = survey(text);
    let mut pieces = Survey::default();
    text.chunks(size).for_each(|piece| pieces.push(piece));
    let in_pieces = pieces.finish();
    assert_eq!(format!("{whole:?}"), format!("{in_pieces:?}"), "a document is the same in any pieces");
    if let Ok(document) = whole {
        assert!(
            document.elements.start <= document.elements.end && document.elements.end <= text.len() as u64
        );
        assert_eq!(document.len, text.len() as u64);
        elements(document.slice(text), size);
    }
}

/// A frame that outlives its call, and where it stands in the whole list.
fn frames(text: &[u8], offset: usize, line: usize) -> Vec<(Place, Vec<u8>, String)> {
    let mut found = Vec::new();
    read(text, |mut frame| {
        let (own, place) = match &mut frame {
            Frame::Run(it) => (it.text.to_vec(), std::mem::take(&mut it.place)),
            Frame::Note(it) => (it.text.to_vec(), std::mem::take(&mut it.place)),
            Frame::Quarantined(it) => (it.text.to_vec(), std::mem::take(&mut it.place)),
        };
        let place = Place { offset: place.offset + offset, line: place.line + line, ..place };
        found.push((place, own, format!("{frame:?}")));
    });
    found
}

fn elements(text: &[u8], size: usize) {
    let whole = frames(text, 0, 0);
    let mut behind = 0;
    for (place, own, _) in &whole {
        assert!(place.offset >= behind, "frames do not overlap and come in order");
        assert_eq!(text.get(place.offset..place.offset + place.len), Some(own.as_slice()));
        assert_eq!(place.line, newlines(&text[..place.offset]));
        behind = place.offset + place.len;
    }
    let (mut blocks, mut done, mut line) = (Vec::new(), 0, 0);
    while done < text.len() {
        let mut wanted = size;
        let len = loop {
            let Some(window) = text.get(done..done + wanted) else { break text.len() - done };
            match cut(window) {
                0 => wanted *= 2,
                len => break len,
            }
        };
        let block = &text[done..done + len];
        blocks.extend(frames(block, done, line));
        done += len;
        line += newlines(block);
    }
    assert_eq!(blocks, whole, "blocks change nothing");
}
