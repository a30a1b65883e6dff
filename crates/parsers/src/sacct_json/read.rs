//! From the elements of a list to frames.

use super::elements::{Elements, Event};
use super::job::{Ids, Job};
use crate::run::{Frame, Place, Quarantined, Reason};
use bstr::BStr;
use memchr::memchr_iter;

/// Reads the elements of `text` and hands each to `visit`, in their order. `text` is what [`super::Document::elements`] says of a
/// document, or a part of it that begins where [`super::cut`] has cut. Places are counted from its first byte.
///
/// An element that is still open at the end of the text is cut off. A frame lives as long as the call of `visit`: names with
/// escapes and the ids of arrays stand nowhere in the text as they are.
pub fn read(text: &[u8], mut visit: impl FnMut(Frame<'_>)) {
    let mut elements = Elements::default();
    let mut ids = Ids::default();
    let (mut at, mut begin) = (0, 0);
    let (mut line, mut counted) = (0, 0);
    let mut hand_out = |begin: usize, end: usize, torn: bool| {
        line += memchr_iter(b'\n', text.get(counted..begin).unwrap_or_default()).count();
        counted = begin;
        let element = text.get(begin..end).unwrap_or_default().trim_ascii_end();
        let place = Place { offset: begin, len: element.len(), line };
        if torn {
            visit(quarantined(Reason::CutOff, element, place));
            return;
        }
        match Job::parse(element) {
            Ok(job) => match job.run(&mut ids, element, place) {
                Ok(run) => visit(Frame::Run(run)),
                Err(reason) => visit(quarantined(reason, element, place)),
            },
            Err(reason) => visit(quarantined(reason, element, place)),
        }
    };
    while let Some(event) = elements.next(text, &mut at) {
        match event {
            Event::Begin(place) => begin = place,
            Event::End(end) => hand_out(begin, end, false),
            Event::Close(_) => {}
        }
    }
    if elements.is_within() {
        hand_out(begin, text.len(), elements.is_torn());
    }
}

fn quarantined(reason: Reason, element: &[u8], place: Place) -> Frame<'_> {
    Frame::Quarantined(Quarantined { reason, text: BStr::new(element), place })
}
