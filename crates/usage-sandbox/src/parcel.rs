//! A parcel: the records of one message as they are kept, compressed, with the few texts that are asked for again and again
//! beside them.
//!
//! A million records of 500 bytes would be half a gigabyte as they came. Records of one message are much alike, so they
//! are compressed together and unpacked only when somebody wants to read them; ids, charges and references, by which
//! records are found and summed, stay readable.

use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::RefCell;

/// The fastest level: it halves the time of the next one, for a few per cent more bytes.
const LEVEL: i32 = 1;
/// Less is not worth the effort.
const MIN_COMPRESSED: usize = 1024;

/// Bytes of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

/// A parcel under way: records are put in one by one.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    records: String,
    texts: String,
}

/// The records of one message.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// When it arrived, epoch milliseconds.
    pub(crate) received: i64,
    texts: Box<str>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Plain(Box<str>),
    Compressed { bytes: Box<[u8]>, length: usize },
}

impl Packing {
    /// With room for so many bytes of records.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { records: String::with_capacity(bytes), texts: String::new() }
    }

    /// Puts in a record.
    pub(crate) fn record(&mut self, record: &RawValue) -> Span {
        append(&mut self.records, record.get())
    }

    /// Puts in a text that stays readable.
    pub(crate) fn text(&mut self, text: &str) -> Span {
        append(&mut self.texts, text)
    }

    /// Compresses what was put in.
    pub(crate) fn close(self) -> Parcel {
        let body = compressed(&self.records).unwrap_or_else(|| Body::Plain(self.records.into_boxed_str()));
        Parcel { received: 0, texts: self.texts.into_boxed_str(), body }
    }
}

/// Messages are shorter than 4 GiB; what is not would be cut, and never read past its end.
fn append(to: &mut String, text: &str) -> Span {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let span = Span { start: number(to.len()), length: number(text.len()) };
    to.push_str(text);
    span
}

impl Span {
    fn of(self, text: &str) -> &str {
        let start = usize::try_from(self.start).unwrap_or(usize::MAX);
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        text.get(start..start.saturating_add(length)).unwrap_or_default()
    }
}

impl Parcel {
    /// The same, with its time of arrival.
    pub(crate) fn arrived(self, received: i64) -> Self {
        Self { received, ..self }
    }

    /// A text that stayed readable.
    pub(crate) fn text(&self, span: Span) -> &str {
        span.of(&self.texts)
    }

    /// All records, one behind the other.
    pub(crate) fn unpack(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Plain(records) => Cow::Borrowed(records),
            // What this process compressed, it can unpack.
            Body::Compressed { bytes, length } => zstd::bulk::decompress(bytes, *length)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map_or(Cow::Borrowed(""), Cow::Owned),
        }
    }

    /// One of the records that [`unpack`](Self::unpack) answered.
    pub(crate) fn record(unpacked: &str, span: Span) -> Box<RawValue> {
        RawValue::from_string(span.of(unpacked).to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

/// `None` where it would not be shorter.
fn compressed(text: &str) -> Option<Body> {
    thread_local! {
        // Its tables are as large as a message: they are not set up anew for each one.
        static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    if text.len() < MIN_COMPRESSED {
        return None;
    }
    let bytes = COMPRESSOR.with_borrow_mut(|compressor| {
        if compressor.is_none() {
            *compressor = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        compressor.as_mut()?.compress(text.as_bytes()).ok()
    })?;
    (bytes.len() < text.len())
        .then(|| Body::Compressed { bytes: bytes.into_boxed_slice(), length: text.len() })
}

#[cfg(test)]
mod tests {
    use super::{Body, Packing, Parcel};
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(texts in proptest::collection::vec("\\PC{0,300}", 0..20)) {
            let raw = |text: &String| RawValue::from_string(serde_json::to_string(text).unwrap()).unwrap();
            let mut packing = Packing::default();
            let spans: Vec<_> = texts.iter().map(|text| (packing.record(&raw(text)), packing.text(text))).collect();
            let parcel = packing.close();
            let unpacked = parcel.unpack();
            for (text, (record, readable)) in texts.iter().zip(spans) {
                let record = Parcel::record(&unpacked, record);
                prop_assert_eq!(record.get(), serde_json::to_string(text).unwrap());
                prop_assert_eq!(parcel.text(readable), text);
            }
        }
    }

    #[test]
    fn records_that_are_alike_cost_little() {
        let mut packing = Packing::default();
        for number in 0..400 {
            let record =
                format!(r#"{{"LocalRecordID":"{number}","Resource":"anvil.example.org","Queue":"wide"}}"#);
            packing.record(&RawValue::from_string(record).unwrap());
        }
        let Body::Compressed { bytes, length } = packing.close().body else { panic!("not compressed") };
        assert!(bytes.len() * 5 < length, "{} of {length} bytes", bytes.len());
    }
}
