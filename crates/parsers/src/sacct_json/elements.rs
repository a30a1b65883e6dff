//! Finds the elements of a JSON list: whatever stands between its commas.

use super::nesting::Nesting;

/// What is come across in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// First byte of an element.
    Begin(usize),
    /// The comma or bracket behind an element.
    End(usize),
    /// The bracket that closes the list.
    Close(usize),
}

/// Goes through the elements of a list, across any division of its text into chunks. Begins behind the list's bracket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Elements {
    within: bool,
    /// What is open in the element.
    nesting: Nesting,
}

impl Elements {
    /// The next event of `text`, from `at` on, which is moved; `None` at the end of the text.
    #[inline]
    pub(super) fn next(&mut self, text: &[u8], at: &mut usize) -> Option<Event> {
        loop {
            let rest = text.get(*at..)?;
            if !self.nesting.is_closed() {
                match self.nesting.skip(rest) {
                    Some(end) => *at += end,
                    None => {
                        *at = text.len();
                        return None;
                    }
                }
                continue;
            }
            let here = *at;
            let byte = *rest.first()?;
            if !self.within {
                match byte {
                    b',' | b' ' | b'\n' | b'\r' | b'\t' => *at += 1,
                    b']' => {
                        *at += 1;
                        return Some(Event::Close(here));
                    }
                    _ => {
                        self.within = true;
                        return Some(Event::Begin(here));
                    }
                }
                continue;
            }
            match byte {
                b',' | b']' => {
                    // The bracket is left, to be found between elements.
                    self.within = false;
                    return Some(Event::End(here));
                }
                b'{' | b'[' => self.nesting = Nesting::opened(),
                b'"' => self.nesting = Nesting::quoted(),
                _ => {}
            }
            *at += 1;
        }
    }

    /// True where an element is begun and something in it is still open.
    pub(super) fn is_torn(&self) -> bool {
        self.within && !self.nesting.is_closed()
    }

    /// True where an element is begun, and its end has not been seen.
    pub(super) fn is_within(&self) -> bool {
        self.within
    }
}

/// The length of the part of `text` that consists of whole elements; 0 where there is none yet.
///
/// `text` begins with an element ([`super::Document::elements`] does), and so does what follows the part: an element counts as
/// whole when the next one is seen.
#[must_use]
pub fn cut(text: &[u8]) -> usize {
    let (mut elements, mut at, mut whole) = (Elements::default(), 0, 0);
    while let Some(event) = elements.next(text, &mut at) {
        if let Event::Begin(begin) = event {
            whole = begin;
        }
    }
    whole
}

/// Finds the end of one element that is too long to be kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending {
    elements: Elements,
    begun: bool,
}

impl Ending {
    /// Takes the next bytes of the list, which begin with the element; gives the place of the next element in them.
    pub fn find(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(event) = self.elements.next(chunk, &mut at) {
            if let Event::Begin(begin) = event
                && std::mem::replace(&mut self.begun, true)
            {
                return Some(begin);
            }
        }
        None
    }
}
