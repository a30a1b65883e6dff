//! What is stored of a row in two of its columns: its body, and its course since it was sent.
//!
//! The body is the digest of the source and that of the newest version's payload (zeros where nothing was wanted yet), 16 bytes
//! each, and behind them a [`Body`] in the wire format of postcard (<https://postcard.jamesmunns.com/wire-format>): its fields in
//! their order, numbers in as few bytes as they need. The course is a [`Course`] in the same format. What is stored is read by
//! every later build, so that the fields are what they are: other ones are another schema.

use super::Fail;
use crate::ledger::codes::{charge, small, unsigned};
use crate::ledger::row::{Identity, PayloadRef, Sent, Wanted};
use crate::ledger::store::Fresh;
use crate::ledger::{LedgerError, Row, SourceFacts};
use amie_usage::{Decimal, UsageType};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, types::FromSqlError};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of the two digests.
const DIGESTS: usize = 32;

/// Bytes that a body has at most, but for the record id: ten for a number of 64 bits, five for one of 32, one for what may be
/// missing or is true or false.
const MOST_BESIDE_ID: usize = 12 * 10 + 3 * 5 + 4;

/// What of a row is known when it comes in, but for its key, type and charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body<'a> {
    /// 0 where mapping never made a record; the first byte behind the digests is 0 there and nowhere else.
    version: u32,
    file: i64,
    line: u64,
    #[serde(borrow)]
    newest: Option<Newest<'a>>,
    born: Option<i64>,
}

/// The newest version; names by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Newest<'a> {
    resource: i64,
    local_record_id: &'a str,
    submit: i64,
    username: i64,
    project: i64,
    start: i64,
    end: i64,
    elapsed: u64,
    requeued: bool,
    payload: Option<Payload>,
}

/// Where bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Payload {
    chunk: i64,
    offset: u32,
    len: u32,
}

impl From<PayloadRef> for Payload {
    fn from(PayloadRef { chunk, offset, len }: PayloadRef) -> Self {
        Self { chunk, offset, len }
    }
}

impl From<Payload> for PayloadRef {
    fn from(Payload { chunk, offset, len }: Payload) -> Self {
        Self { chunk, offset, len }
    }
}

/// Digests and body of a row, as they are stored.
#[derive(Debug)]
pub(super) struct Packed<'a> {
    pub(super) source_digest: u128,
    /// Of the newest version's payload.
    pub(super) digest: Option<u128>,
    pub(super) body: Body<'a>,
}

impl<'a> Packed<'a> {
    /// Of a row whose names have these numbers.
    pub(super) fn of_row(row: &'a Row, id: impl Fn(&Arc<str>) -> Result<i64, Fail>) -> Result<Self, Fail> {
        let newest = row.wanted.as_ref().map(|wanted| {
            Ok::<_, Fail>(Newest {
                resource: id(&wanted.identity.resource)?,
                local_record_id: &wanted.identity.local_record_id,
                submit: wanted.identity.submit,
                username: id(&wanted.username)?,
                project: id(&wanted.project)?,
                start: wanted.facts.start,
                end: wanted.facts.end,
                elapsed: wanted.facts.elapsed,
                requeued: wanted.facts.requeued,
                payload: wanted.payload.map(Payload::from),
            })
        });
        Ok(Self {
            source_digest: row.source_digest,
            digest: row.wanted.as_ref().map(|wanted| wanted.digest),
            body: Body {
                version: row.version,
                file: id(&row.file)?,
                line: row.line,
                newest: newest.transpose()?,
                born: row.born,
            },
        })
    }

    /// Of a record that makes a new row.
    pub(super) fn of_fresh(fresh: &Fresh<'a>) -> Self {
        let candidate = fresh.incoming.candidate;
        Self {
            source_digest: candidate.source_digest,
            digest: Some(fresh.incoming.digest),
            body: Body {
                version: 1,
                file: fresh.file,
                line: candidate.line,
                newest: Some(Newest {
                    resource: fresh.resource,
                    local_record_id: &candidate.local_record_id,
                    submit: candidate.submit,
                    username: fresh.username,
                    project: fresh.project,
                    start: candidate.facts.start,
                    end: candidate.facts.end,
                    elapsed: candidate.facts.elapsed,
                    requeued: candidate.facts.requeued,
                    payload: Some(fresh.payload.into()),
                }),
                born: Some(fresh.payload.chunk),
            },
        }
    }

