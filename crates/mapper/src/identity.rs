//! How a run is told from every other one: the ledger's key, and the id on the wire.

use bstr::BStr;
use parsers::{Run, Scheduler};
use std::borrow::Cow;
use std::fmt::{self, Write};

use crate::spec::{RuleError, RulePlace};
use crate::suggest::closest;
use crate::text::field;

/// The ledger's key of a run or of a reading: natural, ordered, and made only of what the source says.
///
/// - Slurm: `slurm/<cluster>/<raw id, 10 digits>/<submit>`
/// - PBS: `pbs/<server>/<number, 10 digits>[<index, 7 digits>]/<ctime>/<run count>`, and `s<start>` in place of the
///   run count where the log has none
/// - storage: `storage/<source>/<owner kind>/<owner>/<first day of the interval>`
///
/// Parts are joined by `/`; in them, all but `A-Z a-z 0-9 . _ + -` is written as `%` and two hexadecimal digits, so
/// that two runs never share a key. What the source does not say is a single `%`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey(String);

impl RunKey {
    /// The key of `run`, on `cluster` where the run itself names none.
    ///
    /// ```
    /// # fn example(run: &parsers::Run<'_>) {
    /// let key = mapper::RunKey::of(run, Some("testhpc".into()));
    /// assert_eq!(key.as_str(), "slurm/testhpc/0000000123/1795427125");
    /// # }
    /// ```
    #[must_use]
    pub fn of(run: &Run<'_>, cluster: Option<&BStr>) -> Self {
        let mut key = String::new();
        write_key(&mut key, run, cluster);
        Self(key)
    }

