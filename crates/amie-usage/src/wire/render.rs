//! The exact bytes of records and messages.
//!
//! Written by hand because this is the bulk path: half the time of `serde_json` on a 12-field record. The derived
//! serializers of the record types are the reference, and the tests hold both to the same bytes.

use super::time::format_time;
use crate::{AdjustmentUsageRecord, ComputeUsageRecord, Decimal, StorageUsageRecord, UsageType};

/// A time that cannot be written, because its year is not within 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {epoch} is outside the years 0 to 9999")]
pub struct TimeOutOfRange {
    /// The field, as it is named on the wire.
    pub field: &'static str,
    /// Its value, epoch seconds.
    pub epoch: i64,
}

/// Appends the JSON of a compute record to `out`: the same bytes as `serde_json::to_vec`.
///
/// # Errors
/// Where a time is outside the years 0 to 9999; `out` is then as it was.
pub fn render_compute(record: &ComputeUsageRecord<'_>, out: &mut Vec<u8>) -> Result<(), TimeOutOfRange> {
    let submit_time = time("SubmitTime", record.submit_time)?;
    let start_time = time("StartTime", record.start_time)?;
    let end_time = time("EndTime", record.end_time)?;
    let attributes = &record.attributes;

    text(out, b"{\"Username\":", &record.username);
    text(out, b",\"LocalProjectID\":", &record.local_project_id);
    text(out, b",\"LocalRecordID\":", &record.local_record_id);
    text(out, b",\"Resource\":", &record.resource);
    plain(out, b",\"SubmitTime\":\"", &submit_time);
    plain(out, b"\",\"StartTime\":\"", &start_time);
    plain(out, b"\",\"EndTime\":\"", &end_time);
    charge(out, b"\",\"Charge\":\"", record.charge);
    number(out, b"\",\"Attributes\":{\"NodeCount\":", attributes.node_count);
    optional_number(out, b",\"CpuCoreCount\":", attributes.cpu_core_count);
    optional_text(out, b",\"JobName\":", attributes.job_name.as_deref());
    optional_text(out, b",\"Memory\":", attributes.memory.as_deref());
    optional_text(out, b",\"Queue\":", attributes.queue.as_deref());
    out.push(b'}');
    optional_text(out, b",\"ParentRecordID\":", record.parent_record_id.as_deref());
    optional_text(out, b",\"LocalReference\":", record.local_reference.as_deref());
    out.push(b'}');
    Ok(())
}

/// Appends the JSON of a storage record to `out`: the same bytes as `serde_json::to_vec`.
///
/// # Errors
/// Where the time is outside the years 0 to 9999; `out` is then as it was.
pub fn render_storage(record: &StorageUsageRecord<'_>, out: &mut Vec<u8>) -> Result<(), TimeOutOfRange> {
    let collection_time = time("CollectionTime", record.collection_time)?;
    let attributes = &record.attributes;

    text(out, b"{\"Username\":", &record.username);
    text(out, b",\"LocalProjectID\":", &record.local_project_id);
    text(out, b",\"LocalRecordID\":", &record.local_record_id);
    text(out, b",\"Resource\":", &record.resource);
    plain(out, b",\"CollectionTime\":\"", &collection_time);
    charge(out, b"\",\"Charge\":\"", record.charge);
    out.extend_from_slice(b"\",\"Attributes\":{");
    let first = out.len();
    optional_number(out, b",\"BytesRead\":", attributes.bytes_read);
    optional_number(out, b",\"BytesStored\":", attributes.bytes_stored);
    optional_number(out, b",\"BytesWritten\":", attributes.bytes_written);
    optional_number(out, b",\"CollectionInterval\":", attributes.collection_interval);
    optional_number(out, b",\"FileCount\":", attributes.file_count);
    optional_number(out, b",\"FilesRead\":", attributes.files_read);
    optional_number(out, b",\"FilesWritten\":", attributes.files_written);
    optional_text(out, b",\"MediaType\":", attributes.media_type.as_deref());
    optional_number(out, b",\"SystemCopies\":", attributes.system_copies);
    optional_number(out, b",\"UserCopies\":", attributes.user_copies);
    if out.len() > first {
        out.remove(first); // the comma before the first attribute that is there
    }
    out.push(b'}');
    optional_text(out, b",\"LocalReference\":", record.local_reference.as_deref());
    out.push(b'}');
    Ok(())
}