    /// Its bytes, into a buffer that is cleared before.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), LedgerError> {
        bytes.clear();
        bytes.extend_from_slice(&self.source_digest.to_be_bytes());
        bytes.extend_from_slice(&self.digest.unwrap_or_default().to_be_bytes());
        // Room for all of it at once: with a buffer that grows byte by byte it was 1,840 instructions, and is 1,060.
        let id = self.body.newest.map_or(0, |newest| newest.local_record_id.len());
        bytes.resize(DIGESTS + MOST_BESIDE_ID + id, 0);
        let room = bytes.get_mut(DIGESTS..).unwrap_or_default();
        let packed = postcard::to_slice(&self.body, room).map(|packed| packed.len());
        bytes.truncate(
            DIGESTS
                + packed.map_err(|error| {
                    LedgerError::Inconsistent(format!("a row could not be packed: {error}"))
                })?,
        );
        Ok(())
    }

    /// And back.
    pub(super) fn read(key: &str, bytes: &'a [u8]) -> Result<Self, LedgerError> {
        let (source_digest, digest) = digests(key, bytes)?;
        let packed = bytes.get(DIGESTS..).unwrap_or_default();
        let (body, rest) = postcard::take_from_bytes::<Body<'a>>(packed).map_err(|_| damaged(key))?;
        // What is stored is what is written, and nothing else.
        let wanted = body.version > 0;
        if !rest.is_empty() || wanted != body.newest.is_some() || wanted != digest.is_some() {
            return Err(damaged(key));
        }
        Ok(Self { source_digest, digest, body })
    }

    /// The row of which this is the body; what else there is of it is for the caller to say.
    pub(super) fn row(
        self,
        key: String,
        usage_type: UsageType,
        charge: Option<Decimal>,
        name: impl Fn(i64) -> Result<Arc<str>, Fail>,
    ) -> Result<Row, Fail> {
        let Body { version, file, line, newest, born } = self.body;
        let wanted = newest.map(|newest| {
            let (Some(charge), Some(digest)) = (charge, self.digest) else {
                return Err(damaged(&key).into());
            };
            Ok::<_, Fail>(Wanted {
                identity: Identity {
                    resource: name(newest.resource)?,
                    local_record_id: newest.local_record_id.to_owned(),
                    submit: newest.submit,
                },
                username: name(newest.username)?,
                project: name(newest.project)?,
                charge,
                digest,
                facts: SourceFacts {
                    start: newest.start,
                    end: newest.end,
                    elapsed: newest.elapsed,
                    requeued: newest.requeued,
                },
                payload: newest.payload.map(PayloadRef::from),
            })
        });
        let wanted = wanted.transpose()?;
        Ok(Row {
            version,
            wanted,
            born,
            ..Row::blank(key, usage_type, self.source_digest, name(file)?, line)
        })
    }
}

/// The digests of a body: of the source, and of the newest version where there is one.
pub(super) fn digests(key: &str, bytes: &[u8]) -> Result<(u128, Option<u128>), LedgerError> {
    let whole = |from: usize| {
        let digest = bytes.get(from..from + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        digest.map(u128::from_be_bytes).ok_or_else(|| damaged(key))
    };
    let version = bytes.get(DIGESTS).ok_or_else(|| damaged(key))?;
    Ok((whole(0)?, (*version != 0).then_some(whole(16)?)))
}

/// What is stored of a row contradicts itself.
pub(super) fn damaged(key: &str) -> LedgerError {
    LedgerError::Inconsistent(format!("what is stored of \"{key}\" is not what this program writes"))
}

/// What became of a row since it was sent.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Course<'a> {
    #[serde(borrow)]
    sent: Option<Version<'a>>,
    sent_payload: Option<Payload>,
    #[serde(borrow)]
    before: Option<Version<'a>>,
    batch: Option<i64>,
    confirm: Option<i64>,
    #[serde(borrow)]
    loaded: Option<Load<'a>>,
}

/// A version that was sent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version<'a> {
    version: u32,
    #[serde(borrow)]
    charge: Cow<'a, str>,
    first_at: i64,
    last_at: i64,
}

/// A load.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Load<'a> {
    at: i64,
    #[serde(borrow)]
    charge: Cow<'a, str>,
}

