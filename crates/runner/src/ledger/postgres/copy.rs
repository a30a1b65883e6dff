//! Rows in the binary form of `COPY`: a count of columns, and each value behind its length.

/// Rows on their way into a table.
#[derive(Debug)]
pub(super) struct Tuples {
    bytes: Vec<u8>,
    rows: usize,
}

/// Signature, flags, length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl Default for Tuples {
    fn default() -> Self {
        Self { bytes: HEADER.to_vec(), rows: 0 }
    }
}

impl Tuples {
    /// With room for rows of about so many bytes.
    pub(super) fn with_room(rows: usize, bytes_each: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER.len().saturating_add(rows.saturating_mul(bytes_each)));
        bytes.extend_from_slice(HEADER);
        Self { bytes, rows: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Begins a row.
    pub(super) fn row(&mut self, columns: i16) -> &mut Self {
        self.rows += 1;
        self.bytes.extend_from_slice(&columns.to_be_bytes());
        self
    }

    fn value<const N: usize>(&mut self, bytes: Option<[u8; N]>) -> &mut Self {
        self.bytes(bytes.as_ref().map(<[u8; N]>::as_slice))
    }

    pub(super) fn long(&mut self, value: impl Into<Option<i64>>) -> &mut Self {
        self.value(value.into().map(i64::to_be_bytes))
    }

    pub(super) fn short(&mut self, value: i16) -> &mut Self {
        self.value(Some(value.to_be_bytes()))
    }

    pub(super) fn boolean(&mut self, value: Option<bool>) -> &mut Self {
        self.value(value.map(|value| [u8::from(value)]))
    }

    pub(super) fn text<'t>(&mut self, value: impl Into<Option<&'t str>>) -> &mut Self {
        let value = value.into().map(super::storable);
        self.bytes(value.as_ref().map(|text| text.as_bytes()))
    }

    pub(super) fn bytes(&mut self, value: Option<&[u8]>) -> &mut Self {
        // A value is below 1 GiB on any server; one that is not is refused by it.
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self
    }

    /// All of it, with the end mark.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        self.bytes
    }
}