/// Appends the JSON of an adjustment to `out`: the same bytes as `serde_json::to_vec`.
///
/// # Errors
/// Where the time is outside the years 0 to 9999; `out` is then as it was.
pub fn render_adjustment(
    record: &AdjustmentUsageRecord<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TimeOutOfRange> {
    let start_time = time("StartTime", record.start_time)?;

    plain(out, b"{\"AdjustmentType\":\"", record.adjustment_type.as_str().as_bytes());
    charge(out, b"\",\"Charge\":\"", record.charge);
    plain(out, b"\",\"StartTime\":\"", &start_time);
    text(out, b"\",\"LocalProjectID\":", &record.local_project_id);
    text(out, b",\"LocalRecordID\":", &record.local_record_id);
    text(out, b",\"Resource\":", &record.resource);
    text(out, b",\"Username\":", &record.username);
    optional_text(out, b",\"Comment\":", record.comment.as_deref());
    optional_text(out, b",\"LocalReference\":", record.local_reference.as_deref());
    out.push(b'}');
    Ok(())
}

const HEAD: &[u8] = b"{\"UsageType\":\"";
const MIDDLE: &[u8] = b"\",\"Records\":[";
const TAIL: &[u8] = b"]}";

/// Bytes of a message without its records and the commas between them: n records of b bytes in all make a body of
/// `envelope_len + b + n - 1` bytes.
#[must_use]
pub fn envelope_len(usage_type: UsageType) -> usize {
    HEAD.len() + usage_type.as_str().len() + MIDDLE.len() + TAIL.len()
}

/// A message, `{"UsageType":"Compute","Records":[..]}`, around rendered records.
///
/// ```
/// use amie_usage::{UsageType, wire};
/// let records: [&[u8]; 2] = [b"{}", b"{}"];
/// let body = wire::message_body(UsageType::Storage, records);
/// assert_eq!(body, br#"{"UsageType":"Storage","Records":[{},{}]}"#);
/// assert_eq!(body.len(), wire::envelope_len(UsageType::Storage) + 2 + 2 + 1);
/// ```
#[must_use]
pub fn message_body<'a>(usage_type: UsageType, records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::with_capacity(4096);
    body.extend_from_slice(HEAD);
    body.extend_from_slice(usage_type.as_str().as_bytes());
    body.extend_from_slice(MIDDLE);
    for (index, record) in records.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(record);
    }
    body.extend_from_slice(TAIL);
    body
}

fn time(field: &'static str, epoch: i64) -> Result<[u8; 20], TimeOutOfRange> {
    format_time(epoch).ok_or(TimeOutOfRange { field, epoch })
}