impl Course<'_> {
    /// The bytes of a row's course; nothing where it has none.
    pub(super) fn of_row(row: &Row) -> Result<Option<Vec<u8>>, LedgerError> {
        let version = |sent: Sent| Version {
            version: sent.version,
            charge: sent.charge.to_string().into(),
            first_at: sent.first_at,
            last_at: sent.last_at,
        };
        let course = Course {
            sent: row.sent.map(version),
            sent_payload: row.sent_payload.map(Payload::from),
            before: row.before.map(version),
            batch: row.batch,
            confirm: row.confirm,
            loaded: row.loaded.map(|(at, charge)| Load { at, charge: charge.to_string().into() }),
        };
        course.bytes()
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        if *self == Self::default() {
            return Ok(None);
        }
        let packed = postcard::to_allocvec(self);
        Ok(Some(packed.map_err(|error| {
            LedgerError::Inconsistent(format!("the course of a row could not be packed: {error}"))
        })?))
    }

    /// Has a row gone the course of these bytes.
    pub(super) fn read(bytes: &[u8], row: &mut Row) -> Result<(), LedgerError> {
        fn version(stored: &Version<'_>) -> Result<Sent, LedgerError> {
            let Version { version, charge: sum, first_at, last_at } = stored;
            Ok(Sent { version: *version, charge: charge(sum)?, first_at: *first_at, last_at: *last_at })
        }
        let (course, rest) = postcard::take_from_bytes::<Course<'_>>(bytes).map_err(|_| damaged(&row.key))?;
        if !rest.is_empty() || course == Course::default() {
            return Err(damaged(&row.key));
        }
        row.sent = course.sent.as_ref().map(version).transpose()?;
        row.sent_payload = course.sent_payload.map(PayloadRef::from);
        row.before = course.before.as_ref().map(version).transpose()?;
        row.batch = course.batch;
        row.confirm = course.confirm;
        let loaded = course.loaded.map(|load| Ok::<_, LedgerError>((load.at, charge(&load.charge)?)));
        row.loaded = loaded.transpose()?;
        Ok(())
    }
}

/// Has a connection know `packed_body` and `packed_course`, which the fourth migration asks for: the columns of schema 3 as bytes.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    fn known(fail: Fail) -> rusqlite::Error {
        match fail {
            Fail::Sql(error) => error,
            Fail::Ledger(error) => rusqlite::Error::UserFunctionError(Box::new(error)),
        }
    }
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("packed_body", 18, flags, |columns| {
        body_of_columns(columns).map_err(known)
    })?;
    connection.create_scalar_function("packed_course", 15, flags, |columns| {
        course_of_columns(columns).map_err(known)
    })
}

fn course_of_columns(columns: &Context<'_>) -> Result<Option<Vec<u8>>, Fail> {
    let number = |at| -> Result<i64, Fail> { Ok(columns.get(at)?) };
    let short = |at| -> Result<u32, Fail> { Ok(small(number(at)?)?) };
    let text = |at| -> Result<Cow<'_, str>, Fail> { Ok(columns.get_raw(at).as_str().map_err(wrong)?.into()) };
    let there = |at: usize| -> Result<bool, Fail> { Ok(columns.get::<Option<i64>>(at)?.is_some()) };
    let version = |at| {
        let (version, charge) = (short(at)?, text(at + 1)?);
        Ok::<_, Fail>(Version { version, charge, first_at: number(at + 2)?, last_at: number(at + 3)? })
    };
    let payload =
        |at| Ok::<_, Fail>(Payload { chunk: number(at)?, offset: short(at + 1)?, len: short(at + 2)? });
    let load = |at| Ok::<_, Fail>(Load { at: number(at)?, charge: text(at + 1)? });
    let course = Course {
        sent: there(0)?.then(|| version(0)).transpose()?,
        sent_payload: there(4)?.then(|| payload(4)).transpose()?,
        before: there(7)?.then(|| version(7)).transpose()?,
        batch: columns.get(11)?,
        confirm: columns.get(12)?,
        loaded: there(13)?.then(|| load(13)).transpose()?,
    };
    Ok(course.bytes()?)
}

fn body_of_columns(columns: &Context<'_>) -> Result<Vec<u8>, Fail> {
    let digest = |at| -> Result<u128, Fail> {
        let bytes = columns.get_raw(at).as_blob().map_err(wrong)?;
        Ok(crate::ledger::codes::digest(bytes)?)
    };
    let number = |at| -> Result<i64, Fail> { Ok(columns.get(at)?) };
    let short = |at| -> Result<u32, Fail> { Ok(small(number(at)?)?) };
    let version = short(2)?;
    let newest = (version > 0).then(|| {
        let chunk: Option<i64> = columns.get(14)?;
        let payload =
            chunk.map(|chunk| Ok::<_, Fail>(Payload { chunk, offset: short(15)?, len: short(16)? }));
        Ok::<_, Fail>(Newest {
            resource: number(5)?,
            local_record_id: columns.get_raw(6).as_str().map_err(wrong)?,
            submit: number(7)?,
            username: number(8)?,
            project: number(9)?,
            start: number(10)?,
            end: number(11)?,
            elapsed: unsigned(number(12)?),
            requeued: columns.get(13)?,
            payload: payload.transpose()?,
        })
    });
    let packed = Packed {
        source_digest: digest(0)?,
        digest: if version > 0 { Some(digest(1)?) } else { None },
        body: Body {
            version,
            file: number(3)?,
            line: unsigned(number(4)?),
            newest: newest.transpose()?,
            born: columns.get(17)?,
        },
    };
    let mut bytes = Vec::new();
    packed.write(&mut bytes)?;
    Ok(bytes)
}

