//! Skips what is nested in JSON text, 64 bytes at a time, across any division of the text into chunks.

use crate::split::mask_where;

/// Where in the nesting of brackets and strings a text has got to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nesting {
    /// Open brackets.
    depth: usize,
    in_string: bool,
    /// The byte before was a backslash that is not itself escaped.
    escaped: bool,
}

impl Nesting {
    /// Just behind a bracket that opens.
    pub(super) fn opened() -> Self {
        Self { depth: 1, ..Self::default() }
    }

    /// Just behind a quote that opens a string.
    pub(super) fn quoted() -> Self {
        Self { in_string: true, ..Self::default() }
    }

    /// True where no bracket and no string is open.
    pub(super) fn is_closed(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// Goes on through `text` until everything is closed; gives the place just behind. `None` where it is still open.
    ///
    /// Brackets of both kinds count as one kind: what is open and what closes it is for the JSON reader to hold against each other.
    pub(super) fn skip(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while self.depth > 0 {
            let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<64>) else { break };
            match self.skip_block(block) {
                Some(end) => return Some(at + end),
                None => at += 64,
            }
        }
        self.skip_bytes(text.get(at..).unwrap_or_default()).map(|end| at + end)
    }

    /// [`Self::skip`] through one block; only where a bracket is open.
    #[inline]
    fn skip_block(&mut self, block: &[u8; 64]) -> Option<usize> {
        let backslashes = mask_where(block, |byte| byte == b'\\');
        let escaped = self.escapes(backslashes);
        let quotes = mask_where(block, |byte| byte == b'"') & !escaped;
        let mut inside = quotes; // from each opening quote to before its closing one: the parity of quotes so far
        for shift in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << shift;
        }
        if self.in_string {
            inside = !inside;
        }
        self.in_string = inside >> 63 == 1;
        // The brackets of both kinds differ in one bit.
        let opening = mask_where(block, |byte| byte | 0x20 == b'{') & !inside;
        let closing = mask_where(block, |byte| byte | 0x20 == b'}') & !inside;
        let (opened, closed) = (opening.count_ones() as usize, closing.count_ones() as usize);
        if self.depth > closed {
            self.depth = self.depth - closed + opened;
            return None;
        }
        let mut brackets = opening | closing;
        while brackets != 0 {
            let lowest = brackets & brackets.wrapping_neg();
            brackets ^= lowest;
            if opening & lowest != 0 {
                self.depth += 1;
            } else if self.depth > 1 {
                self.depth -= 1;
            } else {
                *self = Self::default(); // a bracket stands outside of strings
                return Some(lowest.trailing_zeros() as usize + 1);
            }
        }
        None
    }

    /// A bit for each byte of a block that is escaped: by an odd number of backslashes before it.
    #[inline]
    fn escapes(&mut self, backslashes: u64) -> u64 {
        let first = u64::from(self.escaped);
        if backslashes == 0 {
            self.escaped = false;
            return first;
        }
        let mut escaped = first;
        let mut left = backslashes & !first;
        while left != 0 {
            // The lowest active backslash escapes the byte behind it, which is then no backslash of its own.
            let lowest = left & left.wrapping_neg();
            let next = lowest << 1;
            escaped |= next;
            left &= !(lowest | next);
            self.escaped = next == 0;
            if next == 0 {
                return escaped;
            }
        }
        self.escaped = false;
        escaped
    }

    /// [`Self::skip`], byte by byte.
    fn skip_bytes(&mut self, text: &[u8]) -> Option<usize> {
        for (at, byte) in text.iter().enumerate() {
            let escaped = std::mem::replace(&mut self.escaped, false);
            match byte {
                b'\\' => self.escaped = !escaped,
                b'"' if !escaped => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.is_closed() {
                *self = Self::default();
                return Some(at + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A long text with nesting: the end of the first closed thing, byte by byte.
    fn slowly(text: &[u8]) -> Option<usize> {
        Nesting::opened().skip_bytes(text)
    }

    proptest! {
        #[test]
        fn blocks_agree_with_bytes_however_the_text_is_cut(
            text in prop::collection::vec(prop::sample::select(b"{}[]\"\\ab,: \n".to_vec()), 0..400),
            cuts in prop::collection::vec(0_usize..200, 0..5),
        ) {
            let mut nesting = Nesting::opened();
            let (mut at, mut found) = (0, None);
            for cut in cuts.into_iter().chain([text.len()]) {
                let to = (at + cut).min(text.len());
                if let Some(end) = nesting.skip(&text[at..to]) {
                    found = Some(at + end);
                    break;
                }
                at = to;
            }
            prop_assert_eq!(found, slowly(&text));
        }

        #[test]
        fn strings_hide_brackets(inner in "[a-z\\]}\\[{ ]{0,150}", rest in "[\\]}x]{0,80}") {
            let text = format!("\"{inner}\"}}{rest}");
            prop_assert_eq!(Nesting::opened().skip(text.as_bytes()), Some(inner.len() + 3));
        }
    }
}