    pub(crate) fn from_text(key: String) -> Self {
        Self(key)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Stands for what is not known.
const ABSENT: char = '%';
const NUMBER_WIDTH: usize = 10;
const INDEX_WIDTH: usize = 7;

/// Writes the key behind what is in `key`.
pub(crate) fn write_key(key: &mut String, run: &Run<'_>, cluster: Option<&BStr>) {
    let cluster = run.cluster.filter(|cluster| !cluster.is_empty()).or(cluster);
    match run.scheduler {
        Scheduler::Slurm => {
            key.push_str("slurm/");
            push_part(key, cluster.map(|cluster| &**cluster));
            key.push('/');
            push_id(key, run.raw_id);
            key.push('/');
            push_integer(key, run.submit);
        }
        Scheduler::Pbs => {
            key.push_str("pbs/");
            push_part(key, cluster.map(|cluster| &**cluster));
            key.push('/');
            // The server's part of the id is the cluster.
            let local = run.job_id.split(|byte| *byte == b'.').next().unwrap_or_default();
            push_id(key, local);
            key.push('/');
            push_integer(key, run.submit);
            key.push('/');
            match run.run_count {
                Some(count) => push_integer(key, Some(i64::from(count))),
                None => {
                    key.push('s');
                    push_integer(key, run.start);
                }
            }
        }
    }
}

/// An id with its leading number padded, and the index of an array task too: `0000000091[0000004]`.
fn push_id(key: &mut String, id: &[u8]) {
    let digits = id.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = id.split_at_checked(digits).unwrap_or((id, &[]));
    if id.is_empty() {
        key.push(ABSENT);
        return;
    }
    if !number.is_empty() {
        push_padded(key, number, NUMBER_WIDTH);
    }
    match rest.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(index) if !index.is_empty() && index.iter().all(u8::is_ascii_digit) => {
            key.push('[');
            push_padded(key, index, INDEX_WIDTH);
            key.push(']');
        }
        _ => push_escaped(key, rest),
    }
}

/// Leading zeros of the source are not part of the number.
fn push_padded(key: &mut String, digits: &[u8], width: usize) {
    const ZEROS: &str = "0000000000";
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = digits.get(zeros..).unwrap_or_default();
    key.push_str(ZEROS.get(..width.saturating_sub(digits.len())).unwrap_or(ZEROS));
    key.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

pub(crate) fn push_part(key: &mut String, part: Option<&[u8]>) {
    match part {
        Some(part) if !part.is_empty() => push_escaped(key, part),
        _ => key.push(ABSENT),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-')
}

fn push_escaped(key: &mut String, part: &[u8]) {
    // Nearly every name is plain as a whole.
    if part.iter().all(|byte| is_plain(*byte))
        && let Ok(part) = std::str::from_utf8(part)
    {
        key.push_str(part);
        return;
    }
    for byte in part {
        if is_plain(*byte) {
            key.push(char::from(*byte));
        } else {
            push_hex(key, *byte);
        }
    }
}

pub(crate) fn push_hex(key: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(key, "%{byte:02X}");
}

fn push_integer(key: &mut String, value: Option<i64>) {
    match value {
        Some(value) => key.push_str(itoa::Buffer::new().format(value)),
        None => key.push(ABSENT),
    }
}

/// The id of the array or heterogeneous job that `run` is a part of, as users see it: `61` of `61_5`, `66` of `66+1`,
/// `91[].pbssrv` of `91[4].pbssrv`.
pub(crate) fn parent(run: &Run<'_>) -> Option<Vec<u8>> {
    let id: &[u8] = run.job_id;
    let digits = id.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = id.split_at_checked(digits).filter(|(number, _)| !number.is_empty())?;
    let (sign, part) = rest.split_first()?;
    let is_index = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    match (run.scheduler, sign) {
        (Scheduler::Slurm, b'_' | b'+') if is_index(part) => Some(number.to_vec()),
        (Scheduler::Pbs, b'[') => {
            let close = part.iter().position(|byte| *byte == b']')?;
            let (index, behind) = part.split_at_checked(close)?;
            is_index(index).then(|| [number, b"[", behind].concat())
        }
        _ => None,
    }
}

/// A compiled `local_record_id` or `parent_record_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    JobId,
    RawId,
    Cluster,
    Partition,
    User,
    Submit,
    Start,
    /// Of a part: the id of the whole.
    Parent,
}

const PLACEHOLDERS: [(&str, Piece); 8] = [
    ("job_id", Piece::JobId),
    ("raw_id", Piece::RawId),
    ("cluster", Piece::Cluster),
    ("partition", Piece::Partition),
    ("user", Piece::User),
    ("submit", Piece::Submit),
    ("start", Piece::Start),
    ("parent", Piece::Parent),
];

impl Template {
    /// What users see: `{job_id}`.
    pub(crate) fn job_id() -> Self {
        Self(vec![Piece::JobId])
    }

    /// Reads a `local_record_id`.
    pub(crate) fn of_record(text: &str) -> Result<Self, RuleError> {
        Self::compile("local_record_id", text, &[Piece::JobId, Piece::RawId], "{job_id} or {raw_id}")
    }

    /// Reads a `parent_record_id`.
    pub(crate) fn of_parent(text: &str) -> Result<Self, RuleError> {
        Self::compile("parent_record_id", text, &[Piece::Parent], "{parent}")
    }

    /// `needed`: one of them must be there, else all ids are one; a parent is known only of parts.
    fn compile(key: &str, text: &str, needed: &[Piece], needs: &str) -> Result<Self, RuleError> {
        let error =
            |message: String, help: Option<String>| RuleError { place: RulePlace::Source, message, help };
        let known = || {
            let known =
                PLACEHOLDERS.iter().filter(|(_, piece)| *piece != Piece::Parent || needed.contains(piece));
            known.map(|(name, _)| *name)
        };
        let placeholders = || {
            let names: Vec<_> = known().map(|name| format!("{{{name}}}")).collect();
            Some(format!("placeholders are {}", names.join(", ")))
        };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(error(format!("{key}: \"{text}\": a {{ is not closed"), placeholders()));
            };
            let found = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name);
            let Some((_, piece)) = found.filter(|(name, _)| known().any(|known| known == *name)) else {
                let help = closest(name, known()).map(|close| format!("did you mean {{{close}}}?"));
                let message = format!("{key}: \"{text}\": no placeholder is named {{{name}}}");
                return Err(error(message, help.or_else(placeholders)));
            };
            pieces.push(piece.clone());
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let literal =
            pieces.iter().filter_map(|piece| if let Piece::Text(text) = piece { Some(text) } else { None });
        if literal.clone().any(|text| text.contains('}') || text.chars().any(char::is_control)) {
            let message = format!("{key}: \"{text}\" has a }} too many or a control character");
            return Err(error(message, placeholders()));
        }
        if !pieces.iter().any(|piece| needed.contains(piece)) {
            let message = format!("{key}: \"{text}\" gives all runs the same id");
            return Err(error(message, Some(format!("it must contain {needs}"))));
        }
        Ok(Self(pieces))
    }