/// A key and a value that needs no escaping.
fn plain(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

fn charge(out: &mut Vec<u8>, key: &[u8], value: Decimal) {
    out.extend_from_slice(key);
    value.render(out);
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    plain(out, key, itoa::Buffer::new().format(value).as_bytes());
}

fn optional_number(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    if let Some(value) = value {
        number(out, key, value);
    }
}

fn text(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.push(b'"');
    escape(out, value);
    out.push(b'"');
}

fn optional_text(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

/// Escapes as `serde_json` does: the short forms where JSON has them, `\u00xx` for other controls, UTF-8 as it is.
fn escape(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        let (clean, tail) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((special, tail)) = tail.split_first() else { return };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\x08' => out.extend_from_slice(b"\\b"),
            b'\x0c' => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(control >> 4), hex(control & 15)]);
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AdjustmentType, ComputeAttributes, StorageAttributes};
    use proptest::option;
    use proptest::prelude::*;
    use std::borrow::Cow;

    fn compute() -> ComputeUsageRecord<'static> {
        ComputeUsageRecord {
            username: "ada".into(),
            local_project_id: "TG-ABC123456".into(),
            local_record_id: "123_4".into(),
            resource: "testhpc-cpu.testsite.access-ci.org".into(),
            submit_time: 1_790_899_200,
            start_time: 1_790_899_260,
            end_time: 1_790_902_860,
            charge: Decimal::new(125, 1),
            attributes: ComputeAttributes { node_count: 1, ..ComputeAttributes::default() },
            parent_record_id: None,
            local_reference: None,
        }
    }

    #[test]
    fn a_compute_record_is_these_bytes() {
        let mut out = Vec::new();
        render_compute(&compute(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"Username":"ada","LocalProjectID":"TG-ABC123456","LocalRecordID":"123_4","#.to_owned()
                + r#""Resource":"testhpc-cpu.testsite.access-ci.org","SubmitTime":"2026-10-02T00:00:00Z","#
                + r#""StartTime":"2026-10-02T00:01:00Z","EndTime":"2026-10-02T01:01:00Z","Charge":"12.5","#
                + r#""Attributes":{"NodeCount":1}}"#
        );
    }

    #[test]
    fn a_time_that_cannot_be_written_leaves_the_buffer_alone() {
        let mut out = b"before".to_vec();
        let record = ComputeUsageRecord { end_time: i64::MAX, ..compute() };
        let error = render_compute(&record, &mut out).unwrap_err();
        assert_eq!(error, TimeOutOfRange { field: "EndTime", epoch: i64::MAX });
        assert_eq!(out, b"before");
    }

    #[test]
    fn the_length_of_a_body_is_exact() {
        for usage_type in UsageType::ALL {
            let records: [&[u8]; 3] = [b"{}", b"{\"a\":1}", b"{}"];
            for count in 1..=records.len() {
                let part = records.iter().copied().take(count);
                let bytes: usize = part.clone().map(<[u8]>::len).sum();
                let body = message_body(usage_type, part);
                assert_eq!(body.len(), envelope_len(usage_type) + bytes + count - 1);
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(json["UsageType"], usage_type.as_str());
                assert_eq!(json["Records"].as_array().unwrap().len(), count);
            }
        }
    }

    const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

    fn word() -> impl Strategy<Value = Cow<'static, str>> {
        prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,12}"].prop_map(Cow::Owned)
    }

    fn amount() -> impl Strategy<Value = Decimal> {
        prop_oneof![(any::<i128>(), 0_u8..=38), (any::<i32>().prop_map(i128::from), 0_u8..=8)]
            .prop_map(|(units, places)| Decimal::new(units, places))
    }

    prop_compose! {
        fn any_compute()(
            words in (word(), word(), word(), word()),
            times in (YEARS, YEARS, YEARS),
            charge in amount(),
            node_count in any::<u64>(),
            cpu_core_count in option::of(any::<u64>()),
            attributes in (option::of(word()), option::of(word()), option::of(word())),
            parent_record_id in option::of(word()),
            local_reference in option::of(word()),
        ) -> ComputeUsageRecord<'static> {
            ComputeUsageRecord {
                username: words.0,
                local_project_id: words.1,
                local_record_id: words.2,
                resource: words.3,
                submit_time: times.0,
                start_time: times.1,
                end_time: times.2,
                charge,
                attributes: ComputeAttributes {
                    node_count,
                    cpu_core_count,
                    job_name: attributes.0,
                    memory: attributes.1,
                    queue: attributes.2,
                },
                parent_record_id,
                local_reference,
            }
        }
    }

    prop_compose! {
        fn any_storage()(
            words in (word(), word(), word(), word()),
            collection_time in YEARS,
            charge in amount(),
            counts in proptest::array::uniform9(option::of(any::<u64>())),
            media_type in option::of(word()),
            local_reference in option::of(word()),
        ) -> StorageUsageRecord<'static> {
            let [bytes_read, bytes_stored, bytes_written, collection_interval, file_count, files_read,
                files_written, system_copies, user_copies] = counts;
            StorageUsageRecord {
                username: words.0,
                local_project_id: words.1,
                local_record_id: words.2,
                resource: words.3,
                collection_time,
                charge,
                attributes: StorageAttributes {
                    bytes_read, bytes_stored, bytes_written, collection_interval, file_count, files_read,
                    files_written, media_type, system_copies, user_copies,
                },
                local_reference,
            }
        }
    }

    prop_compose! {
        fn any_adjustment()(
            words in (word(), word(), word(), word()),
            adjustment_type in proptest::sample::select(AdjustmentType::ALL.to_vec()),
            start_time in YEARS,
            charge in amount(),
            comment in option::of(word()),
            local_reference in option::of(word()),
        ) -> AdjustmentUsageRecord<'static> {
            AdjustmentUsageRecord {
                adjustment_type,
                charge,
                start_time,
                local_project_id: words.0,
                local_record_id: words.1,
                resource: words.2,
                username: words.3,
                comment,
                local_reference,
            }
        }
    }

    proptest! {
        #[test]
        fn compute_bytes_are_those_of_serde_json(record in any_compute()) {
            let mut out = Vec::new();
            render_compute(&record, &mut out).unwrap();
            prop_assert_eq!(&out, &serde_json::to_vec(&record).unwrap());
        }

        #[test]
        fn storage_bytes_are_those_of_serde_json(record in any_storage()) {
            let mut out = Vec::new();
            render_storage(&record, &mut out).unwrap();
            prop_assert_eq!(&out, &serde_json::to_vec(&record).unwrap());
            prop_assert_eq!(serde_json::from_slice::<StorageUsageRecord<'_>>(&out).unwrap(), record);
        }

        #[test]
        fn adjustment_bytes_are_those_of_serde_json(record in any_adjustment()) {
            let mut out = Vec::new();
            render_adjustment(&record, &mut out).unwrap();
            prop_assert_eq!(&out, &serde_json::to_vec(&record).unwrap());
            prop_assert_eq!(serde_json::from_slice::<AdjustmentUsageRecord<'_>>(&out).unwrap(), record);
        }

        #[test]
        fn a_compute_record_reads_back_as_it_was(record in any_compute()) {
            let mut out = Vec::new();
            render_compute(&record, &mut out).unwrap();
            let mut expected = record;
            // An empty parent is none.
            expected.parent_record_id = expected.parent_record_id.filter(|parent| !parent.is_empty());
            prop_assert_eq!(serde_json::from_slice::<ComputeUsageRecord<'_>>(&out).unwrap(), expected);
        }
    }
}