fn wrong(error: FromSqlError) -> Fail {
    rusqlite::Error::UserFunctionError(Box::new(error)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::tests::pending;
    use proptest::prelude::*;

    fn numbered(name: &Arc<str>) -> Result<i64, Fail> {
        Ok(match &**name {
            "cpu.example" => 1,
            "alice" => 2,
            "TG-1" => 300,
            _ => 4,
        })
    }

    /// Every byte as the wire format of postcard has it: a number in groups of seven bits, the lowest first, signed ones
    /// by zigzag; a text behind its length; 0 or 1 before what may be missing.
    #[test]
    fn a_body_is_these_bytes_for_ever() {
        let mut bytes = Vec::new();
        Packed::of_row(&pending(), numbered).unwrap().write(&mut bytes).unwrap();
        let mut expected = vec![0; 32];
        (expected[15], expected[31]) = (1, 1);
        expected.extend([1, 8, 1]); // version; file 4; line
        expected.extend([1, 2, 2, b'9', b'1', 0xd0, 0x0f]); // newest: resource 1, id, submit 1,000
        expected.extend([4, 0xd8, 0x04]); // user 2, project 300
        expected.extend([0x98, 0x11, 0xe0, 0x12, 100, 0]); // start 1,100, end 1,200, elapsed, not requeued
        expected.extend([1, 2, 0, 10]); // payload: chunk 1, offset, length
        expected.extend([1, 2]); // made by chunk 1
        assert_eq!(bytes, expected);
        let names = |id| {
            Ok([(1, "cpu.example"), (2, "alice"), (300, "TG-1"), (4, "f")]
                .into_iter()
                .find(|(of, _)| *of == id)
                .unwrap()
                .1
                .into())
        };
        let row = pending();
        let charge = row.wanted.as_ref().map(|wanted| wanted.charge);
        let read = Packed::read("k", &bytes).unwrap().row("k".into(), row.usage_type, charge, names).unwrap();
        assert_eq!(Row { state: row.state, ..read }, row);
    }

    #[test]
    fn the_largest_body_has_room() {
        let wanted = pending().wanted.map(|wanted| Wanted {
            identity: Identity { submit: i64::MIN, local_record_id: "9".repeat(300), ..wanted.identity },
            facts: SourceFacts { start: i64::MIN, end: i64::MIN, elapsed: u64::MAX, requeued: true },
            payload: Some(PayloadRef { chunk: i64::MIN, offset: u32::MAX, len: u32::MAX }),
            ..wanted
        });
        let row = Row { version: u32::MAX, line: u64::MAX, born: Some(i64::MIN), wanted, ..pending() };
        let mut bytes = Vec::new();
        Packed::of_row(&row, |_| Ok(i64::MIN)).unwrap().write(&mut bytes).unwrap();
        // The length of the id takes two bytes here, not ten.
        assert_eq!(bytes.len(), DIGESTS + MOST_BESIDE_ID - 8 + 300);
        assert_eq!(Packed::read("k", &bytes).unwrap().body.version, u32::MAX);
    }

    #[test]
    fn nothing_wanted_and_a_version_do_not_go_together() {
        let mut bytes = Vec::new();
        let row = Row { version: 0, wanted: None, ..pending() };
        Packed::of_row(&row, numbered).unwrap().write(&mut bytes).unwrap();
        assert_eq!(digests("k", &bytes).unwrap(), (1, None));
        assert_eq!(Packed::read("k", &bytes).unwrap().digest, None);
        bytes[DIGESTS] = 1;
        assert!(Packed::read("k", &bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_body_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(packed) = Packed::read("k", &bytes) {
                let mut again = Vec::new();
                packed.write(&mut again).unwrap();
                let (body, same) = (packed.body, Packed::read("k", &again).unwrap());
                prop_assert_eq!((same.source_digest, same.digest, same.body), (packed.source_digest, packed.digest, body));
            }
        }
    }
}