    /// The `LocalRecordID` of `run`, or why it cannot be one. The runs of a PBS job share their submit time: the
    /// second is told from the first by `.r2`.
    pub(crate) fn fill<'a>(
        &self,
        run: &Run<'a>,
        cluster: Option<&BStr>,
    ) -> Result<Cow<'a, str>, &'static str> {
        let rerun = run.run_count.filter(|count| run.scheduler == Scheduler::Pbs && *count > 1);
        if let ([Piece::JobId], None) = (self.0.as_slice(), rerun) {
            return field(run.job_id).map(Cow::Borrowed);
        }
        let mut id = self.put_in(run, cluster, &[])?;
        if let Some(count) = rerun {
            id.extend_from_slice(format!(".r{count}").as_bytes());
        }
        field(&id).map(|id| Cow::Owned(id.to_owned()))
    }

    /// The `ParentRecordID` of a part of `parent`, or why it cannot be one.
    pub(crate) fn fill_parent(
        &self,
        run: &Run<'_>,
        cluster: Option<&BStr>,
        parent: &[u8],
    ) -> Result<Cow<'static, str>, &'static str> {
        let id = self.put_in(run, cluster, parent)?;
        field(&id).map(|id| Cow::Owned(id.to_owned()))
    }

    fn put_in(&self, run: &Run<'_>, cluster: Option<&BStr>, parent: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut id = Vec::new();
        let named = |name: Option<&BStr>, why| {
            name.filter(|name| !name.is_empty()).ok_or(why).map(|name| name.to_vec())
        };
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => id.extend_from_slice(text.as_bytes()),
                Piece::JobId => id.extend_from_slice(run.job_id),
                Piece::RawId => id.extend_from_slice(run.raw_id),
                Piece::Cluster => id.extend(named(cluster, "needs a cluster")?),
                Piece::Partition => id.extend(named(run.partition, "needs a partition")?),
                Piece::User => id.extend(named(run.user, "needs a user")?),
                Piece::Submit => {
                    id.extend_from_slice(run.submit.ok_or("needs a submit time")?.to_string().as_bytes());
                }
                Piece::Start => {
                    id.extend_from_slice(run.start.ok_or("needs a start time")?.to_string().as_bytes());
                }
                Piece::Parent => id.extend_from_slice(parent),
            }
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> String {
        let mut key = String::new();
        push_id(&mut key, id.as_bytes());
        key
    }

    #[test]
    fn ids_sort_by_number_and_cannot_collide() {
        assert_eq!(id("123"), "0000000123");
        assert_eq!(id("67108865"), "0067108865");
        assert_eq!(id("12345678901234"), "12345678901234");
        assert_eq!(id("91[4]"), "0000000091[0000004]");
        assert_eq!(id("91[]"), "0000000091%5B%5D");
        assert_eq!(id("123-4"), "0000000123-4");
        assert_eq!(id("61_5"), "0000000061_5");
        assert_eq!(id("66+1"), "0000000066+1");
        assert_eq!(id("a/b%2F"), "a%2Fb%252F");
        assert_eq!(id(""), "%");
        assert_eq!(id("0"), "0000000000");
        let mut sorted = ["9", "10", "91[2]", "91[10]", "100"].map(id);
        sorted.sort();
        assert_eq!(sorted, ["9", "10", "91[2]", "91[10]", "100"].map(id));
    }

    #[test]
    fn integers() {
        for value in [0, 7, -7, 10, 1_795_427_125, i64::MAX, i64::MIN] {
            let mut key = String::new();
            push_integer(&mut key, Some(value));
            assert_eq!(key, value.to_string());
        }
    }

    #[test]
    fn templates() {
        let pieces = Template::of_record("x-{cluster}.{raw_id}").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(pieces.0, [text("x-"), Piece::Cluster, text("."), Piece::RawId]);
        assert_eq!(Template::of_record("{job_id}").unwrap(), Template::job_id());
        let parent = Template::of_parent("{cluster}-{parent}").unwrap();
        assert_eq!(parent.0, [Piece::Cluster, text("-"), Piece::Parent]);
        assert!(Template::of_parent("{job_id}").unwrap_err().message.contains("gives all runs the same id"));
        for (wrong, message) in [
            ("{jobid}", "no placeholder is named {jobid}"),
            ("{job_id}{parent}", "no placeholder is named {parent}"),
            ("{job_id", "not closed"),
            ("job", "gives all runs the same id"),
            ("{cluster}", "gives all runs the same id"),
            ("{job_id}}", "a } too many"),
        ] {
            let error = Template::of_record(wrong).unwrap_err();
            assert!(error.message.contains(message), "{wrong}: {}", error.message);
        }
    }
}
